"""Prefect's BaseWorker whose polls lose no run, no seat and not the worker.

Overridden is what an error of the API does to a run that was polled, and how long a run counts
against the limit: until `run` returns, or whoever took the run over says so.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio.abc
import httpx
from prefect.logging.loggers import get_logger
from prefect.workers.base import BaseWorker, BaseWorkerResult, C, R, V

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import OperatorError
from workpool_operator.logs import ProblemLogger
from workpool_operator.worker.in_flight import InFlightRuns

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import WorkerFlowRunResponse

TaskStatus = anyio.abc.TaskStatus[Any]
TOO_MANY_REQUESTS = 429


class ResilientWorker(BaseWorker[C, V, R], abc.ABC):
    """Not a worker type of its own: Prefect registers no class that is abstract itself."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seats = InFlightRuns()
        self._clock: Clock = SYSTEM_CLOCK
        self._trouble = ProblemLogger(get_logger(f"workers.{self.type}"), self.name)

    @abc.abstractmethod
    async def before_poll(self) -> None:
        """Before each poll: whatever a run needs that Prefect does not know of.

        Raises:
            OperatorError: no run can be submitted now.
        """

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """As Prefect's, where runs can be submitted and the API does not ask to come back."""
        try:
            if self._has_successfully_synced:
                await self.before_poll()
            submitted = await super().get_and_submit_flow_runs()
        except (OperatorError, httpx.HTTPStatusError) as error:
            if isinstance(error, httpx.HTTPStatusError) and not _asks_to_wait(error):
                raise
            self._trouble.report("no flow run is submitted", error)
            self._last_polled_time = self._clock.now()
            return []
        self._trouble.resolved("no flow run is submitted")
        return submitted

    async def _submit_scheduled_flow_runs(
        self, flow_run_response: list[WorkerFlowRunResponse]
    ) -> list[FlowRun]:
        """A run whose last Job is not over yet waits for it: two pods must not overlap."""
        self._seats.fill_free_slots(self._limiter)
        fresh = [each for each in flow_run_response if each.flow_run.id not in self._seats]
        return await super()._submit_scheduled_flow_runs(flow_run_response=fresh)

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """In Prefect's own, an error of the API ends the worker, or keeps the run's seat."""
        try:
            await super()._submit_run(flow_run)
        except Exception as error:
            self._logger.warning("Flow run %s is left to the next poll: %s", flow_run.id, error)
        finally:
            self._submitting_flow_run_ids.discard(flow_run.id)
            if flow_run.id not in self._seats:
                self._release_limit_slot(flow_run.id)

    async def _submit_run_and_capture_errors(
        self, flow_run: FlowRun, task_status: TaskStatus | None = None
    ) -> BaseWorkerResult | Exception:
        self._seats.add(flow_run.id)
        return await super()._submit_run_and_capture_errors(flow_run, task_status)

    def _release_limit_slot(self, flow_run_id: UUID) -> None:
        super()._release_limit_slot(flow_run_id)
        self._seats.discard(flow_run_id)

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        """Labels describe: a run does not crash for want of them."""
        try:
            await super()._give_worker_labels_to_flow_run(flow_run_id)
        except httpx.HTTPError as error:
            self._logger.warning("Flow run %s has no labels of its worker: %s", flow_run_id, error)


def _asks_to_wait(error: httpx.HTTPStatusError) -> bool:
    """Prefect's loop ends the worker for it; it backs off from a server that fails."""
    return error.response.status_code == TOO_MANY_REQUESTS
