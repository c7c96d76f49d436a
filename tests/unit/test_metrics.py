"""Each metric moves with what it counts, in a bounded number of series."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.clock import FakeClock
from workpool_operator.binding.conditions import ConditionState
from workpool_operator.binding.figures import BindingFigures, queued_by_reason
from workpool_operator.jobs import reasons
from workpool_operator.metrics import GAUGES, Metrics
from workpool_operator.runs.progress import RunObserver
from workpool_operator.runs.store import JobFaultReason

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
TEXT = "text/plain"
RUN = uuid4()
CAUSES = ("prefect", "kubernetes", "operator")
REFUSALS = ("QuotaExceeded", "KubernetesUnavailable", *(each.value for each in JobFaultReason))
POLLING = ConditionState("True", "Polling")
FULL = ConditionState("False", "AtCapacity")
SERVED = BindingFigures(
    "data",
    "etl",
    is_held=True,
    conditions={"Ready": ConditionState("True", "AtCapacity"), "Claiming": FULL},
    running=3,
    suspended=1,
    pending={"ImagePullBackOff": 2, "JobSuspended": 1},
    queued={"AtCapacity": 7},
    concurrency_limit=5,
    poll_age=12.0,
    reconciler_queue=4,
)

Samples = dict[str, float]


def samples(metrics: Metrics) -> Samples:
    """Return every series of the operator's own, as `name{label="value",...}` without prefix."""
    return {
        _series(each.name, each.labels): each.value
        for family in metrics.all().collect()
        for each in family.samples
        if each.name.startswith("workpool_operator_")
    }


def _series(name: str, labels: dict[str, str]) -> str:
    shown = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return name.removeprefix("workpool_operator_") + (f"{{{shown}}}" if labels else "")


def grown(metrics: Metrics, happens: Callable[[Metrics], None]) -> Samples:
    """Return the series that grew, and by how much."""
    before = samples(metrics)
    happens(metrics)
    after = samples(metrics)
    changes = {name: value - before.get(name, 0) for name, value in after.items()}
    return {name: change for name, change in changes.items() if change}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def runs(metrics: Metrics) -> RunObserver:
    return metrics.runs_of("data", "etl")


B = 'binding_namespace="data",binding="etl"'


EVENTS: list[tuple[str, Callable[[Metrics], None]]] = [
    (
        f'claims_total{{{B},result="accepted"}}',
        lambda m: runs(m).claimed(RUN, delay=0.2),
    ),
    (f"run_claim_delay_seconds_sum{{{B}}}", lambda m: runs(m).claimed(RUN, delay=1)),
    (f'claims_total{{{B},result="refused"}}', lambda m: runs(m).claim_refused(RUN)),
    (f"run_job_delay_seconds_sum{{{B}}}", lambda m: runs(m).job_created(RUN, delay=1)),
    (
        f'job_creation_failures_total{{{B},reason="QuotaExceeded"}}',
        lambda m: runs(m).job_refused(RUN, "QuotaExceeded"),
    ),
    (
        f"run_pod_delay_seconds_sum{{{B}}}",
        lambda m: runs(m).started(RUN, delay=1, since_due=2),
    ),
    (
        f"run_start_delay_seconds_sum{{{B}}}",
        lambda m: runs(m).started(RUN, delay=0, since_due=1),
    ),
    (f"run_report_delay_seconds_sum{{{B}}}", lambda m: runs(m).running(RUN, delay=1)),
    (f"infrastructure_retries_total{{{B}}}", lambda m: runs(m).retried(RUN)),
    (
        f'runs_ended_total{{{B},state="completed",reason=""}}',
        lambda m: runs(m).ended(RUN, "COMPLETED", ""),
    ),
    (
        f'runs_ended_total{{{B},state="crashed",reason="OOMKilled"}}',
        lambda m: runs(m).ended(RUN, "CRASHED", "OOMKilled"),
    ),
    (
        f"run_crash_report_delay_seconds_sum{{{B}}}",
        lambda m: runs(m).crash_reported(RUN, delay=1),
    ),
    (
        f'action_failures_total{{{B},cause="prefect"}}',
        lambda m: runs(m).attempt_failed(RUN, "prefect"),
    ),
    (f"leases_lost_total{{{B}}}", lambda m: m.lease_lost("data", "etl")),
    (
        'api_requests_total{target="prefect",verb="POST",code="201"}',
        lambda m: m.requests_to("prefect")("POST", 201, 0.1),
    ),
    (
        'api_requests_total{target="kubernetes",verb="WATCH",code="none"}',
        lambda m: m.requests_to("kubernetes")("WATCH", 0, 15),
    ),
    (
        'api_request_duration_seconds_sum{target="prefect",verb="GET"}',
        lambda m: m.requests_to("prefect")("GET", 200, 1),
    ),
    (
        'watch_restarts_total{resource="pods",cause="expired"}',
        lambda m: m.watch_restarted("pods", "expired"),
    ),
]


