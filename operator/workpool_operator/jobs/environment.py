"""The environment of a flow's container, as a list without duplicates. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

SIGTERM_BEHAVIOR = "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"

Entry = dict[str, Any]


def merge(
    *,
    inherited: Iterable[Mapping[str, Any]],
    run: Iterable[Mapping[str, Any]],
    unset: Collection[str],
    template: Any,
    reschedules: bool,
) -> list[Entry]:
    """What the run inherits, but for what its user unset; the run's own and the user's, who wins;
    then what the template fixed. `reschedules` says that a stopped pod is not started again by
    Kubernetes."""
    below = (e for e in inherited if e["name"] not in unset)
    entries = {str(e["name"]): dict(e) for e in (*below, *run)}
    _set_sigterm_behavior(entries, reschedules=reschedules)
    if isinstance(template, list):
        return [*entries.values(), *(e for e in template if _name(e) not in entries)]
    return list(entries.values())


def as_list(env: Any) -> list[Entry]:
    """An environment in either of the two forms that templates use."""
    if isinstance(env, list):
        return list(env)
    return [{"name": key, "value": value} for key, value in (env or {}).items()]


def _name(entry: Any) -> str:
    return str(entry.get("name")) if isinstance(entry, Mapping) else ""


def _set_sigterm_behavior(entries: dict[str, Entry], *, reschedules: bool) -> None:
    """Without Kubernetes' own retries a stopped pod reschedules its run, else it leaves it."""
    if not reschedules:
        entries[SIGTERM_BEHAVIOR] = {"name": SIGTERM_BEHAVIOR, "value": "relinquish"}
    elif not _is_set(entries.get(SIGTERM_BEHAVIOR, {})):
        entries[SIGTERM_BEHAVIOR] = {"name": SIGTERM_BEHAVIOR, "value": "reschedule"}


def _is_set(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("value") or entry.get("valueFrom"))
