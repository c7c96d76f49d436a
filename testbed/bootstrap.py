"""`python3 -m testbed.bootstrap TARGET`: makes a machine ready for one target of the Makefile.

Promises: says first which cluster the target will use, why, and which Debian packages it installs;
does nothing where all is there. Runs on the standard library alone, before any environment exists.
"""

from __future__ import annotations

import os
import sys

from testbed import clusters, debian, environments
from testbed.clusters.local import LocalCluster
from testbed.environments import DEVELOPMENT, PEER, Environment
from testbed.errors import TestbedError

ON_IMAGES = {"demo", "test", "test-cluster", "test-e2e", "test-faults", "bench"}
ON_A_CLUSTER = ON_IMAGES | {"cluster", "test-contract", "test-scale"}
ON_POSTGRESQL = ON_A_CLUSTER - {"cluster", "demo"}
ON_GIT = {"test", "test-cluster"}
BESIDE_THE_PEER = {"test", "test-contract", "bench"}


def main(target: str) -> int:
    try:
        install_packages(target)
        for environment in environments_of(target):
            if not environment.is_current():
                environments.make(environment)
    except TestbedError as wrong:
        print(f"make {target} failed: {wrong}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nmake {target} was interrupted; the same command continues it", file=sys.stderr)
        return 130
    return 0


def install_packages(target: str) -> None:
    needed = [*debian.PYTHON]
    if target in ON_POSTGRESQL:
        needed += debian.POSTGRESQL
    if target in ON_GIT:
        needed += debian.GIT
    purpose = f"for make {target}"
    if target in ON_A_CLUSTER:
        selection = clusters.select(os.environ)
        purpose = f"for cluster {selection.cluster.name} ({selection.why})"
        needed += packages_of(selection.cluster, target)
    if missing := debian.missing(needed):
        print(f"Debian packages to install {purpose}: {' '.join(missing)}", flush=True)
        debian.install(missing)


def packages_of(cluster: clusters.Cluster, target: str) -> tuple[debian.Package, ...]:
    """kind brings its node as an image, and Docker builds ours."""
    if not isinstance(cluster, LocalCluster):
        return ()
    return debian.LOCAL_NODE + (debian.IMAGES if target in ON_IMAGES else ())


def environments_of(target: str) -> list[Environment]:
    return [DEVELOPMENT, PEER] if target in BESIDE_THE_PEER else [DEVELOPMENT]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
