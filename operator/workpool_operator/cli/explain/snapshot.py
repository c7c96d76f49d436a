"""What was read about one flow run, in Prefect and in a cluster. Pure.

Either half can be missing: then `unread` says why, and the other one still explains what it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from workpool_operator.binding.conditions import CLAIMING, READY
from workpool_operator.cli.operator_log import pod_of
from workpool_operator.cli.status_report import is_overdue
from workpool_operator.kube.models import Condition, Event, Job, Pod
from workpool_operator.prefect_api.models import Run, State
from workpool_operator.runs.claims import find_claim, in_order

WORKER_LABEL = "prefect.worker.name"  # of a run that a worker of Prefect's own has claimed


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that could not be read: what, why, and how to make it readable."""

    what: str
    why: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """A flow run that holds a slot: its name, its state or phase, and since when.

    `unseen`: it has started, and the cluster has neither a Job nor a pod of it.
    """

    name: str
    id: str
    state: str
    since: datetime | None = None
    started: bool = False
    unseen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The binding that the user named instead of a run, by its key, with its work pool; and why its
    run was chosen, "" if none was."""

    binding: str
    pool: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What can hold the runs of a work queue, a work pool or a deployment."""

    name: str
    paused: bool = False
    limit: int | None = None
    taken: int = 0
    holders: tuple[Holder, ...] = ()

    @property
    def full(self) -> bool:
        """Whether every slot is taken."""
        return self.limit is not None and self.taken >= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The deployment of the run; `name` is FLOW/DEPLOYMENT.

    `why_it_waits` is empty if one of its slots is free. `slots` has the concurrency limit.
    `schedules` is their number, `inactive_schedules` are the ids of those that create no runs.
    """

    id: UUID
    name: str
    paused: bool = False
    schedules: int = 0
    inactive_schedules: tuple[str, ...] = ()
    disabled_automations: tuple[str, ...] = ()
    slots: Limit | None = None
    limit_name: str = ""
    why_it_waits: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefectFacts:
    """What the server answered. `run` is None if it has no such run.

    `workers` are the names of the pool's online workers, None if they could not be read.
    `by_deployment`: the run is the latest one of a deployment, which the user named.
    """

    url: str
    now: datetime
    run: Run | None = None
    history: tuple[State, ...] = ()
    deployment: Deployment | None = None
    queue: Limit | None = None
    pool: Limit | None = None
    pool_id: UUID | None = None
    workers: tuple[str, ...] | None = None
    by_deployment: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingFacts:
    """A WorkPoolBinding, its status, and what is known of the run with it.

    `queues` is None if it serves all of the pool. `transition_id` proves its claims on the run;
    it is None if the cluster's id could not be read. `refused_claim` is the message of its Event
    about a refused claim on the run. `in_flight` are the runs that take its slots. `operator` is
    the replica that serves it, "" after it has ended regularly; `operator_namespace` is that of its
    pod, "" if this user may not see it.
    """

    namespace: str
    name: str
    pool_name: str
    pool_id: str = ""
    server_url: str = ""
    worker_name: str = ""
    operator: str = ""
    operator_namespace: str = ""
    queues: tuple[str, ...] | None = None
    suspended: bool = False
    deleting: bool = False
    poll_seconds: int = 10
    job_namespaces: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    last_poll: datetime | None = None
    transition_id: UUID | None = None
    refused_claim: str = ""
    in_flight: tuple[Holder, ...] = ()

    @property
    def key(self) -> str:
        """NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"

    @property
    def operator_pod(self) -> str:
        """The name of the operator's pod, which its identity begins with."""
        return pod_of(self.operator)

    @property
    def ready(self) -> Condition | None:
        """The condition Ready."""
        return self._condition(READY)

    @property
    def claiming(self) -> Condition | None:
        """The condition Claiming."""
        return self._condition(CLAIMING)

    def _condition(self, type_: str) -> Condition | None:
        return next((found for found in self.conditions if found.type == type_), None)

    def has_pool(self, pool_id: UUID | None, pool_name: str) -> bool:
        """Return whether it binds the pool. Its id tells pools of two servers apart that have one
        name; a binding that no operator has served has only the name."""
        if self.pool_id and pool_id:
            return self.pool_id == str(pool_id)
        return self.pool_name == pool_name

    def has_queue(self, queue: str) -> bool:
        """Return whether it serves the queue of its pool."""
        return not self.queues or not queue or queue in self.queues

    def is_silent(self, now: datetime) -> bool:
        """Return whether no operator has polled for it for longer than a poll may be late, although
        no fault keeps it from polling."""
        if self.last_poll is None or (self.ready and self.ready.status == "False"):
            return False
        return is_overdue(self.last_poll, now, interval=self.poll_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """What the cluster has: every readable binding, and the run's own Jobs, pods and their Events.

    `events` has those of each object, by the object's name, oldest first. `jobs_readable` is false
    if Jobs of the run could exist that this user may not see; the same for pods. `unseen` are the
    ids of the holders of slots that have neither a Job nor a pod in it.
    """

    address: str
    now: datetime
    bindings: tuple[BindingFacts, ...] = ()
    bindings_readable: bool = True
    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    events: Mapping[str, tuple[Event, ...]] = field(default_factory=dict)
    jobs_readable: bool = True
    pods_readable: bool = True
    unseen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who claimed the run, and when. `binding` is None if it is not a readable binding."""

    name: str
    since: datetime | None
    binding: BindingFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that was read about one run. `run_id` is empty if there is none to explain: a
    deployment has no run, or of the binding of `choice` none waits."""

    run_id: str
    choice: Choice | None = None
    prefect: PrefectFacts | None = None
    cluster: ClusterFacts | None = None
    unread: tuple[Unread, ...] = ()

    @property
    def run(self) -> Run | None:
        """The run as the server has it."""
        return self.prefect.run if self.prefect else None

    @property
    def document(self) -> Mapping[str, Any]:
        """The server's JSON of the run; empty without a run."""
        return self.run.document if self.run else {}

    @property
    def pool_name(self) -> str:
        """The name of the run's work pool; "" if it has none."""
        return str(self.document.get("work_pool_name") or "")

    @property
    def queue_name(self) -> str:
        """The name of the run's work queue; "" if it has none."""
        return str(self.document.get("work_queue_name") or "")

    @property
    def bindings_of_pool(self) -> tuple[BindingFacts, ...]:
        """The readable bindings of the run's pool, whatever queues they serve."""
        if self.cluster is None or self.prefect is None:
            return ()
        pool_id, name = self.prefect.pool_id, self.pool_name
        return tuple(each for each in self.cluster.bindings if each.has_pool(pool_id, name))

    @property
    def claims_readable(self) -> bool:
        """Whether a claim of any binding of the run's pool would be recognised."""
        return (
            self.cluster is not None
            and self.cluster.bindings_readable
            and all(each.transition_id for each in self.bindings_of_pool)
        )

    @property
    def chosen_binding(self) -> BindingFacts | None:
        """The binding that the user named instead of a run; None if it is not in the cluster."""
        return self._binding(self.choice.binding) if self.choice else None

    @property
    def newest_job(self) -> Job | None:
        """The Job that was created last."""
        jobs = self.cluster.jobs if self.cluster else ()
        return max(jobs, key=_created, default=None)

    @property
    def pods_of_job(self) -> tuple[Pod, ...]:
        """The pods of that Job."""
        job = self.newest_job
        return tuple(pod for pod in self._pods if job and pod.job_name == job.name)

    @property
    def pod(self) -> Pod | None:
        """The newest pod of that Job."""
        return max(self.pods_of_job, key=_created, default=None)

    @property
    def live_pods(self) -> tuple[Pod, ...]:
        """The pods of the run that have not ended."""
        return tuple(pod for pod in self._pods if not pod.ended)

    @property
    def _pods(self) -> tuple[Pod, ...]:
        return self.cluster.pods if self.cluster else ()

    def with_unseen(self, limit: Limit) -> Limit:
        """Return the limit, its holders marked of which the cluster has neither a Job nor a pod."""
        unseen = self.cluster.unseen if self.cluster else ()
        marked = (replace(each, unseen=each.id in unseen) for each in limit.holders)
        return replace(limit, holders=tuple(marked))

    def events_of(self, name: str) -> tuple[Event, ...]:
        """Return the Events of the Job or pod of that name, oldest first."""
        return self.cluster.events.get(name, ()) if self.cluster else ()

    @property
    def claimant(self) -> Claimant | None:
        """Who claimed the run; None if it was not claimed, or if that cannot be known.

        A transition id proves the claim of a binding. Otherwise the run's Job names its binding,
        and a label of the run the worker of Prefect's own that claimed it.
        """
        if self.run is None or self.prefect is None or self.run.state_type == "SCHEDULED":
            return None
        history = self.prefect.history
        for each in self.cluster.bindings if self.cluster else ():
            if each.transition_id and (
                claim := find_claim(self.run, history, {each.transition_id})
            ):
                return Claimant(name=f"binding {each.key}", since=claim.timestamp, binding=each)
        since = _claimed_at(in_order(history))
        if named := self._binding_of_job:
            known = self._binding(named)
            return Claimant(name=f"binding {named}", since=since, binding=known)
        if worker := (self.document.get("labels") or {}).get(WORKER_LABEL):
            return Claimant(name=f"worker {worker}", since=since)
        return None

    @property
    def _binding_of_job(self) -> str:
        job = self.newest_job
        return job.binding if job else ""

    def _binding(self, key: str) -> BindingFacts | None:
        bindings = self.cluster.bindings if self.cluster else ()
        return next((each for each in bindings if each.key == key), None)


def _created(item: Job | Pod) -> float:
    created = item.metadata.creation_timestamp
    return created.timestamp() if created else 0.0


def _claimed_at(history: list[State]) -> datetime | None:
    """Return when the last unbroken stretch of PENDING states began."""
    found: datetime | None = None
    for state in reversed(history):
        if state.type == "PENDING":
            found = state.timestamp
        elif found:
            break
    return found
