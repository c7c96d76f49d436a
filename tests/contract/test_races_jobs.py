"""Job names, the current Job and earlier Jobs, on real servers (docs/races.md, 6, 8, 9, 14, 15)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.contract.conftest import make_run
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube
from tests.support.polling import poll
from tests.support.prefect import Object, PrefectApi
from tests.support.stepwise_controller import StepwiseController
from workpool_operator.kube import models
from workpool_operator.prefect_api.client import PAGE_SIZE
from workpool_operator.runs.poller import Poller
from workpool_operator.runs.settings import PollSettings
from workpool_operator.runs.store import RunRecord

Start = Callable[..., Awaitable[StepwiseController]]
NOW = "2026-01-01T00:00:00Z"


async def has_job(here: StepwiseController, run: Object) -> str:
    """Claim the run, create its Job, and return the Job's name."""
    await here.claimed(run)
    await here.settle(run)
    return here.snapshot(run).current_name


async def the_job(kube: Kube, namespace: str, name: str) -> Object:
    found = await kube.get("jobs", namespace, name)
    assert found is not None
    return found


async def fail_job(kube: Kube, namespace: str, name: str) -> None:
    """As the Job controller does when a Job's pods have failed."""
    await set_conditions(kube, namespace, name, "FailureTarget")
    await set_conditions(kube, namespace, name, "FailureTarget", "Failed")


async def set_conditions(kube: Kube, namespace: str, name: str, *types: str) -> None:
    made = [
        {"type": type_, "status": "True", "reason": "BackoffLimitExceeded", "message": "it failed"}
        for type_ in types
    ]
    status = {"startTime": NOW, "conditions": [{**c, "lastTransitionTime": NOW} for c in made]}
    await kube.patch("jobs", namespace, name, {"status": status}, subresource="status")


async def test_race_06_a_run_behind_200_that_cannot_start_is_found(
    api: PrefectApi, start: Start, suspended_pool: Object
) -> None:
    """A poll always returns the same 200."""
    deployment = await api.create_deployment(
        flow="hello", name=suspended_pool["name"], pool=suspended_pool["name"]
    )
    first = datetime.now(UTC) - timedelta(minutes=10)
    for batch in range(0, PAGE_SIZE + 2, 20):
        size = min(20, PAGE_SIZE + 2 - batch)
        due = [first + timedelta(seconds=batch + number) for number in range(size)]
        await asyncio.gather(*(api.create_run(deployment["id"], due=when) for when in due))
    here = await start()
    page = await poll(  # the server's own services may hold some of them for a moment
        lambda: here.api.poll(queues=(), before=datetime.now(UTC)),
        until=lambda runs: len(runs) == PAGE_SIZE,
    )
    for run in page:
        here.store.put(run.id, RunRecord(not_before=datetime.now(UTC) + timedelta(minutes=5)))
    queue = here.controller.queue
    poller = Poller(
        here.controller,
        prefect=here.api,
        settings=PollSettings,
        queues=lambda: None,
        may_claim=lambda: True,
        polled=lambda _: None,
    )
    task = asyncio.create_task(poller.run())
    async with asyncio.timeout(20):
        found = {await queue.get(), await queue.get()}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not found & {run.id for run in page}
    assert len(queue) == 2


async def test_race_08_the_failed_job_of_an_earlier_claim_does_not_crash_the_run(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_run: Object
) -> None:
    here = await start()
    old = await has_job(here, suspended_run)
    await api.set_state(suspended_run["id"], "SCHEDULED", name="AwaitingRetry", message="evicted")
    await fail_job(kube, namespace, old)
    await here.list_jobs()
    new = await has_job(here, suspended_run)
    assert new != old
    again = await start()
    await again.list_jobs()
    await again.read(suspended_run)
    await again.settle(suspended_run)
    assert (await api.read_run(suspended_run["id"]))["state_type"] == "PENDING"
    assert again.snapshot(suspended_run).current_name == new
    await fail_job(kube, namespace, new)
    await again.list_jobs()
    again.pass_time(suspended_run, 20)
    assert "ReportCrashed" in await again.settle(suspended_run)
    run = await api.read_run(suspended_run["id"])
    assert run["state_type"] == "CRASHED"
    assert "BackoffLimitExceeded" in run["state"]["message"]


