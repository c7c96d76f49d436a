"""The spec that a daemon reads: current, parsed, and never a reason to end."""

from __future__ import annotations

from typing import Any

import pytest

from workpool_operator.errors import OperatorError
from workpool_operator.handlers import LiveSpec

VALID = {"workPool": {"name": "etl"}, "server": {"url": "http://prefect/api"}}


def test_a_changed_spec_is_used_and_an_unchanged_one_is_parsed_once() -> None:
    live: dict[str, Any] = dict(VALID)
    spec = LiveSpec(live)
    assert spec() is spec()
    live["suspend"] = True
    assert spec().suspend is True


def test_an_invalid_spec_is_logged_once_and_the_last_valid_one_stays_in_use(
    caplog: pytest.LogCaptureFixture,
) -> None:
    live: dict[str, Any] = dict(VALID)
    spec = LiveSpec(live)
    before = spec()
    live["concurrencyLimit"] = 0
    assert spec() is before
    assert spec() is before
    [line] = caplog.messages
    assert "concurrencyLimit: Input should be greater than or equal to 1" in line
    assert "apply the current CRD" in line


def test_a_binding_that_never_had_a_valid_spec_gives_an_error_of_one_line() -> None:
    with pytest.raises(OperatorError, match=r"invalid: workPool: Field required; .*CRD"):
        LiveSpec({"server": {"url": "http://prefect/api"}})()
