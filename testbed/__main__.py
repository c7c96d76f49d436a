"""`python -m testbed VERB`: what the Makefile's targets call; a verb imports what it alone uses."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from localnode.errors import SetupError
from testbed import clusters

INTERRUPTED = 130


def up() -> None:
    """Bring the cluster up, or continue an interrupted start."""
    selection = clusters.select(os.environ)
    cluster = selection.cluster
    print(f"cluster {cluster.name}: {selection.reason}", flush=True)
    cluster.up()
    print(f"cluster {cluster.name} is up; look around with\n  {cluster.kubectl} get pods -A")


def down() -> None:
    """Remove the cluster and what the demo left running."""
    from testbed import demo, state

    demo.stop(state.folder())
    cluster = clusters.select(os.environ).cluster
    cluster.down()
    print(f"cluster {cluster.name} is down")


def demo() -> None:
    """Run an example flow on the cluster, from nothing to Completed."""
    from testbed import demo

    demo.main()


def up_with_images() -> None:
    """Start the cluster; meanwhile build the images of runs and operator, then load them."""
    from testbed import images

    with ThreadPoolExecutor(max_workers=1) as builds:
        built = [builds.submit(images.build, each) for each in (images.RUN, images.OPERATOR)]
        up()
        for each in built:
            each.result()
    cluster = clusters.select(os.environ).cluster
    images.run_image(cluster)
    images.operator_image(cluster)


def test_versions() -> None:
    """Run the contract tests with other versions of Prefect and Kubernetes."""
    from testbed import generated, versions

    try:
        versions.main()
    finally:
        generated.write()  # the table of the README


def crd() -> None:
    """Write the CRD, generated from the model, wherever the repository keeps it."""
    from testbed import generated

    generated.write()


def dist() -> None:
    """Build what a release publishes."""
    from testbed import release

    release.main()


def locks() -> None:
    """Resolve the dependencies into the locks."""
    from testbed import dependency_locks

    dependency_locks.main()


VERBS: dict[str, Callable[[], None]] = {
    "up": up,
    "down": down,
    "demo": demo,
    "up-with-images": up_with_images,
    "test-versions": test_versions,
    "crd": crd,
    "dist": dist,
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
    except SetupError as error:
        print(f"{chosen} failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{chosen} was interrupted; the same command continues it", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
