"""The operator's Prometheus metrics: the one module that imports prometheus_client.

What happens is counted where it is reported (`Observer`, `RunObserver`). What is, such as the runs
in flight, is read from the bindings when Prometheus asks. Labels are bounded: a binding's namespace
and name, and closed lists of reasons; no ids of runs. The series of a deleted binding disappear.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from uuid import UUID

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from workpool_operator.binding.figures import BindingFigures
from workpool_operator.binding.observer import Observer
from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.jobs import reasons
from workpool_operator.jobs.diagnosis import OUTAGE
from workpool_operator.request_observer import NO_ANSWER, RequestObserver
from workpool_operator.runs.progress import RunObserver
from workpool_operator.runs.store import JobFaultReason

if TYPE_CHECKING:
    from prometheus_client.metrics import MetricWrapperBase
    from prometheus_client.metrics_core import Metric

PREFIX = "workpool_operator"
BINDING = ("binding_namespace", "binding")
# Prometheus stores a series for each: about three for each power of ten.
DELAYS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
REQUESTS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)
LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
LAG_SECONDS = 1.0  # between measurements of the event loop's lag
JOB_FAILURES = ("QuotaExceeded", OUTAGE, *(reason.value for reason in JobFaultReason))

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "namespace_watched": (
        "1 if this replica can list and watch the bindings of the namespace, otherwise 0: it does "
        "not serve those that it does not know yet, and has no series of them. The label is empty "
        "if it watches all namespaces.",
        BINDING[:1],
    ),
    "lease_held": (
        "1 if this replica holds the binding's Lease and serves the binding, otherwise 0. The sum "
        "over all replicas is 1, or 0 while none serves it.",
        BINDING,
    ),
    "binding_condition": (
        "1 for the present status and reason of each condition of the binding, as kubectl shows "
        "them. Only the replica that serves the binding has them.",
        (*BINDING, "type", "status", "reason"),
    ),
    "runs_in_flight": (
        "Claimed flow runs, by phase: running (the flow's container has started), pending (it has "
        "not), suspended (a queue suspends the Job). Running and pending runs take a slot.",
        (*BINDING, "phase"),
    ),
    "concurrency_limit": (
        "spec.concurrencyLimit of the binding: the most runs that may take a slot. Absent without "
        "a limit.",
        BINDING,
    ),
    "runs_pending": (
        "Claimed flow runs whose flow has not started, by the reason for which they wait.",
        (*BINDING, "reason"),
    ),
    "runs_queued": (
        "Due flow runs that are not claimed, as the last poll saw them, by the reason: NextPoll "
        "(none), DeploymentLimit, PoolOrQueueLimit, ClaimRefused, or the reason of the condition "
        "Claiming.",
        (*BINDING, "reason"),
    ),
    "last_poll_timestamp_seconds": (
        "When the last successful poll of the work pool began, in seconds since 1970.",
        BINDING,
    ),
    "reconciler_queue_length": (
        "Flow runs about which something changed and that are not handled yet.",
        BINDING,
    ),
    "build_info": ("1, with the operator's version.", ("version",)),
}


class Metrics(Observer):
    """Counts what happens, and renders it with what `figures()` returns for the bindings, and
    `watched()` for the namespaces: whether their bindings can be watched."""

    def __init__(
        self,
        figures: Callable[[], Iterable[BindingFigures]] = tuple,
        *,
        watched: Callable[[], Mapping[str, bool]] = dict,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._figures = figures
        self._watched = watched
        self._clock = clock
        self._registry = CollectorRegistry(auto_describe=False)
        self._rendering = asyncio.Lock()
        ProcessCollector(registry=self._registry)
        self.of_runs = RunMetrics(self._registry)
        self._leases_lost = self._counter(
            "leases_lost",
            "Leases of bindings that this replica lost while it was serving: another replica took "
            "them because it could not renew them, or somebody edited or deleted them.",
            BINDING,
        )
        self._requests = self._counter(
            "api_requests",
            "Requests by API (prefect, kubernetes), HTTP method (WATCH for an opened watch) and "
            'status; the code is "none" if there was no answer.',
            ("target", "verb", "code"),
        )
        self._request_seconds = Histogram(
            f"{PREFIX}_api_request_duration_seconds",
            "Time to the answer of a request; of a watch, until it is open.",
            ("target", "verb"),
            buckets=REQUESTS,
            registry=self._registry,
        )
        self._watch_restarts = self._counter(
            "watch_restarts",
            "Watches that had to be opened again, by resource and cause: timeout (the API server "
            "ends each after minutes), expired (what happened meanwhile is listed), silent, error.",
            ("resource", "cause"),
        )
        self._loop_lag = Histogram(
            f"{PREFIX}_event_loop_lag_seconds",
            "By how much a timer of the event loop is late, measured every second: everything in "
            "the process is late by as much.",
            buckets=LAGS,
            registry=self._registry,
        )

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self._registry)

    # What happens

    def runs_of(self, namespace: str, name: str) -> RunObserver:
        """See `Observer`."""
        self._leases_lost.labels(namespace, name)  # exists from the start, as those of the runs
        return _BindingRuns(self.of_runs, namespace, name)

    def requests_to(self, target: str) -> RequestObserver:
        """See `Observer`."""
        return _Requests(self._requests, self._request_seconds, target)

    def watch_restarted(self, resource: str, cause: str) -> None:
        """See `Observer`."""
        self._watch_restarts.labels(resource, cause).inc()

    def lease_lost(self, namespace: str, name: str) -> None:
        """See `Observer`."""
        self._leases_lost.labels(namespace, name).inc()

    def binding_gone(self, namespace: str, name: str) -> None:
        """Forget the series of the binding."""
        labels = dict(zip(BINDING, (namespace, name), strict=True))
        for metric in (self._leases_lost, *self.of_runs.all):
            metric.remove_by_labels(labels)

    async def run(self) -> None:
        """Measure the event loop's lag until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._loop_lag.observe(max(0.0, loop.time() - due))

    # What Prometheus reads

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format that the Accept header asks for, and its content type.

        The bindings are read at once; a thread makes the text, which takes longer.
        """
        async with self._rendering:
            encode, kind = choose_encoder(accept)
            return await asyncio.to_thread(partial(encode, self.all())), kind

    def all(self) -> Collector:
        """Return every metric, the gauges as they are at this moment."""
        return _Everything(self._registry, tuple(self.gauges()))

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of one series of a counter or histogram, None if it does not exist."""
        return self._registry.get_sample_value(f"{PREFIX}_{name}", labels)

    def gauges(self) -> Iterator[Metric]:
        """Return what the bindings show at this moment."""
        made = {
            name: GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
            for name, (text, labels) in GAUGES.items()
        }
        made["build_info"].add_metric([version("workpool-operator")], 1)
        for namespace, is_watched in self._watched().items():
            made["namespace_watched"].add_metric([namespace], is_watched)
        now = self._clock.now().timestamp()
        for figures in self._figures():
            key = [figures.namespace, figures.name]
            made["lease_held"].add_metric(key, figures.is_held)
            if figures.is_held:
                _add_served(made, key, figures, now=now)
        yield from made.values()


