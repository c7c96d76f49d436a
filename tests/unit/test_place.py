"""Whose a run is after its claim was answered."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from tests.support.snapshots import pending
from workpool_operator.prefect_api.models import SetStateResult
from workpool_operator.runs.owner import Owner

BINDING = Owner("c", "data/etl", "b", "w", "data", "http://server/api", UUID(int=1), ())
WORKER = replace(BINDING, binding="worker:etl", exclusive=True)


@pytest.mark.parametrize("status", ["REJECT", "ABORT", "WAIT"])
def test_a_claim_that_stands_already_is_the_bindings_and_no_workers(status: str) -> None:
    answer = SetStateResult(status, pending())
    assert BINDING.is_granted(answer)
    assert not WORKER.is_granted(answer)


def test_a_claim_that_was_accepted_is_its_proposers() -> None:
    answer = SetStateResult("ACCEPT", pending())
    assert BINDING.is_granted(answer)
    assert WORKER.is_granted(answer)
