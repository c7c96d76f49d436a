"""Why a claimed run has not started, where it runs, or how it ended. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from workpool_operator.cli.explain import bindings
from workpool_operator.cli.explain.reason import Reason, at, describe, listed, sentences, since
from workpool_operator.cli.explain.snapshot import Claimant, PrefectFacts, Snapshot
from workpool_operator.jobs import diagnosis, kueue
from workpool_operator.kube.models import Event, Job, Pod
from workpool_operator.prefect_api.models import Run

_QUIET = frozenset({"Pending"})  # a state name that says nothing about the cause
_NO_ACCESS = "run this again with access to the cluster and its pods"
_PROGRESS = ("Pulling", "Pulled", "Created", "Scheduled")  # Events of a pod that makes progress


def explain(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Iterator[Reason]:
    """Yield every reason of a run that is PENDING, the first thing that holds it first."""
    claimant = snapshot.claimant
    if claimant is None and not run.infrastructure_pid and not snapshot.newest_job:
        yield _held_by_client(snapshot, run, prefect)
        return
    found = list(_in_cluster(snapshot, run, prefect))
    held = _claimant_gone(snapshot, claimant, run, prefect)
    # An operator that is not running holds what it would have to do next: to create the Job.
    if held and snapshot.newest_job is None:
        yield held
        yield from found
    else:
        yield from found
        if held:
            yield held


def _held_by_client(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Reason:
    began = since(run.state.timestamp if run.state else None, prefect.now)
    if not snapshot.claims_readable:
        text = f"It is claimed {began}; Prefect does not know by whom"
        return Reason(reason="Claimed", message=sentences(text), next_step=_NO_ACCESS)
    text = (
        f"A client keeps it Pending {began}: neither a binding of this cluster nor a worker has "
        "claimed it"
    )
    why = "A flow that is submitted with its code (submit_to_work_pool) is Pending while that is"
    step = f"if its client has ended, cancel it: prefect flow-run cancel {run.id}"
    message = sentences(text, f"{why} uploaded")
    return Reason(reason="HeldByClient", message=message, next_step=step)


def _claimant_gone(
    snapshot: Snapshot, claimant: Claimant | None, run: Run, prefect: PrefectFacts
) -> Reason | None:
    """Return that whoever claimed the run does not act now; None if it does, or is not known."""
    if claimant is None or snapshot.cluster is None:
        return None
    if claimant.binding:
        return bindings.unserved(claimant.binding, now=snapshot.cluster.now)
    kind, _, name = claimant.name.partition(" ")
    if kind == "binding" and snapshot.cluster.bindings_readable:
        text = f"Binding {name}, which claimed the run, does not exist any more"
        step = f"apply it again: it adopts its Jobs. Or: prefect flow-run cancel {run.id}"
        return Reason(reason="BindingGone", message=sentences(text), next_step=step)
    if kind == "worker" and prefect.workers is not None and name not in prefect.workers:
        text = f"Worker '{name}', which claimed the run, is not online"
        step = f"start it again, or: prefect flow-run cancel {run.id}"
        return Reason(reason="WorkerOffline", message=sentences(text), next_step=step)
    return None


def _in_cluster(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Iterator[Reason]:
    """Yield what the Job and its pod wait for."""
    job, pod, cluster = snapshot.newest_job, snapshot.pod, snapshot.cluster
    if job is None or cluster is None:
        yield _without_job(snapshot, run, prefect)
    elif job.suspended:
        yield _suspended(snapshot, job)
    elif pod is None and job.ended:
        yield _pod_ended(snapshot, job)
    elif pod is None and not cluster.pods_readable:
        yield _by_state(run, prefect, job)
    elif pod is None:
        yield _without_pod(snapshot, job)
    elif wait := diagnosis.wait_reason(pod, cluster.now):
        yield Reason(
            reason=wait.category,
            message=sentences(f"Pod {pod.metadata.name}: {wait.message}"),
            next_step=describe("pod", pod.metadata.namespace, pod.metadata.name),
        )
    elif pod.ended:
        yield _pod_ended(snapshot, job)
    elif pod.started:
        yield _starting(pod, snapshot)
    else:
        yield _progressing(snapshot, pod)


def _without_job(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Reason:
    cluster, recorded = snapshot.cluster, run.infrastructure_pid
    if cluster and cluster.jobs_readable and recorded:
        text = f"Its Job {recorded} does not exist in {cluster.address}, or not any more"
        step = _end_by_hand(snapshot, run)
        return Reason(reason="JobGone", message=sentences(text), next_step=step)
    if run.state_name not in _QUIET:
        return _by_state(run, prefect, None)
    if cluster is None or not cluster.jobs_readable:
        began = since(run.state.timestamp if run.state else None, prefect.now)
        where = f"Its Job is {recorded}" if recorded else ""
        message = sentences(f"It is claimed {began}", where)
        return Reason(reason="Claimed", message=message, next_step=_NO_ACCESS)
    text = "It is claimed, and its Job is not created yet"
    step = f"wait some seconds; then {_read_log(snapshot)}"
    return Reason(reason="JobPending", message=sentences(text), next_step=step)


def _by_state(run: Run, prefect: PrefectFacts, job: Job | None) -> Reason:
    """Explain by the sub-state, which the operator keeps up to date."""
    began = since(run.state.timestamp if run.state else None, prefect.now)
    message = run.state.message if run.state else ""
    name = "Claimed" if run.state_name in _QUIET else run.state_name
    where = f"Its Job is {job.metadata.namespace}/{job.name}" if job else ""
    text = f"{run.state_name} {began}"
    step = describe("job", job.metadata.namespace, job.name) if job else _fix_in_message(message)
    return Reason(reason=name, message=sentences(text, message, where), next_step=step)


def _read_log(snapshot: Snapshot) -> str:
    claimant = snapshot.claimant
    return bindings.read_log(snapshot.run_id, claimant.binding if claimant else None)


def _fix_in_message(message: str | None) -> str:
    return "the message has the fix" if message else _NO_ACCESS


def _suspended(snapshot: Snapshot, job: Job) -> Reason:
    events = snapshot.events_of(job.name)
    workload = kueue.workload_name(events)
    reason = kueue.pending_reason(snapshot.events_of(workload)) if workload else ""
    wait = diagnosis.suspended(job, reason)
    what = "workloads" if job.queue else f"job {job.name}"
    return Reason(
        reason=wait.category,
        message=f"Job {job.metadata.namespace}/{job.name}: {wait.message}",
        next_step=f"kubectl -n {job.metadata.namespace} describe {what}",
    )


def _without_pod(snapshot: Snapshot, job: Job) -> Reason:
    wait = diagnosis.no_pods_reason(snapshot.events_of(job.name), what=f"Job {job.name}")
    step = describe("job", job.metadata.namespace, job.name)
    if wait:
        return Reason(reason=wait.category, message=wait.message, next_step=step)
    text = f"Job {job.metadata.namespace}/{job.name} has no pod yet"
    return Reason(reason="PodPending", message=sentences(text), next_step=step)


def _pod_ended(snapshot: Snapshot, job: Job) -> Reason:
    end = diagnosis.termination(job, snapshot.pods_of_job)
    step = f"wait some seconds: its operator reports the end. If not, {_read_log(snapshot)}"
    return Reason(reason="PodEnded", message=sentences(end.message), next_step=step)


def _starting(pod: Pod, snapshot: Snapshot) -> Reason:
    running = pod.flow_status.state.running if pod.flow_status else None
    now = snapshot.cluster.now if snapshot.cluster else None
    began = since(running.started_at if running else None, now) if now else ""
    text = f"Its container runs in pod {pod.metadata.name} {began}, and Prefect is starting in it"
    step = f"kubectl -n {pod.metadata.namespace} logs {pod.metadata.name} -c {pod.flow_container}"
    return Reason(reason="Starting", message=sentences(text), next_step=step, holds=False)


def _progressing(snapshot: Snapshot, pod: Pod) -> Reason:
    node = f" on node {pod.spec.node_name}" if pod.spec.node_name else ""
    text = f"Pod {pod.metadata.name}{node} is {pod.status.phase}"
    step = describe("pod", pod.metadata.namespace, pod.metadata.name)
    return Reason(
        reason="PodStarting",
        message=sentences(text, _last(snapshot, pod)),
        next_step=step,
        holds=False,
    )


def _last(snapshot: Snapshot, pod: Pod) -> str:
    """Return the last words of the kubelet or the scheduler about the pod."""
    found = snapshot.events_of(pod.metadata.name)
    return f"Last Event: {_words(found[-1])}" if found else ""


def _words(event: Event) -> str:
    return f"{event.reason}: {event.message}" if event.message else event.reason


# After the flow has started


def explain_running(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Iterator[Reason]:
    """Yield where a RUNNING run runs, and what is wrong with that."""
    job, pod, cluster = snapshot.newest_job, snapshot.pod, snapshot.cluster
    began = since(run.start_time, prefect.now)
    if cluster is None or not cluster.pods_readable:
        text, step = f"It runs {began}", f"prefect flow-run logs {run.id}"
        yield Reason(reason="Running", message=sentences(text), next_step=step, holds=False)
        return
    if job and job.suspended:
        yield _suspended(snapshot, job)
    elif pod and not pod.ended:
        node = f" on node {pod.spec.node_name}" if pod.spec.node_name else ""
        text = f"It runs in pod {pod.metadata.namespace}/{pod.metadata.name}{node} {began}"
        step = f"kubectl -n {pod.metadata.namespace} logs -f {pod.metadata.name}"
        yield Reason(reason="Running", message=sentences(text), next_step=step, holds=False)
    elif pod and job:
        yield _pod_ended(snapshot, job)
    else:
        text = f"Prefect has it as Running {began}, and it has no pod in {cluster.address}"
        yield Reason(
            reason="PodGone", message=sentences(text), next_step=_end_by_hand(snapshot, run)
        )
    if held := _claimant_gone(snapshot, snapshot.claimant, run, prefect):
        yield held


def _end_by_hand(snapshot: Snapshot, run: Run) -> str:
    if snapshot.claimant and snapshot.claimant.binding:
        return "wait: the operator that claimed it ends it, and says why"
    body = '{"state": {"type": "CRASHED", "message": "Its process is gone."}, "force": true}'
    command = f"prefect api POST /flow_runs/{run.id}/set_state --data '{body}'"
    return (
        "ask whoever started it: no binding that can be read here claimed it, so it runs elsewhere "
        f"or not at all. If nothing runs it any more, end it, which frees its slots: {command}"
    )


def explain_paused(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Iterator[Reason]:
    """Yield that the flow paused or suspended itself."""
    began = since(run.state.timestamp if run.state else None, prefect.now)
    text = f"The flow is {run.state_name} {began}: it waits until somebody resumes it"
    step = f"resume it in Prefect's UI, or: prefect api POST /flow_runs/{run.id}/resume"
    yield Reason(reason=run.state_name, message=sentences(text), next_step=step)


def explain_cancelling(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Iterator[Reason]:
    """Yield what a cancellation waits for."""
    began = since(run.state.timestamp if run.state else None, prefect.now)
    pods = [pod.metadata.name for pod in snapshot.live_pods]
    waits = f"Pods that have not ended: {listed(pods)}" if pods else ""
    step = f"wait until its pod has ended; then: prefect flow-run inspect {run.id}"
    text = sentences(f"It is being cancelled {began}", waits)
    yield Reason(reason="Cancelling", message=text, next_step=step)
    if held := _claimant_gone(snapshot, snapshot.claimant, run, prefect):
        yield held


def explain_ended(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Iterator[Reason]:
    """Yield how the run ended, and what keeps a deployment from creating the next one."""
    state = run.state
    when = at(state.timestamp if state else None, prefect.now)
    step = ""
    if run.state_type != "COMPLETED":
        again = "" if run.state_type == "CANCELLED" else f"; retry: prefect flow-run retry {run.id}"
        step = f"prefect flow-run logs {run.id}{again}"
    text = sentences(f"It ended {run.state_name} at {when}", state.message if state else "")
    yield Reason(reason=run.state_name, message=text, next_step=step, holds=False)
    for pod in snapshot.live_pods:
        text = f"Pod {pod.metadata.namespace}/{pod.metadata.name} of the run has not ended yet"
        step = describe("pod", pod.metadata.namespace, pod.metadata.name)
        yield Reason(reason="PodLeft", message=sentences(text), next_step=step, holds=False)
