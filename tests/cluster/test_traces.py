"""A collector gets one connected trace of a run, in which Prefect continues."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.deployments import QUICK
from tests.support.polling import poll


class Collector:
    """Receives spans by OTLP/HTTP."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []

    def spans(self, run_id: str) -> dict[str, Any]:
        """Return the spans of the run's own trace, by name."""
        found = [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        own = bytes.fromhex(run_id.replace("-", ""))
        return {span.name: span for span in found if span.trace_id == own}

    @property
    def service(self) -> set[str]:
        resources = (each.resource for one in self.requests for each in one.resource_spans)
        attributes = (pair for resource in resources for pair in resource.attributes)
        return {pair.value.string_value for pair in attributes if pair.key == "service.name"}


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    received = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """No log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield received, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def test_the_steps_of_a_run_and_prefects_context_are_one_trace(
    api, binding, collector, deploy, kube, namespace, operator
):
    received, endpoint = collector
    process = await operator(
        WORKPOOL_OPERATOR_TRACING="true",
        WORKPOOL_OPERATOR_LOG_FORMAT="json",
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    await (await binding()).ready()
    run = await api.create_run((await deploy("hello", command=QUICK))["id"])
    await api.wait_for_state(run["id"], "COMPLETED")

    async def sent() -> dict[str, Any]:
        return received.spans(run["id"])

    spans = await poll(sent, until=lambda found: "flow run" in found, seconds=20)
    whole = spans.pop("flow run")
    assert {"wait for claim", "create Job", "start pod"} <= set(spans)
    assert {span.parent_span_id for span in spans.values()} == {whole.span_id}
    assert received.service == {"workpool-operator"}
    [job] = await kube.list("jobs", namespace)
    said = {pair.key: pair.value.string_value for pair in whole.attributes}
    assert said["k8s.job.name"] == job["metadata"]["name"]
    assert said["prefect.run.name"] == run["name"]
    labels = (await api.read_run(run["id"]))["labels"]
    assert labels["__OTEL_TRACEPARENT"] == f"00-{whole.trace_id.hex()}-{whole.span_id.hex()}-01"
    assert f'"trace_id": "{whole.trace_id.hex()}"' in process.log
    assert await process.terminate() == 0
    assert "Traceback" not in process.log
