"""What the sessions of an operator share, for unit tests."""

from __future__ import annotations

from typing import Any

from workpool_operator.binding.context import OperatorContext
from workpool_operator.health import Watchdog
from workpool_operator.kube.client import KubernetesClient


def operator_context(kube: KubernetesClient, **more: Any) -> OperatorContext:
    """Return the context of the replica `mine`, with `more` fields."""
    more.setdefault("watchdog", Watchdog())
    return OperatorContext(kube, reconcilers=1, heartbeat_seconds=30, identity="mine", **more)
