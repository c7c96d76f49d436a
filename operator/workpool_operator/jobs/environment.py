"""The environment of a flow's container, as a list without duplicates. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SIGTERM_BEHAVIOR = "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"

Entry = dict[str, Any]


def merge(
    *, binding: Iterable[Mapping[str, Any]], run: Any, template: Any, reschedules: bool
) -> list[Entry]:
    """The binding's entries, the run's and the user's, who wins; then what the template fixed.
    `reschedules` says that a stopped pod is not started again by Kubernetes."""
    entries = {str(e["name"]): dict(e) for e in (*binding, *as_list(run))}
    _set_sigterm_behavior(entries, reschedules=reschedules)
    if isinstance(template, list):
        entries |= {e["name"]: e for e in template if e.get("name") and e["name"] not in entries}
    return list(entries.values())


def as_list(env: Any) -> list[Entry]:
    """An environment in either of the two forms that templates use."""
    if isinstance(env, list):
        return list(env)
    return [{"name": key, "value": value} for key, value in (env or {}).items()]


def _set_sigterm_behavior(entries: dict[str, Entry], *, reschedules: bool) -> None:
    """Without Kubernetes' own retries a stopped pod reschedules its run, else it leaves it."""
    if not reschedules:
        entries[SIGTERM_BEHAVIOR] = {"name": SIGTERM_BEHAVIOR, "value": "relinquish"}
    elif SIGTERM_BEHAVIOR not in entries:
        entries[SIGTERM_BEHAVIOR] = {"name": SIGTERM_BEHAVIOR, "value": "reschedule"}
