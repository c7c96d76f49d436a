"""What a process reports while it serves bindings, for metrics and traces. Pure."""

from __future__ import annotations

from workpool_operator.request_observer import RequestObserver, ignore
from workpool_operator.runs.progress import RunObserver


class Observer:
    """Handles what happens in the process; a subclass overrides what it needs. No method may
    block."""

    def runs_of(self, namespace: str, name: str) -> RunObserver | None:
        """Return the observer of the binding's runs, None if it is not observed."""

    def requests_to(self, target: str) -> RequestObserver:
        """Return the observer of requests to "prefect" or "kubernetes"."""
        return ignore

    def watch_restarted(self, resource: str, cause: str) -> None:
        """Handle that a watch of this resource has to be opened again."""

    def lease_lost(self, namespace: str, name: str) -> None:
        """Handle that this replica lost the binding's Lease while it was serving."""

    def binding_gone(self, namespace: str, name: str) -> None:
        """Handle that the binding does not exist any more, or is no longer this operator's."""
