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
    "engine",
    "operator_image",
    "rootful_image",
    "run_image",
    "save",
]


def run_image(cluster: Cluster, *, name: str = "") -> str:
    """Load the image of flow runs and of a Prefect server; RUN_IMAGE names another one."""
    return os.environ.get("RUN_IMAGE") or _loaded(RUN, cluster, name)


def rootful_image(cluster: Cluster) -> str:
    """Load an image that is like Prefect's own in what a template sees: its user is root."""
    return _loaded(ROOTFUL, cluster)


def operator_image(cluster: Cluster, *, name: str = "") -> str:
    """Load the image of the operator, built from the checkout as it is now.

    With `name`, the cluster must have no image of that name that is older.
    """
    return _loaded(OPERATOR, cluster, name)


def build(recipe: Recipe) -> str:
    """Build the image if needed, and return its reference; needs no cluster."""
    if recipe.base:
        build(recipe.base)
    builder = engine()
    reference = recipe.reference(builder.base)
    with exclusive(state.cache().folder / ".images.lock", purpose="builds images"):
        if not builder.has(reference):
            builder.build(recipe, reference)
    return reference


def save(recipe: Recipe, archive: Path, *, name: str) -> None:
    """Write an image that is built to an archive for `docker load`, in which it has this name."""
    builder = engine()
    builder.save(recipe.reference(builder.base), archive, name=name)


def _loaded(recipe: Recipe, cluster: Cluster, name: str = "") -> str:
    name = name or recipe.reference(engine().base)
    if not cluster.has_image(name):
        build(recipe)
        with progress.step(f"loading {name} into {cluster.name}"):
            _load(recipe, name, cluster)
    return name


def _load(recipe: Recipe, name: str, cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory(dir=state.cache().folder) as scratch:
        archive = Path(scratch, "image.tar")
        save(recipe, archive, name=name)
        cluster.load_image(archive)


@once
def engine() -> Docker | Buildah:
    """Return what builds the images on this machine."""
    return Docker() if commands.succeeds_if_installed(["docker", "info"]) else Buildah()
