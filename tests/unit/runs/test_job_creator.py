"""If a Job cannot be created, the run waits with a reason, or the table ends it with the fix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from tests.support.decisions import POLICY
from tests.support.snapshots import (
    NOW,
    RUN_ID,
    WALL,
    claim,
    id_of,
    pending,
    read_at,
    record,
    run,
    since,
    snapshot_of,
)
from tests.support.subjects import subject
from workpool_operator.errors import (
    BindingFault,
    Cause,
    DeploymentNotFound,
    KubernetesBadRequest,
    KubernetesConflict,
    KubernetesForbidden,
    KubernetesInvalid,
    KubernetesNotFound,
    KubernetesRefused,
    KubernetesUnavailable,
    OperatorError,
    PrefectUnavailable,
    RenderError,
    SecretRefused,
)
from workpool_operator.jobs.diagnosis import OUTAGE
from workpool_operator.jobs.render import RenderedJob
from workpool_operator.kube.cluster import Cache
from workpool_operator.prefect_api.run_logs import RunLogSender
from workpool_operator.runs.actions import CreateJob, ReportCrashed, ReportWaiting, RequeueAfter
from workpool_operator.runs.back_pressure import BackPressure
from workpool_operator.runs.claims import ClaimedRun
from workpool_operator.runs.decide import decide
from workpool_operator.runs.job_creator import (
    JobCreator,
    JobWriter,
    is_missing_permission,
    rejected_job_message,
    transient_reason,
)
from workpool_operator.runs.store import JobFault, JobFaultReason, RunStore

CLAIMED = ClaimedRun(run(pending()), claim())


class Renderer:
    """Raises the given error, or leaves the run to another process."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def render(
        self, claimed: ClaimedRun, *, deployment: Mapping[str, Any] | None
    ) -> RenderedJob | None:
        if self._error:
            raise self._error
        return None


async def store_after(error: Exception | None) -> RunStore:
    """Return the store after one attempt, which calls neither Prefect nor Kubernetes."""
    absent: Any = None
    store = RunStore(lambda _: frozenset())
    store.put(RUN_ID, record(CLAIMED.run, mine="claim"))
    creator = JobCreator(
        renderer=Renderer(error),
        job_writer=cast("JobWriter", absent),
        store=store,
        job_cache=Cache(lambda _: None),
        run_log=cast("RunLogSender", absent),
        back_pressure=BackPressure(),
        asked_to_wait=lambda _: None,
        forbidden=lambda _: None,
    )
    await creator.create_job(CLAIMED)
    return store


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeploymentNotFound("Deployment d no longer exists"), JobFaultReason.DEPLOYMENT_NOT_FOUND),
        (RenderError("job_manifest.spec", "no object"), JobFaultReason.RENDERING_FAILED),
    ],
)
async def test_a_job_that_cannot_be_rendered_is_a_fault_of_its_claim(
    error: Exception, reason: JobFaultReason
) -> None:
    known = (await store_after(error)).of(RUN_ID)
    assert known.job_fault == JobFault(claim().id, reason, str(error))
    assert known.run == CLAIMED.run


async def test_a_run_that_another_process_submits_gets_no_job() -> None:
    known = (await store_after(None)).of(RUN_ID)
    assert known.foreign_state_id == id_of("claim")
    assert known.job_fault is None


async def test_an_unavailable_server_is_not_a_fault_of_the_run() -> None:
    with pytest.raises(PrefectUnavailable):
        await store_after(PrefectUnavailable("no answer"))


NAMED = run(pending(name=OUTAGE))
OUTAGE_WAIT: Any = transient_reason(KubernetesUnavailable("etcd is on fire"))
# What a real API server says.
NO_RIGHT = (
    'jobs.batch is forbidden: User "tester" cannot create resource "jobs" in API group "batch" in '
    'the namespace "data"'
)
BY_A_PLUGIN = 'jobs.batch "a-1" is forbidden: cannot set blockOwnerDeletion'
BY_A_POLICY = (
    "jobs.batch \"a-1\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied "
    "request: no"
)
TERMINATING = (
    'jobs.batch "a-1" is forbidden: unable to create new content in namespace data because it is '
    "being terminated"
)
SUBJECT = subject(run={"service_account_name": "Bad Name"})
KINDS = {
    400: KubernetesBadRequest,
    403: KubernetesForbidden,
    404: KubernetesNotFound,
    409: KubernetesConflict,
    422: KubernetesInvalid,
}