async def test_race_09_a_job_that_is_about_to_fail_has_not_ended(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_run: Object
) -> None:
    here = await start()
    name = await has_job(here, suspended_run)
    await set_conditions(kube, namespace, name, "FailureTarget")
    await here.list_jobs()
    (job,) = here.jobs.by_run(suspended_run["id"])
    assert [condition.type for condition in job.status.conditions] == ["FailureTarget"]
    assert not job.ended
    assert await here.settle(suspended_run) == []


async def test_race_14_a_job_whose_creation_had_a_lost_answer_is_adopted_and_not_created_again(
    kube: Kube, namespace: str, kube_proxy: FaultProxy, start: Start, suspended_run: Object
) -> None:
    kube_proxy.on("POST", r"/jobs$").once().after().drop()
    here = await start()
    await here.claimed(suspended_run)
    with pytest.raises(Exception, match=r"POST .*jobs"):
        await here.settle(suspended_run)
    await here.settle(suspended_run)
    assert len(kube_proxy.calls(r"/jobs$", method="POST")) == 2
    (job,) = await kube.list("jobs", namespace)
    assert here.record(suspended_run).run is not None
    assert here.snapshot(suspended_run).recorded_name == job["metadata"]["name"]


async def test_race_14_a_job_that_is_being_deleted_is_not_adopted(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_run: Object
) -> None:
    """The API server answers the same 409; the run reports the wait and gets its Job afterwards."""
    first = await start()
    await first.claimed(suspended_run)
    await first.settle(suspended_run)
    (job,) = first.jobs.by_run(suspended_run["id"])
    await kube.patch(
        "jobs", namespace, job.name, {"metadata": {"finalizers": ["example.com/held"]}}
    )
    await kube.delete("jobs", namespace, job.name)
    await api.update_run(suspended_run["id"], infrastructure_pid="")

    here = await start()  # and its list is older than the Job
    await here.read(suspended_run)
    await here.settle(suspended_run)
    run = await api.read_run(suspended_run["id"])
    assert (run["state_type"], run["state_name"]) == ("PENDING", "JobRefused")
    assert "is being deleted" in run["state"]["message"]

    await kube.patch("jobs", namespace, job.name, {"metadata": {"finalizers": None}})
    await kube.wait("jobs", namespace, job.name, until=lambda it: it is None)
    here.know(suspended_run, refused_until=0.0)
    assert "CreateJob" in await here.settle(suspended_run)
    made = await the_job(kube, namespace, job.name)
    assert made["metadata"]["uid"] != job.metadata.uid


async def test_race_14_a_job_without_its_labels_is_known_by_its_pod_template(
    kube: Kube, namespace: str, start: Start, suspended_run: Object
) -> None:
    here = await start()
    name = await has_job(here, suspended_run)
    labels = (await the_job(kube, namespace, name))["metadata"]["labels"]
    stripped = {"metadata": {"labels": dict.fromkeys(labels)}}
    await kube.patch("jobs", namespace, name, stripped)
    again = await start()
    await again.list_jobs()
    await again.read(suspended_run)
    await again.settle(suspended_run)
    assert again.snapshot(suspended_run).current_name == name
    change = {"spec": {"template": {"metadata": {"labels": {models.RUN_LABEL: "other"}}}}}
    await kube.patch("jobs", namespace, name, {"spec": {"suspend": False}})
    with pytest.raises(httpx.HTTPStatusError, match="immutable"):
        await kube.patch("jobs", namespace, name, change)


