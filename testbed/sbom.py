"""The bill of materials of the image: its locked Python packages and its Debian packages."""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import Any

from packageurl import PackageURL

from localnode import commands
from testbed.state import CHECKOUT

#: Where the Dockerfile leaves the control file of each Debian package that it unpacks.
STATUS = "var/lib/dpkg/status.d/"


def render(lock: Path, *, image: Path) -> str:
    """Return the CycloneDX document of a lock, and of the Debian packages in an image archive."""
    program = Path(sys.executable).with_name("cyclonedx-py")
    options = ("--output-reproducible", "--of=JSON", f"--pyproject={CHECKOUT / 'pyproject.toml'}")
    document: dict[str, Any] = json.loads(commands.run([program, "requirements", *options, lock]))
    for component in document["components"]:
        del component["description"]  # the lines of the lock
    document["components"] += map(_component, _status_files(image))
    return json.dumps(document, indent=2) + "\n"


def _status_files(image: Path) -> Iterator[str]:
    with tarfile.open(image) as archive:
        manifest = json.load(_content(archive, "manifest.json"))
        for name in manifest[0]["Layers"]:
            with tarfile.open(fileobj=_content(archive, name)) as layer:
                for file in layer:
                    if file.isfile() and file.name.startswith(STATUS):
                        yield _content(layer, file.name).read().decode()


def _content(archive: tarfile.TarFile, name: str) -> Any:
    return archive.extractfile(name)


def _component(status: str) -> dict[str, str]:
    package = Parser().parsestr(status)
    name, version = package["Package"], package["Version"]
    where = {"arch": package["Architecture"], "distro": "debian-12"}
    url = PackageURL("deb", "debian", name, version, where).to_string()
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}