@pytest.mark.parametrize(("series", "happens"), EVENTS)
def test_what_happens_is_counted(
    metrics: Metrics, series: str, happens: Callable[[Metrics], None]
) -> None:
    assert grown(metrics, happens)[series] == pytest.approx(1)


SHOWN: list[tuple[str, float]] = [
    (f"lease_held{{{B}}}", 1),
    (
        f'binding_condition{{{B},type="Claiming",status="False",reason="AtCapacity"}}',
        1,
    ),
    (f'runs_in_flight{{{B},phase="running"}}', 3),
    (f'runs_in_flight{{{B},phase="pending"}}', 2),
    (f'runs_in_flight{{{B},phase="suspended"}}', 1),
    (f"concurrency_limit{{{B}}}", 5),
    (f'runs_pending{{{B},reason="ImagePullBackOff"}}', 2),
    (f'runs_queued{{{B},reason="AtCapacity"}}', 7),
    (f"last_poll_timestamp_seconds{{{B}}}", -12),
    (f"reconciler_queue_length{{{B}}}", 4),
]


@pytest.mark.parametrize(("series", "value"), SHOWN)
def test_what_a_binding_shows_is_read_at_the_scrape(series: str, value: float) -> None:
    clock, shown = FakeClock(), [BindingFigures("data", "etl")]
    metrics = Metrics(lambda: shown, clock=clock)
    before = samples(metrics)
    assert before.get(series, 0) == 0
    shown[:] = [SERVED]
    now = clock.now().timestamp() if value < 0 else 0
    assert samples(metrics)[series] == now + value


def test_whether_the_bindings_of_a_namespace_can_be_watched_is_read_at_the_scrape() -> None:
    shown = {"data": True, "ml": True}
    metrics = Metrics(watched=lambda: shown)
    assert samples(metrics)['namespace_watched{binding_namespace="ml"}'] == 1
    shown["ml"] = False
    assert samples(metrics)['namespace_watched{binding_namespace="ml"}'] == 0
    assert samples(metrics)['namespace_watched{binding_namespace="data"}'] == 1


