"""Builds images without Docker: buildah in chroot isolation, in a storage of its own.

Must not touch the user's own image storage. Layers stay in the cache, so that a change of the code
installs no dependency again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from testbed import cache, commands, progress
from testbed.images import base
from testbed.images.recipe import Recipe
from testbed.state import CHECKOUT

CERTIFICATES = "/etc/ssl/certs"


@dataclass(frozen=True)
class Buildah:
    base: str = base.REFERENCE

    def build(self, recipe: Recipe, archive: Path) -> None:
        """Makes `archive` from the checkout."""
        reference = recipe.reference(self.base)
        log = cache.folder() / "logs" / f"image-{recipe.target}.log"
        self._provide_base(log)
        with progress.step(f"building the image {reference} (buildah)"):
            commands.run_logged([*_buildah("bud"), *self._options(recipe), str(CHECKOUT)], log=log)
            target = f"docker-archive:{archive}:{reference}"
            commands.run_logged([*_buildah("push"), "--quiet", reference, target], log=log)

    def _provide_base(self, log: Path) -> None:
        if not commands.succeeds([*_buildah("inspect"), "--type=image", self.base]):
            source = f"docker-archive:{base.base_archive()}"
            commands.run_logged([*_buildah("pull"), "--quiet", source], log=log)

    def _options(self, recipe: Recipe) -> list[str]:
        return [
            *("--isolation=chroot", "--network=host", "--pull-never", "--layers"),
            # The machine may reach the package registries through a proxy that ends TLS.
            f"--volume={CERTIFICATES}:{CERTIFICATES}:ro",
            f"--build-arg=BASE={self.base}",
            f"--target={recipe.target}",
            f"--tag={recipe.reference(self.base)}",
        ]


def _buildah(verb: str) -> list[str]:
    storage = cache.folder() / "image-layers"
    places = [f"--root={storage}/root", f"--runroot={storage}/run"]
    return ["buildah", "--storage-driver=overlay", *places, verb]
