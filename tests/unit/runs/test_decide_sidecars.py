"""The rows of the decision table for pods with more than the flow container."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.support.decisions import (
    CANCELLING,
    NAME,
    POLICY,
    RECORDED,
    RETRY,
    RUNNING,
    STOPPING,
    Case,
    check,
    decide_at,
    sentence,
)
from tests.support.snapshots import (
    NOW,
    WALL,
    claim,
    container,
    job,
    pending,
    pod,
    record,
    run,
    since,
    snapshot_of,
    state,
)
from workpool_operator.jobs import diagnosis
from workpool_operator.kube.models import Job, Pod
from workpool_operator.runs.actions import (
    DeleteJob,
    EndPod,
    NoAction,
    PostWaitEvent,
    RefreshRun,
    ReportCancelled,
    ReportCrashed,
    ReportWaiting,
    RequeueAfter,
    StopRetries,
)
from workpool_operator.runs.decide import decide

AGENT = container("agent", running=WALL)
ENVOY = container("istio-proxy", running=WALL, restart_policy="Always")
ONCE = job(backoff_limit=0)
TWICE = job(backoff_limit=2)
LAST = job(backoff_limit=2, failed=2)


def alone(code: int = 7, **fields: Any) -> Pod:
    """A pod of which only the sidecar is running."""
    return pod(phase="Running", containers=[AGENT, container(exit_code=code)], **fields)


def native(code: int) -> Pod:
    """A pod whose native sidecar the kubelet ends by itself."""
    return pod(phase="Running", init=[ENVOY], containers=[container(exit_code=code)])


def crashed(pod: Pod) -> ReportCrashed:
    end = diagnosis.flow_ended(pod)
    assert end is not None
    return ReportCrashed(end)


STOPPED: dict[str, Any] = {"spec": {"activeDeadlineSeconds": 1}}
SUSPENDED = run(state("PAUSED", "Suspended", pause_reschedule=True), pid=NAME)


def of(job: Job, pod: Pod) -> dict[str, Any]:
    return {"jobs": (job,), "pods": (pod,)}


CASES = [
    *[
        case
        for where, known in (
            ("pending", record(RECORDED, mine="claim")),
            ("running", record(RUNNING)),
        )
        for case in (
            Case(
                f"a {where} run whose container failed next to a sidecar crashes at once",
                known,
                crashed(alone(7)),
                of(ONCE, alone(7)),
                ago=0.5,
            ),
            Case(
                f"also a {where} one whose native sidecar is slow to end",
                known,
                crashed(native(7)),
                of(ONCE, native(7)),
                ago=0.5,
            ),
            Case(
                f"a {where} run is read before that",
                known,
                RefreshRun(),
                of(ONCE, alone(7)),
                answered_ago=10,
            ),
            Case(
                f"a {where} run whose container exited 0 next to a sidecar has time to report",
                known,
                RequeueAfter(7.0),
                of(ONCE, alone(0)),
                ago=3,
            ),
            Case(f"and crashes after it while {where}", known, ReportCrashed, of(TWICE, alone(0))),
            Case(
                f"a {where} run's next attempt begins when the sidecar of the last is ended",
                known,
                EndPod(alone(7)),
                of(TWICE, alone(7)),
            ),
            Case(
                f"the pod of a {where} run is terminated once",
                known,
                NoAction(),
                of(TWICE, alone(7, **STOPPED)),
            ),
            Case(
                f"the native sidecar of a {where} run is left to the kubelet",
                known,
                NoAction(),
                of(TWICE, native(7)),
            ),
            Case(
                f"the last attempt of a {where} run crashes it",
                known,
                ReportCrashed,
                of(LAST, alone(7)),
            ),
            Case(
                f"a {where} run whose pod is being deleted waits for its end",
                known,
                NoAction(),
                of(ONCE, alone(143, deleting=True)),
            ),
        )
    ],
    # Over
    *[
        case
        for type_ in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        for case in (
            Case(
                f"the sidecars of a {type_} run have their grace period",
                record(run(type_, pid=NAME)),
                RequeueAfter(20.0),
                of(ONCE, alone()),
                ago=10,
            ),
            Case(
                f"the pod that outlives a {type_} run is terminated, not deleted",
                record(run(type_, pid=NAME)),
                EndPod(alone()),
                of(ONCE, alone()),
                ago=31,
            ),
            Case(
                f"but no pod of a {type_} run replaces it",
                record(run(type_, pid=NAME)),
                StopRetries(TWICE),
                of(TWICE, alone()),
                ago=31,
            ),
            Case(
                f"the kubelet has time to end the pod of a {type_} run",
                record(run(type_, pid=NAME)),
                RequeueAfter(10.0),
                of(ONCE, alone(**STOPPED)),
                ago=80,
            ),
            Case(
                f"the Job of a pod that no kubelet ends after a {type_} run is deleted",
                record(run(type_, pid=NAME)),
                DeleteJob(ONCE),
                of(ONCE, alone(**STOPPED)),
                ago=91,
            ),
            Case(
                f"a native sidecar of a {type_} run is left to the kubelet",
                record(run(type_, pid=NAME)),
                RequeueAfter(30.0),
                of(ONCE, native(0)),
                ago=60,
            ),
        )
    ],
    Case(
        "the sidecars of a suspended run are ended",
        record(SUSPENDED),
        EndPod(alone(0)),
        of(ONCE, alone(0)),
    ),
    Case(
        "the sidecars of an attempt that rescheduled its run are ended",
        record(run(RETRY, pid=NAME)),
        EndPod(alone(0)),
        of(ONCE, alone(0)),
        ago=31,
    ),
    Case(
        "a cancelled run with only sidecars left has no grace period",
        record(STOPPING),
        DeleteJob(ONCE),
        of(ONCE, alone(1)),
        ago=1,
    ),
    Case(
        "a cancelled run whose pod runs an init container has not started",
        record(CANCELLING, mine="claim"),
        ReportCancelled("Cancelled before it started."),
        of(job(deleting=True), pod(init=[container("fetch", running=WALL)], waiting="x")),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=sentence)
def test_the_table_decides(case: Case) -> None:
    check(case)


# Hooks and uploads after a reported end

WORKS = pod(phase="Running", running=WALL - timedelta(hours=2))


def over(type_: str, *, seconds: float) -> Case:
    """A run that ended so many seconds ago, which the operator knew at once."""
    at = WALL - timedelta(seconds=seconds)
    known = record(run(state(type_, at=at), pid=NAME))
    return Case("", known, NoAction(), of(ONCE, WORKS), ago=seconds)


@pytest.mark.parametrize("type_", ["COMPLETED", "FAILED"])
def test_a_run_that_reported_its_end_may_finish_its_work(type_: str) -> None:
    assert decide_at(over(type_, seconds=100)) == RequeueAfter(3500.0)
    cut = decide_at(over(type_, seconds=3601))
    assert isinstance(cut, DeleteJob)
    assert cut.final == state(type_, at=WALL - timedelta(seconds=3601))
    assert "still running 3600 s after its run had ended" in cut.note
    assert "finishedGraceSeconds" in cut.note


def test_a_restarted_operator_gives_no_second_grace_period() -> None:
    case = over("COMPLETED", seconds=3601)
    assert isinstance(decide_at(replace(case, ago=1)), DeleteJob)


@pytest.mark.parametrize("type_", ["CRASHED", "CANCELLED"])
def test_a_run_whose_end_others_wrote_keeps_its_pod_for_30_seconds(type_: str) -> None:
    assert decide_at(over(type_, seconds=10)) == RequeueAfter(20.0)
    cut = decide_at(over(type_, seconds=31))
    assert isinstance(cut, DeleteJob)
    assert cut.final is not None
    assert cut.note == ""


def test_a_pod_that_kubernetes_started_after_the_end_has_nothing_to_finish() -> None:
    late = pod(phase="Running", running=WALL, number=2)
    cut = decide_at(replace(over("COMPLETED", seconds=100), objects=of(ONCE, late)))
    assert isinstance(cut, DeleteJob)


def test_a_job_whose_pod_has_just_ended_has_time_to_report_it() -> None:
    known = over("CRASHED", seconds=100).known
    known = since(known, NOW - 100, **of(ONCE, WORKS))
    done = of(ONCE, pod(phase="Failed", exit_code=0))
    known = since(known, NOW - 1, **done)
    assert decide(snapshot_of(known, **done), POLICY, wall=WALL) == RequeueAfter(9.0)


def test_the_binding_sets_the_grace_period() -> None:
    policy = replace(POLICY, finished_grace=60)
    case = over("COMPLETED", seconds=61)
    known = since(case.known, NOW - 61, **case.objects)
    assert isinstance(decide(snapshot_of(known, **case.objects), policy, wall=WALL), DeleteJob)


# Init containers

FETCH = container("fetch", running=WALL - timedelta(seconds=900))
STUCK = container(
    "proxy", running=WALL - timedelta(seconds=900), restart_policy="Always", started=False
)


def initial(*init: Any, named: str = "Pending", **fields: Any) -> Case:
    claimed = run(pending(name=named, at=WALL - timedelta(seconds=900)), pid=NAME)
    known = record(claimed, claim=claim(timestamp=WALL - timedelta(seconds=900)))
    first = pod(init=init, waiting="PodInitializing", **fields)
    return Case("", known, NoAction(), of(ONCE, first))


def test_an_init_container_that_works_longer_than_the_time_out_is_named_and_waited_for() -> None:
    action = decide_at(initial(FETCH))
    assert isinstance(action, ReportWaiting)
    assert action.wait.category == "Initializing"
    assert "'fetch' has been running for 900 s" in action.wait.message
    assert isinstance(decide_at(initial(FETCH, named="Initializing")), RequeueAfter)


def test_what_follows_an_init_container_has_a_time_out_of_its_own() -> None:
    done = container(
        "fetch",
        state={
            "terminated": {
                "exitCode": 0,
                "startedAt": WALL - timedelta(seconds=890),
                "finishedAt": WALL,
            }
        },
    )
    assert not isinstance(decide_at(initial(done)), ReportCrashed)
    short = container("fetch", exit_code=0)
    assert isinstance(decide_at(initial(short)), ReportCrashed)


def test_a_native_sidecar_that_never_starts_is_reported_and_timed_out() -> None:
    action = decide_at(initial(STUCK))
    assert isinstance(action, ReportCrashed)
    assert "SidecarNotStarted: Container 'proxy'" in action.end.message
    assert action.end.container == "proxy"


# Later pods of a Job

RUNS = run(state("RUNNING", at=WALL - timedelta(hours=3)), pid=NAME, start_time=WALL)
FIRST = pod(phase="Failed", exit_code=1, created=WALL - timedelta(hours=2))


def later(waiting: str, *, age: float, known: Any = None, **fields: Any) -> Case:
    second = pod(
        waiting=waiting, number=2, created=WALL - timedelta(seconds=age), message="m", **fields
    )
    objects = {"jobs": (TWICE,), "pods": (FIRST, second)}
    return Case("", known or record(RUNS), NoAction(), objects, ago=age)


def test_what_a_replacement_pod_of_a_running_run_waits_for_is_reported_once_per_reason() -> None:
    action = decide_at(later("ErrImagePull", age=30))
    assert isinstance(action, PostWaitEvent)
    assert action.wait.category == "ImagePullBackOff"
    assert action.pod.metadata.name == "pod-claim-2"
    reported = record(RUNS, reported=("pod-claim-2", "ImagePullBackOff"), events_read_at=NOW)
    assert isinstance(decide_at(later("ImagePullBackOff", age=30, known=reported)), RequeueAfter)
    assert isinstance(
        decide_at(later("CreateContainerConfigError", age=30, known=reported)), PostWaitEvent
    )
    other = record(RUNS, reported=("pod-claim-1", "ImagePullBackOff"))
    assert isinstance(decide_at(later("ImagePullBackOff", age=30, known=other)), PostWaitEvent)


def test_a_replacement_pod_has_its_own_time_out() -> None:
    action = decide_at(later("ErrImagePull", age=601))
    assert isinstance(action, ReportCrashed)
    assert "Pod pod-claim-2 did not start" in action.end.message
    assert "ImagePullBackOff" in action.end.message


def test_a_replacement_pod_of_a_pending_run_is_explained_and_timed_out_too() -> None:
    known = record(RECORDED, mine="claim")
    assert isinstance(decide_at(later("ErrImagePull", age=30, known=known)), ReportWaiting)
    assert isinstance(decide_at(later("ErrImagePull", age=601, known=known)), ReportCrashed)


def test_a_running_run_whose_pod_the_cache_has_not_seen_start_is_not_timed_out() -> None:
    started = run(state("RUNNING", at=WALL), pid=NAME)
    case = later("ErrImagePull", age=601, known=record(started))
    action = decide_at(replace(case, objects={"jobs": (TWICE,), "pods": case.objects["pods"][1:]}))
    assert isinstance(action, PostWaitEvent)


def test_between_two_attempts_of_a_job_nothing_is_timed_out() -> None:
    case = Case("", record(RUNS), NoAction(), of(TWICE, FIRST))
    check(case)
    check(replace(case, known=record(RECORDED, mine="claim")))


def test_a_replacement_pod_that_runs_is_left_alone() -> None:
    second = pod(phase="Running", number=2, created=WALL)
    check(Case("", record(RUNS), NoAction(), {"jobs": (TWICE,), "pods": (FIRST, second)}))
