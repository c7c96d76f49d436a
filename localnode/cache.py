"""A folder with the results of long builds, which checkouts and CI runs share.

An entry is complete or absent: it is built under a temporary name and then renamed. One process
builds an entry while the others wait. The name of an entry holds a hash of everything that it is
built from.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from localnode.lock import exclusive


@dataclass(frozen=True)
class Cache:
    folder: Path

    def entry(self, name: str, build: Callable[[Path], None]) -> Path:
        """Return the path of the entry; if missing, `build` creates a file or folder there."""
        path = self.folder / name
        if path.exists():
            return path
        lock = path.with_name(f".{name}.lock")
        with exclusive(lock, purpose=f"builds {name}"):
            if not path.exists():
                aside = path.with_name(f".{name}.building")
                discard(aside)  # what an interrupted build left
                build(aside)
                aside.rename(path)
        return path

    def log(self, name: str) -> Path:
        """Return where a command of that name logs to."""
        return self.folder / "logs" / f"{name}.log"


def key(parts: Iterable[bytes | str]) -> str:
    """Return twelve hex digits that change with any part; ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:12]


def discard(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
