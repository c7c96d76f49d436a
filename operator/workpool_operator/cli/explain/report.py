"""Lays out what explains a run: for a terminal, as plain text for a pipe, or as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from workpool_operator.cli.explain.reason import MOST_LISTED, Reason, at, since
from workpool_operator.cli.explain.snapshot import Holder, Snapshot
from workpool_operator.cli.explain.timeline import Entry

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is printed: the answer is the first of the reasons."""

    snapshot: Snapshot
    reasons: Sequence[Reason]
    timeline: Sequence[Entry]

    @property
    def is_partial(self) -> bool:
        """Whether something could not be read."""
        return bool(self.snapshot.unread)


def as_document(report: Report) -> Object:
    """Return the report as it is printed with `-o json`."""
    reasons = [_reason(reason) for reason in report.reasons]
    claimant = report.snapshot.claimant
    choice = report.snapshot.choice
    return {
        "flowRun": _run(report.snapshot),
        "chosen": {"binding": choice.binding, "why": choice.why or None} if choice else None,
        "claimedBy": {"name": claimant.name, "since": _time(claimant.since)} if claimant else None,
        "answer": reasons[0] if reasons else None,
        "reasons": reasons,
        "timeline": [
            {"time": _time(e.time), "source": e.source, "what": e.what, "text": e.text}
            for e in report.timeline
        ],
        "unread": [
            {"what": each.what, "why": each.why, "nextStep": each.next_step or None}
            for each in report.snapshot.unread
        ],
    }


def _run(snapshot: Snapshot) -> Object:
    run, deployment = snapshot.run, snapshot.prefect.deployment if snapshot.prefect else None
    state = run.state if run else None
    return {
        "id": snapshot.run_id or None,
        "name": run.name if run else None,
        "stateType": run.state_type if run else None,
        "stateName": run.state_name if run else None,
        "stateSince": _time(state.timestamp if state else None),
        "due": _time(run.next_scheduled_start_time if run else None),
        "deployment": deployment.name if deployment else None,
        "workPool": snapshot.pool_name or None,
        "workQueue": snapshot.queue_name or None,
        "infrastructurePid": run.infrastructure_pid if run else None,
    }


def _reason(reason: Reason) -> Object:
    return {
        "reason": reason.reason,
        "message": reason.message,
        "nextStep": reason.next_step or None,
        "holds": reason.holds,
        "holders": [
            {
                "name": each.name,
                "id": each.id,
                "state": each.state,
                "since": _time(each.since),
                "unseen": each.unseen,
            }
            for each in reason.holders
        ],
    }


def _time(time: datetime | None) -> str | None:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z") if time else None


def heading(report: Report) -> list[str]:
    """Return the lines about the run itself."""
    snapshot = report.snapshot
    run, prefect = snapshot.run, snapshot.prefect
    if run is None or prefect is None:
        name = f"flow run {snapshot.run_id}" if snapshot.run_id else ""
        asked = f"binding {snapshot.choice.binding}" if snapshot.choice else ""
        return [*filter(None, (name or asked,))]
    of = f" of {prefect.deployment.name}" if prefect.deployment else ""
    lines = [f"flow run '{run.name}' ({run.id}){of}"]
    is_plain = run.state_name.upper() == run.state_type
    state = run.state_name if is_plain else f"{run.state_name} ({run.state_type})"
    began = since(run.state.timestamp if run.state else None, prefect.now)
    lines.append(f"{state} {began}{_pool(snapshot)}")
    if snapshot.choice:
        lines.append(f"chosen for binding {snapshot.choice.binding}: {snapshot.choice.why}")
    if claimant := snapshot.claimant:
        lines.append(f"claimed by {claimant.name} at {at(claimant.since, prefect.now)}")
    return lines


def _pool(snapshot: Snapshot) -> str:
    if not snapshot.pool_name:
        return ""
    return f", work pool '{snapshot.pool_name}', work queue '{snapshot.queue_name}'"


def holders(reason: Reason, *, now: datetime | None) -> Iterator[str]:
    """Yield a line for each of the first runs or Jobs that take what the run needs."""
    for each in reason.holders[:MOST_LISTED]:
        yield _holder(each, now)
    if (more := len(reason.holders) - MOST_LISTED) > 0:
        yield f"and {more} more"


def _holder(holder: Holder, now: datetime | None) -> str:
    began = f" {since(holder.since, now)}" if holder.since and now else ""
    unseen = (
        ": no Job or pod of it in this cluster, nothing here seems to run it"
        if holder.unseen
        else ""
    )
    return f"{holder.name} ({holder.id}) {holder.state}{began}{unseen}"


def clock(entry: Entry, before: Entry | None) -> str:
    """Return the entry's time in UTC, with the date if it is another than that of the one before,
    or if there is none before."""
    time = entry.time.astimezone(UTC)
    is_same_day = before is not None and before.time.astimezone(UTC).date() == time.date()
    return f"{time:%H:%M:%S}" if is_same_day else f"{time:%Y-%m-%d %H:%M:%S}"


def as_lines(report: Report) -> Iterator[str]:
    """Yield the report as plain text, each fact on a line of its own."""
    yield from heading(report)
    now = report.snapshot.prefect.now if report.snapshot.prefect else None
    for index, reason in enumerate(report.reasons):
        yield f"{'answer' if index == 0 else 'also'}: {reason.reason}: {reason.message}"
        yield from (f"  by: {text}" for text in holders(reason, now=now))
        if reason.next_step:
            yield f"  next: {reason.next_step}"
    if report.timeline:
        yield "timeline (UTC):"
    before = None
    for entry in report.timeline:
        text = f"{entry.what}: {entry.text}" if entry.text else entry.what
        yield f"  {clock(entry, before):>19}  {entry.source:<7}  {text}"
        before = entry
