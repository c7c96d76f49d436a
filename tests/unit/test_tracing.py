"""A run's way is one trace, whoever sees which part of it, and a collector can only cost spans."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import prefect
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prefect.client.schemas import FlowRun
from prefect.telemetry.run_telemetry import RunTelemetry

from tests.support.private_ca import PrivateCA
from tests.support.snapshots import DUE, RUN_ID, claim, job, pending, pod, record, run, state
from workpool_operator import logs
from workpool_operator.cli.run import make_tracing
from workpool_operator.errors import OperatorError
from workpool_operator.kube.models import Job, Pod
from workpool_operator.prefect_api.models import TRACEPARENT_LABEL, Run
from workpool_operator.runs.progress import Progress
from workpool_operator.runs.store import RunRecord
from workpool_operator.settings import Settings
from workpool_operator.tracing import NOT_SENT, STEPS, Tracing

CLAIMED = record(run(pending()), mine="claim", claimed_here=True)
RUNNING = record(run(state("RUNNING")), mine="claim")
COMPLETED = record(run("COMPLETED"), mine="claim")
CRASHED = replace(record(run("CRASHED"), mine="claim"), crash_reason="OOMKilled")
CLAIM = claim().id.int & ((1 << 64) - 1)
STARTED = pod(phase="Running")


class Process:
    """A process that sees what happens to a run, and the spans that it sends."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(pod="operator-1", uid="uid-1", exporter=self.exporter)
        self.runs = self.tracing.runs_of("data", "etl")
        self.progress = Progress(self.runs)
        self._now = 0.0

    def sees(
        self, known: RunRecord | None, jobs: Sequence[Job] = (), pods: Sequence[Pod] = ()
    ) -> None:
        self._now += 1
        now = time.time()
        wall = DUE.fromtimestamp(now, DUE.tzinfo)
        self.progress.update(RUN_ID, known, jobs, pods, now=self._now, wall=wall)

    async def sent(self) -> list[ReadableSpan]:
        await self.tracing.stop(5)
        return list(self.exporter.get_finished_spans())


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent(span: ReadableSpan) -> tuple[int, int]:
    assert span.parent
    return span.parent.trace_id, span.parent.span_id


def begins(process: Process, first: RunRecord = CLAIMED) -> None:
    process.sees(record(run("SCHEDULED")))
    process.sees(first)
    process.sees(first, [job()])
    process.sees(first, [job()], [STARTED])
    process.sees(RUNNING, [job()], [STARTED])


async def test_each_step_of_a_run_is_a_span_under_that_of_its_claim() -> None:
    process = Process()
    begins(process)
    process.sees(COMPLETED, [job()])
    *steps, whole = await process.sent()
    assert whole.context.trace_id == RUN_ID.int, "people search for the run's id"
    assert whole.context.span_id == CLAIM
    assert whole.parent is None
    assert whole.start_time == int(DUE.timestamp()) * 1_000_000_000
    assert whole.status.status_code is StatusCode.OK
    assert [step.name for step in steps] == list(STEPS)
    for step in steps:
        assert parent(step) == (RUN_ID.int, CLAIM)
        assert (step.start_time or 0) <= (step.end_time or 0)
    assert said(whole)["prefect.run.name"] == "brave-lynx"
    assert said(whole)["workpool_operator.binding"] == "data/etl"
    assert said(whole)["k8s.job.name"] == job().name
    assert said(whole)["k8s.pod.name"] == STARTED.metadata.name
    assert whole.resource.attributes["service.name"] == "workpool-operator"
    assert whole.resource.attributes["k8s.pod.name"] == "operator-1"


