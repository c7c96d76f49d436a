"""Measures a burst: runs that are queued before the contender starts, all of them due.

Their Jobs have no pods, or pods that run no program, which would take CPU time: the contenders, the
Prefect server, its database and the cluster share this machine. The rate counts from the first
claim to the last Job.

It is compared with what the server can do: the same client, without any contender, claims as many
runs and records as many Jobs, each with eight requests at a time. A run needs both.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from statistics import mean
from time import monotonic
from typing import Any, TypeVar

from benchmarks import claim_path, markdown
from benchmarks.contenders import (
    CONTENDERS,
    Environment,
    Pool,
    Server,
    Start,
    operator,
    operator_log,
    pool,
    prefect_server,
)
from benchmarks.job_watch import watch_jobs
from benchmarks.kwok import kwok_node
from benchmarks.pictures import Series, lines
from benchmarks.processes import Machine, MachineUsage
from benchmarks.recording_proxy import Call
from benchmarks.statistics import OURS, STOCK, Figure, Result
from localnode import progress
from localnode.errors import SetupError
from tests.support.prefect import Object, stock_template, suspended_template
from workpool_operator.prefect_api import client
from workpool_operator.prefect_api.endpoint import PrefectEndpoint

AT_ONCE = 8  # requests
BURST_SECONDS = 180
SHARE_OF_SERVER, TIMES_STOCK = 0.8, 4.0
CALLS_PER_RUN = 3.0
DISPATCH_SECONDS = 0.008
EXPIRED_OFFER = ": DropOffer\n"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ServerRate:
    """What the server answers to one client, per second."""

    claims: float
    records: float

    @property
    def both(self) -> float:
        """Runs per second that need one of each."""
        return 1 / (1 / self.claims + 1 / self.records)


@dataclass(frozen=True, slots=True)
class Burst:
    """One contender's burst. `created` are the seconds from the first claim to each Job. CPU
    seconds are per run, from the first poll to the last record; `others_share` is that of the
    machine which other programs took meanwhile."""

    created: Sequence[float]
    calls: Counter[str]
    bytes_received: int
    cpu_seconds: Mapping[str, float]
    others_share: float

    @property
    def runs(self) -> int:
        return len(self.created)

    @property
    def rate(self) -> float:
        return self.runs / self.created[-1]

    @property
    def calls_per_run(self) -> float:
        return self.calls.total() / self.runs


async def measure(
    environment: Environment, *, runs: int = 200, names: Sequence[str] = (OURS, STOCK)
) -> Result:
    """Measure a burst whose Jobs are suspended, so that no pod takes CPU time."""
    return Result(
        "A burst of runs",
        *await _measure(environment, suspended_template(), runs=runs, names=names),
    )


async def measure_with_pods(
    environment: Environment, *, runs: int = 200, names: Sequence[str] = (OURS, STOCK)
) -> Result:
    """Measure a burst whose Jobs have pods, of a node that runs no programs."""
    async with kwok_node(environment) as place:
        template = stock_template(**place)
        figures, text, _ = await _measure(environment, template, runs=runs, names=names)
    return Result("A burst of runs with pods on a kwok node", figures, text)


async def _measure(
    environment: Environment, template: Object, *, runs: int, names: Sequence[str]
) -> tuple[list[Figure], str, dict[str, str]]:
    """Measure the server alone, each contender, and the server alone again."""
    # Ours logs each action, a hundredth of its CPU time, to count the offers that it withdraws.
    starts = CONTENDERS | {OURS: partial(operator, WORKPOOL_OPERATOR_LOG_LEVEL="DEBUG")}
    async with prefect_server(environment) as server:
        rates = [await server_rate(server, runs)]
        bursts = {}
        for name in names:
            async with _queue(server, template, runs) as own:
                bursts[name] = await burst(starts[name], own, name=name, runs=runs)
        rates.append(await server_rate(server, runs))
    withdrawn = operator_log(environment).read_text().count(EXPIRED_OFFER)
    return (
        _figures(bursts, rates, withdrawn),
        _text(bursts, rates, runs),
        {"benchmark-throughput.svg": picture(bursts, rates)},
    )


# The server alone


async def server_rate(server: Server, runs: int) -> ServerRate:
    """Claim the runs and record a Job for each, as fast as the server answers."""
    async with (
        pool(server, template=suspended_template()) as own,
        client.PrefectApi(PrefectEndpoint(server.proxy.url), pool=own.name) as api,
    ):
        ids = [uuid.UUID(run["id"]) for run in await create_runs(own, runs)]

        async def claim(run_id: uuid.UUID) -> None:
            details = {"transition_id": str(uuid.uuid4())}
            state = {"type": "PENDING", "name": "Pending", "state_details": details}
            assert (await api.set_state(run_id, state)).accepted

        async def record(run_id: uuid.UUID) -> None:
            await api.update_run(run_id, {"infrastructure_pid": f"{own.namespace}:{run_id}"})

        with progress.step(f"the server alone: {runs} claims and {runs} records"):
            return ServerRate(
                claims=runs / await _seconds_for(claim, ids),
                records=runs / await _seconds_for(record, ids),
            )


async def _seconds_for(
    request: Callable[[uuid.UUID], Awaitable[None]], ids: Sequence[uuid.UUID]
) -> float:
    began = monotonic()
    await at_once(request, ids)
    return monotonic() - began


# One contender


@asynccontextmanager
async def _queue(server: Server, template: Object, runs: int) -> AsyncIterator[Pool]:
    """Create a pool with queued runs."""
    async with pool(server, template=template) as own:
        await create_runs(own, runs)
        server.proxy.forget()
        yield own


async def burst(start: Start, own: Pool, *, name: str, runs: int) -> Burst:
    """Start the contender, and wait until each of the queued runs has its Job on record."""
    server = own.server
    async with watch_jobs(server.environment.kube, own.namespace) as jobs, start(own) as contender:
        record = _Record(Machine({name: contender.pid, "Prefect server": server.pid}))
        server.proxy.listeners.append(record)
        try:
            with progress.step(f"{name}: {runs} runs"):
                async with asyncio.timeout(BURST_SECONDS):
                    await contender.serve()
                    seen = await jobs.count(runs)
                    await record.of(runs)
        except TimeoutError:
            raise SetupError(
                f"{record.recorded} of {runs} runs have a recorded Job after {BURST_SECONDS} s"
            ) from None
        finally:
            server.proxy.listeners.remove(record)
    return record.burst([at - record.claimed_at for at in seen])


class _Record:
    """What the requests of a burst show while it lasts."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.recorded = 0
        self.claimed_at = 0.0
        self._calls: list[Call] = []
        self._changed = asyncio.Event()
        self._before: MachineUsage | None = None
        self._after: MachineUsage | None = None

    def __call__(self, call: Call) -> None:
        if call.status is None:
            self._arrived(call)
        elif claim_path.records_job(call):
            self.recorded += 1
            self._changed.set()

    def _arrived(self, call: Call) -> None:
        if self._before is None and claim_path.is_poll(call):
            self._before = self._machine.usage()
        if self._before is not None:
            self._calls.append(call)
        if not self.claimed_at and claim_path.is_claim(call):
            self.claimed_at = call.began

    async def of(self, runs: int) -> None:
        """Wait until this number of runs is recorded."""
        while self.recorded < runs:
            self._changed.clear()
            await self._changed.wait()
        self._after = self._machine.usage()

    def burst(self, created: Sequence[float]) -> Burst:
        assert self._before is not None
        assert self._after is not None
        used, runs = self._after - self._before, len(created)
        return Burst(
            created,
            calls=Counter(name for call in self._calls if (name := claim_path.counted_name(call))),
            bytes_received=sum(call.received for call in self._calls),
            cpu_seconds={program: used.cpu_seconds[program] / runs for program in used.cpu_seconds},
            others_share=used.others_share,
        )


