"""Prometheus scrapes an operator of the chart, and evaluates the alerts and the dashboard."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.dashboard import expression, panels
from testbed import builds
from tests.e2e.helm import CHART, RELEASE, write_values
from tests.support import chart
from tests.support.binding import Binding
from tests.support.polling import poll
from tests.support.prefect import PrefectApi
from tests.support.private_ca import PrivateCA
from tests.support.prometheus import SCRAPE_SECONDS, Prometheus

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.extended]

RULES = CHART / "files" / "alerts.yaml"
CASES = Path(__file__).with_name("alerts.yaml")
TOKEN = "only-for-prometheus"
NODE_PORT_OF = "--output=jsonpath={.spec.ports[0].nodePort}"
#: Panels that are empty while nothing is wrong.
EMPTY = {"Watches that had to be opened again"}


def test_the_alerts_are_valid_and_fire_when_they_should(tmp_path: Path) -> None:
    promtool = str(builds.tool("promtool"))
    checked = subprocess.run([promtool, "check", "rules", "--lint=all", RULES], check=False)
    assert checked.returncode == 0
    rules = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule["annotations"] = {"summary": rule["annotations"]["summary"]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    cases = CASES.read_text().replace("RULES", str(tmp_path / "rules.yaml"))
    (tmp_path / "cases.yaml").write_text(cases)
    arguments = [promtool, "test", "rules", str(tmp_path / "cases.yaml")]
    tested = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_has_a_case() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"]
    alerts = {rule["alert"] for group in rules for rule in group["rules"]}
    cases = yaml.safe_load(CASES.read_text())["tests"]
    expected = [each for case in cases for each in case["alert_rule_test"]]
    fired = {each["alertname"] for each in expected if each["exp_alerts"]}
    assert fired == alerts


@pytest.fixture
async def deployments(deploy) -> list[dict[str, Any]]:
    """Deployments whose runs complete, crash, and do not start; created before an operator writes,
    because the server's SQLite refuses writes that come together."""
    return [
        await deploy("hello"),
        await deploy("sleep", command="sh -c 'exit 7'"),
        await deploy("raise_error", image="registry.invalid/none:1"),
    ]


@pytest.fixture
async def scraped(
    fresh_cluster, deployments, helm, operator_image, namespace, spec, kube, tmp_path
):
    """Install the operator with a certificate and a token for its metrics, and a NodePort; return
    the entries of `scrape_configs` that the chart's ServiceMonitor stands for, and one without the
    token."""
    host = f"test-workpool-operator.{namespace}.svc"
    authority = PrivateCA.make(tmp_path, host=host)
    certificate = (tmp_path / "server-True.pem").read_text()
    for name, data in {
        "certificate": {"tls.crt": certificate, "tls.key": certificate, "ca.crt": authority.pem},
        "scrape": {"token": TOKEN},
    }.items():
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        secret = {"metadata": {"name": name, "namespace": namespace}, "data": encoded}
        await kube.create("secrets", namespace, {"apiVersion": "v1", "kind": "Secret", **secret})
    metrics = {"enabled": True, "tlsSecret": "certificate", "token": {"secret": "scrape"}}
    more: dict[str, Any] = {"metrics": metrics, "replicas": 1, "extraObjects": [NODE_PORT]}
    bindings = [{"name": "etl", "spec": {**spec, "concurrencyLimit": 3}}]
    values = tmp_path / "values.yaml"
    write_values(values, image=operator_image, bindings=bindings, **more)
    await asyncio.to_thread(helm.install, RELEASE, values)
    await Binding(kube, namespace, "etl").ready(seconds=90)
    where = ("service/scraped", f"--namespace={namespace}", NODE_PORT_OF)
    address = f"{fresh_cluster.node_address}:{fresh_cluster.kubectl.run('get', *where)}"
    (tmp_path / "ca.crt").write_text(authority.pem)
    return scrapes(address, metrics, ca=tmp_path / "ca.crt", host=host)