def refused(text: str, status: int, *causes: Cause) -> KubernetesRefused:
    return KINDS[status](text, causes=causes)


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (refused('jobs "a" is forbidden: exceeded quota: q', 403), "QuotaExceeded"),
        (refused('admission webhook "w" denied the request: no', 400), "JobRefused"),
        (refused("is being deleted", 409), "JobRefused"),
        (refused(BY_A_POLICY, 403), "JobRefused"),
        (refused(BY_A_POLICY, 422), "JobRefused"),
        (refused(TERMINATING, 403), "JobRefused"),
        (KubernetesUnavailable("etcd is on fire"), OUTAGE),
        (KubernetesUnavailable("too many requests", retry_after=9), OUTAGE),
        (BindingFault("JobsPermitted", "NamespaceNotConsenting", "does not let in"), "JobRefused"),
    ],
)
def test_a_temporary_refusal_is_waited_for_and_reported(
    error: OperatorError, category: str
) -> None:
    wait = transient_reason(error)
    assert wait is not None
    assert (wait.category, wait.is_permanent) == (category, False)
    assert str(error) in wait.message


@pytest.mark.parametrize(
    ("error", "is_right"),
    [
        (refused(NO_RIGHT, 403), True),
        (refused("", 403), True),
        (refused(BY_A_PLUGIN, 403), False),
        (refused(BY_A_POLICY, 403), False),
        (refused("no such field", 422), False),
    ],
)
def test_only_a_missing_right_is_a_problem_of_the_binding(
    error: KubernetesRefused, is_right: bool
) -> None:
    assert is_missing_permission(error) == is_right


def test_a_namespace_that_is_being_deleted_is_named_as_such() -> None:
    wait = transient_reason(refused(TERMINATING, 403))
    assert wait is not None
    assert "create it again once it is deleted" in wait.message


def test_an_outage_that_others_do_not_see_ends_the_run_after_the_time_out() -> None:
    """For example a webhook that fails for this Job only."""
    named = record(NAMED, mine="claim", refusal=OUTAGE_WAIT)
    known = replace(named, only_this_refused_since=NOW - POLICY.pending_timeout + 1)
    assert decide(snapshot_of(known, now=NOW), POLICY, wall=WALL) == CreateJob(
        ClaimedRun(NAMED, claim())
    )
    over = replace(named, only_this_refused_since=NOW - POLICY.pending_timeout)
    over = read_at(since(over, NOW - 1), NOW)
    action = decide(snapshot_of(over, now=NOW), POLICY, wall=WALL)
    assert isinstance(action, ReportCrashed)
    assert "etcd is on fire" in action.end.message


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_any_other_refusal_ends_the_run(status: int) -> None:
    assert transient_reason(refused("no", status)) is None


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (refused(BY_A_PLUGIN, 403), [BY_A_PLUGIN, "a policy of the cluster refuses this one"]),
        (refused('namespaces "data" not found', 404), ["kubectl create namespace data"]),
        (refused("no such field", 400), ["no such field", "Correct the deployment's"]),
        (
            refused("Job is invalid", 422, Cause("spec.template.spec.serviceAccountName", "Bad")),
            ["serviceAccountName: Bad", "job variable service_account_name of the flow run"],
        ),
    ],
)
def test_the_message_of_an_end_has_the_fact_and_the_fix(
    error: KubernetesRefused, facts: list[str]
) -> None:
    text = rejected_job_message(error, SUBJECT, namespace="data")
    for fact in ("The API server refused the run's Job", *facts):
        assert fact in text


@pytest.mark.parametrize(
    ("error", "what"),
    [(refused("no", 403), "create jobs"), (SecretRefused(refused("no", 403)), "create secrets")],
)
def test_the_message_of_an_end_by_a_missing_right_names_it_and_how_to_grant_it(
    error: KubernetesRefused, what: str
) -> None:
    text = rejected_job_message(error, SUBJECT, namespace="data", grant="kubectl ...")
    assert text.endswith(f"the right to {what} in namespace 'data': kubectl ...")


@pytest.mark.parametrize("hours", [0, 48])
def test_an_outage_ends_no_run_however_long_it_takes(hours: int) -> None:
    """An outage is not the run's fault; a waiting pod ends its run after pendingTimeoutSeconds."""
    wall = WALL + timedelta(hours=hours)
    waits = record(run(pending()), mine="claim", refusal=OUTAGE_WAIT)
    assert decide(snapshot_of(waits, now=NOW), POLICY, wall=wall) == ReportWaiting(
        OUTAGE_WAIT, claim()
    )
    waiting = record(NAMED, mine="claim", refusal=OUTAGE_WAIT, refused_until=NOW + 7)
    assert decide(snapshot_of(waiting, now=NOW), POLICY, wall=wall) == RequeueAfter(7.0)
    over = record(NAMED, mine="claim", refusal=OUTAGE_WAIT)
    assert decide(snapshot_of(over, now=NOW), POLICY, wall=wall) == CreateJob(
        ClaimedRun(NAMED, claim())
    )
