"""The user's cache: results of long builds, shared by clones and CI runs.

Promises: an entry is whole or absent (built aside, then renamed), and one process builds it while
the others wait and say so. An entry's name holds the hash of everything that it is built from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from testbed import state


def folder() -> Path:
    """Where the cache is: `WORKPOOL_OPERATOR_CACHE`, else below the user's cache folder."""
    chosen = os.environ.get("WORKPOOL_OPERATOR_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "workpool-operator"


def key(parts: Iterable[bytes | str]) -> str:
    """Twelve hex digits that change with any part; ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:12]


def entry(name: str, build: Callable[[Path], None]) -> Path:
    """The entry's path. Where it is missing, `build` makes a file or folder at the path given."""
    path = folder() / name
    if path.exists():
        return path
    lock = path.with_name(f".{name}.lock")
    with state.exclusive(lock, purpose=f"builds {name}"):
        if not path.exists():
            aside = path.with_name(f".{name}.building")
            discard(aside)  # what an interrupted build left
            build(aside)
            aside.rename(path)
    return path


def discard(path: Path) -> None:
    """Removes a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