async def test_race_15_a_job_gets_its_ttl_when_its_end_is_reported(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_pool: Object
) -> None:
    """A TTL of 0 from the start would delete the exit code before the operator reads it."""
    run = await make_run(api, suspended_pool, job_variables={"finished_job_ttl": 0})
    here = await start()
    name = await has_job(here, run)
    assert "ttlSecondsAfterFinished" not in (await the_job(kube, namespace, name))["spec"]
    await fail_job(kube, namespace, name)
    assert await kube.get("jobs", namespace, name) is not None
    await here.list_jobs()
    here.pass_time(run, 20)
    taken = await here.settle(run)
    assert taken[-3:] == ["ReportCrashed", "SetJobTTL", "ForgetRun"]
    await kube.wait("jobs", namespace, name, until=lambda it: it is None)


async def test_the_job_of_a_run_that_prefect_does_not_know_any_more_is_deleted(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_run: Object
) -> None:
    here = await start()
    name = await has_job(here, suspended_run)
    await api.delete_run(suspended_run["id"])
    again = await start()
    await again.list_jobs()
    assert await again.settle(suspended_run) == ["RefreshRun", "RefreshRun", "DeleteJob"]
    await kube.wait("jobs", namespace, name, until=lambda it: it is None)


async def test_a_deletion_counts_when_it_is_answered_and_not_only_when_the_watch_reports_it(
    api: PrefectApi, kube_proxy: FaultProxy, start: Start, suspended_run: Object
) -> None:
    here = await start()
    name = await has_job(here, suspended_run)
    await api.set_state(suspended_run["id"], "CANCELLED")
    await here.read(suspended_run)
    await here.settle(suspended_run)
    assert len(kube_proxy.calls(f"/jobs/{name}$", method="DELETE")) == 1


async def test_a_claimed_run_whose_job_is_deleted_crashes_with_the_reason(
    api: PrefectApi, kube: Kube, namespace: str, start: Start, suspended_run: Object
) -> None:
    here = await start()
    name = await has_job(here, suspended_run)
    await kube.delete("jobs", namespace, name)
    await kube.wait("jobs", namespace, name, until=lambda it: it is None)
    await here.list_jobs()
    here.pass_time(suspended_run, 6)
    assert await here.settle(suspended_run) == ["ConfirmJobDeleted", "ReportCrashed", "ForgetRun"]
    run = await api.read_run(suspended_run["id"])
    assert f"Job {name} vanished" in run["state"]["message"]


async def test_the_job_of_a_run_that_started_before_its_pid_was_recorded_is_recorded_late(
    api: PrefectApi, start: Start, suspended_run: Object
) -> None:
    """The operator was killed between Job and pid, and the pod did not wait for its restart."""
    killed = await start()
    name = await has_job(killed, suspended_run)
    await api.update_run(suspended_run["id"], infrastructure_pid="")
    await api.set_state(suspended_run["id"], "RUNNING")
    here = await start()
    await here.list_jobs()
    await here.read(suspended_run)
    assert await here.settle(suspended_run) == ["RefreshStateHistory", "RecordInfrastructurePid"]
    pid = (await api.read_run(suspended_run["id"]))["infrastructure_pid"]
    assert pid == f"{here.owner.namespace}:{name}"


async def test_a_run_is_claimed_and_recorded_with_two_requests(
    prefect_proxy: FaultProxy, start: Start, suspended_run: Object
) -> None:
    """The deployment and the flow do not count: polls and earlier runs have already read them."""
    here = await start()
    await here.offer(suspended_run)
    prefect_proxy.forget()
    await here.settle(suspended_run)
    calls = [(call.method, call.path.rsplit("/", 1)[-1]) for call in prefect_proxy.calls()]
    assert [call for call in calls if call != ("GET", "csrf-token")] == [
        ("POST", "set_state"),
        ("POST", "filter"),
        ("POST", "filter"),
        ("PATCH", suspended_run["id"]),
    ]
