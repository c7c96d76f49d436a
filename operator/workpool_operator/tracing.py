"""Spans of each run's way to OpenTelemetry: the one module that imports its SDK.

    flow run                one per claim, from the due time to the end
      wait for claim, create Job, start pod, start flow, run flow

The trace of a run is the one that Prefect's label names, as for a run of a traced parent flow, or
else has the run's own id; the id of the span of a claim follows from that of the claim. So the
spans of two replicas, and of the process after a restart, are of one trace, and the span of a claim
is sent once: by the process that sees the end. A thread sends them: a collector that is slow or
down costs spans, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from threading import Thread
from typing import Any
from uuid import UUID

import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_CERTIFICATE,
    OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from workpool_operator.binding.observer import Observer
from workpool_operator.connection_errors import explain
from workpool_operator.kube.models import Job, Pod
from workpool_operator.logs import ProblemLogger
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs.claims import ClaimedRun
from workpool_operator.runs.progress import RunObserver

log = logging.getLogger(__name__)

STEPS = ("wait for claim", "create Job", "start pod", "start flow", "run flow")
NOT_SENT = "cannot send spans to the OpenTelemetry collector"
MOST_REFUSED = 16  # refused claims of a run that become events of its span
NANOSECONDS = 1_000_000_000
_MOST = (1 << 64) - 1
_NONE = Context()


class Tracing(Observer):
    """Makes spans of what happens to runs, and has a thread send them."""

    def __init__(
        self, *, pod: str = "", uid: str = "", exporter: SpanExporter | None = None
    ) -> None:
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=_resource(pod, uid), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or _otlp_exporter()))
        self._tracer = self._provider.get_tracer("workpool_operator", version("workpool-operator"))

    def runs_of(self, namespace: str, name: str) -> RunObserver:
        """See `Observer`."""
        return _RunSpans(self, f"{namespace}/{name}")

    def start(self, claimed: ClaimedRun, *, binding: str) -> Span:
        """Start the span of a claim, when its run was due."""
        run, claim = claimed.run, claimed.claim
        named, own = _named(run), claim.id.int & _MOST
        self._ids.trace_id, self._ids.span_id = named.trace_id or run.id.int, own
        deployment = {"prefect.deployment.id": str(run.deployment_id)} if run.deployment_id else {}
        return self._tracer.start_span(
            "flow run",
            context=_parent(run, named, own=own),
            start_time=_nanoseconds(claim.scheduled_time or claim.timestamp),
            attributes={
                "prefect.run.id": str(run.id),
                "prefect.run.name": run.name,
                "prefect.run.type": "flow",
                "prefect.flow.id": str(run.flow_id),
                "workpool_operator.binding": binding,
                **deployment,
            },
        )

    def add(
        self, parent: Span, name: str, began: int, ended: int, attributes: dict[str, str]
    ) -> None:
        """Add the span of one step."""
        context = set_span_in_context(parent)
        step = self._tracer.start_span(
            name, context=context, start_time=min(began, ended), attributes=attributes
        )
        step.end(ended)

    async def stop(self, seconds: float) -> None:
        """Send the spans that are left, but wait no longer than that."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(sent.set)

        Thread(target=shut_down, daemon=True, name="spans").start()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await sent.wait()


@dataclass(slots=True)
class _Traced:
    """The span of a claim, where its Job is, the step that it is in, and when that began: None if
    this process did not see it begin."""

    span: Span
    where: dict[str, str] = field(default_factory=dict)
    step: int = 0
    since: int | None = None


