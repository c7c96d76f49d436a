"""What holds for one binding, as of the last look, and when to look again.

A look goes through the prerequisites in order and turns each into a condition. Whatever it meets,
an unexpected answer or a defect of the operator included, is a condition and ends nothing. Only
where the API server does not answer, which could not take a condition anyway, it is a log line.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding import conditions as c
from workpool_operator.binding import preflight_checks
from workpool_operator.binding.conditions import Conditions
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.context import Binding, OperatorContext
from workpool_operator.binding.secrets import RunSecrets
from workpool_operator.binding.template_condition import template_valid
from workpool_operator.binding.template_dry_run import TemplateDryRun
from workpool_operator.errors import (
    BindingFault,
    KubernetesRefused,
    OperatorError,
    PrefectNotFound,
    PrefectRefused,
    PrefectUnavailable,
)
from workpool_operator.logs import ProblemLogger
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.models import WorkPool

log = logging.getLogger(__name__)

T = TypeVar("T")

CHECK_SECONDS = 8.0  # a fault of Secret, pool or rights shows within 15 s
FAILED_CHECK_SECONDS = 3.0
QUIET_SECONDS = 0.2  # reasons to look that come together make one look
WORKERS_SECONDS = 60.0
# One failed poll is the look's to explain. Of two in a row, with the server found well between
# them, the poll itself is what fails.
FAILED_POLLS = 2
NOT_CHECKED = "cannot look at the cluster"
NOT_POLLED = "its work pool cannot be polled"


class Preflight:
    """`generation` is that of the spec which the conditions speak of, `pool` what the server has
    under the pool's name, `served` the last of it that could be served, `queues` the work queues
    to poll (None: all), `workers` those that Prefect lists as online on the pool (None: not known).
    """

    def __init__(
        self,
        binding: Binding,
        around: OperatorContext,
        *,
        job_namespace: str,
        run_secrets: RunSecrets,
    ) -> None:
        self._binding = binding
        self._around = around
        self._kube = kube = around.kube
        self._job_namespace = job_namespace
        self._run_secrets = run_secrets
        self.consent = Consent(
            kube,
            binding_namespace=binding.namespace,
            job_namespace=job_namespace,
            clock=around.clock,
        )
        self._rehearsal = TemplateDryRun(
            kube,
            namespace=job_namespace,
            consent=self.consent,
            template_environment=around.template_environment,
            clock=around.clock,
        )
        self._wanted = asyncio.Event()
        self._trouble = ProblemLogger(log, binding.key)
        self._at = c.SERVER_RESOLVED  # the condition that is being looked at
        self._server: PrefectEndpoint | None = None
        self._failed_polls = 0
        self._poll_error: OperatorError | None = None
        # Not in the first look: where a hundred bindings start at once, it can wait.
        self._workers_asked_at = around.clock.monotonic() - WORKERS_SECONDS + FAILED_CHECK_SECONDS
        self.conditions = Conditions()
        self.generation = 0
        self.pool: WorkPool | None = None
        self.served: WorkPool | None = None
        self.queues: Sequence[str] | None = ()
        self.workers: Sequence[str] | None = None
        self.server_version: str | None = None  # empty where the server does not tell

    async def credentials(self) -> PrefectEndpoint:
        """The server that the spec names, with the values of its Secrets.

        Raises:
            BindingFault: there is no such Secret or key.
        """
        self._at = c.SERVER_RESOLVED
        self.generation = self._binding.generation()
        spec = self._binding.spec()
        url, namespace = preflight_checks.check_server_url(spec), self._binding.namespace
        trust = await preflight_checks.read_ca(spec, namespace=namespace, kube=self._kube)
        shown = PrefectEndpoint(url).address
        self.conditions.set_true(c.SERVER_RESOLVED, "Resolved", f"The Prefect API is {shown}.")
        self._at = c.CREDENTIALS_VALID
        self._server = await preflight_checks.read_credentials(
            spec, namespace=namespace, kube=self._kube, trust=trust
        )
        return self._server

    async def check(self, api: PrefectApi) -> WorkPool | None:
        """Every check that needs the server or the cluster. What fails is a condition from then on,
        and the runs in flight are followed all the same.

        Returns:
            The pool as the server has it; None where it has none.

        Raises:
            OperatorError: the server cannot be asked.
        """
        async with self._around.check_slots[api.server.url]:
            await self._read_pool(api)
            pool = await self._conditions_from(self._check_pool(api))
        if pool is not None:
            await self._conditions_from(self._check_jobs(pool, api))
        return self.pool

    async def _read_pool(self, api: PrefectApi) -> None:
        self._at = c.SERVER_REACHABLE
        try:
            self.pool = await preflight_checks.read_pool(api)
        except OperatorError:
            self._failed_polls = 0  # no wonder
            raise

    async def _conditions_from(self, check: Awaitable[T]) -> T | None:
        """What the check returns; None where it failed, which is a condition."""
        try:
            return await check
        except Exception as error:
            self.check_failed(error)
            return None

    async def _check_pool(self, api: PrefectApi) -> WorkPool | None:
        """The pool, if runs of it may be claimed."""
        spec = self._binding.spec()
        fault = await self._check_queues(spec, api)
        self._check_polls(api, fault)
        await self._reached(api)
        self._at = c.WORK_POOL_FOUND
        pool = preflight_checks.check_pool_type(self.pool, spec, api)
        if fault:
            self.check_failed(fault)
            if not fault.partial:
                return None
        else:
            found = f"Work pool {pool.name!r}, of type {pool.type!r}."
            self.conditions.set_true(c.WORK_POOL_FOUND, "Found", found)
        await self._count_workers(api)
        return pool

    async def _check_jobs(self, pool: WorkPool, api: PrefectApi) -> None:
        self._at = c.TEMPLATE_VALID
        said = await template_valid(pool, api, self._rehearsal)
        self.served = pool  # no sooner: a run that is claimed already has the template before
        self.conditions.set_true(c.TEMPLATE_VALID, "Valid", said)
        self._at = c.JOBS_PERMITTED
        await preflight_checks.check_jobs_permitted(self._kube, self._job_namespace, self.consent)
        beside = await self._run_secrets.ensure(api.server)
        where = f"The operator may make Jobs in namespace {self._job_namespace!r}."
        self.conditions.set_true(c.JOBS_PERMITTED, "Allowed", where + beside)
        self._trouble.resolved(NOT_CHECKED)

    async def _check_queues(self, spec: Spec, api: PrefectApi) -> BindingFault | None:
        """What is wrong with the queues of the spec; a poll leaves out those that are missing."""
        if self.pool is None or self.pool.type != spec.work_pool.type:
            self.queues = ()
            return None
        self.queues, fault = await preflight_checks.check_queues(spec, api)
        return fault

    def _check_polls(self, api: PrefectApi, queue_fault: BindingFault | None) -> None:
        """The server answers; a poll that fails all the same is a fault of its own."""
        error = self._poll_error
        if error is None or self.queues == () or self._failed_polls < FAILED_POLLS:
            return
        if queue_fault and isinstance(error, PrefectNotFound):
            return  # that was why: the next one leaves the queue out
        raise preflight_checks.poll_fault(error, api)

    async def _count_workers(self, api: PrefectApi) -> None:
        """It is only worth a remark, and changes slowly."""
        if self._around.clock.monotonic() - self._workers_asked_at < WORKERS_SECONDS:
            return
        self.workers = await self._around.workers.get(
            (api.server, api.pool), lambda: preflight_checks.workers_online(api)
        )
        self._workers_asked_at = self._around.clock.monotonic()

    async def _reached(self, api: PrefectApi) -> None:
        """The server answered, to these credentials."""
        server = api.server
        self.conditions.set_true(
            c.CREDENTIALS_VALID,
            "Anonymous" if server.without_credentials else "Accepted",
            "The server asks for none."
            if server.without_credentials
            else "The server accepts what is sent.",
        )
        self.conditions.set_true(c.SERVER_REACHABLE, "Connected", f"{server.address} answers.")
        if self.server_version is None:
            self.server_version = await self._around.versions.get(
                api.server, lambda: preflight_checks.server_version(api)
            )

    def check_failed(self, error: Exception) -> None:
        """A look ended with it."""
        match error:
            case BindingFault():
                self._set_false(error)
            case PrefectRefused() | PrefectUnavailable() if self._server:
                self._set_false(preflight_checks.server_fault(error, self._server))
            case KubernetesRefused():
                text = f"{error}. Grant it to the operator as the chart and manifests/base do."
                self._set_false(BindingFault(self._at, "KubernetesRefused", text))
            case OperatorError():
                self._trouble.report(NOT_CHECKED, error)
            case _:
                self._defect(error)

    def _set_false(self, fault: BindingFault) -> None:
        self.conditions.set_false(fault.condition, fault.reason, str(fault), partial=fault.partial)
        if fault.condition == c.SERVER_REACHABLE:
            self.server_version = None  # it may be another when it is back

    def _defect(self, error: Exception) -> None:
        reason, text = c.defect(error, doing="to look at this")
        if self.conditions.get(self._at).message != text:
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("%s: %s: %s\n%s", self._binding.key, self._at, text, frames)
        self.conditions.set_false(self._at, reason, text)

    def poll_ended(self, error: OperatorError | None) -> None:
        """A poll tells first whether the server answers; a look then says what is wrong."""
        self._poll_error = error
        self._failed_polls = self._failed_polls + 1 if error else 0
        if error is None:
            self._trouble.resolved(NOT_POLLED)
        else:
            self._trouble.report(NOT_POLLED, error)
        if error is not None or not self.conditions.all_true():
            self._wanted.set()

    def recheck(self) -> None:
        """Look now: something may have changed."""
        self._wanted.set()

    def may_claim(self) -> bool:
        """Whether runs may be taken from the pool at all."""
        paused = self.pool is not None and self.pool.is_paused
        return self.conditions.allow_claims() and not self._binding.spec().suspend and not paused

    def is_servable(self) -> bool:
        """Whether the pool is one to be a worker of: else neither polls nor heartbeats may make it
        look as if somebody took its runs."""
        return self.queues != ()

    async def wait_for_next_check(self) -> None:
        """Return when it is time to look again."""
        try:
            healthy = self.conditions.all_true()
            async with asyncio.timeout(CHECK_SECONDS if healthy else FAILED_CHECK_SECONDS):
                await self._wanted.wait()
            await asyncio.sleep(QUIET_SECONDS)
        except TimeoutError:
            pass
        self._wanted.clear()
