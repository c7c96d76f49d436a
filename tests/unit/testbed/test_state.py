from __future__ import annotations

from pathlib import Path

import pytest

from localnode.errors import SetupError
from localnode.layout import NAME
from testbed import state


def test_two_checkouts_have_two_names() -> None:
    names = {state.default_name(Path("/a")), state.default_name(Path("/b"))}
    assert len(names) == 2
    assert all(NAME.fullmatch(name) for name in names)


def test_cluster_name_overrides_the_name_of_the_checkout() -> None:
    environ = {"CLUSTER_NAME": "mine", "WORKPOOL_OPERATOR_STATE": "/state"}
    assert state.folder(environ) == Path("/state/mine")


@pytest.mark.parametrize("name", ["Upper", "-dash", "dot.ted", "../up", "x" * 41])
def test_a_name_that_no_node_could_have_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(SetupError, match="up to 40 lower-case letters"):
        state.name({"CLUSTER_NAME": name})


def test_state_lies_in_the_users_state_folder_unless_named() -> None:
    assert state.root({"XDG_STATE_HOME": "/x"}) == Path("/x/workpool-operator")
    assert state.root({"WORKPOOL_OPERATOR_STATE": "/y"}) == Path("/y")
