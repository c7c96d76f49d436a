"""The cache of builds: complete entries, one builder at a time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from localnode import cache
from localnode.cache import Cache


@pytest.fixture
def builds(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_an_entry_is_built_once(builds: Cache) -> None:
    built: list[Path] = []

    def build(target: Path) -> None:
        built.append(target)
        target.write_text("content")

    assert builds.entry("thing", build) == builds.entry("thing", build)
    assert len(built) == 1


def test_an_interrupted_build_leaves_no_entry_and_is_repeated_from_nothing(builds: Cache) -> None:
    def interrupted(target: Path) -> None:
        target.mkdir()
        (target / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        builds.entry("thing", interrupted)
    assert not (builds.folder / "thing").exists()

    def whole(target: Path) -> None:
        target.mkdir()
        (target / "all").touch()

    assert [file.name for file in builds.entry("thing", whole).iterdir()] == ["all"]


def test_a_second_builder_waits_for_the_first_and_takes_its_entry(builds: Cache) -> None:
    begun, built = threading.Event(), []

    def slowly(target: Path) -> None:
        begun.set()
        time.sleep(0.2)
        built.append("first")
        target.touch()

    first = threading.Thread(target=builds.entry, args=("thing", slowly))
    first.start()
    begun.wait()
    builds.entry("thing", lambda target: built.append("second"))
    first.join()
    assert built == ["first"]


def test_a_key_depends_on_where_one_part_ends_and_the_next_begins() -> None:
    assert cache.key(["ab", "c"]) != cache.key(["a", "bc"])
