from __future__ import annotations

import threading
from pathlib import Path

import pytest

from localnode.lock import exclusive


def test_a_second_holder_waits_and_prints_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with exclusive(tmp_path / "held", purpose="works"):
            order.append("second")

    with exclusive(tmp_path / "held", purpose="works"):
        thread = threading.Thread(target=second)
        thread.start()
        waiting.wait()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "waiting for another process that works" in capsys.readouterr().out


def test_a_holder_may_remove_the_folder_under_those_that_wait(tmp_path: Path) -> None:
    held = tmp_path / "held"
    found: list[bool] = []

    def second() -> None:
        with exclusive(held, purpose="works"):
            found.append(held.is_dir())

    with exclusive(held, purpose="works"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        held.rmdir()
    thread.join()
    assert found == [True]