# What all of them use


async def create_runs(own: Pool, runs: int) -> list[Object]:
    """Create due runs of the pool's deployment."""
    created: list[Object] = []

    async def create(_: int) -> None:
        created.append(await own.server.api.create_run(own.deployment["id"]))

    with progress.step(f"queueing {runs} runs"):
        await at_once(create, range(runs))
    return created


async def at_once(request: Callable[[T], Awaitable[None]], about: Iterable[T]) -> None:
    """Make a request about each of them, `AT_ONCE` at a time."""
    rest = iter(about)

    async def work() -> None:
        for each in rest:
            await request(each)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


# The report


def _figures(
    bursts: Mapping[str, Burst], rates: Sequence[ServerRate], withdrawn: int
) -> list[Figure]:
    both = mean(rate.both for rate in rates)

    def row(name: str, of: Callable[[Burst], float], **options: Any) -> Figure:
        ours, stock = (of(bursts[each]) if each in bursts else None for each in (OURS, STOCK))
        return Figure(name, ours, stock, **options)

    rate, per_stock = bursts[OURS].rate, bursts[STOCK].rate if STOCK in bursts else None
    return [
        row("Jobs per second", lambda it: it.rate, digits=1),
        row(
            "share of the server's own rate",
            lambda it: 100 * it.rate / both,
            unit="%",
            at_least=100 * SHARE_OF_SERVER,
        ),
        Figure(
            "times the stock worker's rate",
            rate / per_stock if per_stock else None,
            digits=1,
            at_least=TIMES_STOCK,
        ),
        row(
            "Prefect calls per run, with polls",
            lambda it: it.calls_per_run,
            unit="calls",
            digits=2,
            at_most=CALLS_PER_RUN,
        ),
        Figure("offers withdrawn", withdrawn, at_most=0),
        row(
            "read from Prefect per run",
            lambda it: it.bytes_received / it.runs / 1024,
            unit="KiB",
            digits=1,
        ),
        Figure(
            "CPU time per run until its Job is recorded",
            1000 * bursts[OURS].cpu_seconds[OURS],
            1000 * bursts[STOCK].cpu_seconds[STOCK] if STOCK in bursts else None,
            unit="ms",
            digits=1,
            at_most=1000 * DISPATCH_SECONDS,
        ),
        row("CPU that other programs took", lambda it: 100 * it.others_share, unit="%"),
    ]


