"""The rows of the decision table for pods that the infrastructure ended or cannot end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.support.decisions import (
    FAILED,
    NAME,
    RECORDED,
    RUNNING,
    SCHEDULED,
    Case,
    check,
    sentence,
)
from tests.support.snapshots import (
    MINE,
    WALL,
    claim,
    container,
    job,
    pending,
    pod,
    record,
    run,
    state,
)
from workpool_operator.jobs import diagnosis
from workpool_operator.jobs.disruption import by_infrastructure
from workpool_operator.kube.models import Pod
from workpool_operator.runs.actions import (
    DeleteJob,
    LogToRun,
    NoAction,
    Postpone,
    RefreshRun,
    RefreshStateHistory,
    ReportCrashed,
    RequeueAfter,
)
from workpool_operator.runs.claims import count_retries

LIMIT = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi."


def disrupted(reason: str, **fields: Any) -> Pod:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason}
    return pod(conditions=[condition], containers=[container()], **fields)


def leaving(seconds: float, **fields: Any) -> Pod:
    """A pod whose own grace ended so many seconds ago, on the node that it is bound to."""
    given = {"spec": {"nodeName": "worker-3"}, "phase": "Running", **fields}
    deadline = WALL - timedelta(seconds=seconds)
    return disrupted("DeletionByTaintManager", deleting=deadline, **given)


REJECTED = pod(
    phase="Failed", pod_reason="OutOfcpu", pod_message="Pod was rejected: no cpu", containers=[]
)
PREEMPTED = disrupted("PreemptionByScheduler", phase="Failed")
RETRIED = record(run(SCHEDULED))
KNOWN = record(RECORDED, mine="claim", infrastructure_retries=0)


def failed(found: Pod, **objects: Any) -> dict[str, Any]:
    return {"jobs": (FAILED,), "pods": (found,), **objects}


def postponed(found: Pod, number: int, delay: float) -> Postpone:
    return Postpone(
        diagnosis.retry_after_disruption([found], number=number, limit=3, delay=delay), delay
    )


CASES = [
    Case(
        "the run of a rejected pod is rescheduled",
        KNOWN,
        postponed(REJECTED, 1, 10.0),
        failed(REJECTED),
    ),
    Case(
        "a preempted pod's run is postponed",
        KNOWN,
        postponed(PREEMPTED, 1, 10.0),
        failed(PREEMPTED),
    ),
    Case(
        "also if the pod was deleted",
        KNOWN,
        postponed(PREEMPTED, 1, 10.0),
        {"jobs": (FAILED,), "deleted_pods": (PREEMPTED,)},
    ),
    Case(
        "the number of its retries is read before",
        record(RECORDED, mine="claim"),
        RefreshStateHistory(),
        failed(REJECTED),
    ),
    Case(
        "the run is read first if its state is older",
        KNOWN,
        RefreshRun(),
        failed(REJECTED),
        answered_ago=5,
    ),
    Case(
        "with a longer delay each time",
        record(RECORDED, mine="claim", infrastructure_retries=2),
        postponed(REJECTED, 3, 90.0),
        failed(REJECTED),
    ),
    Case(
        "until its retry limit is reached",
        record(RECORDED, mine="claim", infrastructure_retries=3),
        ReportCrashed(
            diagnosis.retries_exhausted(diagnosis.termination(FAILED, [REJECTED]), limit=3)
        ),
        failed(REJECTED),
    ),
    Case(
        "a run whose flow container ran is not retried",
        KNOWN,
        ReportCrashed,
        failed(disrupted("EvictionByEvictionAPI", phase="Failed", number=1))
        | {"pods": (pod(phase="Failed", exit_code=143, pod_reason="Evicted"),)},
    ),
    Case(
        "nor one whose pod exceeded its own limit",
        KNOWN,
        ReportCrashed,
        failed(pod(phase="Failed", pod_reason="Evicted", pod_message=LIMIT, containers=[])),
    ),
    Case(
        "nor one that is RUNNING",
        record(RUNNING),
        ReportCrashed,
        failed(REJECTED),
    ),
    # Nodes
    Case(
        "a run crashes if a lost node does not end its pod",
        record(RUNNING),
        ReportCrashed(diagnosis.node_lost(leaving(20))),
        {"jobs": (job(),), "pods": (leaving(20),)},
    ),
    Case(
        "also before the flow container started: an unreachable node can still start it",
        record(RECORDED, mine="claim", infrastructure_retries=0),
        ReportCrashed(diagnosis.node_lost(leaving(20, phase="Pending"))),
        {"jobs": (job(),), "pods": (leaving(20, phase="Pending"),)},
    ),
    Case(
        "also if the Job failed meanwhile",
        record(RECORDED, mine="claim", infrastructure_retries=0),
        ReportCrashed,
        failed(leaving(20, phase="Pending")),
    ),
    Case(
        "the pod has its own grace and the node's",
        record(RUNNING),
        RequeueAfter(5.0),
        {"jobs": (job(),), "pods": (leaving(15),)},
    ),
    Case(
        "the run is read first",
        record(RUNNING),
        RefreshRun(),
        {"jobs": (job(),), "pods": (leaving(20),)},
        answered_ago=5,
    ),
    Case(
        "its Job is annotated at once: the node can come back, and its pod gets a SIGTERM",
        record(run("CRASHED", pid=NAME)),
        DeleteJob(job(), final=state("CRASHED")),
        {"jobs": (job(),), "pods": (leaving(20),)},
        ago=1,
    ),
    Case(
        "not if another pod of the Job continues",
        record(RUNNING),
        NoAction(),
        {"jobs": (job(),), "pods": (pod(phase="Running", number=2), leaving(60))},
    ),
    Case(
        "a retry of the run waits for the pod, which the run's log says",
        RETRIED,
        LogToRun(diagnosis.waits_for_lost_node(leaving(20)), about="pod-claim"),
        {"jobs": (job(deleting=True),), "pods": (leaving(20),)},
    ),
    Case(
        "it is reported once",
        replace(RETRIED, noted="pod-claim"),
        RequeueAfter(5.0),
        {"jobs": (job(deleting=True),), "pods": (leaving(20),)},
    ),
    Case(
        "a pod without a node is not lost with a node",
        record(RUNNING),
        NoAction(),
        {"jobs": (job(),), "pods": (leaving(60, spec={}),)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=sentence)
def test_the_table_decides(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (REJECTED, True),
        (PREEMPTED, True),
        (disrupted("EvictionByEvictionAPI"), True),
        (pod(phase="Failed", pod_reason="Evicted", pod_message="The node was low on x"), True),
        (pod(phase="Failed", pod_reason="Evicted", pod_message=LIMIT), False),
        (pod(phase="Failed", pod_reason="DeadlineExceeded"), False),
        (pod(phase="Failed", exit_code=1), False),
        (pod(deleting=True), False),
    ],
)
def test_the_pod_shows_whether_the_infrastructure_ended_a_run(found: Pod, expected: bool) -> None:
    assert by_infrastructure(found) is expected


def test_retries_are_counted_from_the_history_by_the_claims_that_they_follow() -> None:
    first, second = claim("one"), claim("two")
    name = diagnosis.INFRASTRUCTURE_RETRY
    by_us = [
        state("SCHEDULED", name, id_=f"retry-{each.id}", transition_id=each.substate_id(name))
        for each in (first, second)
    ]
    by_a_person = state("SCHEDULED", name, id_="by hand")
    history = [pending("one"), by_us[0], by_a_person, pending("two"), by_us[1]]
    assert count_retries(history, {MINE}) == 2
    assert count_retries([*history, state("CRASHED"), pending("three")], {MINE}) == 0


def test_the_message_of_a_retry_has_its_number_cause_and_time() -> None:
    message = diagnosis.retry_after_disruption([REJECTED], number=2, limit=3, delay=30.0).message
    assert "Infrastructure retry 2 of 3: the flow had not started." in message
    assert "OutOfcpu" in message
    assert message.endswith("A new Job is created in 30 s.")


def test_a_lost_node_is_named_with_the_fix() -> None:
    message = diagnosis.node_lost(leaving(20)).message
    assert message.startswith("Node worker-3 is lost")
    assert "DeletionByTaintManager" in message
    assert message.endswith("kubectl delete node worker-3")
