"""Builds images without Docker: buildah in chroot isolation, in a storage of its own.

The user's own image storage is not touched. Layers stay in the cache, so that a change of the code
does not install the dependencies again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from localnode import commands, progress
from testbed import state
from testbed.images import base
from testbed.images.isolate import ISOLATED
from testbed.images.recipe import Recipe
from testbed.state import CHECKOUT

CERTIFICATES = "/etc/ssl/certs"


@dataclass(frozen=True)
class Buildah:
    base: str = base.REFERENCE

    def has(self, reference: str) -> bool:
        return commands.succeeds([*ISOLATED, *_buildah("inspect"), "--type=image", reference])

    def build(self, recipe: Recipe, reference: str, *, cached: bool = True) -> None:
        """Build it from the checkout, and from cached layers; create the base if it is missing."""
        log = state.cache().log(f"image-{recipe.target}")
        if not recipe.base and not self.has(self.base):
            source = f"docker-archive:{base.base_archive()}"
            _run("pull", "--quiet", source, log=log)
        options = [
            f"--target={recipe.target}",
            f"--tag={reference}",
            f"--file={CHECKOUT / recipe.file}",
        ]
        options += _environment(recipe.starts_from(self.base))
        options += [] if cached else ["--no-cache"]
        with progress.step(f"building the image {reference} (buildah)"):
            _run("bud", *options, str(CHECKOUT), log=log)

    def save(self, reference: str, archive: Path, *, name: str) -> None:
        """Write the image to an archive, in which it has this name."""
        identity = ("--type=image", "--format={{.FromImageID}}", reference)
        image = commands.run([*ISOLATED, *_buildah("inspect"), *identity]).strip()
        target = f"docker-archive:{archive}:{name}"
        # By its id: the archive would have the reference as a second name.
        _run("push", "--quiet", image, target, log=state.cache().log("image-save"))

    def remove(self, reference: str) -> None:
        """Remove the name, and the image if it has no other."""
        _run("rmi", reference, log=state.cache().log("image-remove"))


def _environment(base: str) -> list[str]:
    return [
        *("--isolation=chroot", "--network=host", "--pull-never", "--layers"),
        "--timestamp=0",  # two builds of the same files are the same image
        f"--build-arg=BASE={base}",
        # The machine may reach the package registries through a proxy that ends TLS.
        f"--volume={CERTIFICATES}:{CERTIFICATES}:ro",
    ]


def _run(verb: str, *arguments: str, log: Path) -> None:
    commands.run_logged([*_buildah(verb), *arguments], log=log, within=ISOLATED)


def _buildah(verb: str) -> list[str]:
    storage = state.cache().folder / "image-layers"
    places = [f"--root={storage}/root", f"--runroot={storage}/run"]
    return ["buildah", verb, "--storage-driver=overlay", *places]
