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

    def has(self, reference: str) -> bool:
        return commands.succeeds(["docker", "image", "inspect", reference])

    def build(self, recipe: Recipe, reference: str) -> None:
        """Builds it from the checkout."""
        log = cache.folder() / "logs" / f"image-{recipe.target}.log"
        options = ["--progress=plain", f"--target={recipe.target}", f"--tag={reference}"]
        options += [f"--file={CHECKOUT / recipe.file}"]
        if recipe.base:
            options += [f"--build-arg=BASE={recipe.starts_from(self.base)}"]
        with progress.step(f"building the image {reference} (docker)"):
            commands.run_logged(["docker", "build", *options, CHECKOUT], log=log)

    def save(self, reference: str, archive: Path) -> None:
        commands.run(["docker", "save", f"--output={archive}", reference])
