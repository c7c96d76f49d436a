"""Each step of a run is reported once to an observer, with the time that it took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.support.cluster_cache import synced_cluster
from tests.support.controller import OWNER, OfflineController
from tests.support.snapshots import (
    DUE,
    NOW,
    RUN_ID,
    WALL,
    claim,
    container,
    id_of,
    job,
    pending,
    pod,
    record,
    run,
    state,
)
from workpool_operator.jobs.diagnosis import WaitReason
from workpool_operator.kube.models import Job, Pod
from workpool_operator.runs.progress import Progress, RunObserver, RunObservers
from workpool_operator.runs.store import JobFault, JobFaultReason, RunRecord

SCHEDULED = record(run(state("SCHEDULED", scheduled_time=DUE)))
CLAIMED = record(run(pending()), mine="claim", claimed_here=True)
ADOPTED = replace(CLAIMED, claimed_here=False)
RUNNING = record(run(state("RUNNING", at=WALL + timedelta(seconds=7))), mine="claim")
CRASHED = replace(record(run("CRASHED"), mine="claim"), crash_reason="OOMKilled")
STARTED = pod(phase="Running")


WHICH = ("begun", "job_found", "pod_found", "put_back", "forgotten")


class Seen(RunObserver):
    """Keeps the steps that are reported, or which claim, Job and pod they are about."""

    def __init__(self, *, which: bool = False) -> None:
        self.reported: list[tuple[Any, ...]] = []
        self.which = which

    def __getattribute__(self, name: str) -> Any:
        if name in ("reported", "which") or name.startswith("__"):
            return super().__getattribute__(name)
        if (name in WHICH) is not self.which:
            return lambda *_, **__: None

        def tell(run_id: UUID, *args: Any, **fields: float) -> None:
            self.reported.append((name, *args, *fields.values()))

        return tell


class Bench:
    def __init__(self, *, which: bool = False) -> None:
        self.seen = Seen(which=which)
        self.progress = Progress(self.seen)

    def update(
        self,
        known: RunRecord | None,
        *,
        jobs: tuple[Job, ...] = (),
        pods: tuple[Pod, ...] = (),
        after: float = 0,
    ) -> list[tuple[Any, ...]]:
        """Return what is reported of this version of the run."""
        self.seen.reported.clear()
        wall = WALL + timedelta(seconds=after)
        self.progress.update(RUN_ID, known, jobs, pods, now=NOW + after, wall=wall)
        return list(self.seen.reported)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_each_step_of_a_run_is_reported_once_with_its_delay(bench: Bench) -> None:
    assert bench.update(SCHEDULED) == []
    assert bench.update(ADOPTED) == []  # whose claim it is is recorded a moment later
    assert bench.update(CLAIMED) == [("claimed", 10.0)]  # due 10 s before WALL
    assert bench.update(CLAIMED, after=1) == []
    assert bench.update(CLAIMED, jobs=(job(),), after=2) == [("job_created", 2.0)]
    assert bench.update(CLAIMED, jobs=(job(),), pods=(pod(),), after=3) == []
    reported = bench.update(CLAIMED, jobs=(job(),), pods=(STARTED,), after=5)
    assert reported == [("started", 3.0, 15.0)]
    reported = bench.update(RUNNING, jobs=(job(),), pods=(STARTED,), after=9)
    assert reported == [("running", 2.0)]  # by the time of the state, not by that of the read
    assert bench.update(RUNNING, jobs=(job(),), pods=(STARTED,), after=10) == []
    done = record(run("COMPLETED"), mine="claim")
    assert bench.update(done, jobs=(job(),), after=20) == [("ended", "COMPLETED", "")]
    assert bench.update(done, jobs=(job(ended="Complete"),), after=21) == []
    assert bench.update(None) == []


def test_a_crash_has_its_reason_and_the_delay_of_its_report(bench: Bench) -> None:
    bench.update(SCHEDULED)
    bench.update(CLAIMED)
    bench.update(RUNNING, jobs=(job(),), pods=(STARTED,), after=2)
    assert bench.update(RUNNING, jobs=(job(ended="Failed"),), after=10) == []
    reported = bench.update(CRASHED, jobs=(job(ended="Failed"),), after=12)
    assert reported == [("ended", "CRASHED", "OOMKilled"), ("crash_reported", 2.0)]


def test_the_delay_of_a_crash_begins_with_the_end_of_the_flow_not_of_the_job(bench: Bench) -> None:
    bench.update(SCHEDULED)
    bench.update(CLAIMED)
    bench.update(CLAIMED, jobs=(job(),), pods=(STARTED,), after=1)
    ended = pod(phase="Running", containers=[container(exit_code=1), container("sidecar")])
    bench.update(CLAIMED, jobs=(job(),), pods=(ended,), after=3)
    assert ("crash_reported", 2.0) in bench.update(CRASHED, jobs=(job(),), after=5)


def test_a_pod_that_its_job_replaces_does_not_begin_the_delay(bench: Bench) -> None:
    bench.update(SCHEDULED)
    bench.update(CLAIMED)
    first, second = pod(phase="Failed", exit_code=1), pod(phase="Running", number=2)
    bench.update(CLAIMED, jobs=(job(),), pods=(first,), after=1)
    bench.update(CLAIMED, jobs=(job(),), pods=(first, second), after=2)
    bench.update(CLAIMED, jobs=(job(ended="Failed"),), pods=(first, second), after=8)
    assert ("crash_reported", 1.0) in bench.update(CRASHED, after=9)


def test_a_run_that_exceeded_its_deadline_is_counted_although_it_had_rescheduled_itself(
    bench: Bench,
) -> None:
    bench.update(SCHEDULED)
    bench.update(CLAIMED)
    again = record(run(state("SCHEDULED", "AwaitingRetry")))
    assert bench.update(again) == []
    crashed = record(run("CRASHED"), crash_reason="DeadlineExceeded")
    assert bench.update(crashed) == [("ended", "CRASHED", "DeadlineExceeded")]
    assert bench.update(crashed, after=1) == []


def test_a_crash_that_the_run_reported_itself_has_no_reason(bench: Bench) -> None:
    bench.update(SCHEDULED)
    bench.update(CLAIMED)
    assert bench.update(replace(CRASHED, crash_reason="")) == [("ended", "CRASHED", "")]


def test_of_a_run_that_a_restart_finds_halfway_only_the_end_is_reported(bench: Bench) -> None:
    assert bench.update(ADOPTED, jobs=(job(),)) == []
    assert bench.update(ADOPTED, jobs=(job(),), pods=(STARTED,), after=1) == []
    assert bench.update(RUNNING, jobs=(job(),), pods=(STARTED,), after=8) == []
    assert bench.update(record(run("FAILED"))) == [("ended", "FAILED", "")]


def test_a_run_that_had_ended_before_or_was_never_claimed_here_is_not_counted(
    bench: Bench,
) -> None:
    assert bench.update(record(run("COMPLETED"))) == []
    bench.update(None)
    bench.update(SCHEDULED)
    assert bench.update(record(run("CANCELLED"))) == []


def test_a_run_that_is_retried_by_prefect_is_measured_again_from_its_new_claim(
    bench: Bench,
) -> None:
    bench.update(SCHEDULED)
    bench.update(CLAIMED)
    bench.update(CLAIMED, jobs=(job(),), pods=(STARTED,), after=1)
    assert bench.update(record(run(state("SCHEDULED", "AwaitingRetry")))) == []
    second = record(run(pending("second")), mine="second", claimed_here=True)
    assert bench.update(second, jobs=(job(ended="Failed"),), after=60) == [("claimed", 10.0)]
    reported = bench.update(second, jobs=(job(ended="Failed"), job("second")), after=61)
    assert reported == [("job_created", 1.0)]
    ended = pod(phase="Failed", exit_code=1)
    assert bench.update(second, jobs=(job(), job("second")), pods=(ended,), after=62) == []


def test_an_infrastructure_retry_is_reported(bench: Bench) -> None:
    bench.update(SCHEDULED)
    bench.update(CLAIMED)
    again = record(run(state("SCHEDULED", "InfrastructureRetry")))
    assert bench.update(again) == [("retried",)]
    assert bench.update(again) == []


def test_each_refused_claim_is_reported(bench: Bench) -> None:
    bench.update(SCHEDULED)
    assert bench.update(replace(SCHEDULED, refused_claims=1)) == [("claim_refused",)]
    assert bench.update(replace(SCHEDULED, refused_claims=1)) == []
    assert bench.update(replace(SCHEDULED, refused_claims=2)) == [("claim_refused",)]


def test_each_failed_attempt_to_create_the_job_is_reported_with_its_reason(bench: Bench) -> None:
    bench.update(SCHEDULED)
    bench.update(CLAIMED)
    assert bench.update(replace(CLAIMED, refusals=1)) == [("job_refused", "KubernetesUnavailable")]
    quota = WaitReason("QuotaExceeded", "")
    reported = bench.update(replace(CLAIMED, refusals=2, refusal=quota))
    assert reported == [("job_refused", "QuotaExceeded")]
    fault = JobFault(claim().id, JobFaultReason.RENDERING_FAILED, "")
    faulty = replace(CLAIMED, refusals=2, job_fault=fault)
    assert bench.update(faulty) == [("job_refused", "RenderingFailed")]
    assert bench.update(faulty) == []


# In the controller


@pytest.fixture
def controller() -> Iterator[tuple[OfflineController, Seen]]:
    seen, cluster = Seen(), synced_cluster(OWNER.namespace)
    made = OfflineController(cluster=cluster, observer=seen)
    with cluster.subscribe(made):
        yield made, seen
    made.queue.close()


async def test_the_controller_reports_changes_of_the_store_and_of_the_cluster(
    controller: tuple[OfflineController, Seen],
) -> None:
    it, seen = controller
    it.store.put(RUN_ID, SCHEDULED)
    it.store.put(RUN_ID, CLAIMED)
    it._cluster.jobs.put(job())
    it._cluster.pods.put(STARTED)
    assert [each[0] for each in seen.reported] == ["claimed", "job_created", "started"]


async def test_why_claimed_runs_have_not_started_is_counted_by_reason(
    controller: tuple[OfflineController, Seen],
) -> None:
    it, _ = controller
    it.store.put(RUN_ID, CLAIMED)
    assert it.pending_by_reason() == {"Creating": 1}
    it._cluster.jobs.put(job())
    it._cluster.pods.put(pod(version="2"))
    assert it.pending_by_reason() == {"Starting": 1}
    named = record(run(pending(name="ImagePullBackOff")), mine="claim")
    it.store.put(RUN_ID, named)
    assert it.pending_by_reason() == {"ImagePullBackOff": 1}
    it.store.put(RUN_ID, record(run(pending(name="MadeUpByAWebhook")), mine="claim"))
    assert it.pending_by_reason() == {"Other": 1}
    refused = WaitReason("QuotaExceeded", "")
    it.store.put(id_of("next"), replace(CLAIMED, refusal=refused))
    assert it.pending_by_reason() == {"Other": 1, "QuotaExceeded": 1}
    it.store.put(RUN_ID, RUNNING)
    it._cluster.pods.put(pod(phase="Running", version="3"))
    assert it.pending_by_reason() == {"QuotaExceeded": 1}


def test_claim_job_and_pod_are_reported_also_of_a_run_that_a_restart_finds() -> None:
    bench = Bench(which=True)
    assert bench.update(ADOPTED) == [("begun",)]
    assert bench.update(RUNNING, jobs=(job(),), pods=(STARTED,)) == [
        ("job_found", job()),
        ("pod_found", STARTED),
    ]
    assert bench.update(record(run("SCHEDULED"))) == [("put_back",)]
    assert bench.update(None) == [("forgotten",)]
    assert bench.update(None) == []


def test_each_of_several_observers_handles_what_is_reported() -> None:
    first, second = Seen(), Seen()
    both = RunObservers(first, second)
    both.claimed(RUN_ID, delay=1)
    both.ended(RUN_ID, "CRASHED", "OOMKilled")
    assert first.reported == second.reported == [("claimed", 1), ("ended", "CRASHED", "OOMKilled")]


@pytest.mark.parametrize("method", [name for name in vars(RunObserver) if name[0] != "_"])
def test_several_observers_pass_on_each_method(method: str) -> None:
    first, second = (Seen(which=method in WHICH) for _ in range(2))
    getattr(RunObservers(first, second), method)(RUN_ID)
    assert first.reported == second.reported == [(method,)]


def test_what_one_of_several_observers_raises_reaches_the_caller() -> None:
    class Broken(RunObserver):
        def retried(self, run_id: UUID) -> None:
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        RunObservers(Seen(), Broken()).retried(RUN_ID)
