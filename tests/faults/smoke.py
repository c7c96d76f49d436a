"""Which cases of a fault belong to `make test`; `make test-faults` runs all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def params(cases: Iterable[Any], *, smoke: Collection[Any]) -> list[Any]:
    """Return the cases as pytest parameters; those outside `smoke` are marked `extended`."""
    cases = list(cases)
    assert set(smoke) <= set(cases), set(smoke) - set(cases)
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=[] if case in smoke else [pytest.mark.extended],
        )
        for case in cases
    ]
