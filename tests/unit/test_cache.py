"""The user's cache: whole entries, one builder."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from testbed import cache


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKPOOL_OPERATOR_CACHE", str(tmp_path))
    return tmp_path


def test_an_entry_is_built_once() -> None:
    built: list[Path] = []

    def build(target: Path) -> None:
        built.append(target)
        target.write_text("content")

    assert cache.entry("thing", build) == cache.entry("thing", build)
    assert len(built) == 1


def test_an_interrupted_build_leaves_no_entry_and_is_repeated_from_nothing(folder: Path) -> None:
    def interrupted(target: Path) -> None:
        target.mkdir()
        (target / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.entry("thing", interrupted)
    assert not (folder / "thing").exists()

    def whole(target: Path) -> None:
        target.mkdir()
        (target / "all").touch()

    assert [file.name for file in cache.entry("thing", whole).iterdir()] == ["all"]


def test_a_second_builder_waits_for_the_first_and_takes_its_entry() -> None:
    begun, built = threading.Event(), []

    def slowly(target: Path) -> None:
        begun.set()
        time.sleep(0.2)
        built.append("first")
        target.touch()

    first = threading.Thread(target=cache.entry, args=("thing", slowly))
    first.start()
    begun.wait()
    cache.entry("thing", lambda target: built.append("second"))
    first.join()
    assert built == ["first"]


def test_keys_tell_where_one_part_ends_and_the_next_begins() -> None:
    assert cache.key(["ab", "c"]) != cache.key(["a", "bc"])
