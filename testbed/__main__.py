"""`python -m testbed VERB`: the one entry of the testbed; the Makefile's targets call it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from testbed import clusters
from testbed.errors import TestbedError

INTERRUPTED = 130


def up() -> None:
    """Brings the cluster up, or continues what an interrupted start left."""
    selection = clusters.select(os.environ)
    cluster = selection.cluster
    print(f"cluster {cluster.name}: {selection.why}", flush=True)
    cluster.up()
    print(f"cluster {cluster.name} is up; look around with\n  {cluster.kubectl} get pods -A")


def down() -> None:
    """Ends the cluster and what runs beside it, and leaves nothing of them."""
    _call("testbed.demo", "stop")
    cluster = clusters.select(os.environ).cluster
    cluster.down()
    print(f"cluster {cluster.name} is down")


def demo() -> None:
    """Runs an example flow on the cluster, from nothing to Completed."""
    _call("testbed.demo", "main")


def up_with_images() -> None:
    """Brings the cluster up with the run image and the operator's, built beside it."""
    from testbed import images

    with ThreadPoolExecutor(max_workers=1) as beside:
        built = [beside.submit(images.build, each) for each in (images.RUN, images.OPERATOR)]
        up()
        for each in built:
            each.result()
    cluster = clusters.select(os.environ).cluster
    images.run_image(cluster)
    images.operator_image(cluster)


def check() -> None:
    """Runs every check that needs no server."""
    _call("testbed.checks", "main")


def crd() -> None:
    """Writes the CRD from the model, wherever the repository keeps it."""
    _call("testbed.generated", "write")


def locks() -> None:
    """Resolves the dependencies anew."""
    _call("testbed.locks", "main")


VERBS: dict[str, Callable[[], None]] = {
    "up": up,
    "down": down,
    "demo": demo,
    "up-with-images": up_with_images,
    "check": check,
    "crd": crd,
    "locks": locks,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m testbed", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, verb in VERBS.items():
        verbs.add_parser(name, help=verb.__doc__)
    chosen = parser.parse_args(arguments).verb
    try:
        VERBS[chosen]()
    except TestbedError as wrong:
        print(f"{chosen} failed: {wrong}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{chosen} was interrupted; the same command continues it", file=sys.stderr)
        return INTERRUPTED
    return 0


def _call(module: str, function: str, *arguments: object) -> None:
    """Imports late: `up` and `down` must not pay for what only the demo needs."""
    getattr(importlib.import_module(module), function)(*arguments)


if __name__ == "__main__":
    sys.exit(main())
