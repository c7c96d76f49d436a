"""A mistake in a label selector is found before the first request.

`contract/test_selector.py` compares the same selectors with what a real API server accepts.
"""

from __future__ import annotations

import pytest

from tests.support import selectors
from workpool_operator.label_selector import invalid_requirement


@pytest.mark.parametrize("selector", selectors.VALID)
def test_what_kubernetes_accepts_is_valid(selector: str) -> None:
    assert invalid_requirement(selector) is None


@pytest.mark.parametrize("selector", selectors.INVALID)
def test_the_requirement_that_kubernetes_refuses_is_named(selector: str) -> None:
    assert invalid_requirement(selector) is not None


def test_only_the_requirement_with_the_mistake_is_named() -> None:
    assert invalid_requirement("a=1, team in (x, y), b in 2, c") == "b in 2"
