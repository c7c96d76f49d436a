from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

from localnode.archive import write_archive


def test_an_archive_names_its_image_and_the_digest_of_its_layer(tmp_path: Path) -> None:
    layer, target = tmp_path / "root.tar", tmp_path / "image.tar"
    layer.write_bytes(b"content")
    write_archive(target, reference="localhost/x:1", layer=layer, entrypoint=["/bin/x"])
    with tarfile.open(target) as archive:
        [manifest] = _json(archive, "manifest.json")
        config = _json(archive, manifest["Config"])
    assert manifest["RepoTags"] == ["localhost/x:1"]
    assert config["config"]["Entrypoint"] == ["/bin/x"]
    digest = hashlib.sha256(b"content").hexdigest()
    assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}"]


def _json(archive: tarfile.TarFile, name: str) -> Any:
    member = archive.extractfile(name)
    assert member is not None
    return json.load(member)
