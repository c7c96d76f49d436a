"""`python3 -m testbed.bootstrap TARGET`: installs what one target of the Makefile needs.

It says first which cluster the target uses, why, and which Debian packages it installs; it does
nothing if all is there. Runs on the standard library alone, before any environment exists.
"""

from __future__ import annotations

import os
import sys

from localnode import debian
from localnode.debian import Package
from localnode.errors import SetupError
from localnode.node import LocalNode
from testbed import clusters, environments, state
from testbed.environments import DEVELOPMENT, PEER, Environment

NEEDS_PODS = {"demo", "test", "test-cluster", "test-e2e", "test-faults", "test-testbed", "bench"}
NEEDS_IMAGES = NEEDS_PODS | {"dist"}
NEEDS_CLUSTER = NEEDS_PODS | {"cluster", "test-contract", "test-scale", "test-versions"}
NEEDS_POSTGRESQL = NEEDS_CLUSTER - {"cluster", "demo"}
NEEDS_NETWORK_POLICIES = {"test-e2e"}
NEEDS_GIT = {"test", "test-cluster"}
NEEDS_STOCK_WORKER = {"test", "test-contract", "test-versions", "bench"}

PYTHON = (
    Package("ca-certificates", "/etc/ssl/certs/*"),
    Package("python3-venv", "import ensurepip"),
)
IMAGES = (Package("buildah", "buildah"), Package("debootstrap", "debootstrap"))
GIT = (Package("git", "git"),)
NETWORK_POLICIES = (Package("ipset", "ipset"),)  # their enforcer calls it
POSTGRESQL = (Package("postgresql", "/usr/lib/postgresql/*/bin/postgres", "initdb"),)


def main(target: str) -> int:
    try:
        install_packages(target)
        for environment in environments_of(target):
            if not environment.is_current():
                environments.make(environment)
    except SetupError as error:
        print(f"make {target} failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nmake {target} was interrupted; the same command continues it", file=sys.stderr)
        return 130
    return 0


def install_packages(target: str) -> None:
    needed = [*PYTHON]
    if target in NEEDS_POSTGRESQL:
        needed += POSTGRESQL
    if target in NEEDS_GIT:
        needed += GIT
    purpose = f"for make {target}"
    if target in NEEDS_CLUSTER | NEEDS_IMAGES:
        selection = clusters.select(os.environ)
        if target in NEEDS_CLUSTER:
            purpose = f"for cluster {selection.cluster.name} ({selection.reason})"
        needed += packages_of(selection.cluster, target)
    if missing := debian.missing(needed):
        print(f"Debian packages to install {purpose}: {' '.join(missing)}", flush=True)
        debian.install(
            missing, state.cache(), otherwise=", or start Docker to use a cluster by kind"
        )


def packages_of(cluster: clusters.Cluster, target: str) -> tuple[Package, ...]:
    """Return what the cluster needs; with kind its node is an image, and Docker builds ours."""
    if not isinstance(cluster, LocalNode):
        return ()
    node = debian.NODE if target in NEEDS_CLUSTER else ()
    policies = NETWORK_POLICIES if target in NEEDS_NETWORK_POLICIES else ()
    return node + policies + (IMAGES if target in NEEDS_IMAGES else ())


def environments_of(target: str) -> list[Environment]:
    return [DEVELOPMENT, PEER] if target in NEEDS_STOCK_WORKER else [DEVELOPMENT]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
