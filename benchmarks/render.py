"""Processor time of rendering one Job: the largest part of a claim that is not waiting."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

from tests.support.prefect import PrefectApi
from workpool_operator.jobs import render as rendering
from workpool_operator.jobs.manifest import Identity
from workpool_operator.jobs.render import Subject
from workpool_operator.prefect_api.client import PrefectApi as Connection
from workpool_operator.prefect_api.client import Server, tls_context

RENDERS = 300


async def cpu_seconds(api: PrefectApi) -> float:
    """The mean over many runs, each of its own name, of a pool with the stock template."""
    pool = f"bench-{uuid.uuid4().hex[:8]}"
    subject = await _subject(api, pool)
    return await _mean(subject, _identity(subject, api.url), api.url)


async def _mean(subject: Subject, identity: Identity, url: str) -> float:
    async with Connection(Server(url), pool=identity.binding_id, tls=tls_context()) as connection:
        await rendering.render(subject, identity, client=connection.client)
        subjects = [_of_another_run(subject) for _ in range(RENDERS)]
        began = time.thread_time()
        for each in subjects:
            await rendering.render(each, identity, client=connection.client)
        return (time.thread_time() - began) / RENDERS


def _of_another_run(subject: Subject) -> Subject:
    own = uuid.uuid4()
    return replace(subject, run={**subject.run, "id": str(own), "name": f"run-{own.hex[:8]}"})


async def _subject(api: PrefectApi, pool: str) -> Subject:
    document = await api.create_pool(pool)
    deployment = await api.create_deployment(
        flow="bench", name=pool, pool=pool, job_variables={"image": "bench", "env": {"A": "1"}}
    )
    run = await api.create_run(deployment["id"])
    flow = await api.one("GET", f"/flows/{run['flow_id']}")
    return Subject(run=run, flow=flow, deployment=deployment, pool=document, worker_name="bench")


def _identity(subject: Subject, url: str) -> Identity:
    return Identity(
        run_id=uuid.UUID(subject.run["id"]),
        claim_id=uuid.uuid4(),
        pool_id=uuid.UUID(subject.pool["id"]),
        binding="bench/bench",
        binding_id="bench",
        server=url,
        namespace="bench",
    )
