"""The spec of a binding: current, parsed, and never a reason to end."""

from __future__ import annotations

import pytest

from workpool_operator.binding.live_binding import LiveSpec
from workpool_operator.errors import OperatorError

VALID = {"workPool": {"name": "etl"}, "server": {"url": "http://prefect/api"}}


def test_a_changed_spec_is_used_and_an_unchanged_one_is_parsed_once() -> None:
    spec = LiveSpec("data/etl")
    spec.update(VALID)
    before = spec()
    spec.update(dict(VALID))
    assert spec() is before
    spec.update(VALID | {"suspend": True})
    assert spec().suspend is True


def test_an_invalid_spec_is_logged_once_and_the_last_valid_one_stays_in_use(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = LiveSpec("data/etl")
    spec.update(VALID)
    before = spec()
    for _ in range(2):
        spec.update(VALID | {"concurrencyLimit": 0})
        assert spec() is before
    [line] = caplog.messages
    assert line.startswith("data/etl: the spec is invalid: ")
    assert "concurrencyLimit: Input should be greater than or equal to 1" in line
    assert "apply the current CRD" in line


def test_a_binding_that_never_had_a_valid_spec_gives_an_error_of_one_line() -> None:
    spec = LiveSpec("data/etl")
    spec.update({"server": {"url": "http://prefect/api"}})
    with pytest.raises(OperatorError, match=r"invalid: workPool: Field required; .*CRD"):
        spec()
