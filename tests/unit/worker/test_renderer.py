"""A worker renders Jobs only for the runs that its own process submitted."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.support.snapshots import RUN_ID, claim, job_name, run
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.prefect_api.models import WorkPool
from workpool_operator.runs.claims import ClaimedRun, Owner
from workpool_operator.worker.renderer import ConfigurationRenderer

OWNER = Owner("c", "worker:etl", "b", "w", "data", "http://server/api", UUID(int=1), ())
POOL = WorkPool.of(
    {"id": str(UUID(int=1)), "name": "etl", "type": "kubernetes", "base_job_template": {}}
)
MANIFEST: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {},
    "spec": {
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "prefect-job", "image": "flows:1"}],
            }
        }
    },
}


def claimed(id_: str = "claim") -> ClaimedRun:
    return ClaimedRun(run("PENDING"), claim(id_))


def renderer(*run_ids: UUID) -> ConfigurationRenderer:
    """Return the renderer of a worker that submitted these runs."""
    configuration = KubernetesJobConfiguration(job_manifest=MANIFEST, name="brave-lynx")
    held = dict.fromkeys(run_ids, configuration)
    return ConfigurationRenderer(OWNER, configured=held.get, pool=lambda: POOL)


async def test_a_run_that_another_worker_submits_gets_no_job_here() -> None:
    assert await renderer(UUID(int=2)).render(claimed()) is None


async def test_a_job_can_be_rendered_again() -> None:
    ours = renderer(RUN_ID)
    first = await ours.render(claimed())
    second = await ours.render(claimed())
    assert first == second
    assert first is not None
    assert first.manifest["metadata"]["name"] == job_name()


async def test_each_claim_has_its_own_job() -> None:
    ours = renderer(RUN_ID)
    rendered = [await ours.render(claimed(id_)) for id_ in ("first", "second")]
    assert [made and made.manifest["metadata"]["name"] for made in rendered] == [
        job_name("first"),
        job_name("second"),
    ]