async def test_a_crash_before_the_start_is_an_error_of_the_step_that_the_run_was_in() -> None:
    process = Process()
    process.sees(record(run("SCHEDULED")))
    process.runs.claim_refused(RUN_ID)
    process.sees(CLAIMED)
    process.sees(CLAIMED, [job()])
    process.runs.attempt_failed(RUN_ID, "kubernetes")
    process.sees(CRASHED, [job(ended="Failed")])
    *steps, whole = await process.sent()
    assert [step.name for step in steps] == list(STEPS[:3])
    assert whole.status.status_code is StatusCode.ERROR
    assert said(whole)["error.type"] == "OOMKilled"
    assert [event.name for event in whole.events] == ["claim refused", "attempt failed"]


async def test_a_restart_halfway_sends_the_span_of_the_claim_and_no_step_that_it_did_not_see() -> (
    None
):
    before, after = Process(), Process()
    begins(before)
    after.sees(RUNNING, [job()], [STARTED])
    after.sees(COMPLETED, [job()])
    assert [span.name for span in await before.sent()] == list(STEPS[:4])
    [whole] = await after.sent()
    assert (whole.context.trace_id, whole.context.span_id) == (RUN_ID.int, CLAIM)
    assert said(whole)["k8s.job.name"] == job().name


async def test_a_run_of_a_traced_flow_is_in_the_trace_of_that_flow() -> None:
    process, outer = Process(), "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    begins(process, replace(CLAIMED, run=replace(run(pending()), traceparent=outer)))
    assert process.runs.traceparent(RUN_ID) == f"00-{'a' * 32}-{CLAIM:016x}-01"
    process.sees(COMPLETED)
    whole = (await process.sent())[-1]
    assert parent(whole) == (int("a" * 32, 16), int("b" * 16, 16))


@pytest.mark.parametrize("named", [f"{CLAIM:016x}", "c" * 16], ids=["the claim", "the flow"])
async def test_after_a_restart_the_span_of_a_claim_is_no_child_of_its_own(named: str) -> None:
    process, label = Process(), f"00-{'a' * 32}-{named}-01"
    known = RUNNING if named == "c" * 16 else CLAIMED
    assert known.run
    process.sees(replace(known, run=replace(known.run, traceparent=label)), [job()])
    process.sees(COMPLETED, [job()])
    whole = (await process.sent())[-1]
    assert whole.parent is None
    assert whole.context.trace_id == int("a" * 32, 16)


async def test_the_span_of_an_earlier_claim_of_the_run_is_no_parent() -> None:
    process, earlier = Process(), f"00-{RUN_ID.hex}-{'b' * 16}-01"
    begins(process, replace(CLAIMED, run=replace(run(pending()), traceparent=earlier)))
    process.sees(record(run("SCHEDULED")))
    *_, whole = await process.sent()
    assert whole.parent is None
    assert said(whole)["prefect.state.type"] == "SCHEDULED"


async def test_the_span_that_prefect_makes_of_the_flow_is_a_child_of_that_of_the_claim() -> None:
    process, flows = Process(), InMemorySpanExporter()
    begins(process)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(flows))
    labels: dict[str, bool | int | float | str] = {}
    labels[TRACEPARENT_LABEL] = process.runs.traceparent(RUN_ID)
    flow_run = FlowRun(id=RUN_ID, name="brave-lynx", flow_id=RUN_ID, labels=labels)
    tracer = provider.get_tracer("prefect", prefect.__version__)
    telemetry = RunTelemetry(_tracer=tracer, _enabled=True)
    telemetry._start_span(flow_run)
    telemetry.end_span_on_success()
    [flow] = flows.get_finished_spans()
    assert parent(flow) == (RUN_ID.int, CLAIM)


async def test_a_run_that_the_sampler_leaves_out_costs_its_flow_no_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    process = Process()
    begins(process)
    assert process.runs.traceparent(RUN_ID) == ""
    process.sees(COMPLETED)
    assert await process.sent() == []


