"""Writes an image archive in Docker's format, of one layer, from the tar of a root file system."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def write_archive(
    target: Path, *, reference: str, layer: Path, entrypoint: Sequence[str] = ()
) -> None:
    """Write `target`, an archive whose only image is `reference` with `layer` as its root."""
    config = _config(layer, entrypoint)
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"]}]
    with tarfile.open(target, "w") as archive:
        _add(archive, config_name, config)
        archive.add(layer, arcname="layer.tar")
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _config(layer: Path, entrypoint: Sequence[str]) -> bytes:
    with layer.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint) or None, "Env": [PATH, "LANG=C.UTF-8"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created_by": "localnode"}],
    }
    return json.dumps(config).encode()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
