"""What explains a run: the first reason is the one that holds it, and it has a next step."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.support.explained import binding, claimed, conditions, scheduled, snapshot
from tests.support.snapshots import RUN_ID, WALL, container, job, pod, state
from workpool_operator.cli.explain import report
from workpool_operator.cli.explain.reasons import explain
from workpool_operator.cli.explain.snapshot import Deployment, Holder, Limit, Snapshot
from workpool_operator.kube.models import BINDING_ANNOTATION, Event

LATER = WALL + timedelta(minutes=12)
LONG_AGO = WALL - timedelta(minutes=10)
DUE: dict[str, Any] = {"next_scheduled_start_time": WALL - timedelta(seconds=5)}
OTHER = Holder(name="other-run", id="22222222", state="Running", since=WALL)


def words(given: Snapshot) -> list[str]:
    return [reason.reason for reason in explain(given)]


def of_bindings(*found: Any, **fields: Any) -> dict[str, Any]:
    return {"cluster": {"bindings": found, **fields}}


def deployment(**fields: Any) -> dict[str, Any]:
    from uuid import UUID

    return {"deployment": Deployment(id=UUID(int=2), name="flow/nightly", **fields)}


FULL = Limit(name="default", limit=1, taken=1, holders=(OTHER,))
SLOTS = deployment(
    slots=replace(FULL, taken=3, limit=3),
    limit_name="deployment:2",
    why_it_waits="AwaitingConcurrencySlot: the limit is reached: 3 of 3 slots are taken.",
)
FAULT = conditions(Ready=("False", "SecretNotFound"), Claiming=("False", "SecretNotFound"))
NO_QUOTA = conditions(Claiming=("False", "QuotaExceeded"))
AT_CAPACITY = conditions(Claiming=("False", "AtCapacity"))
STOPPED = conditions(Ready=("Unknown", "OperatorStopped"), Claiming=("Unknown", "OperatorStopped"))
KILLED = {"last_poll": LONG_AGO}

SCHEDULED: dict[str, tuple[Snapshot, list[str]]] = {
    "nothing holds it": (snapshot(scheduled(), **DUE), ["Due"]),
    "not due": (
        snapshot(scheduled(), next_scheduled_start_time=LATER),
        ["NotDue"],
    ),
    "put off by Prefect": (
        snapshot(
            scheduled(name="AwaitingConcurrencySlot", message="no slot"),
            prefect=SLOTS,
            next_scheduled_start_time=LATER,
        ),
        ["PutOff", "DeploymentFull"],
    ),
    "put off for its infrastructure": (
        snapshot(scheduled(name="InfrastructureRetry"), next_scheduled_start_time=LATER),
        ["PutOff"],
    ),
    "the flow retries by itself": (
        snapshot(
            scheduled(name="AwaitingRetry"),
            cluster={"pods": (pod(phase="Running"),)},
            empirical_policy={"retry_type": "in_process"},
        ),
        ["RetriesInProcess"],
    ),
    "no pool": (snapshot(scheduled(), work_pool_name=None), ["NoWorkPool"]),
    "everything in Prefect, in order": (
        snapshot(
            scheduled(),
            prefect={
                "queue": replace(FULL, paused=True),
                "pool": replace(FULL, paused=True),
                **SLOTS,
            },
            **of_bindings(binding(suspended=True)),
            **DUE,
        ),
        ["QueuePaused", "WorkPoolPaused", "DeploymentFull", "BindingSuspended"],
    ),
    "full queue and pool": (
        snapshot(scheduled(), prefect={"queue": FULL, "pool": FULL}, **DUE),
        ["QueueFull", "WorkPoolFull"],
    ),
    "full pool for long": (
        snapshot(scheduled(), prefect={"pool": FULL}, next_scheduled_start_time=LONG_AGO),
        ["WorkPoolFull"],
    ),
    "no binding": (snapshot(scheduled(), **of_bindings(), **DUE), ["NotServed"]),
    "a binding of another pool": (
        snapshot(scheduled(), **of_bindings(binding(pool_id="", pool_name="other")), **DUE),
        ["NotServed"],
    ),
    "a pool of that name on another server": (
        snapshot(scheduled(), **of_bindings(binding(pool_id="other")), **DUE),
        ["NotServed"],
    ),
    "another queue": (
        snapshot(scheduled(), **of_bindings(binding(queues=("high",))), **DUE),
        ["QueueNotServed"],
    ),
    "a worker of Prefect's own": (
        snapshot(scheduled(), prefect={"workers": ("stock",)}, **of_bindings(), **DUE),
        ["Due"],
    ),
    "suspended": (
        snapshot(scheduled(), **of_bindings(binding(suspended=True)), **DUE),
        ["BindingSuspended"],
    ),
    "one of two bindings is suspended": (
        snapshot(scheduled(), **of_bindings(binding(suspended=True), binding(name="b")), **DUE),
        ["Due"],
    ),
    "not Ready": (
        snapshot(scheduled(), **of_bindings(binding(conditions=FAULT)), **DUE),
        ["BindingNotReady"],
    ),
    "at capacity": (
        snapshot(
            scheduled(), **of_bindings(binding(conditions=AT_CAPACITY, in_flight=(OTHER,))), **DUE
        ),
        ["BindingAtCapacity"],
    ),
    "no quota": (
        snapshot(scheduled(), **of_bindings(binding(conditions=NO_QUOTA)), **DUE),
        ["BindingNotClaiming"],
    ),
    "never served": (
        snapshot(scheduled(), **of_bindings(binding(conditions=(), operator="")), **DUE),
        ["NoOperator"],
    ),
    "operator stopped": (
        snapshot(scheduled(), **of_bindings(binding(conditions=STOPPED, operator="")), **DUE),
        ["NoOperator"],
    ),
    "operator killed": (
        snapshot(scheduled(), **of_bindings(binding(**KILLED)), **DUE),
        ["OperatorSilent"],
    ),
    "the server is down, so that there are no polls": (
        snapshot(scheduled(), **of_bindings(binding(conditions=FAULT, **KILLED)), **DUE),
        ["BindingNotReady"],
    ),
    "the binding is being deleted": (
        snapshot(scheduled(), **of_bindings(binding(deleting=True)), **DUE),
        ["BindingDeleting"],
    ),
    "its claim was refused": (
        snapshot(scheduled(), **of_bindings(binding(refused_claim="Flow run ...")), **DUE),
        ["ClaimRefused"],
    ),
    "its previous pod runs": (
        snapshot(scheduled(), cluster={"pods": (pod(phase="Running"),)}, **DUE),
        ["PreviousPod"],
    ),
    "due for long": (
        snapshot(scheduled(), next_scheduled_start_time=LONG_AGO),
        ["Unexplained"],
    ),
    "bindings may not be read": (
        snapshot(
            scheduled(), prefect={"workers": ()}, **of_bindings(bindings_readable=False), **DUE
        ),
        ["NotServed"],
    ),
    "bindings may not be read, and one is online": (
        snapshot(
            scheduled(),
            prefect={"workers": ("etl.data@abc",)},
            **of_bindings(bindings_readable=False),
            **DUE,
        ),
        ["Due"],
    ),
}


@pytest.mark.parametrize("what", SCHEDULED)
def test_a_run_that_is_not_claimed_is_explained_by_the_first_thing_that_holds_it(what):
    given, expected = SCHEDULED[what]
    assert words(given) == expected
    assert all(reason.message.endswith(".") for reason in explain(given) if reason.holders == ())
    assert all(reason.next_step for reason in explain(given))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (
            {"operator": "pools-1_uid", "operator_namespace": "platform"},
            f"read the operator's log: kubectl -n platform logs pools-1 | grep {RUN_ID}",
        ),
        (
            {"operator": "pools-1_uid"},
            f"read the log of the operator's pod pools-1 for {RUN_ID}; its namespace: "
            "kubectl get pods -A --field-selector=metadata.name=pools-1",
        ),
    ],
)
def test_the_log_to_read_is_that_of_the_operator_that_serves_the_binding(known, expected):
    claimed_soon = snapshot(**claimed(), **of_bindings(binding(**known)))
    not_claimed = snapshot(
        scheduled(), next_scheduled_start_time=LONG_AGO, **of_bindings(binding(**known))
    )
    assert explain(not_claimed)[0].next_step == expected
    assert explain(claimed_soon)[0].next_step == f"wait some seconds; then {expected}"


UNSCHEDULABLE = pod(unschedulable="0/3 nodes are available: 3 Insufficient cpu.")
JOB = job(annotations={BINDING_ANNOTATION: "data/etl"})
WARNING = Event(reason="FailedCreate", message="exceeded quota: q, used 5", type="Warning")


def with_job(*pods: Any, **fields: Any) -> dict[str, Any]:
    return {"cluster": {"bindings": (binding(),), "jobs": (JOB,), "pods": pods, **fields}}


PENDING: dict[str, tuple[Snapshot, list[str]]] = {
    "a client has it": (snapshot(state("PENDING")), ["HeldByClient"]),
    "who is unknown": (
        snapshot(state("PENDING"), **of_bindings(bindings_readable=False)),
        ["Claimed"],
    ),
    "whether its binding claimed it is unknown": (
        snapshot(state("PENDING"), **of_bindings(binding(transition_id=None))),
        ["Claimed"],
    ),
    "a worker that is offline": (
        snapshot(state("PENDING"), labels={"prefect.worker.name": "stock"}),
        ["WorkerOffline", "JobPending"],
    ),
    "claimed a moment ago": (snapshot(**claimed()), ["JobPending"]),
    "its operator was killed before there was a Job": (
        snapshot(**claimed(), **of_bindings(binding(**KILLED))),
        ["OperatorSilent", "JobPending"],
    ),
    "a refused Job": (
        snapshot(**claimed(name="JobRefused", message="fix it")),
        ["JobRefused"],
    ),
    "its Job is gone": (snapshot(**claimed(), pid="job-1"), ["JobGone"]),
    "no right to read Jobs": (
        snapshot(**claimed(), pid="job-1", **with_job(jobs=(), jobs_readable=False)),
        ["Claimed"],
    ),
    "no right to read pods": (
        snapshot(**claimed(name="Unschedulable"), **with_job(pods_readable=False)),
        ["Unschedulable"],
    ),
    "a suspended Job": (
        snapshot(**claimed(), **with_job(jobs=(job(suspended=True),))),
        ["JobSuspended"],
    ),
    "a Job without a pod": (snapshot(**claimed(), **with_job()), ["PodPending"]),
    "a Job that failed and whose pod is gone": (
        snapshot(**claimed(), **with_job(jobs=(job(ended="Failed"),))),
        ["PodEnded"],
    ),
    "a pod that the API server refuses": (
        snapshot(**claimed(), **with_job(events={JOB.name: (WARNING,)})),
        ["FailedCreate"],
    ),
    "no node": (snapshot(**claimed(), **with_job(UNSCHEDULABLE)), ["Unschedulable"]),
    "no image": (
        snapshot(**claimed(), **with_job(pod(waiting="ErrImagePull", message="not found"))),
        ["ImagePullBackOff"],
    ),
    "pulling": (snapshot(**claimed(), **with_job(pod())), ["PodStarting"]),
    "started": (snapshot(**claimed(), **with_job(pod(phase="Running"))), ["Starting"]),
    "ended before Prefect started": (
        snapshot(**claimed(), **with_job(pod(phase="Failed", exit_code=7))),
        ["PodEnded"],
    ),
    "no image, and the operator was killed": (
        snapshot(
            **claimed(),
            **with_job(UNSCHEDULABLE, bindings=(binding(**KILLED),)),
        ),
        ["Unschedulable", "OperatorSilent"],
    ),
    "the binding was deleted": (
        snapshot(state("PENDING"), **with_job(UNSCHEDULABLE, bindings=())),
        ["Unschedulable", "BindingGone"],
    ),
}


@pytest.mark.parametrize("what", PENDING)
def test_a_claimed_run_is_explained_by_its_job_its_pod_and_who_claimed_it(what):
    given, expected = PENDING[what]
    assert words(given) == expected
    assert all(reason.next_step for reason in explain(given))


RUNNING = state("RUNNING")
LATER_STATES: dict[str, tuple[Snapshot, list[str]]] = {
    "running": (snapshot(RUNNING, **with_job(pod(phase="Running"))), ["Running"]),
    "running, as Prefect says": (snapshot(RUNNING, **with_job(pods_readable=False)), ["Running"]),
    "ended, and not reported": (
        snapshot(RUNNING, **with_job(pod(phase="Failed", exit_code=137))),
        ["PodEnded"],
    ),
    "no pod": (snapshot(RUNNING), ["PodGone"]),
    "suspended while running": (
        snapshot(RUNNING, **with_job(jobs=(job(suspended=True),))),
        ["JobSuspended"],
    ),
    "paused": (snapshot(state("PAUSED", "Suspended")), ["Suspended"]),
    "cancelling": (
        snapshot(state("CANCELLING"), **with_job(pod(phase="Running"))),
        ["Cancelling"],
    ),
    "ended": (snapshot(state("CRASHED", message="exit code 7")), ["Crashed"]),
    "ended, with a pod": (
        snapshot(state("COMPLETED"), **with_job(pod(phase="Running"))),
        ["Completed", "PodLeft"],
    ),
    "the latest run of a deployment without a schedule": (
        snapshot(state("COMPLETED"), prefect={"by_deployment": True, **deployment()}),
        ["Completed", "NotScheduled"],
    ),
    "the latest run of a paused deployment": (
        snapshot(
            state("FAILED"),
            prefect={"by_deployment": True, **deployment(schedules=1, paused=True)},
        ),
        ["Failed", "SchedulePaused"],
    ),
    "a deployment without runs": (
        snapshot(
            None,
            prefect={
                "by_deployment": True,
                **deployment(disabled_automations=("nightly",), schedules=0),
            },
        ),
        ["AutomationPaused"],
    ),
    "no such run": (snapshot(None), ["NotFound"]),
    "no such run, and its Job": (snapshot(None, **with_job()), ["RunDeleted"]),
}


@pytest.mark.parametrize("what", LATER_STATES)
def test_a_run_that_has_started_or_ended_or_does_not_exist_is_explained(what):
    given, expected = LATER_STATES[what]
    assert words(given) == expected


@pytest.mark.parametrize(
    ("given", "reason"),
    [(snapshot(RUNNING), "PodGone"), (snapshot(state("PENDING"), pid="job-1"), "JobGone")],
    ids=["running", "pending"],
)
def test_a_run_that_no_operator_ends_has_the_command_that_does(given, reason):
    """A binding whose namespace was created again does not know the claims of the one before."""
    [left] = explain(given)
    assert left.reason == reason
    assert "prefect api POST /flow_runs/" in left.next_step
    assert '"type": "CRASHED"' in left.next_step


def test_a_run_whose_operator_ends_it_is_waited_for():
    [left] = explain(snapshot(**claimed(), pid="job-1"))
    assert left.next_step == "wait: the operator that claimed it ends it, and says why"


def test_a_quota_that_is_exhausted_has_the_command_that_shows_what_takes_it():
    full = binding(conditions=NO_QUOTA, job_namespaces=("runs",))
    [reason] = explain(snapshot(scheduled(), **of_bindings(full), **DUE))
    assert reason.next_step.endswith("kubectl -n runs get resourcequota,jobs,pods")


def test_the_first_run_that_takes_a_slot_is_the_next_one_to_explain():
    given = snapshot(scheduled(), prefect={"pool": FULL}, **DUE)
    assert "workpool-operator explain 22222222; wait" in next(iter(explain(given))).next_step


def test_a_holder_without_job_and_pod_is_to_be_checked_before_the_limit_is_raised():
    elsewhere = Holder(name="lost", id="33333333", state="Running", since=WALL)
    pool = replace(FULL, holders=(OTHER, elsewhere), taken=2, limit=2)
    given = snapshot(
        scheduled(), prefect={"pool": pool}, cluster={"unseen": frozenset({"33333333"})}, **DUE
    )
    full = next(iter(explain(given)))
    assert full.next_step.startswith("check the holders: workpool-operator explain 33333333 has")
    assert full.next_step.index("ends a run") < full.next_step.index("raise the limit")
    runs, lost = report.holders(full, now=WALL)
    assert "nothing here seems to run it" not in runs
    assert lost.endswith(": no Job or pod of it in this cluster, nothing here seems to run it")


def test_a_lease_without_a_run_is_named():
    [reason] = (
        each
        for each in explain(snapshot(scheduled(), prefect=SLOTS, **DUE))
        if each.reason == "DeploymentFull"
    )
    assert "2 of them have a lease and no run that is active" in reason.message
    assert reason.holders == (OTHER,)


CLUSTER_ALONE: dict[str, tuple[dict[str, Any], str]] = {
    "no Job": ({}, "NoJob"),
    "suspended": ({"jobs": (job(suspended=True),)}, "JobSuspended"),
    "no node": ({"jobs": (JOB,), "pods": (UNSCHEDULABLE,)}, "Unschedulable"),
    "failed": (
        {"jobs": (job(ended="Failed"),), "pods": (pod(phase="Failed", exit_code=3),)},
        "JobFailed",
    ),
    "active": ({"jobs": (JOB,), "pods": (pod(phase="Running"),)}, "JobActive"),
    "complete": ({"jobs": (job(ended="Complete"),)}, "JobEnded"),
}


@pytest.mark.parametrize("what", CLUSTER_ALONE)
def test_without_prefect_a_run_is_explained_by_its_job(what):
    fields, expected = CLUSTER_ALONE[what]
    given = replace(snapshot(None, cluster=fields), prefect=None)
    assert words(given) == [expected]


def test_without_both_stores_there_is_no_reason():
    assert explain(Snapshot(run_id="x")) == ()


def test_the_claim_is_that_of_the_binding_whose_transition_id_it_has():
    other = binding(name="other", transition_id=None)
    given = snapshot(**claimed(), **of_bindings(other, binding()))
    claimant = given.claimant
    assert claimant is not None
    assert (claimant.name, claimant.since) == ("binding data/etl", WALL - timedelta(seconds=5))


def test_a_container_that_is_not_the_flows_does_not_count_as_started():
    sidecar = container("mesh", running=WALL)
    flow = container(waiting="PodInitializing")
    given = snapshot(**claimed(), **with_job(pod(containers=[flow, sidecar])))
    assert words(given) == ["PodStarting"]
