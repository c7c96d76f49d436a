"""Composes everything that drives the runs of one work pool; the other modules are its parts.

A binding and a worker differ in their renderer (`renderer`), in who offers runs (`poller` or
Prefect's own loops), and in the number of namespaces.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Set
from contextlib import suppress
from typing import Any
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCKS, Clocks
from workpool_operator.errors import OperatorError
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.cluster import ClusterCache, Subscriber
from workpool_operator.kube.event_recorder import EventRecorder
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.events import EventStream, StateChange
from workpool_operator.prefect_api.models import FINAL, Run
from workpool_operator.prefect_api.run_logs import RunLogSender
from workpool_operator.runs.actions import NoAction
from workpool_operator.runs.back_pressure import (
    SLOW_START_SECONDS,
    BackPressure,
    exhausted_quota,
)
from workpool_operator.runs.capacity import (
    Capacity,
    InFlight,
    Shortage,
    pending_reason,
    stage_of,
)
from workpool_operator.runs.claims import ClaimedRun, Owner
from workpool_operator.runs.executor import Executor
from workpool_operator.runs.handle import RunHandle
from workpool_operator.runs.job_creator import JobCreator, JobWriter, always_consents
from workpool_operator.runs.listener import Listener
from workpool_operator.runs.pod_events import PodEvents
from workpool_operator.runs.progress import Progress, RunObserver
from workpool_operator.runs.reconciler import Reconciler
from workpool_operator.runs.renderer import JobRenderer
from workpool_operator.runs.resync import UNFINISHED, Resync
from workpool_operator.runs.secret_collector import SecretCollector
from workpool_operator.runs.settings import PollSettings, RunSettings
from workpool_operator.runs.state_proposals import StateProposals
from workpool_operator.runs.store import NEVER, RunRecord, RunStore
from workpool_operator.runs.workqueue import WorkQueue
from workpool_operator.slices import in_slices

log = logging.getLogger(__name__)

JOB_EVENTS = 50  # at once, and then one per second
LISTENING_SECONDS = 2.0  # for the event stream to open before the first resync


class RunController(Subscriber):
    """Drives the flow runs of one work pool to their reported end.

        Poller, worker   ---offer-----> +-------+
        ClusterCache     ---changed---> | work  | --> Reconciler: snapshot -> decide -> execute
        EventStream      ---changed---> | queue |         |
        Resync           ---enqueue---> |       | <-------+ timers, retries
                                        +-------+

    It serves one connection to Prefect; the next controller adopts what this one leaves unfinished.
    `consent(namespace)` raises if no Job may be created there now: the namespace does not admit the
    owner's Jobs.
    `holds_lease()` returns whether this process may act for the owner at this moment.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        prefect: PrefectApi,
        kube: KubernetesClient,
        cluster: ClusterCache,
        renderer: JobRenderer,
        settings: Callable[[], RunSettings],
        listener: Listener,
        workers: int,
        observer: RunObserver | None = None,
        consent: Callable[[str], Awaitable[None]] = always_consents,
        holds_lease: Callable[[], bool] = lambda: True,
        resync_seconds: float = 300.0,
        clocks: Clocks = SYSTEM_CLOCKS,
    ) -> None:
        self._owner, self._settings, self._listener = owner, settings, listener
        self._prefect, self._kube, self._cluster = prefect, kube, cluster
        self._observer = observer
        self._workers, self._resync_seconds = workers, resync_seconds
        self._clocks, self.clock = clocks, clocks.own
        self._holds_lease = holds_lease
        self._listening = asyncio.Event()  # the event stream opened, or did not
        # Remembers each run until it is forgotten: a disposable cache of what Prefect stores.
        # A worker reads a run's document also after its Job was recorded: it adopts the run.
        self.store = RunStore(
            self._transition_ids,
            changed=self._count,
            keeps_documents=owner.shares_transition_ids,
            clock=clocks.own,
        )
        # What the runs in flight take: changes with the store and with the cluster's objects.
        self._capacity = Capacity()
        # How far the runs are, if an observer wants to know.
        self._progress = Progress(observer) if observer else None
        # What the API server refuses for now: claims wait for it.
        self._back_pressure = BackPressure()
        # Holds the runs to reconcile; one reconciler has a run at a time.
        self.queue: WorkQueue[UUID] = WorkQueue()
        # Callers that wait for a run: a worker for each run that it claimed, a binding for none.
        self._handles: dict[UUID, RunHandle] = {}
        self._offers: dict[UUID, set[asyncio.Event]] = {}
        # Runs that wait until their namespace is listed.
        self._unlisted: set[UUID] = set()
        # Sends lines to the runs' own logs in Prefect.
        self.run_log = RunLogSender(prefect, clock=clocks.prefect)
        # Sends the phases of the runs' pods as events.
        self._pod_events = PodEvents(
            owner, api=prefect, is_enabled=self._replicates_pods, clock=clocks.kubernetes
        )
        # Reads and writes runs in Prefect, and stores the answers.
        self.proposals = self._make_proposals()
        # Posts what a person should find on a Job.
        self._recorder = EventRecorder(
            kube, burst=JOB_EVENTS, refill_seconds=1.0, clock=clocks.kubernetes
        )
        # Carries out decisions, each as one step that can be repeated.
        self._executor = self._make_executor(renderer, consent)
        # Lists runs, Jobs and pods: at the start, after gaps, and every few minutes.
        self._resync = self._make_resync()
        # Deletes Secrets whose Job was never created.
        self._secret_collector = self._make_secret_collector()

    def _make_proposals(self) -> StateProposals:
        return StateProposals(
            self._owner,
            api=self._prefect,
            run_log=self.run_log,
            store=self.store,
            claim_refused=self._listener.claim_refused,
            clock=self._clocks.prefect,
        )

    def _make_executor(
        self, renderer: JobRenderer, consent: Callable[[str], Awaitable[None]]
    ) -> Executor:
        job_writer = JobWriter(
            self._kube,
            environment_secret=self._environment_secret,
            consent=consent,
        )
        job_creator = JobCreator(
            renderer=renderer,
            job_writer=job_writer,
            store=self.store,
            job_cache=self._cluster.jobs,
            run_log=self.run_log,
            back_pressure=self._back_pressure,
            asked_to_wait=self._asked_to_wait,
            forbidden=self._listener.jobs_forbidden,
            clock=self._clocks.kubernetes,
        )
        return Executor(
            namespace_of=self.namespace_of,
            kube=self._kube,
            queue=self.queue,
            store=self.store,
            cluster=self._cluster,
            proposals=self.proposals,
            job_creator=job_creator,
            settings=self._settings,
            listener=self._listener,
            recorder=self._recorder,
            traceparent=self._observer.traceparent if self._observer else lambda _: "",
            holds_lease=self._holds_lease,
            clock=self._clocks.kubernetes,
        )

    def _make_resync(self) -> Resync:
        return Resync(
            api=self._prefect,
            owner=self._owner,
            queue=self.queue,
            store=self.store,
            cluster=self._cluster,
            failed=self._listener.resync_failed,
            interval=self._resync_seconds,
            clock=self.clock,
        )

    def _make_secret_collector(self) -> SecretCollector:
        return SecretCollector(
            self._kube,
            binding_id=self._owner.binding_id,
            cluster=self._cluster,
            is_enabled=lambda: self._environment_secret() and self._holds_lease(),
            clock=self._clocks.kubernetes,
        )

    def _make_reconciler(self) -> Reconciler:
        return Reconciler(
            self._owner,
            queue=self.queue,
            store=self.store,
            cluster=self._cluster,
            executor=self._executor,
            settings=self._settings,
            listener=self._listener,
            back_pressure=self._back_pressure,
            hold=self._hold,
            reconciled=self._reconciled,
            clocks=self._clocks,
            observer=self._observer,
        )

    def _make_events(self) -> EventStream:
        return EventStream(
            self._prefect.server,
            pool_id=self._owner.pool_id,
            changed=self._state_changed,
            connected=self._events_changed,
            clock=self._clocks.prefect,
        )

    # Lifecycle

    async def run(self) -> None:
        """Drive the runs until cancelled; if one part fails, all end."""
        try:
            with self._cluster.subscribe(self):
                await self._count_all()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._make_events().run(), name="events")
                    group.create_task(self._resync_once_listening(), name="resync")
                    group.create_task(self.run_log.run(), name="run-log")
                    group.create_task(self._recorder.run(), name="kubernetes-events")
                    group.create_task(self._pod_events.run(), name="pod-events")
                    group.create_task(self._secret_collector.run(), name="secret-collector")
                    for number in range(self._workers):
                        loop = self._make_reconciler().run()
                        group.create_task(loop, name=f"reconciler-{number}")
        finally:
            self.queue.close()

    async def drain(self, seconds: float) -> None:
        """Start nothing new, and let actions in progress end."""
        self.queue.close()
        try:
            async with asyncio.timeout(seconds):
                await self.queue.wait_idle()
        except TimeoutError:
            log.warning("actions still in progress after %.0f s are cut off", seconds)

    async def flush(self, seconds: float) -> None:
        """Send the remaining log lines and events, after `drain`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(self.run_log.flush(), self._pod_events.flush())

    async def _resync_once_listening(self) -> None:
        """Listen first: what was listed before the stream opened would have to be listed again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTENING_SECONDS):
                await self._listening.wait()
        await self._resync.run()

    # For the owner of the controller: a binding's session, or a worker

    async def ready(self) -> None:
        """Wait until everything that existed at the start is stored: claim nothing before."""
        await self._resync.adopted.wait()

    @property
    def is_ready(self) -> bool:
        """Whether everything that existed at the start is stored."""
        return self._resync.adopted.is_set()

    async def adopted(self) -> list[RunHandle]:
        """Return handles of the claimed runs that were unfinished at the start.

        Raises:
            OperatorError: Prefect cannot be read now; call again.
        """
        await self._resync.attempt()
        handles = []
        for run_id, record in tuple(self.store):
            if run_id in self._handles or record.state_type not in UNFINISHED:
                continue
            if record.claim is None and record.run and record.run.state_name != "Pending":
                await self.proposals.read_history(run_id)  # the name Pending is proof enough
            read = self.store.of(run_id)
            if (claimed := read.claimed_run) and not read.stray_claim:
                handles.append(self._make_handle(claimed))
        return handles

    async def claim(self, run: Run, *, read_at: float) -> RunHandle | None:
        """Offer the run; return its handle once this process has claimed it, None if it has not.

        If the offer expires, read the run and offer it again. Of several callers for one claim, one
        gets the handle.
        """
        while True:
            await self._offer_and_wait(run, read_at)
            record = self.store.of(run.id)
            if (claimed := record.claimed_run) and record.state_type != "SCHEDULED":
                is_ours = record.claimed_here or not self._owner.shares_transition_ids
                is_free = is_ours and not self._has_handle(claimed)
                return self._make_handle(claimed) if is_free else None
            age = self.clock.monotonic() - read_at
            if age <= self._settings().timeouts.state_age or record.not_before:
                return None
            read_at = self.clock.monotonic()
            found = await self._prefect.read_run(run.id)
            if found is None or found.state_type != "SCHEDULED":
                return None
            run = found

    async def _offer_and_wait(self, run: Run, read_at: float) -> None:
        """Offer the run and wait until the offer is taken or dropped."""
        changed = asyncio.Event()
        waiting = self._offers.setdefault(run.id, set())
        waiting.add(changed)
        try:
            self.offer(run, read_at=read_at)
            while (record := self.store.get(run.id)) and _is_open(record):
                await changed.wait()
                changed.clear()
        finally:
            waiting.discard(changed)
            if not waiting:
                del self._offers[run.id]

    def enqueue(self, run_id: UUID) -> None:
        """Queue the run to be reconciled."""
        self.queue.add(run_id)

    def offer(
        self, run: Run, *, read_at: float, deployment: Mapping[str, Any] | None = None
    ) -> bool:
        """Offer a due run, as it was read at `read_at`: it takes a slot and is to be claimed.
        Return False if that is out of date."""
        applied = self.store.apply(run.id, run, asked_at=read_at)
        self.store.update(run.id, deployment=deployment)
        if applied:
            self.store.update(run.id, offered_at=self.clock.monotonic(), not_before=None)
            self.enqueue(run.id)
        return applied

    def withdraw_offers(self, deployment: UUID) -> None:
        """Withdraw the open offers of runs of the deployment."""
        for run_id in tuple(self.store.offered):
            run = self.store.of(run_id).run
            if run and run.deployment_id == deployment:
                self.store.update(run_id, offered_at=None)

    def in_flight(self) -> InFlight:
        """Return the runs in flight; the result changes with them."""
        return self._capacity.in_flight

    def free_slots(self, settings: PollSettings) -> float:
        """Return how many more runs may be claimed; infinite without a limit."""
        in_flight, now = self.in_flight(), self.clock.monotonic()
        free = self._back_pressure.free_slots(in_flight, now=now)
        return min(free, in_flight.free_slots(settings))

    def shortage(self, settings: PollSettings) -> Shortage | None:
        """Return why no further run may be claimed; None while there are free slots."""
        in_flight, now = self.in_flight(), self.clock.monotonic()
        refused = self._back_pressure.shortage(in_flight, now=now)
        return refused or in_flight.shortage(settings)

    def outage_ended(self) -> None:
        """Try again at once what failed in an outage of the Kubernetes API."""
        self.store.end_outage()
        self.resync()

    def resync(self) -> None:
        """List runs, Jobs and pods again: events may have been missed."""
        self._resync.wake()

    def pending_by_reason(self) -> Counter[str]:
        """Return how many runs in flight wait for their flow to start, by reason."""
        return Counter(
            pending_reason(self.store.get(UUID(run_id)), stage)
            for run_id, stage in self._capacity.pending()
        )

    def deferred(self) -> int:
        """Return how many due runs wait because their claim was refused a moment ago."""
        now = self._clocks.prefect.now()
        return sum(record.is_deferred(now) for _, record in self.store)

    @property
    def has_begun(self) -> bool:
        """The first resync has begun: an event that is missed from now on needs another one."""
        return self._resync.has_begun

    @property
    def busy_seconds(self) -> float:
        """The number of seconds that the slowest reconciler has worked on its present run."""
        return self.queue.longest_held_seconds()

    def fail(self, namespace: str, error: OperatorError) -> None:
        """Raise the error in every handle of the namespace: its Jobs and pods cannot be listed."""
        for handle in self._handles.values():
            if handle.namespace == namespace:
                handle.fail(error)

    # Namespaces

    def namespace_of(self, run_id: UUID) -> str:
        """Return the namespace of the run's Job, or the owner's; "" if neither is known."""
        return self._known_namespace(run_id) or self._owner.namespace

    def _known_namespace(self, run_id: UUID) -> str:
        """Return the namespace where the run's Job is or is to be created; "" if not known."""
        if self._owner.namespace and not self._owner.allowed_namespaces:
            return self._owner.namespace
        if (handle := self._handles.get(run_id)) and handle.namespace:
            return handle.namespace
        if (claimed := self.store.of(run_id).claimed_run) and claimed.recorded_namespace:
            return claimed.recorded_namespace
        jobs = self._cluster.jobs.by_run_with_tombstones(str(run_id))
        return next((job.metadata.namespace for job in jobs), "")

    def _hold(self, run_id: UUID) -> NoAction | None:
        """Return what to do instead of a decision if the run's objects are not listed yet: a
        decision would take its Job for deleted. Listing the namespace queues the run again."""
        namespace = self._known_namespace(run_id)
        if namespace in self._cluster.namespaces:
            is_listed = self._cluster.is_synced(namespace)
        elif self._owner.namespace:
            is_listed = all(map(self._cluster.is_answered, self._cluster.namespaces))
        else:
            return self._hold_unlocated(run_id)
        if is_listed:
            return None
        self._unlisted.add(run_id)
        return NoAction()

    def _hold_unlocated(self, run_id: UUID) -> NoAction | None:
        """The same for a run of a worker, which has not named the namespace yet."""
        claimed = self.store.of(run_id).claimed_run
        if claimed is None or (claimed.run.final and run_id not in self._handles):
            return None
        return NoAction()

    # Handles

    def _make_handle(self, claimed: ClaimedRun) -> RunHandle:
        handle = RunHandle(claimed, located=self._located, closed=self._closed)
        self._handles[handle.run_id] = handle
        return handle

    def _has_handle(self, claimed: ClaimedRun) -> bool:
        handle = self._handles.get(claimed.run.id)
        return handle is not None and handle.claimed.claim.id == claimed.claim.id

    def _located(self, handle: RunHandle) -> None:
        self._cluster.watch(handle.namespace)
        answered_at = self.store.of(handle.run_id).answered_at
        if self.clock.monotonic() - answered_at > self._settings().timeouts.state_age:
            self.store.mark_stale(handle.run_id)  # it may have been cancelled since
        self._update(handle)
        self._replicate_pods(handle.run_id)
        self.enqueue(handle.run_id)

    def _closed(self, handle: RunHandle) -> None:
        if self._handles.get(handle.run_id) is handle:
            del self._handles[handle.run_id]

    def _update(self, handle: RunHandle) -> None:
        handle.update(self._cluster.objects(handle.run_id))
        self._settle(handle)

    def _settle(self, handle: RunHandle) -> None:
        if self._cluster.is_synced(handle.namespace):
            pods = self._cluster.objects(handle.run_id).pods
            handle.settle_if_done(self.store.get(handle.run_id), pods)

    def _reconciled(self, run_id: UUID) -> None:
        if handle := self._handles.get(run_id):
            self._settle(handle)
        for changed in self._offers.get(run_id, ()):
            changed.set()

    # Changes

    def changed(self, run_id: UUID) -> None:
        """See `kube.cluster.Subscriber`."""
        self._count(run_id)
        self._replicate_pods(run_id)
        if handle := self._handles.get(run_id):
            self._update(handle)
        self.enqueue(run_id)

    def failed(self, namespace: str, resource: str, error: OperatorError) -> None:
        """Decide about the runs that waited for a namespace which cannot be listed."""
        if self._cluster.is_answered(namespace):
            self._enqueue_unlisted()

    def listed(self, namespace: str, resource: str) -> None:
        """Retry what failed while the Kubernetes API did not answer."""
        self.outage_ended()
        if self._cluster.is_synced(namespace):
            self._secret_collector.synced(namespace)
            self._enqueue_unlisted()
        for handle in tuple(self._handles.values()):
            self._settle(handle)

    def _enqueue_unlisted(self) -> None:
        for run_id in self._unlisted:
            self.enqueue(run_id)
        self._unlisted.clear()

    def _state_changed(self, change: StateChange) -> None:
        """Read the run again if it is known or being cancelled; a poll finds the due ones."""
        record = self.store.get(change.run_id)
        is_known = record is not None and _is_known(change, record)
        if change.deployment_id and _returns_slot(change, record):
            self._listener.slot_returned(change.deployment_id)
        if is_known:
            return
        if change.state_type == "SCHEDULED":
            self._listener.run_scheduled(change.queue)
        is_cancelled = change.state_type == "CANCELLING" and not self._owner.shares_transition_ids
        if record or is_cancelled:
            self.store.mark_stale(change.run_id)
            self.enqueue(change.run_id)

    def _events_changed(self, lost: str | None) -> None:
        self._listening.set()
        self._listener.events_changed(lost)

    async def _count_all(self) -> None:
        """Count the runs that have Jobs or pods already."""
        async for run_id in in_slices(self._cluster.run_ids()):
            self._count(run_id)
            self._replicate_pods(run_id)

    def _count(self, run_id: UUID) -> None:
        """Count the run by what is known of it now."""
        key, record = str(run_id), self.store.get(run_id)
        jobs, pods = self._cluster.jobs.by_run(key), self._cluster.pods.by_run(key)
        freed = self._capacity.update(key, stage_of(record, jobs, pods))
        now = self.clock.monotonic()
        if self._progress:
            wall = self._clocks.prefect.now()
            self._progress.update(run_id, record, jobs, pods, now=now, wall=wall)
        if self._back_pressure.note_quota(run_id, exhausted_quota(record), now=now):
            freed = True
            if (following := self._back_pressure.probe) is not None:
                self.store.update(following, refused_until=NEVER)
                self.enqueue(following)
            else:
                self._start_slowly()
        if freed:
            self._listener.capacity_freed()

    def _replicate_pods(self, run_id: UUID) -> None:
        """Queue events for what is new about the run's pods. A worker sends those of the runs that
        it follows: another worker of its pool sends the others."""
        is_mine = not self._owner.shares_transition_ids or run_id in self._handles
        if not (is_mine or self._pod_events.knows(run_id)):
            return
        jobs = self._cluster.jobs.by_run_with_tombstones(str(run_id))
        pods = self._cluster.pods.by_run(str(run_id))
        claimed_here = self.store.of(run_id).claimed_here
        self._pod_events.update(run_id, jobs, pods, claimed_here=claimed_here)

    def _asked_to_wait(self, seconds: float) -> None:
        """Send no Job for so long; have a poll claim runs again then."""
        rest = self._back_pressure.note_retry_after(seconds, now=self.clock.monotonic())
        asyncio.get_running_loop().call_later(rest, self._listener.capacity_freed)

    def _start_slowly(self) -> None:
        """Have polls claim more runs each second, now that no quota refuses any."""
        loop = asyncio.get_running_loop()
        for seconds in range(1, SLOW_START_SECONDS + 1):
            loop.call_later(seconds, self._listener.capacity_freed)

    def _transition_ids(self, run_id: UUID) -> Set[UUID]:
        return self._owner.transition_ids(
            run_id, self._cluster.jobs.by_run_with_tombstones(str(run_id))
        )

    def _environment_secret(self) -> bool:
        return self._settings().environment_secret

    def _replicates_pods(self) -> bool:
        return self._settings().replicate_pod_events


def _returns_slot(change: StateChange, record: RunRecord | None) -> bool:
    """Return whether the run may have returned the slot of its deployment, which a claim takes: it
    ended, was suspended, or is scheduled again. A refused claim takes none."""
    was_claimed = record is not None and record.state_type not in ("", "SCHEDULED")
    again = was_claimed and change.state_type == "SCHEDULED"
    return again or change.state_type in {*FINAL, "PAUSED"}


def _is_known(change: StateChange, record: RunRecord) -> bool:
    """Return whether the change is of no consequence: an answer showed it already, or the server
    named a scheduled run Late."""
    if record.run and record.run.state_id and record.run.state_id == change.state_id:
        return True
    return record.state_type == change.state_type == "SCHEDULED" and change.state_name == "Late"


def _is_open(record: RunRecord) -> bool:
    """Return whether the offer is not taken or dropped yet, or its outcome is unknown."""
    return record.offered_at is not None or record.is_stale or record.stray_claim
