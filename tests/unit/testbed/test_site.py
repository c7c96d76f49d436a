"""The documentation's site: complete, and readable without any other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.state import CHECKOUT

#: What a browser fetches by itself when it shows a page.
FETCHED = re.compile(r'<(?:script|img|iframe)[^>]* src="([^"]+)|<link[^>]* href="([^"]+)')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make check` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = build(CHECKOUT, folder)
    assert done.returncode == 0, done.stdout
    return folder


def build(checkout: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=checkout,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def html(site: Path, page: str) -> str:
    return (site / page / "index.html").read_text()


def test_a_page_is_shown_without_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 80
    fetched = {"".join(found) for page in pages for found in FETCHED.findall(page.read_text())}
    assert any(name.endswith(".css") for name in fetched)
    assert [name for name in fetched if "//" in name] == []
    styles = "".join(file.read_text() for file in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?https?:", styles) == []


def test_a_link_out_of_the_docs_leads_to_a_page_of_the_site_or_to_the_forge(site: Path) -> None:
    assert 'href="../charts/workpool-operator/"' in html(site, "install")
    forge = "https://github.com/workpool-operator/workpool-operator"
    assert f'href="{forge}/tree/main/tests/contract"' in html(site, "guarantees")
    assert f'href="{forge}/blob/main/examples/gpu-pool.json"' in html(site, "templates")
    assert '<a href="../../tenancy/">docs/tenancy.md</a>' in html(site, "charts/workpool-operator")
    assert 'href="../../races/' in html(site, "decisions/0040-no-claim-in-vain")


def test_a_block_of_commands_says_how_it_is_tested(site: Path) -> None:
    page = html(site, "quickstart")
    assert "Not run by a test: needs Docker and kind" in page
    assert '<small>Run by <a href="' in page
    assert "<!-- run" not in page


def test_the_decisions_are_listed_by_their_titles(site: Path) -> None:
    listed = html(site, "decisions")
    for file in (CHECKOUT / "docs" / "decisions").glob("0*.md"):
        assert f'href="{file.stem}/"' in listed
    assert "0001: The cluster id is the UID of the binding" in listed


def test_a_link_without_a_target_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "mkdocs.yml").write_text((CHECKOUT / "mkdocs.yml").read_text())
    for name in ("testbed", "charts", "examples", "benchmarks", "CHANGELOG.md", "CONTRIBUTING.md"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    docs = tmp_path / "docs"
    docs.mkdir()
    for file in (CHECKOUT / "docs").iterdir():
        (docs / file.name).symlink_to(file)
    (docs / "limits.md").unlink()
    (docs / "limits.md").write_text("[a](status.md#no-such-heading)")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert "does not contain an anchor '#no-such-heading'" in done.stdout
