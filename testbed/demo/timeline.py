"""When each step of a run happened, from Prefect's state history and Kubernetes' timestamps."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

Object = dict[str, Any]


def steps(run: Object, history: Iterable[Object], *, job: Object, pod: Object) -> dict[str, float]:
    """Seconds from the run's creation to each of its steps, in their order.

    Kubernetes keeps whole seconds, cut off: a step of its own counts as no earlier than the one
    before, which caused it.
    """
    states = list(history)
    moments = {
        "run created": run["created"],
        "claimed by the operator": _entered(states, "PENDING"),
        "Job created": job["metadata"]["creationTimestamp"],
        "pod running": _started(pod),
        "flow running": _entered(states, "RUNNING"),
        "completed": _entered(states, "COMPLETED"),
    }
    began, last, told = datetime.fromisoformat(run["created"]), 0.0, {}
    for step, moment in moments.items():
        last = max(last, (datetime.fromisoformat(moment) - began).total_seconds())
        told[step] = last
    return told


def _entered(history: Iterable[Object], state_type: str) -> str:
    moment: str = next(state["timestamp"] for state in history if state["type"] == state_type)
    return moment


def _started(pod: Object) -> str:
    state = pod["status"]["containerStatuses"][0]["state"]
    moment: str = (state.get("terminated") or state["running"])["startedAt"]
    return moment
