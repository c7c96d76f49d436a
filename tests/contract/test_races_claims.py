"""Claims, on real servers (docs/races.md, 1 to 4)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.prefect import Object, PrefectApi
from tests.support.stepwise_controller import STATE_AGE, StepwiseController
from workpool_operator.errors import PrefectUnavailable
from workpool_operator.jobs.diagnosis import WaitReason

Start = Callable[..., Awaitable[StepwiseController]]
SET_STATE = r"/set_state$"
DATA = {"type": "reference", "storage_key": "the-result"}
UNSCHEDULABLE = WaitReason("Unschedulable", "No node can run the pod")


async def finish(api: PrefectApi, run: Object, type_: str, **state: Any) -> None:
    """Claim, run and end the run as another process does."""
    await api.set_state(run["id"], "PENDING")
    await api.set_state(run["id"], "RUNNING")
    answer = await api.set_state(run["id"], type_, **state)
    assert answer["status"] == "ACCEPT"


async def names(api: PrefectApi, run: Object) -> list[str]:
    return await api.state_names(run["id"])


@pytest.mark.parametrize(
    ("type_", "data"), [("COMPLETED", None), ("FAILED", DATA), ("CRASHED", DATA)]
)
async def test_race_01_a_late_claim_on_a_finished_run_is_undone_with_its_data(
    api: PrefectApi, start: Start, suspended_run: Object, type_: str, data: Object | None
) -> None:
    here = await start()
    await here.offer(suspended_run)
    await finish(api, suspended_run, type_, data=data, message="its own words")
    await here.claim(suspended_run)
    assert (await names(api, suspended_run))[-1] == "Pending"
    await here.settle(suspended_run)
    assert (await api.read_run(suspended_run["id"]))["state_type"] == type_
    restored = (await api.states(suspended_run["id"]))[-1]
    assert (restored["type"], restored["message"]) == (type_, "its own words")
    assert restored["data"] == data
    assert len(here.jobs) == 0


async def test_race_01_a_run_that_completed_with_a_result_refuses_a_late_claim(
    api: PrefectApi, start: Start, suspended_run: Object
) -> None:
    here = await start()
    await here.offer(suspended_run)
    await finish(api, suspended_run, "COMPLETED", data=DATA)
    await here.claim(suspended_run)
    assert await here.settle(suspended_run) == ["ForgetRun"]
    assert (await names(api, suspended_run))[-1] == "Completed"


async def test_race_01_a_late_claim_that_a_killed_operator_left_is_undone_after_its_restart(
    api: PrefectApi, start: Start, suspended_run: Object
) -> None:
    killed = await start()
    await killed.offer(suspended_run)
    await finish(api, suspended_run, "FAILED", data=DATA)
    await killed.claim(suspended_run)
    here = await start()
    await here.read(suspended_run)
    await here.settle(suspended_run)
    restored = (await api.states(suspended_run["id"]))[-1]
    assert (restored["type"], restored["data"]) == ("FAILED", DATA)


async def test_race_01_a_late_sub_state_on_a_retry_is_undone_and_the_retry_keeps_its_time(
    api: PrefectApi, start: Start, suspended_run: Object
) -> None:
    here = await start()
    await here.claimed(suspended_run)
    await api.set_state(suspended_run["id"], "RUNNING")
    due = "2031-01-01T00:00:00Z"
    retry: Object = {"name": "AwaitingRetry", "state_details": {"scheduled_time": due}}
    assert (await api.set_state(suspended_run["id"], "SCHEDULED", **retry))["status"] == "ACCEPT"
    await here.explain(suspended_run, UNSCHEDULABLE)
    assert (await names(api, suspended_run))[-1] == "Unschedulable"
    await here.settle(suspended_run)
    run = await api.read_run(suspended_run["id"])
    assert run["state_name"] == "AwaitingRetry"
    assert run["state"]["state_details"]["scheduled_time"] == due


async def test_race_01_the_claim_of_a_run_that_was_scheduled_says_when(
    api: PrefectApi, start: Start, suspended_run: Object, suspended_pool: Object
) -> None:
    """Also if no time was given: null must mean a predecessor that was not SCHEDULED."""
    here = await start()
    deployment = suspended_run["deployment_id"]
    body = {"state": {"type": "SCHEDULED"}}
    path = f"/deployments/{deployment}/create_flow_run"
    run = await api.one("POST", path, body)
    await here.claimed(run)
    assert not here.record(run).stray_claim
    claim = here.record(run).claim
    assert claim is not None
    assert claim.scheduled_time is not None


async def test_race_02_a_claim_whose_answer_is_lost_is_sent_once_and_then_read(
    prefect_proxy: FaultProxy, start: Start, suspended_run: Object
) -> None:
    here = await start()
    await here.offer(suspended_run)
    prefect_proxy.on("POST", SET_STATE).once().after().drop()
    with pytest.raises(PrefectUnavailable):
        await here.claim(suspended_run)
    assert len(prefect_proxy.calls(SET_STATE)) == 1
    assert type(here.next(suspended_run)).__name__ == "RefreshRun"
    taken = await here.settle(suspended_run)
    assert "ClaimRun" not in taken
    assert taken[:2] == ["RefreshRun", "CreateJob"]
    assert len(here.jobs) == 1


@pytest.mark.parametrize(("status", "header"), [(503, "Retry-After"), (429, "Retry-After")])
async def test_race_02_a_claim_reports_retry_after_at_once_instead_of_sleeping(
    prefect_proxy: FaultProxy, start: Start, suspended_run: Object, status: int, header: str
) -> None:
    here = await start()
    await here.offer(suspended_run)
    prefect_proxy.on("POST", SET_STATE).answer(status, headers={header: "7"})
    began = time.monotonic()
    with pytest.raises(PrefectUnavailable) as caught:
        await here.claim(suspended_run)
    assert caught.value.retry_after == 7
    assert time.monotonic() - began < 5
    assert len(prefect_proxy.calls(SET_STATE)) == 1


async def test_race_02_an_expired_offer_is_not_claimed(start: Start, suspended_run: Object) -> None:
    here = await start()
    await here.offer(suspended_run)
    here.know(suspended_run, offered_at=time.monotonic() - STATE_AGE - 1)
    assert "ClaimRun" not in await here.settle(suspended_run)


async def test_race_03_a_claim_keeps_its_id_and_its_job_name_through_replays_and_sub_states(
    api: PrefectApi, start: Start, suspended_run: Object
) -> None:
    first = await start()
    claim = await first.claimed(suspended_run)
    await first.settle(suspended_run)
    (job,) = first.jobs.by_run(suspended_run["id"])

    replayed = await start()
    await replayed.offer(suspended_run)
    await replayed.claim(suspended_run)
    assert replayed.claim_id(suspended_run) == claim

    await api.set_state(suspended_run["id"], "PENDING", name="InfrastructurePending")
    restarted = await start()
    await restarted.list_jobs()
    await restarted.read(suspended_run)
    await restarted.settle(suspended_run)
    assert restarted.claim_id(suspended_run) == claim
    assert restarted.snapshot(suspended_run).current_name == job.name
    assert len(restarted.jobs) == 1


async def test_race_03_a_sub_state_of_our_own_still_proves_the_claim_after_a_restart(
    api: PrefectApi, start: Start, suspended_run: Object
) -> None:
    first = await start()
    claim = await first.claimed(suspended_run)
    wait = WaitReason("QuotaExceeded", "exceeded quota: pods")
    await first.explain(suspended_run, wait)
    restarted = await start()
    await restarted.read(suspended_run)
    assert (await restarted.settle(suspended_run))[:2] == ["RefreshStateHistory", "CreateJob"]
    assert restarted.claim_id(suspended_run) == claim


async def test_race_03_the_claim_of_another_client_is_left_alone(
    api: PrefectApi, start: Start, suspended_run: Object
) -> None:
    here = await start()
    await here.offer(suspended_run)
    await api.set_state(suspended_run["id"], "PENDING")
    await here.claim(suspended_run)
    assert await here.settle(suspended_run) == ["RefreshStateHistory"]
    assert await names(api, suspended_run) == ["Scheduled", "Pending"]
    assert len(here.jobs) == 0


@pytest.mark.parametrize(
    "before",
    [
        {"name": "AwaitingRetry", "message": "retry from the UI"},
        {"name": "AwaitingConcurrencySlot"},
        {"name": "Resuming"},
        {"name": "Late"},
    ],
    ids=lambda state: state["name"],
)
async def test_race_03_every_kind_of_scheduled_run_can_be_claimed(
    api: PrefectApi, start: Start, suspended_run: Object, before: Object
) -> None:
    await api.set_state(suspended_run["id"], "SCHEDULED", force=True, **before)
    here = await start()
    await here.claimed(suspended_run)
    assert "CreateJob" in await here.settle(suspended_run)


async def test_race_04_a_second_wait_is_reported_because_its_state_has_another_name(
    api: PrefectApi, start: Start, suspended_run: Object
) -> None:
    """The operator relies on it: the server accepts a changed name, not a changed message."""
    here = await start()
    await here.claimed(suspended_run)
    await here.explain(suspended_run, UNSCHEDULABLE)
    await here.explain(suspended_run, WaitReason("ImagePullBackOff", "no such image"))
    await here.explain(suspended_run, WaitReason("ImagePullBackOff", "another message"))
    states = [(s["name"], s["message"]) for s in await api.states(suspended_run["id"])]
    assert states[2:] == [
        ("Unschedulable", "No node can run the pod"),
        ("ImagePullBackOff", "no such image"),
    ]
    assert not here.record(suspended_run).stray_claim
    assert here.claim_id(suspended_run)
