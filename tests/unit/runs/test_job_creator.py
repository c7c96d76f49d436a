"""If a Job cannot be created, the run's record keeps the reason, and the table ends the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from tests.support.snapshots import RUN_ID, claim, id_of, pending, record, run
from workpool_operator.errors import DeploymentNotFound, PrefectUnavailable, RenderError
from workpool_operator.jobs.rendered_job import RenderedJob
from workpool_operator.kube.cache import Cache
from workpool_operator.prefect_api.run_logs import RunLogSender
from workpool_operator.runs.claims import ClaimedRun
from workpool_operator.runs.job_creator import JobCreator
from workpool_operator.runs.job_writer import JobWriter
from workpool_operator.runs.store import JobFault, JobFaultReason, RunStore

CLAIMED = ClaimedRun(run(pending()), claim())


class Renderer:
    """Raises the given error, or leaves the run to another process."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def render(
        self, claimed: ClaimedRun, *, deployment: Mapping[str, Any] | None
    ) -> RenderedJob | None:
        if self._error:
            raise self._error
        return None


async def store_after(error: Exception | None) -> RunStore:
    """Return the store after one attempt, which calls neither Prefect nor Kubernetes."""
    absent: Any = None
    store = RunStore(lambda _: frozenset())
    store.put(RUN_ID, record(CLAIMED.run, mine="claim"))
    creator = JobCreator(
        renderer=Renderer(error),
        creation=cast("JobWriter", absent),
        store=store,
        job_cache=Cache(lambda _: None),
        run_log=cast("RunLogSender", absent),
        forbidden=lambda _: None,
    )
    await creator.create_job(CLAIMED)
    return store


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeploymentNotFound("Deployment d no longer exists"), JobFaultReason.DEPLOYMENT_NOT_FOUND),
        (RenderError("job_manifest.spec", "no object"), JobFaultReason.RENDERING_FAILED),
    ],
)
async def test_a_job_that_cannot_be_rendered_is_a_fault_of_its_claim(
    error: Exception, reason: JobFaultReason
) -> None:
    known = (await store_after(error)).of(RUN_ID)
    assert known.job_fault == JobFault(claim().id, reason, str(error))
    assert known.run == CLAIMED.run


async def test_a_run_that_another_process_submits_gets_no_job() -> None:
    known = (await store_after(None)).of(RUN_ID)
    assert known.foreign_state_id == id_of("claim")
    assert known.job_fault is None


async def test_an_unavailable_server_is_no_fault_of_the_run() -> None:
    with pytest.raises(PrefectUnavailable):
        await store_after(PrefectUnavailable("no answer"))