NODE_PORT = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "scraped", "namespace": "{{ .Release.Namespace }}"},
    "spec": {
        "type": "NodePort",
        "selector": {"app.kubernetes.io/instance": "{{ .Release.Name }}"},
        "ports": [{"name": "metrics", "port": 9090, "targetPort": "metrics"}],
    },
}


def scrapes(address: str, metrics: dict[str, Any], *, ca: Path, host: str) -> list[dict[str, Any]]:
    """Return what the Prometheus operator makes of the ServiceMonitor, for one address."""
    monitored = {"metrics": {**metrics, "serviceMonitor": {"create": True}}}
    (monitor,) = (it for it in chart.objects(monitored) if it["kind"] == "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "scrape", "key": "token"}
    assert endpoint["tlsConfig"]["serverName"] == "test-workpool-operator.home.svc"
    common = {
        "scheme": endpoint["scheme"],
        "tls_config": {"ca_file": str(ca), "server_name": host},
        "static_configs": [{"targets": [address]}],
    }
    authorization = {"authorization": {"credentials": TOKEN}}
    return [
        {"job_name": "operator", **common, **authorization},
        {"job_name": "without-token", **common},
    ]


async def test_prometheus_scrapes_an_operator_of_the_chart_and_evaluates_alerts_and_dashboard(
    scraped, deployments, tmp_path, api, kube, namespace, spec
):
    async with Prometheus.running(tmp_path, scrapes=scraped, rules=[RULES]) as prometheus:
        await prometheus.wait("workpool_operator_build_info")
        await prometheus.wait('up{job="without-token"} == 0')
        targets = await prometheus.targets()
        assert targets["operator"]["health"] == "up"
        assert "401 Unauthorized" in targets["without-token"]["lastError"]
        hello, broken, unpulled = deployments
        for deployment in (unpulled, hello, broken, hello):
            await create_run(api, deployment)
        faulty = Binding(kube, namespace, "faulty")
        missing = {"secretKeyRef": {"name": "missing", "key": "key"}}
        await faulty.apply(**{**spec, "server": {**spec["server"], "apiKey": missing}})
        ends = 'sum by (state, reason) (workpool_operator_runs_ended_total{binding="etl"}) > 0'
        await prometheus.wait(ends, until=lambda found: total(found) == 3, seconds=150)
        found = [(each["metric"], each["value"][1]) for each in await prometheus.query(ends)]
        assert ({"state": "crashed", "reason": "Error"}, "1") in found
        assert ({"state": "completed"}, "2") in found
        for _ in range(3):
            await create_run(api, unpulled)
        await prometheus.wait('workpool_operator_runs_pending{reason="ImagePullBackOff"} == 3')
        await prometheus.wait('workpool_operator_runs_queued{reason="AtCapacity"} == 1')
        await prometheus.wait('workpool_operator_binding_condition{binding="faulty",type="Ready"}')
        await asyncio.sleep(3 * SCRAPE_SECONDS)
        for panel in panels():
            series = [await prometheus.query(expression(each)) for each in panel["targets"]]
            assert any(series) or panel["title"] in EMPTY, panel["title"]
        alerts = await prometheus.alerts()
        assert {rule["health"] for rule in alerts.values()} == {"ok"}
        states = {name: rule["state"] for name, rule in alerts.items()}
        waiting = {name for name, state in states.items() if state == "pending"}
        assert waiting >= {"WorkpoolBindingNotReady", "WorkpoolRunsNotStarting"}
        assert "firing" not in states.values()
        assert states["WorkpoolOperatorDown"] == states["WorkpoolBindingNotServed"] == "inactive"


async def create_run(api: PrefectApi, deployment: dict[str, Any]) -> None:
    """Create a run as soon as the server can."""

    async def created() -> bool:
        try:
            await api.create_run(deployment["id"])
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 503:
                raise
            return False
        return True

    await poll(created, until=bool, seconds=30)


def total(found: list[dict[str, Any]]) -> float:
    return sum(float(each["value"][1]) for each in found)
