"""Prefect's BaseWorker with the operator's RunController behind it.

Prefect's loops poll, count runs, set labels and emit events. This class overrides the claim, so
that it can be proved; `run`, which follows the Job to its end; and the report of a crash, which the
controller makes.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import InfrastructureError
from prefect.workers.base import BaseWorkerResult

from workpool_operator.errors import OperatorError
from workpool_operator.jobs.base_job_template import KubernetesJobVariables
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.prefect_api.models import Run, WorkPool
from workpool_operator.worker.configuration import ResolvedConfiguration
from workpool_operator.worker.resilient import ResilientWorker, TaskStatus

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

    from workpool_operator.runs.handle import RunHandle
    from workpool_operator.worker.runtime import WorkerRuntime


_served: ContextVar[UUID | None] = ContextVar("the claim that the task serves", default=None)


class KubernetesJobWorkerResult(BaseWorkerResult):
    """`identifier` is `namespace:job-name`, `status_code` the flow container's exit code."""


class KubernetesJobWorker(
    ResilientWorker[KubernetesJobConfiguration, KubernetesJobVariables, KubernetesJobWorkerResult]
):
    """Runs each flow run as one Kubernetes Job."""

    type = "kubernetes-operator"
    job_configuration = ResolvedConfiguration
    job_configuration_variables = KubernetesJobVariables
    _documentation_url = "https://docs.prefect.io/v3/deploy/infrastructure-concepts/workers"
    _logo_url = (
        "https://cdn.sanity.io/images/3ugk85nk/production/"
        "2d0b896006ad463b49c28aaac14f31e00e32cfab-250x250.png"
    )
    _description = (
        "Execute each flow run as a Kubernetes Job: exactly one per run, followed to its end. "
        "Requires a Kubernetes cluster."
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._runtime: WorkerRuntime | None = None
        self._adopted: UUID | None = None
        self._claimed: dict[UUID, RunHandle] = {}

    # Lifecycle

    async def setup(self) -> None:
        """Set up Prefect's part and the runtime; no request goes to Kubernetes yet."""
        from workpool_operator.worker.runtime import WorkerRuntime  # imports Kubernetes' client

        try:
            await super().setup()
            runtime = WorkerRuntime(
                pool=self._work_pool_name,
                worker_name=self.name,
                work_pool=lambda: WorkPool.of(self.work_pool.model_dump(mode="json")),
                clock=self._clock,
            )
            self._runtime = await runtime.__aenter__()
        except BaseException:
            await super().teardown(None, None, None)  # Prefect's own code leaves its client open
            raise

    async def teardown(self, *exc_info: Any) -> None:
        """Wait for the runs unless stopped: then their Jobs continue for a later worker."""
        try:
            await super().teardown(*exc_info)
        finally:
            if self._runtime is not None:
                await self._runtime.__aexit__(*exc_info)
                self._runtime = None

    @property
    def runtime(self) -> WorkerRuntime:
        """The runtime, between setup and teardown."""
        if self._runtime is None:
            raise RuntimeError("The worker is not set up: use it as an async context manager.")
        return self._runtime

    async def before_poll(self) -> None:
        """Connect to the cluster, and adopt unfinished runs before any new run is claimed."""
        controller = await self.runtime.open(self.work_pool.id)
        if self._adopted != self.work_pool.id:
            for handle in await controller.adopted():
                self._adopt(handle)
            self._adopted = self.work_pool.id

    # States

    async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
        """Claim the run; return whether this worker has it."""
        run = Run.of(flow_run.model_dump(mode="json"))
        if await self.runtime.has_unfinished_job(run):
            self._logger.info("Flow run %s waits until its previous Job has ended.", flow_run.id)
            return False
        age = (self._clock.now() - self._last_polled_time).total_seconds()
        handle = await self.runtime.controller.claim(run, read_at=self._clock.monotonic() - age)
        if handle is None:
            self.get_flow_run_logger(flow_run).info("Aborted submission of flow run.")
            return False
        self._serve(handle)
        return True

    async def _propose_submitting_state(self, flow_run: FlowRun) -> None:
        from workpool_operator.worker import reports  # imports Kubernetes' client

        if flow_run.id in self._claimed:
            await reports.report_submitting(self.runtime.controller, flow_run.id)

    async def _propose_crashed_state(
        self, flow_run: FlowRun, message: str, client: PrefectClient | None = None
    ) -> None:
        """Report a crash only if neither the controller nor the run itself reported an end."""
        from workpool_operator.worker import reports  # imports Kubernetes' client

        if not self.runtime.is_open:
            await super()._propose_crashed_state(flow_run, message, client)
        elif await reports.report_crashed(
            self.runtime.controller, flow_run.id, message, claim_id=_served.get()
        ):
            text = f"Reported flow run '{flow_run.id}' as crashed: {message}"
            self.get_flow_run_logger(flow_run).info(text)

    def _release_limit_slot(self, flow_run_id: UUID) -> None:
        super()._release_limit_slot(flow_run_id)
        if handle := self._claimed.pop(flow_run_id, None):
            handle.close()

    # Runs

    async def run(
        self,
        flow_run: FlowRun,
        configuration: KubernetesJobConfiguration,
        task_status: TaskStatus | None = None,
    ) -> KubernetesJobWorkerResult:
        """Create the run's Job, and follow it until its end is reported and no pod of it runs.

        A run that ends without a Job (rejected, cancelled) returns a result, too: its state has the
        reason.
        """
        started = task_status.started if task_status else _started
        if flow_run.id not in self._claimed:
            self._serve(await self._claim(flow_run.id))
        handle = self._claimed.pop(flow_run.id)
        try:
            await self.runtime.watch(configuration.namespace)
            self.runtime.inherit(configuration)
            with self.runtime.creating(handle, configuration):
                job = await handle.job()
                started(handle.identifier if job else InfrastructureError(handle.identifier))
                code = await handle.exit_code()
                return KubernetesJobWorkerResult(identifier=handle.identifier, status_code=code)
        except OperatorError as error:
            await self._propose_crashed_state(flow_run, f"The run's Job cannot be created. {error}")
            started(error)
            namespace = configuration.namespace
            return KubernetesJobWorkerResult(identifier=f"{namespace}:", status_code=125)
        finally:
            handle.close()

    async def _initiate_run(
        self, flow_run: FlowRun, configuration: KubernetesJobConfiguration
    ) -> None:
        """Schedule a flow that was submitted without a deployment: a poll then claims its run."""
        await self.runtime.open(self.work_pool.id)
        await self.runtime.schedule(flow_run.id)

    async def kill_infrastructure(
        self,
        infrastructure_pid: str,
        configuration: KubernetesJobConfiguration,
        grace_seconds: int = 30,
    ) -> None:
        """Delete the run's Job in the foreground.

        Raises:
            ValueError: the pid is not `namespace:job-name`.
            InfrastructureNotFound: the Job does not exist.
            InfrastructureNotAvailable: it is in another cluster, or not of this pool.
        """
        await self.runtime.open(self.work_pool.id)
        flow_run = configuration._related_objects.get("flow-run")
        run_id = flow_run.id if flow_run else None
        await self.runtime.kill(infrastructure_pid, run_id=run_id, grace_seconds=grace_seconds)

    def _serve(self, handle: RunHandle) -> None:
        """Remember the claim for `run`, and for what this task reports after its slot was released:
        the run can have been claimed again by then."""
        self._claimed[handle.run_id] = handle
        _served.set(handle.claimed.claim.id)

    async def _claim(self, run_id: UUID) -> RunHandle:
        """Claim a run that no poll returned, for example one that a client keeps PENDING."""
        await self.runtime.open(self.work_pool.id)
        handle = await self.runtime.take(run_id)
        if handle is None:
            raise InfrastructureError(f"Flow run {run_id} is not SCHEDULED: it cannot be claimed.")
        return handle

    # Adoption of what an earlier worker left unfinished

    def _adopt(self, handle: RunHandle) -> None:
        assert self._runs_task_group is not None
        run_id = handle.run_id
        if run_id in self._in_flight or run_id in self._submitting_flow_run_ids:
            handle.close()
            return
        self._in_flight.add(run_id, has_slot=False)
        self._runs_task_group.start_soon(self._resume, handle)

    async def _resume(self, handle: RunHandle) -> None:
        assert self._runs_task_group is not None
        flow_run = FlowRun.model_validate(handle.claimed.run.document)
        self._logger.info("Adopting flow run %s (%s).", flow_run.id, flow_run.state_name)
        namespace = handle.claimed.recorded_namespace
        if handle.claimed.run.state_type == "PENDING" and not namespace:
            self._serve(handle)
            await self._runs_task_group.start(self._submit_run_and_capture_errors, flow_run)
            return
        try:
            await self._follow_on(flow_run, handle, namespace)
        except Exception as error:
            self._logger.warning("Flow run %s is not followed: %s", flow_run.id, error)
        finally:
            self._release_limit_slot(flow_run.id)

    async def _follow_on(self, flow_run: FlowRun, handle: RunHandle, namespace: str) -> None:
        """Follow the run's Job, which exists or has existed."""
        namespace = namespace or (await self._configuration_of(flow_run)).namespace
        await self.runtime.watch(namespace)
        with handle.following(namespace):
            code = await handle.exit_code()
        result = KubernetesJobWorkerResult(identifier=handle.identifier, status_code=code)
        configuration = KubernetesJobConfiguration(job_manifest={})
        configuration._related_objects = {"flow-run": flow_run}
        self._emit_flow_run_executed_event(result, configuration)

    async def _configuration_of(self, flow_run: FlowRun) -> KubernetesJobConfiguration:
        return await self.job_configuration.resolve_for_flow_run(
            flow_run,
            client=self.client,
            work_pool=self.work_pool.model_copy(deep=True),
            worker_name=self.name,
            worker_id=self.backend_id,
        )


def _started(identifier: object) -> None:
    """Do nothing: the caller does not wait for the run's start."""
