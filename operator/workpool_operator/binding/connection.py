"""Serves one pool on one server with one set of credentials.

A connection ends when one of the three changes. The next connection adopts its runs: it reads them
again from Prefect and Kubernetes.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding import conditions as c
from workpool_operator.binding.context import Binding, OperatorContext
from workpool_operator.binding.preflight import Preflight
from workpool_operator.clock import Clocks
from workpool_operator.errors import (
    BindingFault,
    OperatorError,
    PrefectUnavailable,
    Unavailable,
)
from workpool_operator.kube import events
from workpool_operator.kube.cluster import ClusterCache
from workpool_operator.kube.event_recorder import EventRecorder
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.heartbeat import Heartbeat
from workpool_operator.prefect_api.models import Run, WorkPool
from workpool_operator.runs.claims import Owner
from workpool_operator.runs.controller import RunController
from workpool_operator.runs.listener import Listener
from workpool_operator.runs.poller import Poller
from workpool_operator.runs.renderer import TemplateRenderer

DRAIN_SECONDS = 2.5
FLUSH_SECONDS = 1.0
POLL_SECONDS = 30.0  # the longest that a poll may take
OVERDUE_SECONDS = 300.0  # longer than all requests of one check, or of one action, together


class _Outdated(Exception):
    """Another connection is needed. The text says why."""


class Connection(Listener):
    """Serves the owner's pool through `api`, with a RunController, a Poller and a Heartbeat."""

    def __init__(
        self,
        binding: Binding,
        context: OperatorContext,
        *,
        api: PrefectApi,
        owner: Owner,
        cluster: ClusterCache,
        preflight: Preflight,
    ) -> None:
        self._binding = binding
        self._context = context
        self._api = api
        self._owner = owner
        self._preflight = preflight
        self._fields = _connection_fields(binding.spec())
        self._events = EventRecorder(context.kube, clock=context.kube.clock)
        self._needs_resync = False  # an outage may have hidden changes that polls do not show
        self.events_lost: str | None = ""  # why the event stream is not open; None if it is
        self.controller = RunController(
            owner,
            prefect=api,
            kube=context.kube,
            cluster=cluster,
            renderer=TemplateRenderer(owner, api=api, pool=self._served_pool),
            settings=binding.run_settings,
            listener=self,
            workers=context.reconcilers,
            observer=context.runs_of(binding),
            consent=self._check_creation,
            holds_lease=binding.holds_lease,
            clocks=Clocks(context.clock, kubernetes=context.kube.clock, prefect=api.clock),
        )
        self.poller = Poller(
            self.controller,
            prefect=api,
            settings=binding.poll_settings,
            queues=lambda: preflight.queues,
            may_claim=preflight.may_claim,
            polled=self._polled,
            clock=api.clock,
        )

    @property
    def pool_id(self) -> UUID:
        """The id of the pool that is served."""
        return self._owner.pool_id

    def _served_pool(self) -> WorkPool:
        """Return the pool with its last valid template, from which Jobs are rendered."""
        if self._preflight.served is None:
            raise Unavailable("its Job waits until the work pool's base job template is valid")
        return self._preflight.served

    async def _check_creation(self, namespace: str) -> None:
        """Raise if the binding's next Job may not be created: without the consent of its namespace,
        or if the Lease was lost while it was rendered."""
        await self._preflight.check_creation(namespace)
        self._binding.check_lease()

    async def serve(self, *, worker: str) -> str:
        """Serve until another connection is needed. Return the reason."""
        seconds = self._context.heartbeat_seconds
        heartbeat = Heartbeat(
            self._api, worker=worker, every_seconds=seconds, serves=self._sends_heartbeats
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.controller.run(), name="controller")
                group.create_task(self._poll_once_adopted(), name="polls")
                group.create_task(heartbeat.run(), name="heartbeat")
                group.create_task(self._events.run(), name="kubernetes-events")
                group.create_task(self._check_loop(), name="checks")
        except* _Outdated as reasons:
            reason = str(reasons.exceptions[0])
        finally:
            for part in ("polls", "checks", "reconcilers"):
                self._context.watchdog.stop(f"{self._binding.key} {part}")
        return reason

    def _sends_heartbeats(self) -> bool:
        return self._preflight.is_servable() and self._binding.holds_lease()

    async def drain(self) -> None:
        """Finish the writes in progress and start no more."""
        await self.controller.drain(DRAIN_SECONDS)

    async def flush(self) -> None:
        """Send the remaining lines of the runs' logs, after `drain`; that needs no Lease."""
        await self.controller.flush(FLUSH_SECONDS)

    async def _poll_once_adopted(self) -> None:
        await self.controller.ready()
        await self.poller.run()

    def check_reconcilers(self) -> None:
        """Report the reconcilers as alive, unless one has handled the same run for too long.

        To be called regularly.
        """
        if self.controller.busy_seconds < OVERDUE_SECONDS:
            self._beat("reconcilers", within=60)

    def is_poll_overdue(self) -> bool:
        """Return whether no poll has succeeded for longer than a poll may take, or since the server
        or the pool was last found unusable."""
        interval = self._binding.poll_settings().interval
        expected = self._context.clock.monotonic() - interval - POLL_SECONDS
        return self.poller.succeeded_at < max(expected, self._preflight.unusable_at)

    def poll_age(self) -> float | None:
        """Return the seconds since the last successful poll began; None before the first."""
        if self.poller.last.at is None:
            return None
        return self._context.clock.monotonic() - self.poller.succeeded_at

    # Reports of the controller and the poller

    def _polled(self, error: OperatorError | None) -> None:
        """Resync after an outage, because a poll shows only SCHEDULED runs."""
        self._needs_resync |= error is not None
        if self._needs_resync and error is None:
            self._needs_resync = False
            self.controller.resync()
        self.resync_failed(error)

    def resync_failed(self, error: OperatorError | None) -> None:
        """Report to the preflight whether the server answered."""
        self._beat("polls")
        self._preflight.poll_ended(error)

    def prefect_failed(self, error: PrefectUnavailable) -> None:
        """Poll, to find out whether the server answers."""
        self.poller.wake()

    def events_changed(self, lost: str | None) -> None:
        """Poll and resync: events may have been missed, or the server may be unavailable. A stream
        that stays closed shows nothing new."""
        if lost is None or self.events_lost is None:
            self._needs_resync |= self.controller.has_begun
            self.poller.wake()
        self.events_lost = lost

    def run_scheduled(self, queue: str | None) -> None:
        """Poll if the run's queue is served, or if the event does not name its queue."""
        queues = self._preflight.queues
        if queue is None or queues is None or queue in queues:
            self.poller.wake()

    def jobs_forbidden(self, message: str) -> None:
        """Report the missing right as a condition, until the next check."""
        self._preflight.check_failed(BindingFault(c.JOBS_PERMITTED, "JobsForbidden", message))
        self._preflight.recheck()

    def offer_closed(self, run_id: UUID) -> None:
        """Poll if the offered runs run out."""
        self.poller.offer_closed(run_id)

    def claim_refused(self, run: Run, until: datetime, why: str) -> None:
        """Publish how long the run is put off: Prefect does not know."""
        when = until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = f"Flow run {run.name!r} ({run.id}) is claimed not before {when}: {why}"
        self._events.event(self._binding.reference, "Warning", events.CLAIM_REFUSED, text)

    def ended_without_job(self, run: Run, reason: str) -> None:
        """Publish that the run crashed without a Job. Its message may quote the deployment's
        values, which not everybody who reads Events may see."""
        ask = f"workpool-operator explain {run.id}"
        text = f"Flow run {run.name!r} is Crashed: {reason}. Its state in Prefect says more: {ask}"
        self._events.event(self._binding.reference, "Warning", events.RUN_WITHOUT_JOB, text)

    def capacity_freed(self) -> None:
        """Poll if the last poll left due runs unclaimed because no slot was free."""
        if self.controller.free_slots(self._binding.poll_settings()) > 0:
            self.poller.slot_freed()

    def slot_returned(self, deployment: UUID) -> None:
        """Poll if due runs of the deployment wait for a slot."""
        self.poller.slot_returned(deployment)

    def run_due(self) -> None:
        """Poll: no event tells of it."""
        self.poller.wake()

    # Preflight checks

    async def _check_loop(self) -> None:
        """Repeat the preflight checks until another connection is needed."""
        before = self._poll_inputs()
        while True:
            self._beat("checks")
            await self._preflight.wait_for_next_check()
            could_claim = self._preflight.may_claim()
            try:
                reason = await self._check()
            except Exception as error:
                self._preflight.check_failed(error)
                continue
            if reason:
                await self.drain()
                await self.flush()
                raise _Outdated(reason)
            if self._preflight.conditions.allow_claims() and self.is_poll_overdue():
                self.poller.poll_at_once(since=self._preflight.unusable_at)
            after = self._poll_inputs()
            if self._preflight.may_claim():
                if not could_claim:
                    self.controller.resync()
                if not could_claim or after != before:
                    self.poller.wake()
            before = after

    def _poll_inputs(self) -> tuple[object, ...]:
        """Return what decides whether and how the pool is polled; spec and pool can change it."""
        return self._preflight.may_claim(), self._preflight.queues, self._binding.poll_settings()

    async def _check(self) -> str | None:
        """Check everything once. Return why another connection is needed, None if it is not."""
        now = _connection_fields(self._binding.spec())
        if changed := [path for path, value in now.items() if value != self._fields[path]]:
            return f"{', '.join(changed)} changed"
        if await self._preflight.credentials() != self._api.server:
            return "the credentials changed"
        pool = await self._preflight.check(self._api, waiting=lambda: self._beat("checks"))
        return "the work pool was created again" if pool and pool.id != self.pool_id else None

    def _beat(self, part: str, *, within: float = OVERDUE_SECONDS) -> None:
        self._context.watchdog.beat(f"{self._binding.key} {part}", within=within)


def _connection_fields(spec: Spec) -> dict[str, object]:
    """Return the fields that a connection and its Jobs depend on, by path."""
    jobs = spec.jobs
    return {
        "spec.server": spec.server,
        "spec.workerName": spec.worker_name,
        "spec.jobs.serverURL": jobs.server_url,
        "spec.jobs.apiKey": jobs.api_key,
        "spec.jobs.authString": jobs.auth_string,
        "spec.jobs.headers": jobs.headers,
        "spec.jobs.caBundle": jobs.ca_bundle,
        "spec.jobs.allowedNamespaces": jobs.allowed_namespaces,
        "spec.jobs.env": jobs.env,
        "spec.jobs.labels": jobs.labels,
        "spec.jobs.annotations": jobs.annotations,
        "spec.jobs.patches": jobs.patches,
    }
