from __future__ import annotations

import threading
from pathlib import Path

import pytest

from testbed import state
from testbed.errors import TestbedError


def test_two_checkouts_have_two_names() -> None:
    names = {state.default_name(Path("/a")), state.default_name(Path("/b"))}
    assert len(names) == 2
    assert all(state.NAME.fullmatch(name) for name in names)


def test_cluster_name_overrides_the_name_of_the_checkout() -> None:
    environ = {"CLUSTER_NAME": "mine", "WORKPOOL_OPERATOR_STATE": "/state"}
    assert state.folder(environ) == Path("/state/mine")


@pytest.mark.parametrize("name", ["Upper", "-dash", "dot.ted", "../up", "x" * 41])
def test_a_name_that_no_node_could_have_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(TestbedError, match="up to 40 lower-case letters"):
        state.name({"CLUSTER_NAME": name})


def test_state_lies_in_the_users_state_folder_unless_named() -> None:
    assert state.root({"XDG_STATE_HOME": "/x"}) == Path("/x/workpool-operator")
    assert state.root({"WORKPOOL_OPERATOR_STATE": "/y"}) == Path("/y")


def test_one_holds_a_folder_and_the_next_waits_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with state.exclusive(tmp_path / "held", purpose="works"):
            order.append("second")

    with state.exclusive(tmp_path / "held", purpose="works"):
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
        with state.exclusive(held, purpose="works"):
            found.append(held.is_dir())

    with state.exclusive(held, purpose="works"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        held.rmdir()
    thread.join()
    assert found == [True]
