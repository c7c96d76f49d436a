"""Builds images with the machine's Docker, whose own cache keeps the layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from testbed import cache, commands, progress
from testbed.images.recipe import Recipe
from testbed.state import CHECKOUT


@dataclass(frozen=True)
class Docker:
    base: str = "the Dockerfile's own"

    def build(self, recipe: Recipe, archive: Path) -> None:
        """Makes `archive` from the checkout."""
        reference = recipe.reference(self.base)
        log = cache.folder() / "logs" / f"image-{recipe.target}.log"
        build = ["docker", "build", "--progress=plain", f"--target={recipe.target}"]
        with progress.step(f"building the image {reference} (docker)"):
            commands.run_logged([*build, f"--tag={reference}", CHECKOUT], log=log)
            commands.run_logged(["docker", "save", f"--output={archive}", reference], log=log)
