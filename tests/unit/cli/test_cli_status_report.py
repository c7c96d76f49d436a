"""The tables, explanations and the document of `workpool-operator status`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from workpool_operator.cli import status_report
from workpool_operator.cli.runs_in_flight import RunInFlight

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
WAITS = "The limit of 2 runs is reached."


def binding(*conditions, **status):
    return {
        "metadata": {
            "namespace": "data",
            "name": "etl",
            "creationTimestamp": "2025-12-30T12:00:00Z",
        },
        "spec": {"workPool": {"name": "k8s-etl"}, "concurrencyLimit": 2},
        "status": {
            "conditions": [
                {"type": type_, "status": value, "reason": reason, "message": message}
                for type_, value, reason, message in conditions
            ],
            **status,
        },
    }


SERVED = binding(
    ("Ready", "True", "Polling", "Due runs are claimed."),
    ("Claiming", "False", "AtCapacity", WAITS),
    runs={"running": 1, "pending": 1, "queued": 3},
    lastPollTime="2026-01-01T11:59:56Z",
)
LIMIT = "Due runs are claimed as far as Prefect's concurrency limits allow."
LIMITED = binding(
    ("Ready", "True", "Polling", "Due runs are claimed."),
    ("Claiming", "True", "Polling", LIMIT),
    runs={"running": 0, "pending": 0, "queued": 3},
    lastPollTime="2026-01-01T11:59:56Z",
)
RUN = RunInFlight(
    run_id="7a1e87ec",
    name="slow-crab",
    binding="data/etl",
    namespace="data",
    phase="Starting",
    since=NOW - timedelta(seconds=42),
    job="slow-crab-x",
    reason="ImagePullBackOff",
    message="Container 'prefect-job':\nno such image",
)


def test_the_tables_are_aligned_columns_that_other_programs_can_read():
    assert str(status_report.bindings_table([SERVED], NOW)).splitlines() == [
        "NAMESPACE   BINDING   POOL      READY   STATUS       SLOTS   QUEUED   LAST POLL   AGE",
        "data        etl       k8s-etl   True    AtCapacity   2/2     3        4s          2d",
    ]
    assert str(status_report.runs_table([RUN], NOW)).splitlines() == [
        "RUN         BINDING    PHASE      AGE   REASON             JOB",
        "slow-crab   data/etl   Starting   42s   ImagePullBackOff   data/slow-crab-x",
    ]


def test_each_wait_is_explained_in_a_line():
    assert list(status_report.explanations([SERVED], [RUN], NOW)) == [
        f"data/etl: AtCapacity: {WAITS}",
        "slow-crab: ImagePullBackOff: Container 'prefect-job': no such image",
    ]


def test_runs_of_a_binding_that_wait_for_the_same_reason_share_a_line():
    resume = "To resume it: kubectl patch job"
    suspended = [
        replace(RUN, name=name, job=f"{name}-x", binding=key, message=f"{resume} {name}-x")
        for name, key in (("a", "data/etl"), ("b", "data/etl"), ("c", "data/ml"))
    ]
    elsewhere = replace(RUN, name="d", message="another image")
    assert list(status_report.explanations([], [*suspended, elsewhere, RUN], NOW)) == [
        f"a and 1 more: ImagePullBackOff: {resume} a-x",
        f"c: ImagePullBackOff: {resume} c-x",
        "d: ImagePullBackOff: another image",
        "slow-crab: ImagePullBackOff: Container 'prefect-job': no such image",
    ]


def test_one_fault_that_both_conditions_name_is_explained_once():
    fault = ("False", "WorkPoolNotFound", "There is no such pool.")
    bound = binding(("Ready", *fault), ("Claiming", *fault))
    assert list(status_report.explanations([bound], [], NOW)) == [
        "data/etl: WorkPoolNotFound: There is no such pool."
    ]


@pytest.mark.parametrize(
    "status", [{}, {"conditions": None}, {"conditions": "x", "runs": [], "lastPollTime": 7}]
)
def test_a_binding_without_a_usable_status_is_unserved(status):
    found = binding() | {"status": status}
    row = dict(zip(*_row(found), strict=True))
    assert (row["READY"], row["STATUS"], row["SLOTS"]) == ("Unknown", "Unserved", "0/2")
    assert row["LAST POLL"] == "-"
    [document] = status_report.as_document([found], [], [], NOW)["bindings"]
    assert document["ready"] == {"status": "Unknown", "reason": "", "message": ""}


def test_a_status_that_no_operator_writes_any_more_is_not_repeated_as_if_it_were_true():
    late = SERVED | {"status": {**SERVED["status"], "lastPollTime": "2026-01-01T11:55:00Z"}}
    row = dict(zip(*_row(late), strict=True))
    assert (row["READY"], row["STATUS"], row["LAST POLL"]) == ("Unknown", "OperatorSilent", "5m")
    [line] = status_report.explanations([late], [], NOW)
    assert line.startswith("data/etl: OperatorSilent: No operator has polled for it for 5m")
    assert "may not write the binding's status any more" in line
    [document] = status_report.as_document([late], [], [], NOW)["bindings"]
    assert document["ready"]["reason"] == "OperatorSilent"


def test_where_a_status_does_not_say_what_to_do_the_next_step_does():
    late = SERVED | {"status": {**SERVED["status"], "lastPollTime": "2026-01-01T11:55:00Z"}}
    steps = {"data/etl": "its log says what it may not do: kubectl -n ops logs pod"}
    [line] = status_report.explanations([late], [], NOW, steps)
    assert line.endswith(". Its log says what it may not do: kubectl -n ops logs pod")


def test_bindings_that_are_not_ready_are_explained_before_those_that_wait():
    fault = ("False", "WorkPoolNotFound", "There is no such pool.")
    broken = binding(("Ready", *fault), ("Claiming", *fault))
    broken["metadata"]["name"] = "ml"
    reasons = [
        line.split(": ")[1] for line in status_report.explanations([SERVED, broken], [], NOW)
    ]
    assert reasons == ["WorkPoolNotFound", "AtCapacity"]


def test_a_fault_stays_although_it_keeps_the_operator_from_polling():
    fault = ("False", "ConnectionFailed", "The operator cannot reach a Prefect API.")
    found = binding(("Ready", *fault), lastPollTime="2026-01-01T11:55:00Z")
    assert dict(zip(*_row(found), strict=True))["READY"] == "False"


def _row(found):
    table = status_report.bindings_table([found], NOW)
    return table.heading, table.rows[0]


def test_the_document_has_the_same_facts():
    document = status_report.as_document([SERVED], [RUN], ["a note"], NOW)
    [found] = document["bindings"]
    assert found["claiming"] == {"status": "False", "reason": "AtCapacity", "message": WAITS}
    assert (found["concurrencyLimit"], found["runs"]["queued"]) == (2, 3)
    [run] = document["runs"]
    assert (run["id"], run["phase"], run["reason"]) == ("7a1e87ec", "Starting", "ImagePullBackOff")
    assert run["since"] == "2026-01-01T11:59:18+00:00"
    assert document["notes"] == ["a note"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (300, "5m"), (330, "5m30s"), (7200, "120m"), (14_400, "4h")]
    + [(172_800, "2d"), (-3, "0s")],
)
def test_durations_are_as_kubectl_shows_them(seconds, text):
    assert status_report.duration(seconds) == text


def test_due_runs_that_wait_for_a_limit_of_prefect_are_explained():
    found = list(status_report.explanations([LIMITED], [], NOW))
    assert found == [f"data/etl: Polling: {LIMIT}"]
