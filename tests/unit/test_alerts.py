"""Alerts and dashboard use metrics that exist, and each alert has its runbook.

tests/e2e/test_prometheus.py evaluates them in Prometheus.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from testbed.state import CHECKOUT
from tests.support.clock import FakeClock
from workpool_operator.binding import conditions
from workpool_operator.binding.deletion import Deletion, Remaining
from workpool_operator.jobs import reasons
from workpool_operator.metrics import GAUGES, PREFIX, Metrics

FILES = CHECKOUT / "charts" / "workpool-operator" / "files"
PAGE = (CHECKOUT / "docs" / "alerts.md").read_text()
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
#: Words of PromQL and of these expressions that are no labels.
OTHERS = {"le", "instance", "job"}
HELD = {"Suspended", "PoolPaused", "Draining", "Cancelling"}  # by whoever manages the binding
SUFFIX = r"(_total|_bucket|_sum|_count)?"


def queries() -> Iterator[str]:
    for alert in ALERTS:
        yield alert["expr"]
        yield from re.findall(r"`([^`]*)`", alert["annotations"]["summary"])
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]
    yield from re.findall(r"`([^`]*workpool_operator_[^`]*)`", PAGE)


def labels_of_metrics() -> dict[str, set[str]]:
    metrics = Metrics()
    found = {f"{PREFIX}_{name}": set(labels) for name, (_, labels) in GAUGES.items()}
    for name, collector in metrics._registry._names_to_collectors.items():
        if name.startswith(PREFIX):
            found[name] = set(collector._labelnames)  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_every_query_names_metrics_and_labels_that_exist(query: str) -> None:
    known = labels_of_metrics()
    names = re.findall(rf"{PREFIX}_\w+", query)
    assert set(names) <= set(known), query
    labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query))
    for by in re.findall(r"by \(([^)]*)\)", query):
        labels.update(re.split(r",\s*", by))
    allowed = set[str]().union(*(known[name] for name in names))
    assert labels <= allowed | OTHERS, query


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_every_reason_in_a_query_exists(query: str) -> None:
    queued = {"NextPoll", "DeploymentLimit", "PoolOrQueueLimit", "ClaimRefused"}
    known = {*reasons.WAITING, *reasons.CRASHED, *queued, *HELD}
    for expected in re.findall(r'reason(?:!~|=~|=|!=)"([^"]*)"', query):
        assert set(expected.split("|")) <= known


def test_the_reasons_that_the_alerts_leave_out_are_those_of_the_conditions() -> None:
    suspended = conditions.ServingState(suspended=True, synced=True)
    paused = conditions.ServingState(pool_paused=True, synced=True)
    states = {name: conditions.ConditionState("True", "Ok") for name in conditions.ORDER}
    shown = {conditions.claiming(states, each).reason for each in (suspended, paused)}
    for policy in ("Drain", "Cancel"):
        deletion = Deletion("data/etl", FakeClock())
        deletion.observe(Remaining(policy, running=1))
        shown.add(deletion.state().reason)
    assert shown == HELD


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_a_severity_a_summary_and_a_runbook(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"].endswith((".", "-o wide"))
    url = alert["annotations"]["runbook_url"]
    assert url.endswith(f"/docs/alerts.md#{name.lower()}")
    section = PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    for part in ("**What it means.**", "**How to find the cause.**", "**What to do.**"):
        assert part in section
    assert f"| [{name}](#{name.lower()}) | {alert['labels']['severity']} |" in PAGE


def test_the_page_has_no_alert_that_does_not_exist() -> None:
    assert re.findall(r"^## (\w+)$", PAGE, re.M) == [alert["alert"] for alert in ALERTS]


def test_every_panel_of_the_dashboard_says_what_it_shows() -> None:
    panels = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
    assert all(each["description"] and each["targets"] for each in panels)
    ids = [each["id"] for each in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
