"""What happened to a run, from both stores, in the order of time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from workpool_operator.cli.explain.snapshot import Snapshot
from workpool_operator.kube.models import ContainerStatus, Event, Job, Pod
from workpool_operator.prefect_api.models import State
from workpool_operator.runs.claims import in_order

Source = Literal["Prefect", "Job", "Pod"]
Tone = Literal["good", "bad", "plain"]

_TONES: dict[str, Tone] = {
    "COMPLETED": "good",
    "RUNNING": "good",
    "FAILED": "bad",
    "CRASHED": "bad",
    "CANCELLED": "bad",
}
# Kubernetes' times are whole seconds, Prefect's are not. Within a second things are in the order in
# which they cause each other.
_OF_STATE = {"SCHEDULED": 0, "PENDING": 1, "RUNNING": 8, "COMPLETED": 9, "CANCELLING": 9}
_SUB_STATE, _FINAL = 7, 12
_JOB, _JOB_SUSPENDED, _POD, _POD_SCHEDULED, _EVENT = 2, 3, 4, 5, 6
_STARTED, _ENDED, _JOB_ENDED = 7, 10, 11

# Events that repeat what the objects themselves say.
_REPEATED = frozenset(
    {"SuccessfulCreate", "Suspended", "Scheduled", "Created", "Started", "Completed"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that happened: when, in which store, a word for it, and a sentence."""

    time: datetime
    source: Source
    what: str
    text: str = ""
    tone: Tone = "plain"
    order: int = 0  # among those of one second


def timeline(snapshot: Snapshot) -> tuple[Entry, ...]:
    """Return everything that happened to the run and its objects, oldest first."""
    entries = list(_states(snapshot))
    for job in snapshot.cluster.jobs if snapshot.cluster else ():
        entries += _of_job(job)
        entries += _events(snapshot.events_of(job.name), "Job")
    for pod in snapshot.cluster.pods if snapshot.cluster else ():
        entries += _of_pod(pod)
        entries += _events(snapshot.events_of(pod.metadata.name), "Pod")
    found = sorted(entries, key=lambda e: (int(e.time.timestamp()), e.order, e.time))
    return tuple(_without_repetitions(found))


def _without_repetitions(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries, without Events that say what a condition of the object says."""
    said: set[tuple[Source, str]] = set()
    for entry in entries:
        if entry.order == _EVENT and (entry.source, entry.text) in said:
            continue
        said.add((entry.source, entry.text))
        yield entry


def _states(snapshot: Snapshot) -> Iterator[Entry]:
    if snapshot.prefect is None:
        return
    claimant, order, second = snapshot.claimant, 0, 0
    for state in in_order(snapshot.prefect.history):
        if state.timestamp is None:
            continue
        claims = claimant and claimant.since == state.timestamp
        by = f"claimed by {claimant.name}" if claims and claimant else ""
        before = order if int(state.timestamp.timestamp()) == second else 0
        order, second = max(before, _order(state)), int(state.timestamp.timestamp())
        yield Entry(
            time=state.timestamp,
            source="Prefect",
            what=state.name,
            text=by or _state_text(state),
            tone=_TONES.get(state.type, "plain"),
            order=order,
        )


def _order(state: State) -> int:
    if state.type == "PENDING" and state.name != "Pending":
        return _SUB_STATE
    return _OF_STATE.get(state.type, _FINAL)


def _state_text(state: State) -> str:
    due = state.state_details.scheduled_time
    if state.type == "SCHEDULED" and due and not state.message:
        return f"for {due.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return (state.message or "").partition("\n")[0]


def _of_job(job: Job) -> Iterator[Entry]:
    yield from _at(job.metadata.creation_timestamp, "Job", "Created", job.name, order=_JOB)
    for condition in job.status.conditions:
        if condition.status != "True" or condition.type not in ("Complete", "Failed", "Suspended"):
            continue
        text = f"{condition.reason}: {condition.message}" if condition.message else condition.reason
        tone: Tone = "bad" if condition.type == "Failed" else "plain"
        order = _JOB_SUSPENDED if condition.type == "Suspended" else _JOB_ENDED
        time = condition.last_transition_time
        yield from _at(time, "Job", condition.type, text, tone=tone, order=order)


def _of_pod(pod: Pod) -> Iterator[Entry]:
    name = pod.metadata.name
    yield from _at(pod.metadata.creation_timestamp, "Pod", "Created", name, order=_POD)
    for condition in pod.status.conditions:
        if condition.type != "PodScheduled":
            continue
        is_scheduled = condition.status == "True"
        yield from _at(
            condition.last_transition_time,
            "Pod",
            "Scheduled" if is_scheduled else condition.reason,
            f"on node {pod.spec.node_name}" if is_scheduled else condition.message,
            tone="plain" if is_scheduled else "bad",
            order=_POD_SCHEDULED,
        )
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        yield from _of_container(status)


def _of_container(status: ContainerStatus) -> Iterator[Entry]:
    for state in (status.last_state, status.state):
        running, end = state.running, state.terminated
        began = running.started_at if running else end.started_at if end else None
        yield from _at(began, "Pod", "Started", f"container '{status.name}'", order=_STARTED)
        if end:
            reason = f" ({end.reason})" if end.reason else ""
            text = f"container '{status.name}': exit code {end.exit_code}{reason}"
            tone: Tone = "bad" if end.exit_code else "plain"
            yield from _at(end.finished_at, "Pod", "Ended", text, tone=tone, order=_ENDED)


def _events(found: Iterable[Event], source: Source) -> Iterator[Entry]:
    for event in found:
        if event.reason in _REPEATED and event.type != "Warning":
            continue
        times = f" ({event.count} times)" if event.count and event.count > 1 else ""
        tone: Tone = "bad" if event.type == "Warning" else "plain"
        text = f"{event.message}{times}"
        yield from _at(event.time, source, event.reason, text, tone=tone, order=_EVENT)


def _at(
    time: datetime | None,
    source: Source,
    what: str,
    text: str,
    *,
    order: int,
    tone: Tone = "plain",
) -> Iterator[Entry]:
    if time is not None:
        yield Entry(time=time, source=source, what=what, text=text, tone=tone, order=order)
