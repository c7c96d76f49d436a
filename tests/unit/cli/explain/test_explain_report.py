"""The timeline has both stores in the order of time; the report is text, JSON, or a terminal's."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console

from tests.support.explained import claimed, snapshot
from tests.support.snapshots import WALL, job, pending, pod, state
from workpool_operator.cli.explain import report, terminal
from workpool_operator.cli.explain.reasons import explain
from workpool_operator.cli.explain.report import Report
from workpool_operator.cli.explain.snapshot import Holder, Snapshot, Unread
from workpool_operator.cli.explain.timeline import timeline
from workpool_operator.kube.models import Event

SECOND = timedelta(seconds=1)


def happened(given: Snapshot) -> list[str]:
    return [f"{entry.source} {entry.what}" for entry in timeline(given)]


def whole(given: Snapshot) -> Report:
    return Report(given, explain(given), timeline(given))


def test_what_happens_within_a_second_is_in_the_order_of_cause_and_effect():
    history = (
        state("SCHEDULED", at=WALL + SECOND * 0.1),
        pending(at=WALL + SECOND * 0.3),
        state("RUNNING", at=WALL + SECOND * 0.9),
        state("COMPLETED", at=WALL + SECOND * 1.4),
    )
    given = snapshot(
        history[-1],
        history=history,
        cluster={
            "jobs": (job(created=WALL, ended="Complete"),),
            "pods": (pod(phase="Succeeded", exit_code=0, at=WALL + SECOND, created=WALL),),
        },
    )
    started = [each for each in happened(given) if each != "Pod Started"]
    assert started == [
        "Prefect Scheduled",
        "Prefect Pending",
        "Job Created",
        "Pod Created",
        "Prefect Running",
        "Prefect Completed",
        "Pod Ended",
    ]


def test_a_run_that_starts_again_within_a_second_keeps_the_order_of_its_states():
    history = tuple(
        state(type_, at=WALL + SECOND * 0.1 * number)
        for number, type_ in enumerate(("SCHEDULED", "PENDING", "RUNNING", "SCHEDULED", "PENDING"))
    )
    given = snapshot(history[-1], history=history)
    assert [each.what for each in timeline(given)] == [
        *("Scheduled", "Pending", "Running", "Scheduled", "Pending")
    ]


def test_events_of_the_pod_are_shown_once_with_their_number():
    read = TypeAdapter(Event).validate_python
    warning = {"reason": "Failed", "message": "no", "type": "Warning", "count": 4}
    known = {"reason": "Scheduled", "message": "assigned"}
    events = tuple(read({**each, "lastTimestamp": WALL}) for each in (known, warning))
    given = snapshot(
        **claimed(), cluster={"jobs": (job(),), "pods": (pod(),), "events": {"pod-claim": events}}
    )
    found = [entry for entry in timeline(given) if entry.what in ("Failed", "Scheduled")]
    assert [(e.source, e.what, e.text, e.tone) for e in found if e.source == "Pod"] == [
        ("Pod", "Failed", "no (4 times)", "bad")
    ]


def test_plain_text_has_a_fact_on_each_line_and_the_time_with_its_date_once_a_day():
    given = snapshot(
        **claimed(), cluster={"jobs": (job(created=WALL),), "pods": (pod(unschedulable="full"),)}
    )
    lines = list(report.as_lines(whole(given)))
    assert lines[0] == f"flow run 'brave-lynx' ({given.run_id})"
    assert lines[1].startswith("Pending since 11:59:55 UTC (5s), work pool 'pool'")
    assert lines[2] == "claimed by binding data/etl at 11:59:55 UTC"
    assert lines[3].startswith("answer: Unschedulable: Pod pod-claim: No node can run the pod: ful")
    assert lines[4] == "  next: kubectl -n data describe pod pod-claim"
    assert lines[5] == "timeline (UTC):"
    assert lines[6].startswith("  2026-01-01 11:59:50  Prefect  Scheduled")
    assert lines[7] == "             11:59:55  Prefect  Pending: claimed by binding data/etl"


def test_the_document_has_the_answer_who_holds_it_and_what_could_not_be_read():
    holders = (Holder(name="other", id="2", state="Running", since=WALL),)
    given = replace(snapshot(**claimed()), unread=(Unread("pods", "forbidden", "ask"),))
    found = whole(given)
    found = replace(found, reasons=[replace(found.reasons[0], holders=holders)])
    document: Any = report.as_document(found)
    assert document["answer"]["reason"] == "JobPending"
    since = "2026-01-01T12:00:00Z"
    assert document["answer"]["holders"] == [
        {"name": "other", "id": "2", "state": "Running", "since": since, "unseen": False}
    ]
    assert document["unread"] == [{"what": "pods", "why": "forbidden", "nextStep": "ask"}]
    assert found.is_partial


def test_a_terminal_wraps_the_text_of_an_entry_within_its_column():
    long = "word " * 40
    given = snapshot(state("CRASHED", message=long))
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    terminal.show(whole(given), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, shown.splitlines())) <= 60
    assert "● Crashed" in shown
    assert "Timeline (UTC)" in shown
