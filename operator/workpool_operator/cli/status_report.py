"""Puts bindings and their runs in flight into two tables, explanations, or one document. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from workpool_operator.binding.conditions import CLAIMING, DUE_RUNS_ARE_CLAIMED, READY
from workpool_operator.cli.objects import key_of, poll_interval, pool_name
from workpool_operator.cli.runs_in_flight import RunInFlight
from workpool_operator.jobs.field_errors import get_path

UNSERVED = "no operator serves it: check the namespaces and the selector of the operator"
SILENT = (
    "The operator has ended, cannot reach the cluster, or may not write the binding's status any "
    "more"
)
SILENT_SECONDS = 90.0  # a served binding writes its last poll every 30 s
_COLOURS = {
    "True": "green",
    "False": "red",
    "Unknown": "yellow",
    "Running": "green",
    "Pending": "yellow",
    "Starting": "yellow",
    "NoJob": "yellow",
}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its heading."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """The table as aligned columns."""
        widths = [max(map(len, column)) for column in zip(self.heading, *self.rows, strict=True)]
        lines = [
            "   ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            for row in (self.heading, *self.rows)
        ]
        return "\n".join(line.rstrip() for line in lines)


def colour_of(cell: str) -> str:
    """Return the colour of a cell on a terminal, "" for none."""
    return _COLOURS.get(cell, "")


def bindings_table(bindings: Iterable[Object], now: datetime) -> Table:
    """Return a row for each binding."""
    heading = (
        *("NAMESPACE", "BINDING", "POOL", "READY", "STATUS"),
        *("SLOTS", "QUEUED", "LAST POLL", "AGE"),
    )
    return Table(heading, tuple(_binding_row(binding, now) for binding in bindings))


def _binding_row(binding: Object, now: datetime) -> tuple[str, ...]:
    ready, claiming = present(binding, READY, now), present(binding, CLAIMING, now)
    runs = runs_of(binding)
    limit = get_path(binding, ("spec", "concurrencyLimit"))
    return (
        str(binding["metadata"]["namespace"]),
        str(binding["metadata"]["name"]),
        pool_name(binding.get("spec")),
        str(ready.get("status", "Unknown")),
        str((claiming or ready).get("reason", "Unserved")),
        f"{runs['running'] + runs['pending']}/{limit or '-'}",
        str(runs["queued"]),
        age_of(get_path(binding, ("status", "lastPollTime")), now),
        age_of(binding["metadata"].get("creationTimestamp"), now),
    )


def runs_table(runs: Iterable[RunInFlight], now: datetime) -> Table:
    """Return a row for each run."""
    heading = ("RUN", "BINDING", "PHASE", "AGE", "REASON", "JOB")
    return Table(heading, tuple(_run_row(run, now) for run in runs))


def _run_row(run: RunInFlight, now: datetime) -> tuple[str, ...]:
    job = f"{run.namespace}/{run.job}" if run.job else ""
    name = run.name or run.run_id
    return name, run.binding, run.phase, age_of(run.since, now), run.reason, job


def explanations(
    bindings: Iterable[Object],
    runs: Iterable[RunInFlight],
    now: datetime,
    next_steps: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[str]:
    """Yield why a binding does not claim runs, and why runs wait, each with what to do. Bindings
    that are not Ready come first, and runs of a binding that wait for the same reason share a line.
    `next_steps` has what the message of a binding lacks."""
    for binding in sorted(bindings, key=lambda each: _is_ready(each, now)):
        name = key_of(binding)
        if not get_path(binding, ("status", "conditions")):
            yield f"{name}: {UNSERVED}"
        shown = set[str]()
        for type_ in (READY, CLAIMING):
            found = present(binding, type_, now)
            message = str(found.get("message", ""))
            is_quiet = found.get("status", "True") == "True" and not _is_limited(found)
            if not is_quiet and message not in shown:
                shown.add(message)
                step = next_steps.get(name, "")
                more = f" {step[0].upper()}{step[1:]}" if step else ""
                yield f"{name}: {found.get('reason')}: {message}{more}"
    waiting: dict[tuple[str, ...], list[RunInFlight]] = {}
    for run in runs:
        if run.message:
            message = run.message.replace(run.job, "") if run.job else run.message
            waiting.setdefault((run.binding, run.reason, message), []).append(run)
    for first, *others in waiting.values():
        more = f" and {len(others)} more" if others else ""
        text = " ".join(first.message.split())
        yield f"{first.name or first.run_id}{more}: {first.reason}: {text}"


def _is_limited(found: Object) -> bool:
    """Return whether due runs wait although the binding claims runs."""
    polls = found.get("type") == CLAIMING and found.get("reason") == "Polling"
    return polls and found.get("message") != DUE_RUNS_ARE_CLAIMED


def _is_ready(binding: Object, now: datetime) -> bool:
    return bool(present(binding, READY, now).get("status") == "True")


def as_document(
    bindings: Iterable[Object],
    runs: Iterable[RunInFlight],
    notes: Sequence[str],
    now: datetime,
) -> Object:
    """Return everything as one JSON document."""
    return {
        "bindings": [_binding_document(binding, now) for binding in bindings],
        "runs": [_run_document(run) for run in runs],
        "notes": list(notes),
    }


def _binding_document(binding: Object, now: datetime) -> Object:
    return {
        "namespace": binding["metadata"]["namespace"],
        "name": binding["metadata"]["name"],
        "workPool": pool_name(binding.get("spec")),
        "ready": _condition_document(present(binding, READY, now)),
        "claiming": _condition_document(present(binding, CLAIMING, now)),
        "concurrencyLimit": get_path(binding, ("spec", "concurrencyLimit")) or None,
        "runs": runs_of(binding),
        "lastPollTime": get_path(binding, ("status", "lastPollTime")) or None,
        "holderIdentity": get_path(binding, ("status", "holderIdentity")) or None,
    }


def _condition_document(found: Object) -> Object:
    given = {key: str(found.get(key, "")) for key in ("status", "reason", "message")}
    return given | {"status": given["status"] or "Unknown"}


def _run_document(run: RunInFlight) -> Object:
    document = asdict(run) | {"since": run.since.isoformat() if run.since else None}
    return {_CAMEL.get(key, key): value for key, value in document.items()}


_CAMEL = {"run_id": "id", "job_uid": "jobUID"}


def condition(binding: Object, type_: str) -> Object:
    """Return the condition of the binding's status; {} if it has none."""
    conditions = get_path(binding, ("status", "conditions"))
    found = conditions if isinstance(conditions, list) else []
    return next((each for each in found if each.get("type") == type_), {})


