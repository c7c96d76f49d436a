"""A pool of type kubernetes-operator whose Jobs are suspended, so that they have no pods."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.kube import Kube
from tests.support.polling import poll
from tests.support.prefect import Object, PrefectApi
from tests.support.worker_type import TYPE
from workpool_operator.worker import KubernetesJobWorker


def suspended_template() -> Object:
    """Return our default template, whose Job is suspended."""
    template: Object = KubernetesJobWorker.get_default_base_job_template()
    template["job_configuration"]["job_manifest"]["spec"]["suspend"] = True
    return template


@dataclass(frozen=True)
class SuspendedPool:
    """`await pool.run(due_in=5)` creates a run whose Job is created in the test's namespace."""

    api: PrefectApi
    name: str
    namespace: str

    @classmethod
    async def create(cls, api: PrefectApi, namespace: str) -> SuspendedPool:
        name = f"quiet-{uuid.uuid4().hex[:8]}"
        body = {"name": name, "type": TYPE, "base_job_template": suspended_template()}
        await api.one("POST", "/work_pools/", body)
        return cls(api, name, namespace)

    async def queue(self, name: str, *, priority: int) -> None:
        body = {"name": name, "priority": priority}
        await self.api.one("POST", f"/work_pools/{self.name}/queues", body)

    async def run(
        self,
        *,
        due_in: float = 0,
        state: str = "SCHEDULED",
        queue: str = "default",
        variables: Object | None = None,
        **fields: Any,
    ) -> Object:
        """Create a run of a new deployment; `fields` are fields of the run."""
        deployment = await self.api.create_deployment(
            flow="hello",
            name=uuid.uuid4().hex[:8],
            pool=self.name,
            work_queue_name=queue,
            job_variables={"namespace": self.namespace, **(variables or {})},
        )
        due = datetime.now(UTC) + timedelta(seconds=due_in)
        run = await self.api.create_run(deployment["id"], due=due, **fields)
        if state != "SCHEDULED":
            await self.api.set_state(run["id"], state, force=True)
        return run

    async def recorded(self, run: Object) -> Object:
        """Return the run once its Job is recorded."""
        return await self.api.wait(run["id"], until=lambda run: bool(run["infrastructure_pid"]))

    async def only_job(self, kube: Kube) -> Object:
        """Return the one Job of the test's namespace once there is any."""
        jobs = await poll(lambda: kube.list("jobs", self.namespace), until=bool)
        assert len(jobs) == 1
        return jobs[0]
