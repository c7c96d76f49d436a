"""Renders the Job of a claimed run: bindings and workers differ in their renderer.

A renderer returns a manifest and never changes the run's record. Another kind of object, such as a
JobSet, would be another renderer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from uuid import UUID

from workpool_operator.errors import DeploymentNotFound, PrefectUnavailable, RenderError
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.render import RenderedJob, render_job
from workpool_operator.jobs.threads import run_with_client
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import WorkPool
from workpool_operator.runs.claims import ClaimedRun, Owner


class JobRenderer(Protocol):
    """Renders the Jobs of claimed runs."""

    async def render(
        self, claimed: ClaimedRun, *, deployment: Mapping[str, Any] | None
    ) -> RenderedJob | None:
        """Render the Job of the run's claim; return None if this process is not to create it.

        `deployment` is the run's deployment as the poll read it, None if it is not known.

        Raises:
            RenderError: the Job cannot be rendered; the text names each place, value and fix.
            DeploymentNotFound: the run's deployment was deleted.
            Unavailable: an input of the Job cannot be read now.
        """
        ...


class TemplateRenderer:
    """Renders Jobs from the work pool's base job template, as a binding does.

    `pool()` returns the pool as it was last read; it raises Unavailable if its template is invalid.
    """

    def __init__(self, owner: Owner, *, api: PrefectApi, pool: Callable[[], WorkPool]) -> None:
        self._owner = owner
        self._api = api
        self._pool = pool
        self._flows: dict[UUID, dict[str, Any]] = {}
        self._reading_flow = asyncio.Lock()

    async def render(
        self, claimed: ClaimedRun, *, deployment: Mapping[str, Any] | None
    ) -> RenderedJob | None:
        """See `JobRenderer.render`."""
        run = claimed.run
        if run.deployment_id and deployment is None:
            deployment = await self._deployment(run.deployment_id)
        render_input = RenderInput(
            run=run.document or await self._document(run.id),
            flow=await self._flow(run.flow_id),
            deployment=deployment,
            pool=self._pool().document,
            worker_name=self._owner.worker_name,
            environment=self._owner.environment,
            ca=self._owner.ca,
            template_environment=self._owner.template_environment,
            overlay=self._owner.overlay,
        )
        identity = self._owner.identity(run.id, claimed.claim)
        return await run_with_client(
            self._api.client, lambda client: render_job(render_input, identity, client=client)
        )

    async def _document(self, run_id: UUID) -> Mapping[str, Any]:
        """Return the document of a run whose own was dropped when the Job of an earlier claim was
        recorded."""
        found = await self._api.read_run(run_id)
        if found is None:
            raise PrefectUnavailable(f"flow run {run_id} is not found: it is read again")
        return found.document

    async def _deployment(self, deployment_id: UUID) -> Mapping[str, Any]:
        found = await self._api.deployments([deployment_id])
        if deployment_id not in found:
            raise DeploymentNotFound(f"Deployment {deployment_id} no longer exists")
        return found[deployment_id]

    async def _flow(self, flow_id: UUID) -> dict[str, Any]:
        """Return the flow, which is read once: its name and labels never change."""
        if flow_id not in self._flows:
            async with self._reading_flow:  # the Jobs of a burst are rendered at once
                if flow_id not in self._flows:
                    self._flows |= await self._api.flows([flow_id])
        if flow_id not in self._flows:
            raise RenderError("", f"Flow {flow_id} no longer exists.")
        return self._flows[flow_id]
