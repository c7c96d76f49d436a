"""Measures the CPU time of rendering one Job by both contenders, each in a process of its own.

It needs neither cluster nor server, because no template here names a block.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prefect.client.orchestration import PrefectClient

from benchmarks import markdown
from benchmarks.statistics import OURS, STOCK, Figure, Result, nearest_rank
from testbed.environments import PEER
from tests.corpus.case import IDENTITY, Case, Object
from workpool_operator.jobs.base_job_template import KubernetesJobVariables
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.jobs.render import render_manifest
from workpool_operator.parity.stock import stock_worker

RENDERS = 1000
RENDER_SECONDS = 0.002  # of CPU time, the 99th percentile
VALUES: Object = {
    "env": {f"VARIABLE_{number}": f"value {number}" for number in range(30)},
    "image": "registry.example/flows:1",
}


@dataclass(frozen=True, slots=True)
class Rendering:
    """The CPU time of each of many renders of one template by one contender."""

    contender: str
    template: str
    seconds: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.seconds)

    @property
    def p99(self) -> float:
        return nearest_rank(self.seconds, 0.99)


async def measure(renders: int = RENDERS) -> Result:
    """Measure ours with both templates, and the stock worker with its own."""
    stock, own = Case("stock", run=VALUES), Case("ours", template=own_template(), run=VALUES)
    async with PrefectClient("http://127.0.0.1:9/api") as nowhere:
        ours = [await of_ours(case, renders=renders, client=nowhere) for case in (stock, own)]
    return result(
        [
            Rendering(OURS, "the stock worker's", tuple(ours[0])),
            Rendering(OURS, "our own", tuple(ours[1])),
            Rendering(STOCK, "the stock worker's", tuple(_stock(stock, renders))),
        ]
    )


def result(measured: Sequence[Rendering]) -> Result:
    """Return the worse p99 of our templates, and a table of all."""
    ours = max(each.p99 for each in measured if each.contender == OURS)
    stock = max((each.p99 for each in measured if each.contender == STOCK), default=None)
    rows = [["", "template", "mean", "p99"]]
    for each in measured:
        times = (f"{1000 * seconds:.2f} ms" for seconds in (each.mean, each.p99))
        rows.append([each.contender, each.template, *times])
    figure = Figure(
        "CPU time of rendering one Job, p99",
        1000 * ours,
        None if stock is None else 1000 * stock,
        unit="ms",
        digits=2,
        at_most=1000 * RENDER_SECONDS,
    )
    text = (
        f"{markdown.table(rows)}\n\n{len(measured[0].seconds)} renders of each, one after the"
        " other, each of another run, with 30 environment variables; a first one is not counted."
    )
    return Result("Rendering one Job", [figure], text)


def own_template() -> Object:
    """Return the template of a pool of type kubernetes-operator."""
    return {
        "job_configuration": KubernetesJobConfiguration.json_template(),
        "variables": KubernetesJobVariables.model_json_schema(),
    }


async def of_ours(case: Case, *, renders: int, client: PrefectClient) -> list[float]:
    """Return the seconds of each render."""
    await render_manifest(
        case.subject, IDENTITY, client=client
    )  # the first one reads what is read once
    taken = []
    for subject in (each.subject for each in _runs(case, renders)):
        began = time.thread_time()
        await render_manifest(subject, IDENTITY, client=client)
        taken.append(time.thread_time() - began)
    return taken


def _stock(case: Case, renders: int) -> list[float]:
    with stock_worker(PEER.python) as worker:
        worker.render(case.document)
        return [worker.render(each.document).cpu_seconds for each in _runs(case, renders)]


def _runs(case: Case, count: int) -> list[Case]:
    """Give each run a name of its own, so that nothing cached from the last one helps the next."""
    return [replace(case, run_name=f"run-{uuid.uuid4().hex[:8]}") for _ in range(count)]
