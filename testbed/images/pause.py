"""The sandbox image that holds each pod's namespaces on the local node: a busybox that sleeps."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path

from testbed import cache
from testbed.images.archive import write_archive

PAUSE_IMAGE = "localhost/pause:1"
BUSYBOX = Path("/bin/busybox")  # of Debian's busybox-static: a dynamic one would not start alone


def pause_archive() -> Path:
    """An archive of `PAUSE_IMAGE`; it must be loaded before the node starts its first pod."""
    key = cache.key([PAUSE_IMAGE, BUSYBOX.read_bytes()])
    return cache.entry(f"pause-{key}.tar", _build)


def _build(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        layer = Path(scratch, "layer.tar")
        with tarfile.open(layer, "w") as root:
            root.add(BUSYBOX.resolve(), arcname="bin/busybox")
        entrypoint = ["/bin/busybox", "sleep", "infinity"]
        write_archive(target, reference=PAUSE_IMAGE, layer=layer, entrypoint=entrypoint)