def present(binding: Object, type_: str, now: datetime) -> Object:
    """Return the condition as it is to be shown: Unknown if the status is from before a fault that
    keeps the operator from writing it."""
    if not is_silent(binding, now):
        return condition(binding, type_)
    age = age_of(get_path(binding, ("status", "lastPollTime")), now)
    text = f"No operator has polled for it for {age}, and its status is from then. {SILENT}."
    return {"status": "Unknown", "reason": "OperatorSilent", "message": text}


def is_silent(binding: Object, now: datetime) -> bool:
    """Return whether the binding's status says that it is served, and no operator has written it
    for longer than that can take."""
    polled = _time(get_path(binding, ("status", "lastPollTime")))
    if polled is None or condition(binding, READY).get("status") != "True":
        return False
    return is_overdue(polled, now, interval=poll_interval(binding.get("spec")))


def is_overdue(polled: datetime, now: datetime, *, interval: int) -> bool:
    """Return whether a binding that is served would have been polled again since."""
    return now - polled > timedelta(seconds=interval + SILENT_SECONDS)


def runs_of(binding: Object) -> dict[str, int]:
    """Return the numbers of runs that the status counts, by `running`, `pending` and `queued`."""
    runs = get_path(binding, ("status", "runs"))
    runs = runs if isinstance(runs, dict) else {}
    numbers = {name: runs.get(name) for name in ("running", "pending", "queued")}
    return {name: number if isinstance(number, int) else 0 for name, number in numbers.items()}


def age_of(time: object, now: datetime) -> str:
    """Return how long ago the time was, "-" if it is unknown."""
    then = _time(time)
    return duration((now - then).total_seconds()) if then else "-"


def _time(given: object) -> datetime | None:
    if isinstance(given, str):
        try:
            return datetime.fromisoformat(given)
        except ValueError:
            return None
    return given if isinstance(given, datetime) else None


def duration(seconds: float) -> str:
    """Return the duration in one or two units, as kubectl shows ages: 90s, 5m30s, 4h, 12d."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if minutes < 2:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    return f"{hours}h" if days < 2 else f"{days}d"
