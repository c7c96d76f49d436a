"""Ten thousand live Jobs do not stop the event loop: other bindings claim their runs meanwhile.

`python -m benchmarks memory` measures the same on a real API server.
"""

from __future__ import annotations

import asyncio
import copy
import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest

from benchmarks.loop_steps import Longest, Steps
from tests.support.cluster_cache import synced_cluster
from tests.support.controller import OfflineController
from tests.support.snapshots import job, run
from workpool_operator.kube.cluster import ClusterCache
from workpool_operator.kube.models import RUN_LABEL, Job
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import Run

JOBS = 10_000
STEP_SECONDS = 0.015  # of the 0.05 promised, of which a collection of garbage may take the rest
ATTEMPTS = 2  # the machine may be busy
IDS = [UUID(int=number) for number in range(JOBS)]
#: About as large as the document of a real run.
DOCUMENT = {"parameters": {f"parameter-{number}": [number] * 10 for number in range(40)}}


class Server:
    """Has a running flow run for each Job."""

    async def filter_runs(self, body: dict[str, Any]) -> list[Run]:
        page = IDS[body["offset"] : body["offset"] + body["limit"]]
        if body["flow_runs"]["state"]["type"]["any_"] == ["SCHEDULED"]:
            return []
        one, found = run("RUNNING"), []
        for each in page:
            await asyncio.sleep(0)
            found.append(replace(one, id=each, document=copy.deepcopy(DOCUMENT)))
        return found


def cluster_with_jobs() -> ClusterCache:
    cluster, one = synced_cluster(), job()
    for number, run_id in enumerate(IDS):
        cluster.jobs.put(_job_of(one, f"uid-{number}", run_id))
    return cluster


def _job_of(one: Job, uid: str, run_id: UUID) -> Job:
    labels = {**one.metadata.labels, RUN_LABEL: str(run_id)}
    template = one.spec.template
    labelled = replace(template, metadata=replace(template.metadata, labels=labels))
    metadata = replace(one.metadata, uid=uid, labels=labels)
    return replace(one, metadata=metadata, spec=replace(one.spec, template=labelled))


@pytest.fixture
def without_collections() -> Iterator[None]:
    """The program collects garbage rarely; a test runner does not."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collections")
async def test_a_new_connection_counts_and_lists_ten_thousand_runs_in_short_steps() -> None:
    attempts = [await longest_step() for _ in range(ATTEMPTS)]
    assert min(attempts, key=lambda it: it.cpu_seconds).cpu_seconds < STEP_SECONDS, attempts


async def longest_step() -> Longest:
    server, cluster = cast("PrefectApi", Server()), cluster_with_jobs()
    controller = OfflineController(prefect=server, cluster=cluster)
    with Steps() as steps:
        await asyncio.sleep(0)
        steps.take()  # the one that has begun before
        await controller._count_all()
        listing = asyncio.create_task(controller._resync.run())
        await controller.ready()
        listing.cancel()
        longest = steps.take()
    assert len(controller.in_flight().pending) == len(controller.store) == JOBS
    assert len(controller.queue) == JOBS
    return longest
