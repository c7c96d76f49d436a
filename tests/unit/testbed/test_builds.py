from __future__ import annotations

import re

import pytest

from localnode.builds import GoModule
from localnode.errors import SetupError
from testbed import builds


def test_an_unknown_tool_is_refused_by_name() -> None:
    with pytest.raises(SetupError, match="builds 'minikube'"):
        builds.tool("minikube")


@pytest.mark.parametrize("module", builds.MODULES, ids=lambda module: module.name)
def test_every_program_is_a_tool_of_its_module(module: GoModule) -> None:
    tools = re.search(
        r"^tool (?:\((.*?)\)|(.*?)$)", (module.folder / "go.mod").read_text(), re.M | re.S
    )
    assert tools is not None
    names = [each.rpartition("/")[2] for each in (tools[1] or tools[2]).split()]
    assert names == list(module.programs)
