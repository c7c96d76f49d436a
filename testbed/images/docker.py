"""Builds images with the machine's Docker, which caches the layers itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from localnode import commands, progress
from testbed import state
from testbed.images.recipe import Recipe
from testbed.state import CHECKOUT


@dataclass(frozen=True)
class Docker:
    base: str = "the Dockerfile's own"

    def has(self, reference: str) -> bool:
        return commands.succeeds(["docker", "image", "inspect", reference])

    def build(self, recipe: Recipe, reference: str) -> None:
        """Build it from the checkout."""
        log = state.cache().log(f"image-{recipe.target}")
        options = ["--progress=plain", f"--target={recipe.target}", f"--tag={reference}"]
        options += [f"--file={CHECKOUT / recipe.file}"]
        if recipe.base:
            options += [f"--build-arg=BASE={recipe.starts_from(self.base)}"]
        with progress.step(f"building the image {reference} (docker)"):
            commands.run_logged(["docker", "build", *options, CHECKOUT], log=log)

    def save(self, reference: str, archive: Path, *, name: str) -> None:
        """Write the image to an archive, in which it has this name."""
        commands.run(["docker", "tag", reference, name])
        commands.run(["docker", "save", f"--output={archive}", name])