def _text(bursts: Mapping[str, Burst], rates: Sequence[ServerRate], runs: int) -> str:
    own = [["the server alone", "claims", "records", "both"]]
    for when, rate in zip(("before", "after"), rates, strict=True):
        own.append([when, *(f"{it:.1f}/s" for it in (rate.claims, rate.records, rate.both))])
    return "\n\n".join(
        [
            f"{runs} runs are queued before the contender starts, from the first"
            " claim to the last Job. The server's own rate is that of the same client"
            f" without any contender, {AT_ONCE} requests at a time:",
            markdown.table(own),
            *(part for name, each in bursts.items() for part in _details(name, each)),
        ]
    )


def _details(name: str, burst: Burst) -> Iterator[str]:
    yield f"Prefect calls per run in the burst, {name}:"
    yield markdown.numbers({it: n / burst.runs for it, n in burst.calls.most_common()})
    yield f"CPU time per run in the burst, {name}:"
    yield "\n".join(
        f"- {1000 * seconds:.1f} ms {program}" for program, seconds in burst.cpu_seconds.items()
    )


def picture(bursts: Mapping[str, Burst], rates: Sequence[ServerRate]) -> str:
    """Draw the number of Jobs over time, and what the server could do."""
    both = mean(rate.both for rate in rates)
    curves = [
        Series(name, [(0.0, 0.0), *((at, n + 1) for n, at in enumerate(burst.created))])
        for name, burst in bursts.items()
    ]
    runs = bursts[OURS].runs
    limit = Series("the server's own rate", [(0.0, 0.0), (runs / both, runs)], dashed=True)
    return lines(
        f"{runs} queued runs: Jobs over time",
        [*curves, limit],
        x="seconds since the first claim (s)",
        y="Jobs created",
    )
