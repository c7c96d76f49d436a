"""The images: for flow runs, for the operator, and one for flow runs whose user is root.

The reference of an image changes with what it is built from and with nothing else. An image is
built once per machine: by Docker if it answers, else by buildah, whose layers all checkouts share.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache as once
from pathlib import Path

from localnode import commands, progress
from localnode.lock import exclusive
from testbed import state
from testbed.clusters.cluster import Cluster
from testbed.images.buildah import Buildah
from testbed.images.docker import Docker
from testbed.images.recipe import OPERATOR, ROOTFUL, RUN, Recipe

__all__ = [
    "OPERATOR",
    "ROOTFUL",
    "RUN",
    "build",
    "operator_image",
    "rootful_image",
    "run_image",
]


def run_image(cluster: Cluster) -> str:
    """Load the image of flow runs and of a Prefect server; RUN_IMAGE names another one."""
    return os.environ.get("RUN_IMAGE") or _loaded(RUN, cluster)


def rootful_image(cluster: Cluster) -> str:
    """Load an image that is like Prefect's own in what a template sees: its user is root."""
    return _loaded(ROOTFUL, cluster)


def operator_image(cluster: Cluster) -> str:
    """Load the image of the operator, built from the checkout as it is now."""
    return _loaded(OPERATOR, cluster)


def build(recipe: Recipe) -> str:
    """Build the image if needed, and return its reference; needs no cluster."""
    if recipe.base:
        build(recipe.base)
    engine = _engine()
    reference = recipe.reference(engine.base)
    with exclusive(state.cache().folder / ".images.lock", purpose="builds images"):
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
    with tempfile.TemporaryDirectory(dir=state.cache().folder) as scratch:
        archive = Path(scratch, "image.tar")
        _engine().save(reference, archive)
        cluster.load_image(archive)


@once
def _engine() -> Docker | Buildah:
    return Docker() if commands.succeeds_if_installed(["docker", "info"]) else Buildah()
