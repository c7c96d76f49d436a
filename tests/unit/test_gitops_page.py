"""The expressions that docs/gitops.md has for Flux. Its health check for Argo CD runs in
tests/contract/test_gitops_health.py."""

from __future__ import annotations

import re
import textwrap

import cel
import pytest
import yaml

from testbed.state import CHECKOUT

PAGE = (CHECKOUT / "docs" / "gitops.md").read_text()
(BLOCK,) = re.findall(
    r"^ +```yaml\n( +healthCheckExprs:\n.*?)^ +```", PAGE, re.MULTILINE | re.DOTALL
)
(CHECK,) = yaml.safe_load(textwrap.dedent(BLOCK))["healthCheckExprs"]


@pytest.mark.parametrize(
    ("ready", "current", "failed"),
    [("True", True, False), ("False", False, True), ("Unknown", False, False)],
)
def test_a_fault_fails_at_once_and_a_start_is_waited_for(ready, current, failed):
    conditions = [{"type": "Claiming", "status": "True"}, {"type": "Ready", "status": ready}]
    binding = {"status": {"observedGeneration": 1, "conditions": conditions}}
    assert cel.evaluate(CHECK["current"], binding) is current
    assert cel.evaluate(CHECK["failed"], binding) is failed


def test_a_binding_without_a_status_of_the_operator_is_waited_for():
    binding = {"status": {"observedGeneration": -1, "conditions": []}}
    assert cel.evaluate(CHECK["current"], binding) is False
    assert cel.evaluate(CHECK["failed"], binding) is False
