"""Which owner a claim belongs to, by the answer to its request."""

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
def test_an_existing_claim_counts_for_a_binding_but_not_for_a_worker(status: str) -> None:
    answer = SetStateResult(status, pending())
    assert BINDING.is_granted(answer)
    assert not WORKER.is_granted(answer)


def test_an_accepted_claim_counts_for_both() -> None:
    answer = SetStateResult("ACCEPT", pending())
    assert BINDING.is_granted(answer)
    assert WORKER.is_granted(answer)
