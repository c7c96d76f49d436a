"""What a RunController reports that concerns more than one run."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from workpool_operator.errors import OperatorError, PrefectUnavailable
from workpool_operator.prefect_api.models import Run


class Listener:
    """Handles what a RunController reports; a subclass overrides what it needs.

    No method may block: the controller's loops call them.
    """

    def prefect_failed(self, error: PrefectUnavailable) -> None:
        """Handle that Prefect did not answer a request about one run."""

    def resync_failed(self, error: OperatorError) -> None:
        """Handle that Prefect could not be read; the resync is tried again."""

    def events_changed(self, lost: str | None) -> None:
        """Handle that the event stream opened (None), or why it was lost or refused."""

    def run_scheduled(self, queue: str | None) -> None:
        """Handle that a run of the work queue was scheduled; None if the event names no queue."""

    def jobs_forbidden(self, message: str) -> None:
        """Handle that a right to create Jobs is missing; the message has the grant."""

    def offer_closed(self, run_id: UUID) -> None:
        """Handle that the offered run was claimed, refused or dropped: another can be offered."""

    def claim_refused(self, run: Run, until: datetime, why: str) -> None:
        """Handle that the run is not claimed before `until`, which Prefect does not know."""

    def ended_without_job(self, run: Run, reason: str) -> None:
        """Handle that the run was reported Crashed, and has no Job that could show it."""

    def capacity_freed(self) -> None:
        """Handle that a run takes less than before: another one may be claimed."""

    def slot_returned(self, deployment: UUID) -> None:
        """Handle that a run of the deployment ended, was suspended or is scheduled again: the
        deployment may have a free slot in Prefect."""

    def run_due(self) -> None:
        """Handle that a run is due of which no event tells: its offer expired, it was put off until
        now, or it is to be claimed again."""
