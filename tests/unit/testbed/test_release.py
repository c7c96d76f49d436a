"""What a release publishes: one version everywhere, its notes, its bill of materials."""

from __future__ import annotations

import io
import json
import re
import tarfile
from importlib import metadata
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from localnode.errors import SetupError
from testbed import generated, release, sbom, version
from testbed.state import CHECKOUT

CHANGELOG = """\
# Changelog

## Unreleased

- New.

## 0.1.0 (2026-11-27)

### Added

- First.
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a CHANGELOG of two sections."""
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    monkeypatch.setattr(release, "CHECKOUT", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("checkout")
def test_the_notes_of_a_release_are_the_section_of_its_version() -> None:
    assert release.notes("0.1.0", tag="v0.1.0") == "### Added\n\n- First.\n"


@pytest.mark.usefixtures("checkout")
def test_a_build_before_the_release_has_the_notes_of_what_is_not_released() -> None:
    assert release.notes("0.2.0") == "- New.\n"


@pytest.mark.usefixtures("checkout")
def test_a_tag_without_its_section_or_of_another_version_is_refused() -> None:
    with pytest.raises(SetupError, match=r"has no section '## 0\.2\.0': rename '## Unreleased'"):
        release.notes("0.2.0", tag="v0.2.0")
    with pytest.raises(SetupError, match=r"RELEASE_TAG=v0\.3\.0, but pyproject.toml has version"):
        release.notes("0.1.0", tag="v0.3.0")


def test_the_changelog_has_notes_for_the_next_release() -> None:
    assert len(release.notes("next")) > 100


def test_a_new_version_is_written_wherever_the_version_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*version.FILES, "pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = (CHECKOUT / name).read_text()
        (tmp_path / name).write_text(text.replace('\nversion = "0', '\nversion = "7'))
    monkeypatch.setattr(version, "CHECKOUT", tmp_path)
    new = "7" + metadata.version("workpool-operator")[1:]
    changed = version.repeated()
    assert all(new in text for text in changed.values())
    old = re.escape(metadata.version("workpool-operator"))
    assert not [name for name, text in changed.items() if re.search(rf"(?<!\d){old}(?!\d)", text)]


def test_no_other_file_that_users_apply_or_read_has_the_version() -> None:
    found = re.compile(rf"(?<![\d.]){re.escape(version.current())}(?![\d.])")
    places = ("docs", "manifests", "charts", "examples", "operator", ".github")
    files = [path for place in places for path in (CHECKOUT / place).rglob("*") if path.is_file()]
    texts = {path: path.read_text(errors="ignore") for path in files if path.suffix != ".pyc"}
    named = {str(path.relative_to(CHECKOUT)) for path in texts if found.search(texts[path])}
    crds = {str(file.relative_to(CHECKOUT)) for file in generated.CRD_FILES}  # made with it
    assert named <= {*version.FILES, *crds}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image archive with one Debian package and another file."""
    status = b"Package: libc6\nVersion: 2.36-9+deb12u14\nArchitecture: amd64\n"
    layer = archive({"etc/hostname": b"x", f"{sbom.STATUS}libc6": status})
    manifest = json.dumps([{"Layers": ["layer.tar"]}]).encode()
    (tmp_path / "image.tar").write_bytes(archive({"manifest.json": manifest, "layer.tar": layer}))
    return tmp_path / "image.tar"


def archive(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as written:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            written.addfile(member, io.BytesIO(content))
    return target.getvalue()


def test_the_bill_of_materials_has_all_packages_of_lock_and_image_and_is_valid(image) -> None:
    lock = CHECKOUT / "requirements.lock"
    document = sbom.render(lock, image=image)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None
    components = {each["purl"]: each for each in json.loads(document)["components"]}
    locked = re.findall(r"^([a-z0-9.-]+)==([^ ]+)", lock.read_text(), re.MULTILINE)
    assert components.keys() == {
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12",
        *(f"pkg:pypi/{name}@{of_lock}" for name, of_lock in locked),
    }
    [url] = components[f"pkg:pypi/kopf@{dict(locked)['kopf']}"]["externalReferences"]
    assert {each["alg"] for each in url["hashes"]} == {"SHA-256"}


def test_the_same_lock_and_image_give_the_same_bill_of_materials(image) -> None:
    lock = CHECKOUT / "requirements.lock"
    assert sbom.render(lock, image=image) == sbom.render(lock, image=image)
