"""Which events of pods are sent, when, and what a server that refuses them costs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from pydantic import TypeAdapter

from tests.corpus import pods
from tests.support.cluster_cache import synced_cluster
from tests.support.controller import OWNER, OfflineController
from tests.support.simulated_time import BACKEND, SimulatedClock
from workpool_operator.errors import PrefectForbidden, PrefectThrottled, PrefectUnavailable
from workpool_operator.kube.models import Job, Pod
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.runs.pod_events import BATCH_SIZE, INTERVAL_SECONDS, RETRY_SECONDS, PodEvents
from workpool_operator.runs.settings import RunSettings

JOB = pods.LABELS["batch.kubernetes.io/job-name"]
_pod, _job = TypeAdapter(Pod), TypeAdapter(Job)

PENDING = pods.pod("Pending")
BLOCKED = pods.pod("Pending", conditions=[pods.unschedulable("1 Insufficient cpu.")])
RUNNING = pods.pod("Running", pods.running())
DONE = pods.pod("Succeeded", pods.ended(0, "Completed"))


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return BACKEND


class Server:
    """Keeps each batch, and fails with the next of `errors`, the last one again and again."""

    clock = SimulatedClock()

    def __init__(self, *errors: Exception | None, existing: Sequence[str] = ()) -> None:
        self.errors = list(errors)
        self.existing = existing
        self.batches: list[list[dict[str, Any]]] = []
        self.asked: list[int] = []
        self.requests = 0

    async def write_events(self, events: list[dict[str, Any]]) -> None:
        self._answer()
        self.batches.append(events)

    async def existing_events(self, ids: Sequence[UUID], *, since: datetime) -> frozenset[UUID]:
        self._answer()
        self.asked.append(len(ids))
        return frozenset(id_ for id_ in ids if str(id_) in self.existing)

    def _answer(self) -> None:
        self.requests += 1
        error = self.errors[0] if self.errors else None
        if len(self.errors) > 1:
            self.errors.pop(0)
        if error:
            raise error

    @property
    def events(self) -> list[str]:
        """The name and the diagnosis of each event that was taken."""
        return [
            " ".join(filter(None, (e["event"].rpartition(".")[2], _diagnosis(e))))
            for batch in self.batches
            for e in batch
        ]


def _diagnosis(event: dict[str, Any]) -> str:
    found: str = event["resource"].get("kubernetes.diagnosis", "")
    return found


def job(server: str = OWNER.server_url) -> Job:
    annotations = {"workpool-operator.dev/server": server}
    return _job.validate_python({"metadata": {"name": JOB, "annotations": annotations}})


class Bench:
    """A sender, its server, and the versions of pods that it is shown."""

    def __init__(self, *errors: Exception | None, existing: Sequence[str] = ()) -> None:
        self.server = Server(*errors, existing=existing)
        self.is_enabled = True
        self.sender = PodEvents(
            OWNER,
            api=cast("PrefectApi", self.server),
            is_enabled=lambda: self.is_enabled,
            clock=SimulatedClock(),
        )

    def show(
        self,
        *documents: dict[str, Any],
        jobs: Sequence[Job] = (job(),),
        claimed_here: bool = True,
    ) -> None:
        """Show one version of each pod of the run."""
        versions = [_pod.validate_python(document) for document in documents]
        self.sender.update(pods.RUN_ID, jobs, versions, claimed_here=claimed_here)

    async def send(self, seconds: float = INTERVAL_SECONDS + 0.1) -> list[str]:
        """Return what was taken after so long."""
        task = asyncio.create_task(self.sender.run())
        await asyncio.sleep(seconds)
        task.cancel()
        return self.server.events


async def test_a_happy_path_is_pending_running_succeeded_and_each_follows_the_one_before() -> None:
    bench = Bench()
    for document in (PENDING, pods.pod("Pending", pods.waiting("ContainerCreating")), RUNNING):
        bench.show(document)
        bench.show(document)
    bench.show(DONE)
    assert await bench.send() == ["pending", "running", "succeeded"]
    [events] = bench.server.batches
    assert [event.get("follows") for event in events] == [None, events[0]["id"], events[1]["id"]]


async def test_a_pod_that_is_unschedulable_for_a_while_is_reported_so_once() -> None:
    bench = Bench()
    for document in (PENDING, BLOCKED, PENDING, BLOCKED, PENDING, RUNNING):
        bench.show(document)
    assert await bench.send() == [
        "pending",
        "pending Unschedulable.InsufficientResources",
        "running",
    ]


async def test_a_container_that_crashes_again_is_reported_for_each_restart() -> None:
    bench = Bench()
    for restarts in (1, 2):
        bench.show(pods.pod("Running", pods.waiting("CrashLoopBackOff", restarts=restarts)))
        bench.show(pods.pod("Running", pods.running(restarts=restarts + 1)))
    assert await bench.send() == ["running CrashLoopBackOff", "running"] * 2


async def test_each_pod_of_a_job_has_its_own_events() -> None:
    bench = Bench()
    other = pods.pod("Running", pods.running(), uid="66666666-6666-4666-8666-666666666666")
    bench.show(PENDING)
    bench.show(RUNNING, other)
    assert await bench.send() == ["pending", "running", "running"]
    assert "follows" not in bench.server.batches[0][2]


async def test_an_event_does_not_follow_one_that_is_five_minutes_older() -> None:
    bench = Bench()
    late = f"{datetime.fromisoformat(pods.CREATED) + timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}"
    bench.show(PENDING)
    bench.show(pods.pod("Running", pods.running(at=late)))
    await bench.send()
    assert "follows" not in bench.server.batches[0][1]


@pytest.mark.parametrize("jobs", [(), (job("http://other/api"),)])
async def test_the_pod_of_another_servers_job_or_of_none_is_not_reported(
    jobs: tuple[Job, ...],
) -> None:
    bench = Bench()
    bench.show(PENDING, jobs=jobs)
    assert await bench.send() == []
    bench.show(PENDING, jobs=(job(),))
    assert await bench.send() == ["pending"]


async def test_a_pod_that_a_restart_found_is_reported_only_if_prefect_has_no_such_event() -> None:
    first = Bench()
    first.show(PENDING)
    first.show(RUNNING)
    await first.send()
    sent = [event["id"] for event in first.server.batches[0]]
    second = Bench(existing=sent)
    second.show(RUNNING, claimed_here=False)
    assert await second.send() == []
    second.show(DONE, claimed_here=False)
    assert await second.send() == ["succeeded"]
    assert second.server.batches[0][0]["follows"] == sent[1]
    assert second.server.asked == [1, 1]


async def test_what_a_restart_finds_from_before_the_retention_of_events_is_not_sent() -> None:
    bench = Bench()
    old = pods.pod("Pending")
    old["metadata"]["creationTimestamp"] = "2025-12-24T00:00:00Z"
    bench.show(old, claimed_here=False)
    assert await bench.send() == []
    assert bench.server.requests == 0


async def test_a_thousand_pods_that_a_restart_found_take_twenty_questions() -> None:
    bench = Bench()
    bench.show(
        *(pods.pod("Running", pods.running(), uid=str(UUID(int=n))) for n in range(1000)),
        claimed_here=False,
    )
    assert len(await bench.send()) == 1000
    assert bench.server.asked == [BATCH_SIZE] * 20


async def test_events_that_are_switched_off_are_not_sent_and_nothing_follows_them() -> None:
    bench = Bench()
    bench.is_enabled = False
    bench.show(PENDING)
    assert await bench.send() == []
    bench.is_enabled = True
    bench.show(RUNNING)
    assert await bench.send() == ["running"]
    assert "follows" not in bench.server.batches[0][0]


async def test_pods_that_are_gone_are_forgotten() -> None:
    bench = Bench()
    bench.show(PENDING)
    assert bench.sender.knows(pods.RUN_ID)
    bench.show()
    assert not bench.sender.knows(pods.RUN_ID)


async def test_an_outage_delays_events_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage = PrefectUnavailable("POST /events: no answer")
    bench = Bench(outage, outage, outage, None)
    bench.show(PENDING)
    assert await bench.send(60) == ["pending"]
    assert [record.getMessage() for record in caplog.records] == [
        "data/etl: pod events are not delivered to Prefect, so that its timelines and automations "
        "lack them: POST /events: no answer",
        "data/etl: resolved: pod events are not delivered to Prefect, so that its timelines and "
        "automations lack them",
    ]


async def test_events_are_dropped_after_a_long_outage_and_none_follows_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = PrefectUnavailable("POST /events: no answer")
    bench = Bench(outage)
    bench.show(PENDING)
    await bench.send(RETRY_SECONDS + 10)
    assert 8 <= bench.server.requests <= 16
    bench.server.errors = [None]
    bench.show(RUNNING)
    assert await bench.send() == ["running"]
    assert "follows" not in bench.server.batches[0][0]
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


async def test_refused_events_are_dropped_at_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(PrefectForbidden("POST /events: HTTP 403", status=403))
    for document in (PENDING, BLOCKED, RUNNING, DONE):
        bench.show(document)
        await bench.send()
    assert bench.server.requests == 4
    assert len(caplog.records) == 1


async def test_a_server_that_asks_to_wait_is_asked_again_then() -> None:
    bench = Bench(PrefectThrottled("POST /events: HTTP 429", retry_after=20), None)
    bench.show(PENDING)
    assert await bench.send(25) == ["pending"]
    assert bench.server.requests == 2


async def test_a_flush_sends_every_queued_event() -> None:
    bench = Bench()
    running = (pods.pod("Running", pods.running(), uid=str(UUID(int=n))) for n in range(120))
    bench.show(*running)
    await bench.sender.flush()
    assert [len(batch) for batch in bench.server.batches] == [BATCH_SIZE, BATCH_SIZE, 20]


async def test_a_flush_waits_for_the_events_that_are_being_sent() -> None:
    bench = Bench(PrefectThrottled("POST /events: HTTP 429", retry_after=5), None)
    bench.show(PENDING)
    task = asyncio.create_task(bench.sender.run())
    await asyncio.sleep(INTERVAL_SECONDS + 0.1)
    assert bench.server.events == []
    await bench.sender.flush()
    assert bench.server.events == ["pending"]
    task.cancel()


async def seen_by_controller(settings: RunSettings) -> list[str]:
    """Return the events that a controller with these settings sends of a running pod."""
    cluster = synced_cluster(OWNER.namespace)
    server = Server()
    controller = OfflineController(
        prefect=cast("PrefectApi", server), cluster=cluster, settings=lambda: settings
    )
    labels = {"workpool-operator.dev/flow-run-id": str(pods.RUN_ID)}
    document = {
        "metadata": {
            "name": JOB,
            "uid": "job",
            "namespace": "data",
            "annotations": {"workpool-operator.dev/server": OWNER.server_url},
        },
        "spec": {"template": {"metadata": {"labels": labels}}},
    }
    with cluster.subscribe(controller):
        cluster.jobs.put(_job.validate_python(document))
        cluster.pods.put(_pod.validate_python(RUNNING))
    await controller.flush(1)
    return server.events


async def test_a_controller_reports_the_pods_of_its_runs() -> None:
    assert await seen_by_controller(RunSettings()) == ["running"]


async def test_a_controller_whose_owner_does_not_replicate_pod_events_sends_none() -> None:
    assert await seen_by_controller(RunSettings(replicate_pod_events=False)) == []