class _RunSpans(RunObserver):
    """Makes the spans of the runs of one binding."""

    def __init__(self, tracing: Tracing, binding: str) -> None:
        self._tracing = tracing
        self._binding = binding
        self._traced: dict[UUID, _Traced] = {}
        self._refused: dict[UUID, list[int]] = {}

    def begun(self, claimed: ClaimedRun) -> None:
        self._end(claimed.run.id, "SCHEDULED", "")
        span = self._tracing.start(claimed, binding=self._binding)
        self._traced[claimed.run.id] = traced = _Traced(span)
        for when in self._refused.pop(claimed.run.id, ()):
            traced.span.add_event("claim refused", timestamp=when)

    def claim_refused(self, run_id: UUID) -> None:
        refused = self._refused.setdefault(run_id, [])
        if len(refused) < MOST_REFUSED:
            refused.append(time.time_ns())

    def claimed(self, run_id: UUID, *, delay: float) -> None:
        if traced := self._traced.get(run_id):
            traced.since = time.time_ns() - int(delay * NANOSECONDS)
            self._step(run_id, 0)

    def job_found(self, run_id: UUID, job: Job) -> None:
        where = {"k8s.namespace.name": job.metadata.namespace}
        where |= {"k8s.job.name": job.name, "k8s.job.uid": job.metadata.uid}
        self._locate(run_id, where)

    def job_created(self, run_id: UUID, *, delay: float) -> None:
        self._step(run_id, 1)

    def job_refused(self, run_id: UUID, reason: str) -> None:
        self._event(run_id, "Job refused", reason)

    def pod_found(self, run_id: UUID, pod: Pod) -> None:
        where = {"k8s.pod.name": pod.metadata.name, "k8s.pod.uid": pod.metadata.uid}
        self._locate(run_id, where | {"k8s.node.name": pod.spec.node_name})

    def started(self, run_id: UUID, *, delay: float, since_due: float) -> None:
        self._step(run_id, 2)

    def running(self, run_id: UUID, *, delay: float) -> None:
        traced = self._traced.get(run_id)
        if traced and traced.since:
            reported = min(traced.since + int(delay * NANOSECONDS), time.time_ns())
            self._step(run_id, 3, at=reported)

    def retried(self, run_id: UUID) -> None:
        self._event(run_id, "retried", "the infrastructure ended the pod")

    def attempt_failed(self, run_id: UUID, cause: str) -> None:
        self._event(run_id, "attempt failed", cause)

    def put_back(self, run_id: UUID) -> None:
        self._end(run_id, "SCHEDULED", "")

    def ended(self, run_id: UUID, state_type: str, reason: str) -> None:
        self._end(run_id, state_type, reason)

    def forgotten(self, run_id: UUID) -> None:
        self._traced.pop(run_id, None)
        self._refused.pop(run_id, None)

    def traceparent(self, run_id: UUID) -> str:
        traced = self._traced.get(run_id)
        context = traced.span.get_span_context() if traced else None
        if context is None or not context.trace_flags.sampled:
            return ""
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def _locate(self, run_id: UUID, where: dict[str, str]) -> None:
        if traced := self._traced.get(run_id):
            traced.where |= where
            traced.span.set_attributes(where)

    def _step(self, run_id: UUID, step: int, *, at: int | None = None) -> None:
        """End a step now, or then; the next one begins."""
        if (traced := self._traced.get(run_id)) is None:
            return
        now = at or time.time_ns()
        if traced.since is not None:
            self._tracing.add(traced.span, STEPS[step], traced.since, now, traced.where)
        traced.step, traced.since = min(step + 1, len(STEPS) - 1), now

    def _event(self, run_id: UUID, name: str, reason: str) -> None:
        if traced := self._traced.get(run_id):
            traced.span.add_event(name, {"reason": reason})

    def _end(self, run_id: UUID, state_type: str, reason: str) -> None:
        if (traced := self._traced.get(run_id)) is None:
            return
        self._step(run_id, traced.step)
        del self._traced[run_id]
        span = traced.span
        span.set_attribute("prefect.state.type", state_type)
        if state_type in ("CRASHED", "FAILED"):
            span.set_attribute("error.type", reason or state_type)
            span.set_status(StatusCode.ERROR, reason or state_type)
        elif state_type == "COMPLETED":
            span.set_status(StatusCode.OK)
        span.end()


class _Ids(RandomIdGenerator):
    """Generates the ids that were set for the next span, or random ones."""

    trace_id = span_id = 0

    def generate_trace_id(self) -> int:
        found, self.trace_id = self.trace_id, 0
        return found or super().generate_trace_id()

    def generate_span_id(self) -> int:
        found, self.span_id, self.trace_id = self.span_id, 0, 0
        return found or super().generate_span_id()


class _Session(requests.Session):
    """Remembers why the last request failed: the exporter writes it to its log only."""

    cause = "no request was made"

    def request(self, *args: Any, **options: Any) -> requests.Response:
        options.setdefault("verify", self.verify)  # else REQUESTS_CA_BUNDLE would win over it
        try:
            answer = super().request(*args, **options)
        except requests.RequestException as error:
            self.cause = explain(error)
            raise
        self.cause = f"it answered {answer.status_code} {answer.reason}"
        return answer


class _Reporting(SpanExporter):
    """Exports by another exporter; logs once why that fails, and once that it works again."""

    def __init__(self, exporter: SpanExporter, session: _Session) -> None:
        self._exporter = exporter
        self._session = session
        self._problems = ProblemLogger(log, "operator")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._problems.resolved(NOT_SENT)
        else:
            self._problems.report(NOT_SENT, self._session.cause)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _otlp_exporter() -> SpanExporter:
    """Return the exporter of the standard variables; it trusts the CAs that the operator trusts."""
    own = (OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE, OTEL_EXPORTER_OTLP_CERTIFICATE)
    is_set = any(os.environ.get(name) for name in own)
    trusted = None if is_set else os.environ.get("SSL_CERT_FILE")
    session = _Session()
    return _Reporting(OTLPSpanExporter(certificate_file=trusted, session=session), session)


def _resource(pod: str, uid: str) -> Resource:
    """Return what the spans say of this process; OTEL_RESOURCE_ATTRIBUTES wins."""
    known = {"service.name": "workpool-operator", "service.version": version("workpool-operator")}
    if pod and uid:
        known |= {"service.instance.id": uid, "k8s.pod.name": pod, "k8s.pod.uid": uid}
    return Resource.create().merge(Resource(known)).merge(OTELResourceDetector().detect())


def _named(run: Run) -> SpanContext:
    """Return the span that the run's label names; an invalid one if there is none."""
    found = TraceContextTextMapPropagator().extract({"traceparent": run.traceparent}, _NONE)
    return get_current_span(found).get_span_context()


def _parent(run: Run, named: SpanContext, *, own: int) -> Context:
    """Return the context of the span that the label names, unless that is of the run's own trace or
    below the span of the claim: the label then names that span, and once the flow runs, its own."""
    if not named.is_valid or named.trace_id == run.id.int:
        return _NONE
    if named.span_id == own or run.state_type != "PENDING":
        return _NONE
    return set_span_in_context(NonRecordingSpan(named), _NONE)


def _nanoseconds(when: datetime | None) -> int | None:
    return int(when.timestamp() * NANOSECONDS) if when else None
