"""Why a run that is SCHEDULED has not been claimed. Pure.

The reasons are in the order in which they would stop the run: Prefect's, then the binding's.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from workpool_operator.cli.explain import bindings
from workpool_operator.cli.explain.reason import Reason, at, listed, sentences, since
from workpool_operator.cli.explain.snapshot import BindingFacts, Limit, PrefectFacts, Snapshot
from workpool_operator.cli.status_report import duration
from workpool_operator.jobs.diagnosis import INFRASTRUCTURE_RETRY
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs.deployment_limits import LEASE_SECONDS

AWAITING_SLOT = "AwaitingConcurrencySlot"
# Names that say only that the run waits for its time.
_PLAIN = frozenset({"Scheduled", "Late"})
CLAIMED_SOON = timedelta(seconds=60)  # a due run is claimed within a poll


def explain(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Iterator[Reason]:
    """Yield every reason, the first thing that holds the run first."""
    if run.retries_in_process:
        yield _retries_in_process(snapshot, run, prefect)
        return
    if not snapshot.pool_name:
        yield _without_pool(run)
        return
    held = [
        reason
        for find in (_not_due, _queue, _pool, _deployment)
        if (reason := find(snapshot, run, prefect))
    ]
    yield from held
    served = list(_serving(snapshot, run, prefect))
    yield from served if not held else (reason for reason in served if _adds(reason))


def _adds(reason: Reason) -> bool:
    """Return whether what the bindings say adds to what Prefect holds the run by."""
    return reason.holds and reason.reason != "Unexplained"


def _retries_in_process(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Reason:
    due = run.next_scheduled_start_time
    if snapshot.live_pods or not (snapshot.cluster and snapshot.cluster.pods_readable):
        text = f"The process of the flow itself starts the next attempt at {at(due, prefect.now)}"
        return Reason(
            reason="RetriesInProcess", message=sentences(text), next_step="wait until then"
        )
    text = "The process of the flow was to start the next attempt, and it has no pod any more"
    return Reason(
        reason="RetriesInProcess",
        message=sentences(text, "The operator reschedules the run, or ends it"),
        next_step=f"if that does not happen within a minute: prefect flow-run cancel {run.id}",
    )


def _without_pool(run: Run) -> Reason:
    text = "The run has no work pool: only a process that serves its flow (flow.serve) can start it"
    fix = "start that process, or deploy the flow to a work pool: flow.deploy(work_pool_name=...)"
    return Reason(reason="NoWorkPool", message=sentences(text), next_step=fix)


def _not_due(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Reason | None:
    due, now = run.next_scheduled_start_time, prefect.now
    if due is None or due <= now:
        return None
    when = f"{at(due, now)}, in {duration((due - now).total_seconds())}"
    if run.state_name in _PLAIN:
        start = f"; to start a run now: {_start(prefect)}" if prefect.deployment else ""
        text = f"It is not due yet: it is scheduled for {when}"
        return Reason(reason="NotDue", message=sentences(text), next_step=f"wait until then{start}")
    message = run.state.message if run.state else ""
    text = f"It is put off until {when} ({run.state_name})"
    return Reason(
        reason="PutOff", message=sentences(text, message), next_step=_put_off_step(run, prefect)
    )


def _put_off_step(run: Run, prefect: PrefectFacts) -> str:
    if run.state_name == AWAITING_SLOT and prefect.deployment and prefect.deployment.slots:
        return f"wait, or raise the limit: {_raise(prefect.deployment.limit_name)}"
    if run.state_name == INFRASTRUCTURE_RETRY:
        return "wait for its new Job; the cause is in the message, and fixing it helps"
    return "wait until then"


def _start(prefect: PrefectFacts) -> str:
    name = prefect.deployment.name if prefect.deployment else "FLOW/DEPLOYMENT"
    return f"prefect deployment run '{name}'"


def _raise(limit: str) -> str:
    return f"prefect gcl update '{limit}' --limit N"


def _queue(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Reason | None:
    queue, pool = prefect.queue, snapshot.pool_name
    if queue is None:
        return None
    name = f"work queue '{queue.name}' of work pool '{pool}'"
    of = f"'{queue.name}' --pool '{pool}'"
    if queue.paused:
        return Reason(
            reason="QueuePaused",
            message=f"{name.capitalize()} is paused: Prefect gives none of its runs to a worker.",
            next_step=f"prefect work-queue resume {of}",
        )
    if not queue.full:
        return None
    fix = f"prefect work-queue set-concurrency-limit '{queue.name}' N --pool '{pool}'"
    limit = snapshot.with_unseen(queue)
    return _full("QueueFull", f"the concurrency limit of {name}", limit, fix)


def _pool(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Reason | None:
    pool = prefect.pool
    if pool is None:
        return None
    if pool.paused:
        text = f"Work pool '{pool.name}' is paused: Prefect gives none of its runs to a worker"
        return Reason(
            reason="WorkPoolPaused",
            message=sentences(text),
            next_step=f"prefect work-pool resume '{pool.name}'",
        )
    if not pool.full:
        return None
    fix = f"prefect work-pool set-concurrency-limit '{pool.name}' N"
    limit = snapshot.with_unseen(pool)
    return _full("WorkPoolFull", f"the concurrency limit of work pool '{pool.name}'", limit, fix)


def _full(reason: str, what: str, limit: Limit, fix: str) -> Reason:
    text = f"{what} is reached: {limit.taken} of {limit.limit} slots are taken"
    return Reason(
        reason=reason,
        message=sentences(text[0].upper() + text[1:]),
        next_step=_free_a_slot(limit, fix),
        holders=limit.holders,
    )


def _free_a_slot(limit: Limit, fix: str) -> str:
    """Return what to do about a full limit: end the holders that nothing runs, before it is raised
    for them."""
    wait = f"wait until one is free, or raise the limit: {fix}"
    if unseen := next((each for each in limit.holders if each.unseen), None):
        return (
            f"check the holders: workpool-operator explain {unseen.id} has the command that ends "
            f"a run that nothing runs, which frees its slot. If they run elsewhere, {wait}"
        )
    first = next(iter(limit.holders), None)
    check = f"check whether it runs: workpool-operator explain {first.id}; " if first else ""
    return f"{check}{wait}"


def _deployment(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Reason | None:
    found = prefect.deployment
    if found is None or found.slots is None or not found.why_it_waits:
        return None
    slots, why = snapshot.with_unseen(found.slots), found.why_it_waits.partition(": ")[2]
    leased = slots.taken - len(slots.holders)
    lease = ""
    if leased > 0:
        lease = (
            f"{leased} of them have a lease and no run that is active: a lease that is not renewed "
            f"ends after {LEASE_SECONDS} s"
        )
    return Reason(
        reason="DeploymentFull",
        message=sentences(f"Deployment {found.name}: {why}", lease),
        next_step=_free_a_slot(slots, _raise(found.limit_name)),
        holders=slots.holders,
    )


# The bindings of its pool


def _serving(snapshot: Snapshot, run: Run, prefect: PrefectFacts) -> Iterator[Reason]:
    """Yield why no binding claims the run, or that one is about to."""
    cluster, queue = snapshot.cluster, snapshot.queue_name
    if cluster is None or not cluster.bindings_readable:
        yield _by_workers(snapshot, prefect)
        return
    serving = [each for each in snapshot.bindings_of_pool if each.has_queue(queue)]
    if not serving:
        yield _not_served(snapshot, prefect)
        return
    found = [(each, bindings.hold(each, now=cluster.now)) for each in serving]
    free = [each for each, reason in found if reason is None]
    if free:
        yield _free(snapshot, run, prefect, free[0])
    else:
        yield from (reason for _, reason in found if reason)


def _free(snapshot: Snapshot, run: Run, prefect: PrefectFacts, binding: BindingFacts) -> Reason:
    """Say that nothing holds the run, or what only the operator and its pods know."""
    if binding.refused_claim:
        step = "wait; if it is refused again, read the log of the operator and of the server"
        return Reason(reason="ClaimRefused", message=binding.refused_claim, next_step=step)
    if pods := snapshot.live_pods:
        text = (
            f"Pod {pods[0].metadata.name} of its previous attempt has not ended: two pods of one "
            "run never run at once"
        )
        step = (
            f"wait, or: kubectl -n {pods[0].metadata.namespace} delete pod {pods[0].metadata.name}"
        )
        return Reason(reason="PreviousPod", message=sentences(text), next_step=step)
    due = run.next_scheduled_start_time or prefect.now
    if prefect.now - due < CLAIMED_SOON:
        text = f"Nothing holds it: binding {binding.key} claims it with its next poll"
        step = f"wait for it: at most {binding.poll_seconds} s"
        return Reason(reason="Due", message=sentences(text), next_step=step, holds=False)
    text = f"It has been due {since(due, prefect.now)}, and nothing that can be read here holds it"
    step = bindings.read_log(snapshot.run_id, binding)
    return Reason(reason="Unexplained", message=sentences(text), next_step=step)


def _not_served(snapshot: Snapshot, prefect: PrefectFacts) -> Reason:
    queue, pool = snapshot.queue_name, snapshot.pool_name
    others = _other_workers(snapshot, prefect)
    if others:
        return _workers_serve(pool, others)
    near = snapshot.bindings_of_pool
    if near:
        first = near[0]
        serve = f"{first.key} serves only {listed(first.queues or ())}"
        step = f"add it to spec.workQueues: kubectl -n {first.namespace} edit wpb {first.name}"
        text = f"No binding serves work queue '{queue}' of work pool '{pool}': {serve}"
        return Reason(reason="QueueNotServed", message=sentences(text), next_step=step)
    where = snapshot.cluster.address if snapshot.cluster else "the cluster"
    text = f"No WorkPoolBinding in {where} binds work pool '{pool}', and it has no online worker"
    step = f"kubectl apply a WorkPoolBinding with spec.workPool.name: {pool}"
    return Reason(reason="NotServed", message=sentences(text), next_step=step)


def _by_workers(snapshot: Snapshot, prefect: PrefectFacts) -> Reason:
    """Explain by Prefect's list of workers, in which each binding is one."""
    pool, workers = snapshot.pool_name, prefect.workers
    if workers is None:
        text = f"Which workers serve work pool '{pool}' is unknown"
        return Reason(reason="Unexplained", message=sentences(text), next_step=_MORE)
    if not workers:
        text = f"Work pool '{pool}' has no online worker, and no binding that an operator serves"
        return Reason(reason="NotServed", message=sentences(text), next_step=_MORE)
    return _workers_serve(pool, workers)


_MORE = "run this again with access to the cluster whose binding serves the work pool"


def _workers_serve(pool: str, workers: tuple[str, ...]) -> Reason:
    text = f"Prefect does not hold it. Online workers of work pool '{pool}': {listed(workers)}"
    step = f"{_MORE}, or read the log of the worker"
    return Reason(reason="Due", message=sentences(text), next_step=step, holds=False)


def _other_workers(snapshot: Snapshot, prefect: PrefectFacts) -> tuple[str, ...]:
    """Return the online workers that are not bindings of this cluster."""
    own = {each.worker_name for each in snapshot.bindings_of_pool}
    return tuple(name for name in prefect.workers or () if name not in own)
