"""Two operators serve the same binding, as happens briefly in a badly configured roll-out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.faults.conftest import Past
from tests.support.kube import Object
from tests.support.operator import Operator
from tests.support.prefect import PrefectApi

RUNS = 20


async def test_two_operators_run_every_run_once(
    api: PrefectApi,
    past: Past,
    served: Operator,
    start: Callable[[], Awaitable[Operator]],
    quick: Callable[..., Awaitable[Object]],
) -> None:
    other = await start()
    runs = [await quick() for _ in range(RUNS)]
    for run in runs:
        await api.wait_for_state(run["id"], "COMPLETED", seconds=120)
        assert (await api.state_names(run["id"])).count("Pending") == 1
    assert len(past.jobs.seen) == RUNS
    assert len(past.pods.seen) == RUNS
    assert "Traceback" not in served.log + other.log
