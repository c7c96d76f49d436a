"""The sandbox image that holds the namespaces of each pod: a busybox that sleeps."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path

from localnode.archive import write_archive
from localnode.cache import Cache, key

PAUSE_IMAGE = "localhost/pause:1"
BUSYBOX = Path("/bin/busybox")  # of Debian's busybox-static: a dynamic one needs more files


def pause_archive(cache: Cache) -> Path:
    """Return an archive of `PAUSE_IMAGE`; load it before the node starts its first pod."""
    digest = key([PAUSE_IMAGE, BUSYBOX.read_bytes()])
    return cache.entry(f"pause-{digest}.tar", _build)


def _build(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        layer = Path(scratch, "layer.tar")
        with tarfile.open(layer, "w") as root:
            root.add(BUSYBOX.resolve(), arcname="bin/busybox")
        entrypoint = ["/bin/busybox", "sleep", "infinity"]
        write_archive(target, reference=PAUSE_IMAGE, layer=layer, entrypoint=entrypoint)
