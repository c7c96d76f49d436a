"""Where a testbed keeps what it runs: one folder per name, which `down` removes.

Promises: two checkouts have two names, and one process at a time changes what a name stands for.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from testbed.errors import TestbedError

CHECKOUT = Path(__file__).resolve().parent.parent
# A Kubernetes node and a kind cluster are named so.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


def root(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of all names: `WORKPOOL_OPERATOR_STATE`, else below the user's state folder."""
    chosen = environ.get("WORKPOOL_OPERATOR_STATE")
    if chosen:
        return Path(chosen).absolute()
    base = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base).absolute() / "workpool-operator"


def name(environ: Mapping[str, str] = os.environ) -> str:
    """`CLUSTER_NAME`, else a name of this checkout's own."""
    chosen = environ.get("CLUSTER_NAME") or default_name(CHECKOUT)
    if not NAME.fullmatch(chosen):
        raise TestbedError(
            f"CLUSTER_NAME={chosen!r} is no name: use up to 40 lower-case letters, digits and '-'"
        )
    return chosen


def default_name(checkout: Path) -> str:
    """`wpo-` and six digits that differ between checkouts."""
    return "wpo-" + hashlib.sha256(str(checkout).encode()).hexdigest()[:6]


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the current name; it need not exist."""
    return root(environ) / name(environ)


@contextmanager
def exclusive(held: Path, *, purpose: str) -> Iterator[None]:
    """Holds the folder `held`, which it makes; says so when another process makes this one wait.

    The folder itself is the lock, so that nothing is left when its holder removes it.
    """
    while True:
        held.mkdir(parents=True, exist_ok=True)
        lock = os.open(held, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _wait_for(lock, purpose)
            if _is_still(held, lock):
                yield
                return
        finally:
            os.close(lock)


def _wait_for(lock: int, purpose: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process that {purpose}", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_still(path: Path, descriptor: int) -> bool:
    """False where the folder was removed, and perhaps made anew, while this process waited."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
