"""The cost of checks of large base job templates, in a process that is set up as the operator is.

`python -m tests.support.template_cost` prints for each template the cost of a look, in deep copies
of a template, and the longest time between two turns of the event loop meanwhile, in seconds. All
is processor time of this process: what the machine does besides does not count, and how fast it is
counts for the copies, too.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from kubernetes_asyncio.client import Configuration

from tests.support.prefect import stock_template
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.template_dry_run import TemplateDryRun
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.models import WorkPool

Object = dict[str, Any]
MIB = 1 << 20
NOWHERE = "http://127.0.0.1:9"
STALL_SECONDS = 0.05
ATTEMPTS = 4
COPIES = 5


def _container(template: Object) -> Object:
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    found: Object = pod["containers"][0]
    return found


def environment(count: int) -> Object:
    template = stock_template()
    env = [{"name": f"V{n}", "value": f"{{{{ image }}}}-{n}"} for n in range(count)]
    _container(template)["env"] = env
    return template


def labels(count: int) -> Object:
    template = stock_template()
    metadata = template["job_configuration"]["job_manifest"]["metadata"]
    metadata["labels"] = {f"l{n}/x": "{{ name }}" for n in range(count)}
    return template


def faulty_default(count: int) -> Object:
    template = stock_template()
    mounts = [{"name": 5, "mountPath": 7}] * count
    template["variables"]["properties"]["mounts"] = {"type": "array", "default": mounts}
    _container(template)["volumeMounts"] = "{{ mounts }}"
    return template


def unknown_fields(count: int) -> Object:
    template = stock_template()
    _container(template).update({f"unknown{n}": 1 for n in range(count)})
    return template


def long_texts(count: int) -> Object:
    """Each as long as Kubernetes takes an argument, with another placeholder at every turn."""
    template = stock_template()
    names = [f"{{{{ a{n} }}}}" for n in range(count)]
    _container(template)["args"] = [
        " ".join(names[start : start + 8000]) for start in range(0, count, 8000)
    ]
    return template


def a_large_value_everywhere(count: int) -> Object:
    template = stock_template()
    big = {"type": "string", "default": "x" * 9 * count}
    template["variables"]["properties"]["big"] = big
    _container(template)["args"] = ["y{{ big }}"] * count
    return template


TEMPLATES: tuple[Callable[[int], Object], ...] = (
    environment,
    labels,
    faulty_default,
    unknown_fields,
    long_texts,
    a_large_value_everywhere,
)


def of_one_mib(make: Callable[[int], Object]) -> Object:
    few, more = (len(json.dumps(make(count))) for count in (1000, 2000))
    return make(1000 + 1000 * (MIB - few) // (more - few))


async def cost(template: Object) -> tuple[float, float]:
    """Seconds of the look, and of the loop's longest rest."""
    document = {"id": str(UUID(int=1)), "name": "etl", "type": "kubernetes"}
    pool = WorkPool.of({**document, "base_job_template": template})
    longest, is_over = 0.0, False

    async def turn() -> None:
        nonlocal longest
        while not is_over:
            before = time.process_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.process_time() - before)

    kube = KubernetesClient(Configuration(host=NOWHERE))
    async with kube, PrefectApi(PrefectEndpoint(f"{NOWHERE}/api"), pool="etl") as api:
        consent = Consent(kube, binding_namespace="data")
        rehearsal = TemplateDryRun(kube, namespace="data", consent=consent)
        turns = asyncio.create_task(turn())
        began = time.process_time()
        await rehearsal.check(pool, api)
        taken, is_over = time.process_time() - began, True
        await turns
    return taken, longest


def least_cost(template: Object) -> tuple[float, float]:
    """Return the cost, measured again if it is too high: a rest that the code needs comes back at
    each attempt, one that the scheduler of a busy machine adds does not."""
    for _ in range(ATTEMPTS):
        taken, longest = asyncio.run(cost(template))
        if longest < STALL_SECONDS:
            break
    return taken, longest


def copy_seconds(template: Object) -> float:
    """Return the processor time of a deep copy of the template."""

    def once() -> float:
        began = time.process_time()
        copy.deepcopy(template)
        return time.process_time() - began

    return min(once() for _ in range(COPIES))


if __name__ == "__main__":
    gc.collect()
    gc.freeze()  # as `workpool-operator run` does
    copied = copy_seconds(of_one_mib(environment))
    costs = {make.__name__: least_cost(of_one_mib(make)) for make in TEMPLATES}
    print(json.dumps({name: (look / copied, stall) for name, (look, stall) in costs.items()}))
