"""The images of the testbed: the run image, the operator's, and the local node's pause image.

Promises: an image's reference changes with what it is built from and with nothing else; it is built
once per machine, by Docker where it answers, else by buildah, whose layers the clones share.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING

from testbed import cache, commands, progress, state
from testbed.images.buildah import Buildah
from testbed.images.docker import Docker
from testbed.images.pause import PAUSE_IMAGE, pause_archive
from testbed.images.recipe import OPERATOR, ROOTFUL, RUN, Recipe

if TYPE_CHECKING:
    from testbed.clusters import Cluster

__all__ = [
    "OPERATOR",
    "PAUSE_IMAGE",
    "ROOTFUL",
    "RUN",
    "build",
    "operator_image",
    "pause_archive",
    "rootful_image",
    "run_image",
]


def run_image(cluster: Cluster) -> str:
    """The image of flow runs and of a Prefect server; RUN_IMAGE names one that is there already."""
    return os.environ.get("RUN_IMAGE") or _loaded(RUN, cluster)


def rootful_image(cluster: Cluster) -> str:
    """An image that is, where a template sees it, like Prefect's own: its user is root."""
    return _loaded(ROOTFUL, cluster)


def operator_image(cluster: Cluster) -> str:
    """The image of the operator as the checkout has it now."""
    return _loaded(OPERATOR, cluster)


def build(recipe: Recipe) -> str:
    """Its reference, once it is built. Needs no cluster, so one may start meanwhile."""
    if recipe.base:
        build(recipe.base)
    engine = _engine()
    reference = recipe.reference(engine.base)
    with state.exclusive(cache.folder() / ".images.lock", purpose="builds images"):
        if not engine.has(reference):
            engine.build(recipe, reference)
    return reference


def _loaded(recipe: Recipe, cluster: Cluster) -> str:
    reference = recipe.reference(_engine().base)
    if not cluster.has_image(reference):
        build(recipe)
        with progress.step(f"loading {reference} into {cluster.name}"):
            _load(reference, cluster)
    return reference


def _load(reference: str, cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory(dir=cache.folder()) as scratch:
        archive = Path(scratch, "image.tar")
        _engine().save(reference, archive)
        cluster.load_image(archive)


@once
def _engine() -> Docker | Buildah:
    return Docker() if commands.succeeds_if_installed(["docker", "info"]) else Buildah()
