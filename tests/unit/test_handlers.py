"""The spec as a daemon sees it: live, parsed, and never a reason to end."""

from __future__ import annotations

from typing import Any

import pytest

from workpool_operator.errors import OperatorError
from workpool_operator.handlers import LiveSpec

VALID = {"workPool": {"name": "etl"}, "server": {"url": "http://prefect/api"}}


def test_a_change_of_the_spec_is_seen_and_the_same_spec_parsed_once() -> None:
    live: dict[str, Any] = dict(VALID)
    spec = LiveSpec(live)
    assert spec() is spec()
    live["suspend"] = True
    assert spec().suspend is True


def test_a_spec_that_is_not_valid_is_told_once_and_the_one_before_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    live: dict[str, Any] = dict(VALID)
    spec = LiveSpec(live)
    before = spec()
    live["concurrencyLimit"] = 0
    assert spec() is before
    assert spec() is before
    [told] = caplog.messages
    assert "concurrencyLimit: Input should be greater than or equal to 1" in told
    assert "apply the current CRD" in told


def test_a_binding_that_never_had_a_valid_spec_is_refused_in_one_line() -> None:
    with pytest.raises(OperatorError, match=r"not valid: workPool: Field required; .*CRD"):
        LiveSpec({"server": {"url": "http://prefect/api"}})()
