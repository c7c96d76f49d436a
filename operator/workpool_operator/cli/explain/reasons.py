"""Why a run is, or is not, running: what explains it, the most important first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from workpool_operator.cli.explain import bindings, claimed, scheduled
from workpool_operator.cli.explain.reason import Reason, describe, listed, sentences
from workpool_operator.cli.explain.snapshot import Choice, Deployment, PrefectFacts, Snapshot
from workpool_operator.jobs import diagnosis
from workpool_operator.prefect_api.models import Run

_Explain = Callable[[Snapshot, Run, PrefectFacts], Iterator[Reason]]
_BY_STATE: dict[str, _Explain] = {
    "SCHEDULED": scheduled.explain,
    "PENDING": claimed.explain,
    "RUNNING": claimed.explain_running,
    "PAUSED": claimed.explain_paused,
    "CANCELLING": claimed.explain_cancelling,
}


def explain(snapshot: Snapshot) -> tuple[Reason, ...]:
    """Return every reason. The first one is the answer; those that hold the run are before others
    of its state. Empty if neither store could be read."""
    prefect, run = snapshot.prefect, snapshot.run
    if run is None and snapshot.choice:
        return tuple(_no_choice(snapshot, snapshot.choice))
    if prefect is None:
        return tuple(_by_cluster(snapshot))
    if run is None:
        return tuple(_no_run(snapshot, prefect))
    by_state = _BY_STATE.get(run.state_type, claimed.explain_ended)
    return tuple(chain(by_state(snapshot, run, prefect), _no_next(prefect, run)))


def _no_choice(snapshot: Snapshot, choice: Choice) -> Iterator[Reason]:
    """Yield why the binding claims no runs, and that none waits for it, as far as Prefect knows."""
    binding, cluster = snapshot.chosen_binding, snapshot.cluster
    held = bindings.hold(binding, now=cluster.now) if binding and cluster else None
    if held:
        yield held
    if snapshot.prefect:
        text = f"No run of work pool '{choice.pool}' waits for binding {choice.binding}"
        yield Reason(
            reason="NothingWaits",
            message=sentences(text, "None has crashed within a day"),
            next_step=f"to see its runs: workpool-operator status {choice.binding}",
            holds=False,
        )


def _no_run(snapshot: Snapshot, prefect: PrefectFacts) -> Iterator[Reason]:
    if prefect.by_deployment and prefect.deployment:
        yield from _not_scheduled(prefect.deployment, text="it has no run")
        return
    text = f"{prefect.url} has no flow run {snapshot.run_id}"
    if snapshot.newest_job:
        yield _of_job(snapshot, prefect, text)
        return
    others = sorted(
        {
            each.server_url
            for each in (snapshot.cluster.bindings if snapshot.cluster else ())
            if each.server_url and each.server_url != prefect.url
        }
    )
    servers = f"Bindings of the cluster use other servers: {listed(others)}" if others else ""
    step = "look for it on the other servers: --binding NS/NAME" if others else "check the id"
    message = sentences(text, "It was deleted, or is a run of another server", servers)
    yield Reason(reason="NotFound", message=message, next_step=step)


def _of_job(snapshot: Snapshot, prefect: PrefectFacts, text: str) -> Reason:
    """Explain a run that the server does not have by its Job, which names its server."""
    job = snapshot.newest_job
    assert job is not None
    where = f"Job {job.metadata.namespace}/{job.name} of that run exists"
    if job.server and job.server != prefect.url:
        step = (
            f"ask that server: workpool-operator explain {snapshot.run_id} --binding {job.binding}"
        )
        known = f"{where}, and its operator calls its server {job.server}"
        message = sentences(text, known, "If that is the same server, the run was deleted")
        return Reason(reason="OtherServer", message=message, next_step=step)
    step = describe("job", job.metadata.namespace, job.name)
    message = sentences(text, "It was deleted", f"{where} still: its operator deletes it")
    return Reason(reason="RunDeleted", message=message, next_step=step)


def _no_next(prefect: PrefectFacts, run: Run) -> Iterator[Reason]:
    """Yield why a deployment, which the user named, creates no run after its latest one."""
    if prefect.by_deployment and prefect.deployment and run.final:
        yield from _not_scheduled(prefect.deployment, text="no later run is scheduled")


def _not_scheduled(deployment: Deployment, *, text: str) -> Iterator[Reason]:
    """Yield which schedule or automation is paused."""
    name, start = deployment.name, f"prefect deployment run '{deployment.name}'"
    for automation in deployment.disabled_automations:
        yield Reason(
            reason="AutomationPaused",
            message=f"Automation '{automation}', which runs deployment {name}, is paused.",
            next_step=f"prefect automation resume '{automation}'",
        )
    if deployment.paused:
        yield Reason(
            reason="SchedulePaused",
            message=f"Deployment {name} is paused: {text}.",
            next_step=f"prefect api POST /deployments/{deployment.id}/resume_deployment",
        )
    elif deployment.schedules and deployment.schedules == len(deployment.inactive_schedules):
        first = deployment.inactive_schedules[0]
        yield Reason(
            reason="SchedulePaused",
            message=f"Deployment {name} has no active schedule: {text}.",
            next_step=f"prefect deployment schedule resume '{name}' {first}; or: {start}",
        )
    elif not deployment.schedules and not deployment.disabled_automations:
        yield Reason(
            reason="NotScheduled",
            message=f"Deployment {name} has no schedule: {text}.",
            next_step=start,
            holds=False,
        )


def _by_cluster(snapshot: Snapshot) -> Iterator[Reason]:
    """Explain without Prefect what the cluster knows of the run."""
    cluster, job, pod = snapshot.cluster, snapshot.newest_job, snapshot.pod
    if cluster is None:
        return
    if job is None:
        may = "" if cluster.jobs_readable else " that you may list"
        text = f"{cluster.address} has no Job of flow run {snapshot.run_id}{may}"
        yield Reason(
            reason="NoJob",
            message=sentences(text, "Whether it was claimed is known to Prefect alone"),
            next_step="make the Prefect server reachable, and run this again",
        )
        return
    step = describe("job", job.metadata.namespace, job.name)
    where = f"Job {job.metadata.namespace}/{job.name}"
    wait = diagnosis.wait_reason(pod, cluster.now)
    if job.suspended:
        suspended = diagnosis.suspended(job)
        yield Reason(
            reason=suspended.category, message=f"{where}: {suspended.message}", next_step=step
        )
    elif wait:
        yield Reason(reason=wait.category, message=f"{where}: {wait.message}", next_step=step)
    elif job.failed:
        end = diagnosis.termination(job, snapshot.pods_of_job)
        yield Reason(
            reason="JobFailed", message=f"{where}: {end.message}", next_step=step, holds=False
        )
    else:
        phase = f"Pod {pod.metadata.name} is {pod.status.phase}" if pod else "It has no pod"
        ended = "has ended" if job.ended else "has not ended"
        yield Reason(
            reason="JobEnded" if job.ended else "JobActive",
            message=sentences(f"{where} {ended}", phase),
            next_step=step,
            holds=False,
        )
