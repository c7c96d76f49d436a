"""Runs the preflight checks of one binding, records their results as conditions, and decides when
to check again.

Every failure becomes a condition and ends nothing, also an unexpected answer or a bug in the
operator. Only an unavailable API server, which could not store a condition, becomes a log line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding import conditions as c
from workpool_operator.binding import preflight_checks
from workpool_operator.binding.conditions import Conditions
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.context import Binding, OperatorContext
from workpool_operator.binding.pool_sync import PoolSync
from workpool_operator.binding.secrets import RunSecrets
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

CHECK_SECONDS = 8.0  # so that a fault of a Secret, the pool or a right shows within 15 s
FAILED_CHECK_SECONDS = 3.0
QUIET_SECONDS = 0.2  # requests to check that come together cause one check
WORKERS_SECONDS = 60.0
# The checks find the cause of one failed poll. If two fail in a row and the checks found nothing
# between them, the polls themselves are what fails.
FAILED_POLLS = 2
RATE_LIMITED = "RateLimited"
NOT_CHECKED = "cannot check the cluster"
NOT_POLLED = "cannot poll its work pool"


class Preflight:
    """Checks one binding and keeps the results.

    `generation` is that of the checked spec, `address` the server's as last found, `pool` the pool
    as the server has it, `served` the pool with the last valid template. `queues` are the work
    queues to poll (None: all, empty: do not poll), `workers` the names of the pool's online workers
    (None: unknown), `server_version` the server's version (None: not read, "": unknown).
    `unusable_at` is when the server or the pool was last found unusable, in monotonic seconds.
    `rights_reviewed` is set by each review of the rights in a namespace of Jobs. `reported()` is
    called after each check and each poll. `pool_sync` creates the pool and keeps its template.
    """

    def __init__(
        self,
        binding: Binding,
        context: OperatorContext,
        *,
        run_secrets: RunSecrets,
        reported: Callable[[], None] = lambda: None,
    ) -> None:
        self._binding = binding
        self._context = context
        self._reported = reported
        self._kube = kube = context.kube
        self._job_namespace = binding.job_namespace
        self._run_secrets = run_secrets
        self.pool_sync = PoolSync(binding, kube)
        self._consent = Consent(
            kube,
            binding_namespace=binding.namespace,
            field=binding.field_of,
            clock=context.clock,
        )
        # Why no Job can be created in a namespace that runs can choose: only these runs wait.
        self._namespace_faults: dict[str, BindingFault] = {}
        self._template_dry_run = TemplateDryRun(
            kube,
            namespace=self._job_namespace,
            consent=self._consent,
            allowed_namespaces=lambda: binding.allowed_namespaces,
            template_environment=context.template_environment,
            overlay=binding.overlay,
            clock=context.clock,
        )
        self._requested = asyncio.Event()
        self.rights_reviewed = asyncio.Event()
        self._problems = ProblemLogger(log, binding.key)
        self._checking = c.SERVER_RESOLVED  # the condition that is being checked
        self._server: PrefectEndpoint | None = None
        self._failed_polls = 0
        self._poll_error: OperatorError | None = None
        # Not in the first check: if a hundred bindings start at once, the list of workers can wait.
        self._workers_read_at = context.clock.monotonic() - WORKERS_SECONDS + FAILED_CHECK_SECONDS
        self.conditions = Conditions()
        self.generation = 0
        self.address = ""
        self.pool: WorkPool | None = None
        self.served: WorkPool | None = None
        self.queues: Sequence[str] | None = ()
        self.workers: Sequence[str] | None = None
        self.server_version: str | None = None
        self.unusable_at = float("-inf")

    async def credentials(self) -> PrefectEndpoint:
        """Return the server that the spec names, with the values of its Secrets.

        Raises:
            BindingFault: the address is invalid, or a Secret or ConfigMap cannot be used.
        """
        self._checking = c.SERVER_RESOLVED
        self.generation = self._binding.generation()
        spec = self._binding.spec()
        namespace, kube = self._binding.namespace, self._kube
        found = await preflight_checks.find_server(spec, namespace=namespace, kube=kube)
        trust = await preflight_checks.read_ca(spec, namespace=namespace, kube=kube)
        self.address = PrefectEndpoint(found.url).address
        text = f"The Prefect API is at {self.address}.{found.remark}"
        self.conditions.set_true(c.SERVER_RESOLVED, "Resolved", text)
        self._checking = c.CREDENTIALS_VALID
        self._server = await preflight_checks.read_credentials(
            spec, found, namespace=namespace, kube=kube, trust=trust
        )
        return self._server

    async def check(
        self, api: PrefectApi, *, waiting: Callable[[], None] = lambda: None
    ) -> WorkPool | None:
        """Make every check that needs the server or the cluster; each result becomes a condition.
        `waiting()` is called while the checks of other bindings take all slots of the server.

        Returns:
            The pool as the server has it, None if the server has none of that name.

        Raises:
            OperatorError: the pool cannot be read.
        """
        async with self._context.check_slot(api.server.url, waiting=waiting):
            await self._read_pool(api)
            pool = await self._conditions_from(self._check_pool(api))
        if pool is not None:
            await self._conditions_from(self._check_jobs(pool, api))
        return self.pool

    async def _read_pool(self, api: PrefectApi) -> None:
        self._checking = c.SERVER_REACHABLE
        try:
            pool = await preflight_checks.read_pool(api)
            self.pool = await self.pool_sync.apply(pool, api)
        except OperatorError:
            self.pool_sync.uncheck()
            self._failed_polls = 0  # the outage explains them
            raise

    async def _conditions_from(self, check: Awaitable[T]) -> T | None:
        """Return the check's result, or None if it failed, which becomes a condition."""
        try:
            return await check
        except Exception as error:
            self.check_failed(error)
            return None

    async def _check_pool(self, api: PrefectApi) -> WorkPool | None:
        """Return the pool, if its runs may be claimed."""
        spec = self._binding.spec()
        fault = await self._check_queues(spec, api)
        self._check_polls(api, fault)
        await self._record_connected(api)
        self._checking = c.WORK_POOL_FOUND
        if self.pool is None and self.pool_sync.fault:
            raise self.pool_sync.fault
        pool = preflight_checks.check_pool_type(self.pool, spec, api)
        if fault:
            self.check_failed(fault)
            if not fault.partial:
                return None
        else:
            text = f"Work pool {pool.name!r} exists and has type {pool.type!r}."
            self.conditions.set_true(c.WORK_POOL_FOUND, "Found", text)
        await self._read_workers(api)
        return pool

    async def _check_jobs(self, pool: WorkPool, api: PrefectApi) -> None:
        self._checking = c.TEMPLATE_VALID
        try:
            text = await preflight_checks.check_template(pool, api, self._template_dry_run)
        except BindingFault as fault:
            if fault.reason == preflight_checks.INVALID_PATCH:
                self.served = None  # also claimed runs wait: every Job would be rejected
            raise
        self.served = pool  # not before: claimed runs keep the last valid template
        self.conditions.set_true(c.TEMPLATE_VALID, "Valid", text)
        self._checking = c.JOBS_PERMITTED
        text = await self._check_namespace(self._job_namespace, api)
        faults = dict[str, BindingFault]()
        for namespace in sorted(self._binding.allowed_namespaces):
            try:
                text += f" {await self._check_namespace(namespace, api)}"
            except BindingFault as fault:
                faults[namespace] = fault
                text += f" Runs for namespace {namespace!r} wait: {str(fault).rstrip('.')}."
        self._namespace_faults = faults
        reason = "PartlyAllowed" if self._namespace_faults else "Allowed"
        self.conditions.set_true(c.JOBS_PERMITTED, reason, text)
        self._problems.resolved(NOT_CHECKED)

    async def _check_namespace(self, namespace: str, api: PrefectApi) -> str:
        """Return that Jobs can be created there, as sentences for the condition JobsPermitted.

        Raises:
            BindingFault: they cannot.
        """
        try:
            await preflight_checks.check_jobs_permitted(self._kube, namespace, self._consent)
            self.rights_reviewed.set()
            notes = await self._run_secrets.ensure(api.server, namespace)
        except KubernetesRefused as refused:
            raise preflight_checks.kubernetes_fault(refused, c.JOBS_PERMITTED) from refused
        return f"The operator may create Jobs in namespace {namespace!r}.{notes}"

    async def check_creation(self, namespace: str) -> None:
        """Check that a Job may be created in the namespace now.

        Raises:
            BindingFault: it may not.
        """
        if namespace not in self._binding.job_namespaces:
            text = f"Namespace {namespace!r} was removed from spec.jobs.allowedNamespaces."
            raise BindingFault(c.JOBS_PERMITTED, "NamespaceNotAllowed", text)
        if fault := self._namespace_faults.get(namespace):
            raise fault
        await self._consent.check(namespace)

    async def _check_queues(self, spec: Spec, api: PrefectApi) -> BindingFault | None:
        """Set the queues to poll, without missing ones; return the fault if some are missing."""
        if self.pool is None or self.pool.type != spec.work_pool.type:
            self.queues = ()
            return None
        self.queues, fault = await preflight_checks.check_queues(spec, api)
        return fault

    def _check_polls(self, api: PrefectApi, queue_fault: BindingFault | None) -> None:
        """Raise a fault if polls fail although the server answers other requests."""
        error = self._poll_error
        if error is None or self.queues == () or self._failed_polls < FAILED_POLLS:
            return
        if queue_fault and isinstance(error, PrefectNotFound):
            return  # the missing queue was the cause: the next poll leaves it out
        raise preflight_checks.poll_fault(error, api)

    async def _read_workers(self, api: PrefectApi) -> None:
        """Read the pool's workers once a minute: they are for information and change slowly."""
        if self._context.clock.monotonic() - self._workers_read_at < WORKERS_SECONDS:
            return
        self.workers = await self._context.workers.get(
            (api.server, api.pool), lambda: preflight_checks.workers_online(api)
        )
        self._workers_read_at = self._context.clock.monotonic()

    async def _record_connected(self, api: PrefectApi) -> None:
        """Record that the server answered and accepted the credentials."""
        server = api.server
        if server.without_credentials:
            reason, text = "Anonymous", "The server requires no credentials."
        else:
            reason, text = "Accepted", "The server accepts the credentials."
        self.conditions.set_true(c.CREDENTIALS_VALID, reason, text)
        known, version_warning = self.server_version, preflight_checks.version_warning
        if known is None or version_warning(known):  # an old one may be upgraded
            known = self.server_version = await self._context.versions.get(
                server, lambda: preflight_checks.server_version(api)
            )
        warning = version_warning(known)
        text = f"{server.address} answers. {warning}".rstrip()
        self.conditions.set_true(c.SERVER_REACHABLE, "Connected", text)

    def check_failed(self, error: Exception) -> None:
        """Record the error that ended a check, as a condition if possible."""
        match error:
            case BindingFault():
                self._set_false(error)
            case PrefectRefused() | PrefectUnavailable() if self._server:
                self._set_false(preflight_checks.server_fault(error, self._server))
            case KubernetesRefused():
                self._set_false(preflight_checks.kubernetes_fault(error, self._checking))
            case OperatorError():
                self._problems.report(NOT_CHECKED, error)
            case _:
                self._set_internal_error(error)

    def _set_false(self, fault: BindingFault) -> None:
        if fault.reason == RATE_LIMITED == self.conditions.get(fault.condition).reason:
            return  # the first message names the whole time to wait, not the rest of it
        self.conditions.set_false(fault.condition, fault.reason, str(fault), partial=fault.partial)
        if fault.condition == c.SERVER_REACHABLE:
            self.server_version = None  # it may be upgraded when it is back
        if fault.condition in c.NEEDED_TO_POLL and not fault.partial:
            self.unusable_at = self._context.clock.monotonic()

    def _set_internal_error(self, error: Exception) -> None:
        reason, text = c.internal_error(error, task="check this condition")
        if self.conditions.get(self._checking).message != text:
            shown = OperatorError("its text is left out: it may contain a secret")
            shown = shown.with_traceback(error.__traceback__)
            log.error("%s: %s: %s", self._binding.key, self._checking, text, exc_info=shown)
        self.conditions.set_false(self._checking, reason, text)

    def poll_ended(self, error: OperatorError | None) -> None:
        """Record the result of a poll. If it failed, check now, to find the cause."""
        self._poll_error = error
        self._failed_polls = self._failed_polls + 1 if error else 0
        if error is None:
            self._problems.resolved(NOT_POLLED)
        else:
            self._problems.report(NOT_POLLED, error)
        if error is not None or not self.conditions.all_true():
            self._requested.set()
        self._reported()

    def read_workers_again(self) -> None:
        """Read the pool's workers at the next check, because the binding's own has a new name."""
        self.workers, self._workers_read_at = None, float("-inf")

    def recheck(self) -> None:
        """Check now, because something may have changed."""
        self._requested.set()

    def may_claim(self) -> bool:
        """Return whether conditions, spec and pool allow claims."""
        paused = self.pool is not None and self.pool.is_paused
        closed = self._binding.spec().suspend or self._binding.deletion()
        return self.conditions.allow_claims() and not closed and not paused

    def is_servable(self) -> bool:
        """Return whether the binding can serve the pool. If not, it must not poll or send
        heartbeats: Prefect would show the pool as READY."""
        return self.queues != ()

    async def wait_for_next_check(self) -> None:
        """Wait until a check is due or requested."""
        self._reported()
        try:
            healthy = self.conditions.all_true()
            async with asyncio.timeout(CHECK_SECONDS if healthy else FAILED_CHECK_SECONDS):
                await self._requested.wait()
            await asyncio.sleep(QUIET_SECONDS)
        except TimeoutError:
            pass
        self._requested.clear()
