"""What `make dist` builds: the files of a release, and the image that the tests run."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import tarfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localnode import commands
from testbed import builds, environments, images, release, version
from testbed.environments import Environment
from testbed.images.buildah import Buildah
from testbed.state import CHECKOUT

# One worker of pytest-xdist builds the release for all of them.
pytestmark = pytest.mark.xdist_group("release")

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


def test_the_chart_of_a_release_names_the_published_image(tmp_path):
    release.chart(tmp_path, image="ghcr.io/example/workpool-operator")
    (package,) = tmp_path.glob("*.tgz")
    rendered = commands.run(
        [builds.tool("helm"), "template", "etl", package, "--kube-version=1.36.0"]
    )
    named = set(re.findall(r"image: (.*)", rendered))
    assert named == {f"ghcr.io/example/workpool-operator:{version.current()}"}
    shown = commands.run([builds.tool("helm"), "show", "readme", package])
    assert '| `image.repository` | `"ghcr.io/example/workpool-operator"` |' in shown


def test_the_image_has_less_than_200_mb_unpacked(files):
    assert sum(file.size for file in files.values()) < 200 * MEGABYTE


def test_the_image_has_no_shell_no_package_manager_and_no_compiler(files):
    programs = {path.rpartition("/")[2] for path, each in files.items() if each.mode & 0o111}
    assert "python3.11" in programs
    assert not programs & {"sh", "bash", "dash", "apt-get", "dpkg-deb", "pip", "pip3", "gcc", "cc"}
    assert not [path for path in files if path.endswith(("site-packages/pip", "/ensurepip"))]


def test_any_user_can_read_every_file_of_the_image_and_only_root_can_change_one(files):
    regular = {path: each for path, each in files.items() if each.isfile()}
    assert {(each.uid, each.gid) for each in regular.values()} == {(0, 0)}
    modes = {path: each.mode for path, each in regular.items()}
    assert [path for path, mode in modes.items() if not mode & stat.S_IROTH] == []
    assert [path for path, mode in modes.items() if mode & (stat.S_IWGRP | stat.S_IWOTH)] == []
    assert [path for path, mode in modes.items() if mode & (stat.S_ISUID | stat.S_ISGID)] == []


def test_bytecode_of_every_module_is_there_because_it_cannot_be_written_later(files):
    sources = [path for path in files if path.endswith(".py") and "site-packages" in path]
    missing = []
    for path in sources:
        folder, _, name = path.rpartition("/")
        if f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-311.pyc" not in files:
            missing.append(path)
    assert len(sources) > 1000
    assert missing == []


def test_the_image_says_what_it_is_and_does_not_run_as_root(archive, manifest):
    (name,) = manifest["RepoTags"]
    assert name.endswith(f"workpool-operator:{version.current()}")
    config = json.load(member(archive, manifest["Config"]))["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["workpool-operator"]
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert labels["version"] == version.current()
    assert labels.keys() >= {"title", "description", "licenses", "source", "documentation"}


@pytest.mark.extended
def test_the_package_with_its_extra_client_is_enough_for_the_commands(tmp_path):
    release.wheel(tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    made = Environment(tmp_path / "venv", CHECKOUT / "requirements.lock")
    venv.create(made.folder, symlinks=True)
    environments.uv("install", f"--constraint={made.lock}", f"{wheel}[client]", environment=made)
    packages = list(made.folder.glob("lib/*/site-packages/*.dist-info"))
    assert len(packages) < 90
    program = made.folder / "bin" / "workpool-operator"
    checked = commands.run([program, "validate", CHECKOUT / "manifests" / "quickstart"])
    assert checked == "1 binding, 1 base job template valid\n"


@pytest.mark.extended
def test_a_second_image_that_is_built_from_nothing_has_the_same_bytes(dist, tmp_path):
    engine = images.engine()
    assert isinstance(engine, Buildah)
    again, file = "localhost/workpool-operator-again:1", tmp_path / "image.tar"
    engine.build(images.OPERATOR, again, cached=False)
    try:
        engine.save(again, file, name=f"workpool-operator:{version.current()}")
    finally:
        engine.remove(again)
    (first,) = dist.glob(f"{NAME}-linux-*.tar")
    assert digest(file) == digest(first)


def digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
