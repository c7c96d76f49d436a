"""`make dist`: what a release publishes, in dist/.

Two builds of one commit give the same bytes, except for an image that Docker builds. The image is
the one that the tests run; its Debian packages are the newest ones, so a build after an update of
them differs.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import platform
import re
import shutil
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from localnode import commands, progress
from localnode.errors import SetupError
from testbed import builds, images, sbom, state, version
from testbed.state import CHECKOUT

DIST = CHECKOUT / "dist"
CHART = CHECKOUT / "charts" / "workpool-operator"
#: In the environment of a workflow: the tag that it releases.
TAG = "RELEASE_TAG"
#: And the repository to which it publishes the image, which the chart then names.
IMAGE = "RELEASE_IMAGE"


def main() -> None:
    """Build wheel, chart, image archive, SBOM and checksums, and write the release notes."""
    text = notes(version.current(), tag=os.environ.get(TAG, ""))
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    build(DIST)
    (DIST / "release-notes.txt").write_text(text)
    print("\n".join(f"dist/{file.name}" for file in sorted(DIST.iterdir())))


def build(folder: Path) -> None:
    """Build what is published into an empty folder."""
    images.build(images.OPERATOR)
    with progress.step("packing wheel, chart, image and SBOM"):
        wheel(folder)
        chart(folder, image=os.environ.get(IMAGE, ""))
        architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "other")
        archive = folder / f"workpool-operator-{version.current()}-linux-{architecture}.tar"
        images.save(images.OPERATOR, archive, name=f"workpool-operator:{version.current()}")
        document = sbom.render(CHECKOUT / "requirements.lock", image=archive)
        (folder / f"workpool-operator-{version.current()}.cdx.json").write_text(document)
        (folder / "SHA256SUMS").write_text("".join(map(_checksum, sorted(folder.iterdir()))))


def notes(released: str, *, tag: str = "") -> str:
    """Return what CHANGELOG.md says about the version, or what it says is not released yet.

    Raises SetupError if `tag` is not that of the version, or if the page has no section for it.
    """
    if tag and tag != f"v{released}":
        raise SetupError(f"{TAG}={tag}, but pyproject.toml has version {released}: tag v{released}")
    page = (CHECKOUT / "CHANGELOG.md").read_text()
    sections: dict[str, str] = dict(
        re.findall(r"^## (\S+).*\n((?:(?!## ).*\n)*)", page, re.MULTILINE)
    )
    if tag and released not in sections:
        raise SetupError(f"CHANGELOG.md has no section '## {released}': rename '## Unreleased'")
    text = sections[released] if released in sections else sections["Unreleased"]
    return text.strip() + "\n"


def wheel(folder: Path) -> None:
    """Build the package; hatchling gives its files a fixed time."""
    commands.run_logged(
        [Path(sys.executable).with_name("hatchling"), "build", "--target=wheel", "-d", folder],
        log=state.cache().log("wheel"),
        cwd=CHECKOUT,
    )


def chart(folder: Path, *, image: str = "") -> None:
    """Package the chart, with the repository of the published image if there is one, and give its
    files a fixed time instead of Helm's present."""
    with tempfile.TemporaryDirectory() as scratch:
        source = shutil.copytree(CHART, Path(scratch, CHART.name))
        if image:
            _set_image(source / "values.yaml", "  repository: workpool-operator", image)
            _set_image(source / "README.md", '| `image.repository` | `"workpool-operator"`', image)
        commands.run([builds.tool("helm"), "package", source, f"--destination={folder}"])
    (package,) = folder.glob("*.tgz")
    packed = BytesIO(gzip.decompress(package.read_bytes()))
    timeless = BytesIO()
    with tarfile.open(fileobj=packed) as made, tarfile.open(fileobj=timeless, mode="w") as changed:
        for member in made:
            member.mtime = 0
            changed.addfile(member, made.extractfile(member))
    package.write_bytes(gzip.compress(timeless.getvalue(), mtime=0))


def _set_image(file: Path, before: str, image: str) -> None:
    """Name the image in the one line of the file that begins so."""
    text = file.read_text()
    if text.count(f"\n{before}") != 1:
        raise SetupError(f"{file.name}: no line, or several, begin with {before!r}")
    file.write_text(text.replace(before, before.replace("workpool-operator", image)))


def _checksum(file: Path) -> str:
    """Return the file's line for `sha256sum --check`."""
    with file.open("rb") as content:
        return f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {file.name}\n"
