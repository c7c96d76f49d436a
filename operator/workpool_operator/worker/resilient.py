"""Prefect's BaseWorker, made resilient: an API error loses no run and no slot, and does not end the
worker.

It overrides what an API error does to a polled run, and how long a run counts against the limit:
until `run` returns, or until an adopted run is no longer followed.
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
    """A base class, not a worker type: Prefect does not register abstract classes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_flight = InFlightRuns()
        self._clock: Clock = SYSTEM_CLOCK
        self._problems = ProblemLogger(get_logger(f"workers.{self.type}"), self.name)

    @abc.abstractmethod
    async def before_poll(self) -> None:
        """Prepare what runs need and Prefect does not know about; called before each poll.

        Raises:
            OperatorError: no run can be submitted now.
        """

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Poll as Prefect does, unless no run can be submitted or the API answers 429."""
        try:
            if self._has_successfully_synced:
                await self.before_poll()
            submitted = await super().get_and_submit_flow_runs()
        except (OperatorError, httpx.HTTPStatusError) as error:
            if isinstance(error, httpx.HTTPStatusError) and not _is_rate_limited(error):
                raise
            self._problems.report("no flow run is submitted", error)
            self._last_polled_time = self._clock.now()
            return []
        self._problems.resolved("no flow run is submitted")
        return submitted

    async def _submit_scheduled_flow_runs(
        self, flow_run_response: list[WorkerFlowRunResponse]
    ) -> list[FlowRun]:
        """Leave out runs whose previous Job has not ended: two pods must not overlap."""
        self._in_flight.fill_free_slots(self._limiter)
        fresh = [each for each in flow_run_response if each.flow_run.id not in self._in_flight]
        return await super()._submit_scheduled_flow_runs(flow_run_response=fresh)

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """Keep the worker and the slot: in Prefect's own method an API error loses one of them."""
        try:
            await super()._submit_run(flow_run)
        except Exception as error:
            self._logger.warning(
                "Flow run %s is submitted again by the next poll: %s", flow_run.id, error
            )
        finally:
            self._submitting_flow_run_ids.discard(flow_run.id)
            if flow_run.id not in self._in_flight:
                self._release_limit_slot(flow_run.id)

    async def _submit_run_and_capture_errors(
        self, flow_run: FlowRun, task_status: TaskStatus | None = None
    ) -> BaseWorkerResult | Exception:
        self._in_flight.add(flow_run.id)
        return await super()._submit_run_and_capture_errors(flow_run, task_status)

    def _release_limit_slot(self, flow_run_id: UUID) -> None:
        super()._release_limit_slot(flow_run_id)
        self._in_flight.discard(flow_run_id)

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        """Set the labels if possible: a run does not crash because they are missing."""
        try:
            await super()._give_worker_labels_to_flow_run(flow_run_id)
        except httpx.HTTPError as error:
            self._logger.warning(
                "The labels of the worker are missing on flow run %s: %s", flow_run_id, error
            )


def _is_rate_limited(error: httpx.HTTPStatusError) -> bool:
    """Return whether the answer is 429: Prefect's loop backs off for 5xx, and exits for a 429."""
    return error.response.status_code == TOO_MANY_REQUESTS
