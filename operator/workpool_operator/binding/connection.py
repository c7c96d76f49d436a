"""One connection: a RunController on one server, with one set of credentials, on one pool.

It ends when one of them is another. The next connection adopts from both stores what it left.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding import conditions as c
from workpool_operator.binding.context import Binding, OperatorContext
from workpool_operator.binding.preflight import Preflight
from workpool_operator.errors import BindingFault, OperatorError, PrefectUnavailable, Unavailable
from workpool_operator.kube.cluster import ClusterCache
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.heartbeat import Heartbeat
from workpool_operator.prefect_api.models import WorkPool
from workpool_operator.runs.controller import RunController
from workpool_operator.runs.listener import Listener
from workpool_operator.runs.owner import Owner
from workpool_operator.runs.poller import Poller
from workpool_operator.runs.renderer import TemplateRenderer

DRAIN_SECONDS = 2.5
OVERDUE_SECONDS = 300.0  # longer than all requests of one look, or of one action, together


class _Outdated(Exception):
    """Another connection is needed; says why."""


class Connection(Listener):
    """Serves the owner's pool through `api`: a RunController, a poll loop and a heartbeat."""

    def __init__(
        self,
        binding: Binding,
        around: OperatorContext,
        *,
        api: PrefectApi,
        owner: Owner,
        cluster: ClusterCache,
        preflight: Preflight,
    ) -> None:
        self._binding = binding
        self._around = around
        self._api = api
        self._owner = owner
        self._inspection = preflight
        self._made_for = _identity(binding.spec())
        self._missed = False  # something that only a resync finds again
        self.events_lost: str | None = ""  # why the event stream is not open; None while it is
        self.controller = RunController(
            owner,
            prefect=api,
            kube=around.kube,
            cluster=cluster,
            renderer=TemplateRenderer(owner, api=api, pool=self._served_pool),
            settings=binding.run_settings,
            listener=self,
            workers=around.reconcilers,
            consent=preflight.consent.check,
            clock=around.clock,
        )
        self.poller = Poller(
            self.controller,
            prefect=api,
            settings=binding.poll_settings,
            queues=lambda: preflight.queues,
            may_claim=preflight.may_claim,
            polled=self._polled,
            clock=around.clock,
        )

    @property
    def pool_id(self) -> UUID:
        """The pool that is served."""
        return self._owner.pool_id

    def _served_pool(self) -> WorkPool:
        """A run that was claimed before the template broke, or by an earlier process, waits."""
        if self._inspection.served is None:
            raise Unavailable("its Job waits for a valid base job template of the work pool")
        return self._inspection.served

    async def serve(self, *, worker: str) -> str:
        """Serve until another connection is needed; the reason."""
        seconds = self._around.heartbeat_seconds
        heartbeat = Heartbeat(
            self._api, worker=worker, every_seconds=seconds, serves=self._inspection.is_servable
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.controller.run(), name="controller")
                group.create_task(self._poll_once_adopted(), name="polls")
                group.create_task(heartbeat.run(), name="heartbeat")
                group.create_task(self._check_loop(), name="looks")
        except* _Outdated as reasons:
            reason = str(reasons.exceptions[0])
        finally:
            for part in ("acquire", "looks", "reconcilers"):
                self._around.watchdog.stop(f"{self._binding.key} {part}")
        return reason

    async def drain(self) -> None:
        """Before the end: let the writes in progress end, begin no more."""
        await self.controller.drain(DRAIN_SECONDS)

    async def _poll_once_adopted(self) -> None:
        await self.controller.ready()
        await self.poller.run()

    def check_reconcilers(self) -> None:
        """To be called regularly: a run that is held too long has a stuck reconciler."""
        if self.controller.busy_seconds < OVERDUE_SECONDS:
            self._beat("reconcilers", within=60)

    # What the controller and the poll loop report

    def _polled(self, error: OperatorError | None) -> None:
        """After an outage a poll shows only what is SCHEDULED: the rest is read anew."""
        self._missed |= error is not None
        if self._missed and error is None:
            self._missed = False
            self.controller.resync()
        self.resync_failed(error)

    def resync_failed(self, error: OperatorError | None) -> None:
        """Let the status say whether the server answers."""
        self._beat("acquire")
        self._inspection.poll_ended(error)

    def prefect_failed(self, error: PrefectUnavailable) -> None:
        """Find out by a poll whether the server answers."""
        self.poller.wake()

    def events_changed(self, lost: str | None) -> None:
        """Events may have been missed, or the server may be gone: a poll finds out."""
        self.events_lost = lost
        self._missed |= self.controller.has_begun
        self.poller.wake()

    def run_scheduled(self, queue: str | None) -> None:
        """Poll if the queue is polled; one that the event does not name may be any."""
        queues = self._inspection.queues
        if queue is None or queues is None or queue in queues:
            self.poller.wake()

    def jobs_forbidden(self, message: str) -> None:
        """Let a condition say so, until the rights are looked at again."""
        self._inspection.check_failed(BindingFault(c.JOBS_PERMITTED, "JobsForbidden", message))
        self._inspection.recheck()

    def capacity_freed(self) -> None:
        """Poll if the last poll left runs behind."""
        self.poller.slot_freed()

    def offer_expired(self) -> None:
        """Poll again: the run is still due."""
        self.poller.wake()

    # What it stands on

    async def _check_loop(self) -> None:
        """Look again and again at what the connection stands on."""
        while True:
            self._beat("looks")
            await self._inspection.wait_for_next_check()
            could_claim = self._inspection.may_claim()
            try:
                stale = await self._check()
            except Exception as error:
                self._inspection.check_failed(error)
                continue
            if stale:
                await self.drain()
                raise _Outdated(stale)
            if self._inspection.may_claim() and not could_claim:
                self.poller.wake()
                self.controller.resync()

    async def _check(self) -> str | None:
        """Why another connection is needed, if it is."""
        if _identity(self._binding.spec()) != self._made_for:
            return "spec.server, or what spec.jobs says of it, changed"
        if await self._inspection.credentials() != self._api.server:
            return "the credentials changed"
        pool = await self._inspection.check(self._api)
        return "the work pool was made anew" if pool and pool.id != self.pool_id else None

    def _beat(self, part: str, *, within: float = OVERDUE_SECONDS) -> None:
        self._around.watchdog.beat(f"{self._binding.key} {part}", within=within)


def _identity(spec: Spec) -> tuple[object, ...]:
    """What a connection and its runs' environment are made from."""
    jobs = spec.jobs
    given = (jobs.api_key, jobs.auth_string, jobs.headers, jobs.ca_bundle)
    return spec.server, jobs.server_url, *given
