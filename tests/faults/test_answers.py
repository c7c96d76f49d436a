"""Every write of the claim path gets every bad answer; the run has one Job and completes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import product

import pytest

from tests.faults.conftest import Past, Writes
from tests.faults.smoke import params
from tests.support.fault_proxy import Match, Rule
from tests.support.kube import Object
from tests.support.operator import Operator
from tests.support.prefect import PrefectApi
from workpool_operator.jobs.diagnosis import OUTAGE

RETRY_AFTER_SECONDS = 2
FAULTS: dict[str, Callable[[Match], Rule]] = {
    "request lost": lambda match: match.drop(),
    "answer lost": lambda match: match.after().drop(),
    "429": lambda match: match.answer(429, headers={"Retry-After": str(RETRY_AFTER_SECONDS)}),
    "500": lambda match: match.answer(500),
    "500 after all": lambda match: match.after().answer(500),
    "503": lambda match: match.answer(503),
}
#: Each fault once, each write twice.
SMOKE = {
    ("claim", "answer lost"),
    ("claim", "429"),
    ("job", "500 after all"),
    ("job", "request lost"),
    ("pid", "500"),
    ("pid", "503"),
}


@pytest.mark.parametrize(
    ("write", "fault"),
    params(product(["claim", "job", "pid"], FAULTS), smoke=SMOKE),
)
async def test_a_run_completes_once_although_a_write_gets_a_bad_answer(
    write: str,
    fault: str,
    api: PrefectApi,
    writes: Writes,
    past: Past,
    served: Operator,
    quick: Callable[..., Awaitable[Object]],
) -> None:
    rule = FAULTS[fault](writes[write].once())
    repeated = writes[write].nth(2).run(lambda call: None)
    run = await quick(seconds=5)
    await api.wait_for_state(run["id"], "COMPLETED")
    if fault == "429":
        assert repeated.fired[0].began - rule.fired[0].began >= RETRY_AFTER_SECONDS
    assert len(past.jobs.seen) == 1
    assert len(past.pods.seen) == 1
    # A run says at once that the API server asked to wait, and for how long.
    waits = [OUTAGE] if (write, fault) == ("job", "429") else []
    states = ["Scheduled", "Pending", *waits, "Running", "Completed"]
    assert await api.state_names(run["id"]) == states
    assert "Traceback" not in served.log


@pytest.mark.parametrize(
    "fault",
    params(["request lost", "answer lost", "429", "500 after all"], smoke={"answer lost"}),
)
async def test_a_run_crashes_once_although_the_report_of_its_end_gets_a_bad_answer(
    fault: str, api: PrefectApi, writes: Writes, served: Operator, deployment: Object
) -> None:
    FAULTS[fault](writes["crash"].once())
    exits = {"command": "sh -c 'exit 7'"}
    run = await api.create_run(deployment["id"], job_variables=exits)
    run = await api.wait_for_state(run["id"], "CRASHED")
    assert "exited with code 7" in run["state"]["message"]
    assert await api.state_names(run["id"]) == ["Scheduled", "Pending", "Crashed"]