def test_the_trace_context_of_a_run_is_read_from_prefects_label() -> None:
    document = {"id": str(RUN_ID), "name": "a", "flow_id": str(RUN_ID)}
    document |= {"state_type": "SCHEDULED", "state_name": "Late"}
    assert Run.of({**document, "labels": {TRACEPARENT_LABEL: "00-a-b-01"}}).traceparent
    assert Run.of({**document, "labels": {}}).traceparent == ""
    assert Run.of({**document, "labels": None}).traceparent == ""


@contextmanager
def collector(*statuses: int, tls: PrivateCA | None = None) -> Iterator[str]:
    """A collector that answers with these statuses, and then with the last one again."""
    left = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """No log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.server.wrap_socket(server.socket, server_side=True)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


Export = Callable[[str, int], list[str]]


@pytest.fixture
def export(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Export]:
    """`export(endpoint, times)` sends spans so often, and returns what the log says."""
    loggers = [logging.getLogger(name) for name in logs._LEVELS]
    levels = [logger.level for logger in loggers]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    def send(endpoint: str, times: int) -> list[str]:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        tracing = Tracing()
        for _ in range(times):
            progress = Progress(tracing.runs_of("data", "etl"))
            progress.update(RUN_ID, CLAIMED, (), (), now=0, wall=DUE)
            progress.update(RUN_ID, COMPLETED, (), (), now=0, wall=DUE)
            tracing._provider.force_flush()
        tracing._provider.shutdown()
        assert not any(line.exc_info for line in caplog.records)
        return caplog.messages

    before = logging.root.handlers[:], logging.root.level
    logs.configure("INFO", "text")
    logging.root.addHandler(caplog.handler)
    yield send
    logging.root.handlers[:], logging.root.level = before
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def test_a_collector_that_does_not_answer_is_one_line(export: Export) -> None:
    assert export("http://127.0.0.1:1", 3) == [f"operator: {NOT_SENT}: connection refused"]


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_collector_that_refuses_and_then_accepts_is_two_lines(
    status: int, export: Export
) -> None:
    with collector(status, status, 200) as endpoint:
        refused, accepted = export(endpoint, 3)
    assert refused.startswith(f"operator: {NOT_SENT}: it answered {status} ")
    assert accepted == f"operator: resolved: {NOT_SENT}"


def test_a_collector_with_a_private_ca_is_one_line_until_the_operator_trusts_it(
    export: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = PrivateCA.make(tmp_path, host="127.0.0.1")
    ca = tmp_path / "ca.pem"
    ca.write_text(authority.pem)
    with collector(200, tls=authority) as endpoint:
        [line] = export(endpoint, 2)
        assert line.startswith(f"operator: {NOT_SENT}: the certificate is not trusted: ")
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        assert export(endpoint, 2) == [line]


class Stuck(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        time.sleep(3)
        return SpanExportResult.FAILURE


async def test_a_stop_does_not_wait_for_a_collector_that_hangs() -> None:
    tracing = Tracing(exporter=Stuck())
    progress = Progress(tracing.runs_of("data", "etl"))
    progress.update(RUN_ID, CLAIMED, (), (), now=0, wall=DUE)
    progress.update(RUN_ID, COMPLETED, (), (), now=0, wall=DUE)
    began = asyncio.get_running_loop().time()
    await tracing.stop(0.2)
    assert asyncio.get_running_loop().time() - began < 1


def test_tracing_without_its_packages_ends_the_operator_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    monkeypatch.delitem(sys.modules, "workpool_operator.tracing")
    with pytest.raises(OperatorError, match=r"TRACING is set, but opentelemetry\.\S+ is not"):
        make_tracing(Settings(tracing=True))


def test_a_variable_of_opentelemetry_that_is_invalid_ends_the_operator_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    with pytest.raises(OperatorError, match=r"^a variable of OpenTelemetry \(OTEL_.*positive"):
        make_tracing(Settings(tracing=True))


def test_a_header_that_is_not_valid_is_not_quoted(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization: Bearer s3cret")
    with collector(401) as endpoint:
        [line] = export(endpoint, 1)
    assert line.endswith("it answered 401 Unauthorized")
