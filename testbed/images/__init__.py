"""The images of the testbed: the run image, the operator's, and the local node's pause image.

Promises: an image's reference changes with what it is built from and with nothing else; its archive
is built once per machine, by Docker where it answers, else by buildah.
"""

from __future__ import annotations

import os
from functools import cache as once
from pathlib import Path

from testbed import cache, commands, progress
from testbed.clusters import Cluster
from testbed.images.buildah import Buildah
from testbed.images.docker import Docker
from testbed.images.pause import PAUSE_IMAGE, pause_archive
from testbed.images.recipe import OPERATOR, RUN, Recipe

__all__ = [
    "OPERATOR",
    "PAUSE_IMAGE",
    "RUN",
    "archive",
    "operator_image",
    "pause_archive",
    "run_image",
]


def run_image(cluster: Cluster) -> str:
    """The image of flow runs and of a Prefect server; RUN_IMAGE names one that is there already."""
    return os.environ.get("RUN_IMAGE") or _loaded(RUN, cluster)


def operator_image(cluster: Cluster) -> str:
    """The image of the operator as the checkout has it now."""
    return _loaded(OPERATOR, cluster)


def archive(recipe: Recipe) -> Path:
    """The image as a file; needs no cluster, so that it can be made while one is."""
    engine = _engine()
    name = f"{recipe.name}-{recipe.key(engine.base)}.tar"
    return cache.entry(name, lambda target: engine.build(recipe, target))


def _loaded(recipe: Recipe, cluster: Cluster) -> str:
    reference = recipe.reference(_engine().base)
    if not cluster.has_image(reference):
        file = archive(recipe)
        with progress.step(f"loading {reference} into {cluster.name}"):
            cluster.load_image(file)
    return reference


@once
def _engine() -> Docker | Buildah:
    return Docker() if commands.succeeds_if_installed(["docker", "info"]) else Buildah()
