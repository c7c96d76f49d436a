"""One connection: a pipeline on one server, with one set of credentials, on one pool.

It ends when one of them is another. The next connection adopts from both stores what it left.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding.inspection import Inspection
from workpool_operator.binding.surroundings import Binding, Surroundings
from workpool_operator.dispatch.pipeline import Pipeline
from workpool_operator.errors import OperatorError
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.heartbeat import Heartbeat

DRAIN_SECONDS = 2.5
STUCK_SECONDS = 300.0  # longer than all requests of one look, or of one action, together


class _Stale(Exception):
    """Another connection is needed; says why."""


class Connection:
    """Serves `pool_id` through `api` by `pipeline`."""

    def __init__(
        self,
        binding: Binding,
        around: Surroundings,
        *,
        api: PrefectApi,
        pool_id: UUID,
        pipeline: Pipeline,
        inspection: Inspection,
    ) -> None:
        self._binding = binding
        self._around = around
        self._api = api
        self.pool_id = pool_id
        self._inspection = inspection
        self._made_for = _identity(binding.spec())
        self.pipeline = pipeline

    async def serve(self, *, worker: str) -> str:
        """Serve until another connection is needed; the reason."""
        seconds = self._around.heartbeat_seconds
        heartbeat = Heartbeat(
            self._api, worker=worker, every_seconds=seconds, serves=self._inspection.serves
        )
        try:
            async with asyncio.TaskGroup() as group:
                self.pipeline.start(group)
                group.create_task(heartbeat.run(), name="heartbeat")
                group.create_task(self._keep_looking(), name="looks")
        except* _Stale as reasons:
            reason = str(reasons.exceptions[0])
        finally:
            self.pipeline.queue.close()
            for part in ("acquire", "looks", "reconcilers"):
                self._around.pulse.stop(f"{self._binding.key} {part}")
        return reason

    async def drain(self) -> None:
        """Before the end: let the writes in progress end, begin no more."""
        await self.pipeline.drain(DRAIN_SECONDS)

    def polled(self, error: OperatorError | None) -> None:
        """A poll ended, well or not."""
        self._beat("acquire")
        self._inspection.polled(error)

    def check_reconcilers(self) -> None:
        """To be called regularly: a run that is held too long has a stuck reconciler."""
        if self.pipeline.queue.held_for() < STUCK_SECONDS:
            self._beat("reconcilers", within=60)

    async def _keep_looking(self) -> None:
        """Look again and again at what the connection stands on."""
        while True:
            self._beat("looks")
            await self._inspection.pause()
            could_claim = self._inspection.may_claim()
            try:
                stale = await self._look()
            except Exception as error:
                self._inspection.failed(error)
                continue
            if stale:
                await self.drain()
                raise _Stale(stale)
            if self._inspection.may_claim() and not could_claim:
                self.pipeline.resume()

    async def _look(self) -> str | None:
        """Why another connection is needed, if it is."""
        if _identity(self._binding.spec()) != self._made_for:
            return "spec.server, or what spec.jobs says of it, changed"
        if await self._inspection.credentials() != self._api.server:
            return "the credentials changed"
        pool = await self._inspection.look(self._api)
        return "the work pool was made anew" if pool and pool.id != self.pool_id else None

    def _beat(self, part: str, *, within: float = STUCK_SECONDS) -> None:
        self._around.pulse.beat(f"{self._binding.key} {part}", within=within)


def _identity(spec: Spec) -> tuple[object, ...]:
    """What a connection and its runs' environment are made from."""
    jobs = spec.jobs
    given = (jobs.api_key, jobs.auth_string, jobs.headers, jobs.ca_bundle)
    return spec.server, jobs.server_url, *given