async def test_the_lag_of_the_event_loop_is_measured(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workpool_operator.metrics.LAG_SECONDS", 0.05)
    task = asyncio.create_task(metrics.run())
    await asyncio.sleep(0.01)
    time.sleep(0.2)  # noqa: ASYNC251 - what it is to notice
    await asyncio.sleep(0.01)
    task.cancel()
    assert samples(metrics)["event_loop_lag_seconds_sum"] > 0.1


def test_every_metric_has_a_test_above_that_makes_it_move(metrics: Metrics) -> None:
    moved = {re.sub(r"(_total|_sum)?\{.*$", "", series) for series, _ in (*EVENTS, *SHOWN)}
    names = {family.name for family in metrics.all().collect() if "workpool" in family.name}
    own = {name.removeprefix("workpool_operator_") for name in names}
    assert own == moved | {"event_loop_lag_seconds", "build_info", "namespace_watched"}


# Bounds


def test_the_series_of_a_deleted_binding_disappear() -> None:
    shown = [SERVED]
    metrics = Metrics(lambda: shown)
    for name in ("etl", "ml"):
        runs = metrics.runs_of("data", name)
        runs.ended(RUN, "CRASHED", "OOMKilled")
        runs.started(RUN, delay=1, since_due=2)
        metrics.lease_lost("data", name)
    shown.clear()
    metrics.binding_gone("data", "etl")
    left = samples(metrics)
    assert not [series for series in left if 'binding="etl"' in series]
    assert [series for series in left if 'binding="ml"' in series]


def test_a_thousand_runs_and_made_up_reasons_add_no_series(metrics: Metrics) -> None:
    def work(number: int) -> None:
        run, runs = uuid4(), metrics.runs_of("data", "etl")
        runs.claimed(run, delay=number)
        runs.job_refused(run, f"MadeUp{number}")
        runs.ended(run, "CRASHED", f"MadeUp{number}")

    work(0)
    before = set(samples(metrics))
    for number in range(1000):
        work(number)
    assert set(samples(metrics)) == before
    assert samples(metrics)[f'runs_ended_total{{{B},state="crashed",reason="Other"}}'] == 1001


@pytest.mark.parametrize("reason", JobFaultReason)
def test_every_permanent_failure_to_create_a_job_is_counted_by_its_reason(
    metrics: Metrics, reason: JobFaultReason
) -> None:
    metrics.runs_of("data", "etl").job_refused(RUN, reason.value)
    assert samples(metrics)[f'job_creation_failures_total{{{B},reason="{reason.value}"}}'] == 1


def test_a_replica_without_the_lease_shows_only_that() -> None:
    metrics = Metrics(lambda: [BindingFigures("data", "etl")])
    shown = {series: value for series, value in samples(metrics).items() if "etl" in series}
    assert shown == {f"lease_held{{{B}}}": 0}


def test_the_counters_of_a_served_binding_exist_from_its_start(metrics: Metrics) -> None:
    """Otherwise `increase` misses the first of each."""
    runs(metrics)
    shown = samples(metrics)
    for series in (
        f'claims_total{{{B},result="refused"}}',
        f'runs_ended_total{{{B},state="crashed",reason=""}}',
        f"infrastructure_retries_total{{{B}}}",
        f"leases_lost_total{{{B}}}",
    ):
        assert shown[series] == 0


@pytest.mark.parametrize(
    "happens",
    [
        *(lambda r, cause=cause: r.attempt_failed(RUN, cause) for cause in CAUSES),
        *(lambda r, reason=reason: r.job_refused(RUN, reason) for reason in REFUSALS),
    ],
)
def test_no_failed_attempt_of_a_served_binding_adds_a_series(
    metrics: Metrics, happens: Callable[[RunObserver], None]
) -> None:
    served = runs(metrics)
    before = set(samples(metrics))
    happens(served)
    assert set(samples(metrics)) == before


# Why runs are queued


@pytest.mark.parametrize(
    ("claiming", "limited", "hidden", "deferred", "expected"),
    [
        (POLLING, 0, False, 0, {"NextPoll": 9}),
        (POLLING, 4, False, 0, {"DeploymentLimit": 4, "NextPoll": 5}),
        (POLLING, 0, True, 2, {"PoolOrQueueLimit": 9, "ClaimRefused": 2}),
        (FULL, 0, True, 0, {"AtCapacity": 9}),
        (FULL, 20, True, 0, {"DeploymentLimit": 9}),  # a part of the page was claimed meanwhile
    ],
)
def test_due_runs_are_queued_for_a_reason(
    claiming: ConditionState, limited: int, hidden: bool, deferred: int, expected: Samples
) -> None:
    found = queued_by_reason(9, claiming, limited=limited, hidden=hidden, deferred=deferred)
    assert found == expected


# What Prometheus reads


async def test_the_text_is_what_a_parser_of_prometheus_reads() -> None:
    metrics = Metrics(lambda: [SERVED])
    runs(metrics).claimed(RUN, delay=0.2)
    body, kind = await metrics.render(TEXT)
    assert kind.startswith("text/plain")
    families = list(text_string_to_metric_families(body.decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert "workpool_operator_claims" in names
    assert "process_cpu_seconds" in names
    assert not [name for name in names if name.endswith("_created")]
    body, kind = await metrics.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_names_follow_the_conventions_of_prometheus(metrics: Metrics) -> None:
    for family in metrics.all().collect():
        if family.name.startswith("workpool_operator_"):
            assert re.fullmatch(r"[a-z_]+", family.name)
            assert family.documentation.endswith(".")
            has_unit = family.name.endswith("_seconds")
            assert has_unit == (family.type == "histogram" or "timestamp" in family.name)


# The page


def test_the_page_lists_every_metric_with_its_labels_and_meaning(metrics: Metrics) -> None:
    listed = re.findall(
        r"^\| `(workpool_operator_\w+)` \| (.*?) \| (.*?) \|$", PAGE.read_text(), re.M
    )
    assert listed == sorted(table(metrics))


def table(metrics: Metrics) -> list[tuple[str, str, str]]:
    """Return name, labels and meaning of every metric, as the page has them."""
    rows = []
    for family in metrics.all().collect():
        if not family.name.startswith("workpool_operator_"):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = labels_of(metrics, family.name)
        shown = " ".join(f"`{label}`" for label in labels)
        rows.append((name, shown, family.documentation))
    return rows


def labels_of(metrics: Metrics, name: str) -> tuple[str, ...]:
    if gauge := GAUGES.get(name.removeprefix("workpool_operator_")):
        return gauge[1]
    return tuple(metrics._registry._names_to_collectors[name]._labelnames)  # type: ignore[attr-defined]


def test_the_page_lists_every_reason() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|$", PAGE.read_text(), re.M)
    assert dict(rows).items() >= {**reasons.WAITING, **reasons.CRASHED}.items()
