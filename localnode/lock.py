"""Lets one process at a time work on what a folder represents."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(held: Path, *, purpose: str) -> Iterator[None]:
    """Hold the folder `held`, creating it if needed; print a line when another process holds it.

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
    """Return False if the folder was removed, and perhaps created again, during the wait."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
