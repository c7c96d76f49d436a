"""`python -m tests.support.other_version run ...`: the operator as another version may be.

It renews its Leases less often, for longer, and does not count replicas of this version.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from workpool_operator import app as operator
from workpool_operator.binding import holder, replicas
from workpool_operator.kube import leases

LEASE_SECONDS, RENEW_SECONDS = 30.0, 12.0


def program() -> list[str]:
    """Return the program that stands for `workpool-operator`."""
    return [sys.executable, "-m", "tests.support.other_version"]


def main() -> None:
    leases.LEASE_SECONDS = LEASE_SECONDS
    for module in (leases, holder, replicas):
        vars(module)["RENEW_SECONDS"] = RENEW_SECONDS
    group_of = replicas.group_of

    def other_group(namespaces: Sequence[str], selector: str) -> str:
        return group_of(namespaces, f"{selector} of another version")

    vars(operator)["group_of"] = other_group
    sys.argv[0] = "workpool-operator"
    from workpool_operator.cli import app

    app()


if __name__ == "__main__":
    main()
