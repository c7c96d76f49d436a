"""The OpenAPI schemas of Kubernetes releases, each from its Go module `k8s.io/kubernetes`.

One file of the module is read through the Go module proxy, of whose archive only that part is
transferred; it is compared with a known hash and kept in the cache.
"""

from __future__ import annotations

import hashlib
import io
import json
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localnode import builds, commands
from localnode.errors import SetupError
from testbed import state

Schema = dict[str, Any]

#: The last release of each minor version that could be had, with the SHA-256 of its swagger.json.
RELEASES: Mapping[str, str] = {
    "v1.31.14": "ddcb3d5c3d85849f1fadb56387d3a7bf44712da291e5bd08b34df4e8a4247f8d",
    "v1.32.13": "2335b4e7f79df85b20066164b14d8f02dd077dee7cd8c7b7fb425009c9837e85",
    "v1.33.13": "2af5abf98554af1599e516f31f7f1698085e6faa12b816401f569c097b9f7ef6",
    "v1.34.4": "d3b0cdc2fda15c753206d25ab459dc7c12df64e2fd652b6809687471ea751c37",
    "v1.35.4": "483500149ee52ce5753d75f5639101d985bb4f5e902cc05b1ba7627465d62446",
    "v1.36.3": "dcede2063da1d7ad62ecb5af8adb6d7fabd0b52385a7fa0048afb491dac90450",
}
_FILE = "k8s.io/kubernetes@{release}/api/openapi-spec/swagger.json"
_ARCHIVE = "{proxy}/k8s.io/kubernetes/@v/{release}.zip"
_TIMEOUT_SECONDS = 120
_BLOCK = 1 << 20


def definitions(release: str) -> dict[str, Schema]:
    """Return the definitions of the release's API, by name."""
    name = f"kubernetes-openapi-{release}.json"
    file = state.cache().entry(name, lambda target: _fetch(release, target))
    found: dict[str, Schema] = json.loads(file.read_text())["definitions"]
    return found


def _fetch(release: str, target: Path) -> None:
    address = _ARCHIVE.format(proxy=_proxy(), release=release)
    try:
        with zipfile.ZipFile(io.BufferedReader(_Remote(address), _BLOCK)) as archive:
            content = archive.read(_FILE.format(release=release))
    except (urllib.error.URLError, KeyError, zipfile.BadZipFile) as error:
        raise SetupError(f"cannot read {_FILE.format(release=release)}: {error}") from error
    if hashlib.sha256(content).hexdigest() != RELEASES[release]:
        raise SetupError(f"{address}: swagger.json is not the one that RELEASES names")
    target.write_bytes(content)


def _proxy() -> str:
    """Return the first Go module proxy of this machine."""
    named = commands.run([builds.go(state.cache()), "env", "GOPROXY"]).strip()
    return named.replace("|", ",").split(",")[0].rstrip("/")


class _Remote(io.RawIOBase):
    """A file on a server that answers requests for a range of it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._at = 0
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            self._size = int(answer.headers["Content-Length"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        headers = {"Range": f"bytes={self._at}-{end - 1}"}
        request = urllib.request.Request(self._address, headers=headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            content = answer.read()
        if len(content) != end - self._at:
            raise urllib.error.URLError("the server does not answer requests for a part of a file")
        buffer[: len(content)] = content
        self._at = end
        return len(content)
