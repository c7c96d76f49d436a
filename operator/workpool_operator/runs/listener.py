"""What a RunController reports that concerns more than one run."""

from __future__ import annotations

from workpool_operator.errors import OperatorError, PrefectUnavailable


class Listener:
    """Whoever runs the controller; a subclass overrides what it needs.

    No method may block: each is called from within the controller's loops.
    """

    def prefect_failed(self, error: PrefectUnavailable) -> None:
        """Prefect did not answer a request about one run."""

    def resync_failed(self, error: OperatorError) -> None:
        """Prefect could not be read; the resync is tried again."""

    def events_changed(self, lost: str | None) -> None:
        """The event stream opened (None), or was lost or refused for the reason given."""

    def run_scheduled(self, queue: str | None) -> None:
        """A run of the work queue was scheduled; None if the event does not name the queue."""

    def jobs_forbidden(self, message: str) -> None:
        """The API server refuses Jobs because a right is missing; the message has the grant."""

    def capacity_freed(self) -> None:
        """A Job is over, or a run needs nothing more: a slot may be free."""

    def offer_expired(self) -> None:
        """An offered run was not claimed because its state had been read too long before."""
