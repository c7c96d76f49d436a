"""What `make dist` builds: the files of a release, and the image that the tests run."""

from __future__ import annotations

import hashlib
import json
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localnode import commands
from testbed import images, release, version
from testbed.images.buildah import Buildah

MEGABYTE = 1_000_000
NAME = f"workpool-operator-{version.current()}"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    release.build(folder)
    return folder


@pytest.fixture(scope="module")
def archive(dist: Path) -> Iterator[tarfile.TarFile]:
    (file,) = dist.glob(f"{NAME}-linux-*.tar")
    with tarfile.open(file) as opened:
        yield opened


def member(archive: tarfile.TarFile, name: str) -> Any:
    return archive.extractfile(name)


@pytest.fixture(scope="module")
def manifest(archive: tarfile.TarFile) -> dict[str, Any]:
    return json.load(member(archive, "manifest.json"))[0]


@pytest.fixture(scope="module")
def files(archive, manifest) -> dict[str, tarfile.TarInfo]:
    """Return what is in the image's root, by path; no layer deletes anything."""
    found: dict[str, tarfile.TarInfo] = {}
    for name in manifest["Layers"]:
        with tarfile.open(fileobj=member(archive, name)) as layer:
            found |= {each.name.rstrip("/"): each for each in layer}
    return found


def test_a_release_is_wheel_chart_image_and_bill_of_materials_with_their_checksums(dist):
    commands.run_logged(["sha256sum", "--check", "SHA256SUMS"], log=dist / "log", cwd=dist)
    (dist / "log").unlink()
    names = {file.name for file in dist.iterdir()}
    wheel = f"{NAME.replace('-', '_', 1)}-py3-none-any.whl"
    assert names - {f"{NAME}-linux-amd64.tar", f"{NAME}-linux-arm64.tar"} == {
        wheel,
        f"{NAME}.tgz",
        f"{NAME}.cdx.json",
        "SHA256SUMS",
    }


def test_a_second_wheel_and_a_second_chart_have_the_same_bytes(dist, tmp_path):
    release.wheel(tmp_path)
    release.chart(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (dist / file.name).read_bytes()


def test_the_image_has_less_than_200_mb_unpacked(files):
    assert sum(file.size for file in files.values()) < 200 * MEGABYTE


def test_the_image_has_no_shell_no_package_manager_and_no_compiler(files):
    programs = {path.rpartition("/")[2] for path, file in files.items() if file.mode & 0o111}
    assert "python3.11" in programs
    assert not programs & {"sh", "bash", "dash", "apt-get", "dpkg", "pip", "pip3", "gcc", "cc"}
    assert not [path for path in files if path.endswith(("site-packages/pip", "ensurepip"))]


def test_any_user_can_read_the_image_and_nobody_can_write_to_it(files):
    assert [path for path, file in files.items() if file.mode & (stat.S_ISUID | stat.S_ISGID)] == [
        "var/local"
    ]
    regular = {path: file for path, file in files.items() if not file.issym()}
    assert {path for path, file in regular.items() if file.mode & 0o022} == {"tmp"}
    unreadable = {path for path, file in regular.items() if not file.mode & 0o004}
    assert unreadable == {"root"}


def test_bytecode_of_every_module_is_there_because_nobody_can_write_it(files):
    sources = [path for path in files if path.endswith(".py") and "site-packages" in path]
    missing = []
    for path in sources:
        folder, _, name = path.rpartition("/")
        if f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-311.pyc" not in files:
            missing.append(path)
    assert len(sources) > 1000
    assert missing == []


def test_the_image_says_what_it_is_and_does_not_run_as_root(archive, manifest):
    config = json.load(member(archive, manifest["Config"]))["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["workpool-operator"]
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert labels["version"] == version.current()
    assert labels.keys() >= {"title", "description", "licenses", "source", "documentation"}


@pytest.mark.extended
def test_a_second_image_that_is_built_from_nothing_has_the_same_bytes(dist, tmp_path):
    engine = images.engine()
    assert isinstance(engine, Buildah)
    again, file = "localhost/workpool-operator-again:1", tmp_path / "image.tar"
    engine.build(images.OPERATOR, again, cached=False)
    engine.save(again, file, name=f"workpool-operator:{version.current()}")
    (first,) = dist.glob(f"{NAME}-linux-*.tar")
    assert digest(file) == digest(first)


def digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