def _add_served(
    made: dict[str, GaugeMetricFamily], key: list[str], figures: BindingFigures, *, now: float
) -> None:
    """Add what only the replica knows that serves the binding."""
    for type_, state in figures.conditions.items():
        made["binding_condition"].add_metric([*key, type_, state.status, state.reason], 1)
    pending = sum(figures.pending.values()) - figures.suspended
    phases = {"running": figures.running, "pending": pending, "suspended": figures.suspended}
    for phase, count in phases.items():
        made["runs_in_flight"].add_metric([*key, phase], count)
    for name in ("pending", "queued"):
        for reason, count in getattr(figures, name).items():
            made[f"runs_{name}"].add_metric([*key, reason], count)
    if figures.concurrency_limit is not None:
        made["concurrency_limit"].add_metric(key, figures.concurrency_limit)
    if figures.poll_age is not None:
        made["last_poll_timestamp_seconds"].add_metric(key, now - figures.poll_age)
    made["reconciler_queue_length"].add_metric(key, figures.reconciler_queue)


class RunMetrics:
    """What happens to runs, by binding."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.all: list[MetricWrapperBase] = []
        self.claims = self._counter(
            "claims",
            "Claims of flow runs: accepted, or refused by the Prefect server, as for a "
            "concurrency limit. A refused one is tried again later.",
            "result",
        )
        self.claim_delay = self._delay(
            "claim", "From the time at which a flow run is due until it is claimed."
        )
        self.job_delay = self._delay(
            "job", "From the claim of a flow run until its Job is created."
        )
        self.pod_delay = self._delay(
            "pod",
            "From the creation of the Job until the flow's container starts: time in the queue "
            "of Kueue, the scheduler, image pull, init containers.",
        )
        self.start_delay = self._delay(
            "start",
            "From the time at which a flow run is due until the flow's container starts: the "
            "claim, Job and pod delays together.",
        )
        self.report_delay = self._delay(
            "report",
            "From the start of the flow's container until the run is Running in Prefect: Python "
            "imports, and the flow's code is fetched.",
        )
        self.crash_report_delay = self._delay(
            "crash_report",
            "From the end of a flow's container or Job that left its run unfinished until the run "
            "is Crashed in Prefect.",
        )
        self.job_failures = self._counter(
            "job_creation_failures",
            "Attempts to create a Job that failed, by reason. Those that time can resolve are "
            "repeated.",
            "reason",
        )
        self.retries = self._counter(
            "infrastructure_retries",
            "Flow runs that got a new Job because the infrastructure ended their pod before the "
            "flow started.",
        )
        self.ended = self._counter(
            "runs_ended",
            "Claimed flow runs that ended, by final state. The reason is that of a Crashed which "
            "the operator reported; it is empty if the run reported its end itself.",
            "state",
            "reason",
        )
        self.action_failures = self._counter(
            "action_failures",
            "Actions on flow runs that failed and are tried again, by cause: prefect or kubernetes "
            "(no answer, or a refusal), or operator (a bug).",
            "cause",
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        made = Counter(f"{PREFIX}_{name}", text, (*BINDING, *labels), registry=self._registry)
        self.all.append(made)
        return made

    def _delay(self, name: str, text: str) -> Histogram:
        made = Histogram(
            f"{PREFIX}_run_{name}_delay_seconds",
            text,
            BINDING,
            buckets=DELAYS,
            registry=self._registry,
        )
        self.all.append(made)
        return made


class _BindingRuns(RunObserver):
    """Counts what happens to the runs of one binding."""

    def __init__(self, metrics: RunMetrics, namespace: str, name: str) -> None:
        self._all = metrics
        self._key = key = (namespace, name)
        # Series that exist from the start, so that their first increase is seen. Those of crashes
        # by reason would be 50: the queries add what a new one begins with.
        self._accepted = metrics.claims.labels(*key, "accepted")
        self._refused = metrics.claims.labels(*key, "refused")
        self._claim_delay = metrics.claim_delay.labels(*key)
        self._job_delay = metrics.job_delay.labels(*key)
        self._pod_delay = metrics.pod_delay.labels(*key)
        self._start_delay = metrics.start_delay.labels(*key)
        self._report_delay = metrics.report_delay.labels(*key)
        self._crash_report_delay = metrics.crash_report_delay.labels(*key)
        self._retries = metrics.retries.labels(*key)
        for state in ("completed", "failed", "cancelled", "crashed"):
            metrics.ended.labels(*key, state, "")
        for reason in JOB_FAILURES:
            metrics.job_failures.labels(*key, reason)
        for cause in ("prefect", "kubernetes", "operator"):
            metrics.action_failures.labels(*key, cause)

    def claimed(self, run_id: UUID, *, delay: float) -> None:
        self._accepted.inc()
        self._claim_delay.observe(delay)

    def claim_refused(self, run_id: UUID) -> None:
        self._refused.inc()

    def job_created(self, run_id: UUID, *, delay: float) -> None:
        self._job_delay.observe(delay)

    def job_refused(self, run_id: UUID, reason: str) -> None:
        self._all.job_failures.labels(*self._key, reasons.crashed(reason)).inc()

    def started(self, run_id: UUID, *, delay: float, since_due: float) -> None:
        self._pod_delay.observe(delay)
        self._start_delay.observe(since_due)

    def running(self, run_id: UUID, *, delay: float) -> None:
        self._report_delay.observe(delay)

    def retried(self, run_id: UUID) -> None:
        self._retries.inc()

    def ended(self, run_id: UUID, state_type: str, reason: str) -> None:
        known = reasons.crashed(reason) if reason else ""
        self._all.ended.labels(*self._key, state_type.lower(), known).inc()

    def attempt_failed(self, run_id: UUID, cause: str) -> None:
        self._all.action_failures.labels(*self._key, cause).inc()

    def crash_reported(self, run_id: UUID, *, delay: float) -> None:
        self._crash_report_delay.observe(delay)


class _Requests:
    """Counts the requests to one API; `RequestObserver`."""

    def __init__(self, requests: Counter, seconds: Histogram, target: str) -> None:
        self._requests = requests
        self._seconds = seconds
        self._target = target
        self._children: dict[tuple[str, int], tuple[Any, Any]] = {}

    def __call__(self, verb: str, status: int, seconds: float) -> None:
        child = self._children.get((verb, status))
        if child is None:
            code = "none" if status == NO_ANSWER else str(status)
            child = self._children[verb, status] = (
                self._requests.labels(self._target, verb, code),
                self._seconds.labels(self._target, verb),
            )
        child[0].inc()
        child[1].observe(seconds)


class _Everything(Collector):
    """The registry's metrics, and gauges that were read before."""

    def __init__(self, registry: CollectorRegistry, gauges: Sequence[Metric]) -> None:
        self._registry = registry
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        yield from self._registry.collect()
        yield from self._gauges
