"""The CPU time of rendering one Job by both contenders, each in a process of its own.

`python -m benchmarks.render` measures this alone. It needs neither cluster nor server, because no
template here names a block.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from dataclasses import replace

from prefect.client.orchestration import PrefectClient

from benchmarks.report import report_of_rendering, this_machine
from benchmarks.statistics import OURS, Rendering
from testbed.environments import PEER
from tests.corpus.case import IDENTITY, Case, Object
from workpool_operator.jobs.base_job_template import KubernetesJobVariables
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.jobs.render import render_manifest
from workpool_operator.parity.stock import stock_worker

RENDERS = 1000
VALUES: Object = {
    "env": {f"VARIABLE_{number}": f"value {number}" for number in range(30)},
    "image": "registry.example/flows:1",
}


async def measure(renders: int = RENDERS) -> list[Rendering]:
    """Measure ours with both templates, and the stock worker with its own."""
    stock, own = Case("stock", run=VALUES), Case("ours", template=own_template(), run=VALUES)
    async with PrefectClient("http://127.0.0.1:9/api") as nowhere:
        ours = [await of_ours(case, renders=renders, client=nowhere) for case in (stock, own)]
    return [
        Rendering(OURS, "the stock worker's", tuple(ours[0])),
        Rendering(OURS, "our own", tuple(ours[1])),
        Rendering("stock worker", "the stock worker's", tuple(_stock(stock, renders))),
    ]


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


def main() -> int:
    load = os.getloadavg()[0]
    measured = asyncio.run(measure())
    print(report_of_rendering(measured, this_machine(load=load)), end="")
    return 1 if any(each.misses_its_target for each in measured) else 0


if __name__ == "__main__":
    sys.exit(main())
