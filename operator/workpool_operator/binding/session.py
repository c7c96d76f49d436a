"""Serves one binding: from its spec to a running controller and a true status.

A session has one ClusterCache, one Preflight and one StatusWriter, and one connection after the
other. A fault of the binding stops claims; runs in flight are followed as soon as server and pool
are known. Only a bug in the operator ends a session; the next one starts with empty caches.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding import conditions as c
from workpool_operator.binding import crd_check, preflight_checks, rights_review
from workpool_operator.binding.conditions import ConditionState, ServingState
from workpool_operator.binding.connection import OVERDUE_SECONDS, Connection
from workpool_operator.binding.context import Binding, OperatorContext
from workpool_operator.binding.deletion import Deletion, Remaining
from workpool_operator.binding.figures import BindingFigures, queued_by_reason
from workpool_operator.binding.pool_sharing import PoolConsumer, pool_shared
from workpool_operator.binding.preflight import Preflight
from workpool_operator.binding.secrets import RunSecrets
from workpool_operator.binding.status import StatusInput, StatusWriter, conditions_of
from workpool_operator.errors import (
    LONGEST_RETRY_AFTER_SECONDS,
    KubernetesNotFound,
    KubernetesRefused,
    LeaseNotHeld,
    OperatorError,
)
from workpool_operator.jobs import names
from workpool_operator.kube.cluster import ClusterCache, Subscriber
from workpool_operator.kube.models import BINDING_LABEL, POOL_LABEL, is_uuid
from workpool_operator.logs import ProblemLogger
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.runs.capacity import Capacity, InFlight, stage_of
from workpool_operator.runs.claims import Owner
from workpool_operator.runs.rules import ended

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0  # the status is built at most so often
SETTLE_SECONDS = 0.25  # from a report to the status: a run that a poll found first gets its Job
QUIET_STATUS_SECONDS = 5.0  # the same while nothing is reported: some of it depends on the time
FAILED_STATUS_SECONDS = 3.0
DELETION_SECONDS = 1.0  # between two counts of the runs that a deletion waits for
LAST_STATUS_SECONDS = 1.5
REVIEW_SECONDS = 9.5  # an answer is cached for 5 s: a missing right shows within 15 s


class _DeletionOver(Exception):
    """The binding is being deleted, and no run of it is waited for any longer."""


class BindingSession(Subscriber):
    """Serves one binding; once it is being deleted, until the `deletion` is over. `missing()` is
    called if the binding does not exist any more."""

    def __init__(
        self,
        binding: Binding,
        context: OperatorContext,
        *,
        cluster_id: str,
        deletion: Deletion,
        missing: Callable[[], None] = lambda: None,
    ) -> None:
        self._binding = binding
        self._context = context
        self._cluster_id = cluster_id
        self._missing = missing
        self._binding_id = names.binding_id(cluster_id=cluster_id, binding=binding.key)
        self._registered = ""  # the name of the worker that this session created in Prefect
        self._run_secrets = RunSecrets(binding, context.kube, binding_id=self._binding_id)
        self._reported = asyncio.Event()  # something that the status may say
        self._preflight = Preflight(
            binding, context, run_secrets=self._run_secrets, reported=self._reported.set
        )
        self._cluster = ClusterCache(
            context.kube,
            selector=f"{BINDING_LABEL}={self._binding_id}",
            alive=lambda resource: self._beat(resource, within=OVERDUE_SECONDS),
            restarted=context.observer.watch_restarted,
            clock=context.clock,
        )
        for namespace in binding.followed_namespaces:
            self._cluster.watch(namespace)
        self._capacity = Capacity()  # as the cluster alone shows it
        self._connection: Connection | None = None
        self._server: PrefectEndpoint | None = None
        self._rights = rights_review.NOT_REVIEWED
        self._crd_outdated = crd_check.NOT_READ
        self._unwatched: dict[tuple[str, str], str] = {}  # why the API server refused a watch
        self._deletion = deletion
        self._deletion_requested = asyncio.Event()
        self._shared_by: tuple[int, Sequence[str] | None] = (-1, None)
        self._shared = c.UNCHECKED
        self.unwritten = ""  # why the status cannot say what is wrong
        self._problems = ProblemLogger(log, binding.key)
        self._writer = StatusWriter(context.kube, binding, clock=context.clock)

    @property
    def _worker_name(self) -> str:
        return self._binding.worker_name(self._cluster_id)

    @property
    def synced(self) -> bool:
        """Whether the caches of Jobs and pods are filled. An allowed namespace that cannot be
        listed concerns only the runs that choose it."""
        home, *others = self._binding.job_namespaces
        return self._cluster.is_synced(home) and all(map(self._cluster.is_answered, others))

    @property
    def _in_flight(self) -> InFlight:
        """The runs in flight; without a connection as the cluster alone shows them."""
        if self._connection:
            return self._connection.controller.in_flight()
        return self._capacity.in_flight

    @property
    def starting(self) -> bool:
        """Whether the caches are still being filled and no fault of the binding explains it."""
        return not self.synced and not self._preflight.conditions.has_fault()

    async def run(self) -> None:
        """Serve until cancelled, or until the binding's deletion is over."""
        try:
            with self._cluster.subscribe(self):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._cluster.run(), name="cluster")
                    group.create_task(self._keep_status(), name="status")
                    group.create_task(self._keep_reviewed(), name="rights")
                    group.create_task(self._keep_connected(), name="connections")
                    group.create_task(self._keep_deleting(), name="deletion")
        except* _DeletionOver:
            pass
        finally:
            self._context.consumers.remove(self._binding.key)
            for part in ("jobs", "pods", "status", "connections"):
                self._context.watchdog.stop(f"{self._binding.key} {part}")

    # Deletion

    async def _keep_deleting(self) -> None:
        """Once the binding is being deleted, wait for its runs by its deletionPolicy."""
        if not self._binding.deletion():
            await self._deletion_requested.wait()
        before = ""
        while not self._deletion.is_over:
            if (policy := self._binding.deletion()) != before and self._connection:
                self._connection.controller.resync()  # other rules apply to its runs now
            before = policy
            self._deletion.observe(self._remaining(policy))
            self._reported.set()
            await asyncio.sleep(DELETION_SECONDS)
        await self.drain()
        await self.flush()
        if self._deletion.is_abandoned:
            await self._write_last_status(unserved=self._deletion.state())
        raise _DeletionOver

    def _remaining(self, policy: str) -> Remaining:
        in_flight = self._in_flight
        return Remaining(
            policy,
            running=len(in_flight.running),
            pending=len(in_flight.pending) - sum(map(self._is_unreported, in_flight.claimed)),
            executing=len([*self._capacity.in_flight]),
            unreported=sum(ended.unreported((job,)) is not None for job in self._cluster.jobs),
            unseen=self._unseen(),
            unusable=self._unusable(),
        )

    def _is_unreported(self, run_id: str) -> bool:
        """Return whether the Job of a run that was claimed has ended, without a report so far."""
        jobs = self._cluster.jobs.by_run(run_id)
        return all(job.ended for job in jobs) and ended.unreported(jobs) is not None

    def _unseen(self) -> str:
        """Return why it is not known which runs are in flight, "" if it is. Only the server knows a
        claimed run without a Job; a binding that was never polled has none."""
        if self._unwatched:
            return next(iter(self._unwatched.values()))
        if not self.synced:
            return "The Jobs of the binding are not listed yet"
        if self._connection:
            is_read = self._connection.controller.is_ready
            return "" if is_read else "The runs of the binding are not read from Prefect yet"
        if not self._preflight.conditions.has_fault():
            return "The Prefect server is not checked yet"
        return self._unusable() if self.status.get("lastPollTime") else ""

    def _unusable(self) -> str:
        """Return why the Prefect server cannot be used, "" if it can."""
        states = self._preflight.conditions.states()
        needed = (states[condition] for condition in c.NEEDED_FOR_RUNS)
        return next((state.message for state in needed if state.status == "False"), "")

    @property
    def status(self) -> dict[str, Any]:
        """The status that was last written."""
        return self._writer.written

    def outage_ended(self) -> None:
        """Try again at once what failed in an outage of the API server."""
        if self._connection:
            self._connection.controller.outage_ended()

    async def drain(self) -> None:
        """Finish the writes in progress and start no more."""
        if self._connection:
            await self._connection.drain()

    async def flush(self) -> None:
        """Send the remaining lines of the runs' logs, after `drain`; that needs no Lease."""
        if self._connection:
            await self._connection.flush()

    async def report_stopped(self) -> None:
        """Write to the status, after the session, that no operator serves the binding."""
        await self._write_last_status(stopped=True)

    async def report_unselected(self) -> None:
        """Write to the status that the binding's labels no longer match the selector."""
        await self._write_last_status(unserved=c.NOT_SELECTED)

    async def report_failed(self, error: BaseException) -> None:
        """Write to the status that a bug in the operator ended the session."""
        reason, text = c.internal_error(error, task="serve the binding")
        await self._write_last_status(unserved=ConditionState("False", reason, text))

    async def _write_last_status(self, **serving: Any) -> None:
        try:
            async with asyncio.timeout(LAST_STATUS_SECONDS):
                await self._writer.write(self._status_input(**serving))
        except (OperatorError, TimeoutError) as error:
            why = str(error) or "timed out"
            log.warning("%s: cannot write its last status: %s", self._binding.key, why)

    async def delete_worker(self) -> None:
        """Delete from Prefect the worker of a deleted binding, or that of an earlier name."""
        if self._server is None:
            return  # no connection has created one
        try:
            async with asyncio.timeout(LAST_STATUS_SECONDS), self._api(self._server) as api:
                await api.delete_worker(self._registered)
        except (OperatorError, TimeoutError) as error:
            log.warning(
                "%s: cannot delete its worker %s from Prefect, where it stays as offline: %s",
                self._binding.key,
                self._registered,
                str(error) or "timed out",
            )

    # Connections

    async def _keep_connected(self) -> None:
        """Serve with one connection after another."""
        while True:
            self._beat("connections", within=OVERDUE_SECONDS)
            async with AsyncExitStack() as stack:
                try:
                    connection = await self._connect(stack)
                except Exception as error:
                    self._preflight.check_failed(error)
                    connection = None
                if connection is None:
                    await self._preflight.wait_for_next_check()
                    continue
                reason = await self._serve(connection)
                log.info("%s: reconnecting: %s", self._binding.key, reason)

    async def _connect(self, stack: AsyncExitStack) -> Connection | None:
        """Return a connection, None if there is no pool and no Job of a deleted pool."""
        server = await self._preflight.credentials()
        api = await stack.enter_async_context(self._api(server))
        pool = await self._preflight.check(api, waiting=self._waiting_to_check)
        pool_id = pool.id if pool else self._pool_of_jobs()
        if pool_id is None:
            return None
        for namespace in self._binding.job_namespaces:
            self._cluster.watch(namespace)
        for namespace in self._cluster.namespaces:
            await self._run_secrets.release_unneeded(server, namespace)
        if self._registered not in ("", self._worker_name):  # spec.workerName changed
            await self.delete_worker()
            self._preflight.read_workers_again()
        self._server = server
        return self._make_connection(api, pool_id)

    async def _serve(self, connection: Connection) -> str:
        self._context.watchdog.stop(f"{self._binding.key} connections")
        self._connection, self._registered = connection, self._worker_name
        try:
            return await connection.serve(worker=self._registered)
        finally:
            self._connection = None

    def _waiting_to_check(self) -> None:
        self._beat("connections", within=OVERDUE_SECONDS)

    def _pool_of_jobs(self) -> UUID | None:
        """Return the id of the pool that the Jobs belong to, for a pool that was deleted.

        Finished Jobs count, because their end may not be reported yet.
        """
        labels = (job.spec.template.labels.get(POOL_LABEL) for job in self._cluster.jobs)
        known = Counter(label for label in labels if label and is_uuid(label))
        return UUID(known.most_common(1)[0][0]) if known else None

    def _make_connection(self, api: PrefectApi, pool_id: UUID) -> Connection:
        return Connection(
            self._binding,
            self._context,
            api=api,
            owner=self._owner(api, pool_id),
            cluster=self._cluster,
            preflight=self._preflight,
        )

    def _owner(self, api: PrefectApi, pool_id: UUID) -> Owner:
        return self._binding.owner(
            cluster_id=self._cluster_id,
            server_url=api.server.url,
            pool_id=pool_id,
            credentials=self._run_secrets.credentials(api.server),
            template_environment=self._context.template_environment,
        )

    def _api(self, server: PrefectEndpoint) -> PrefectApi:
        requested = self._context.observer.requests_to("prefect")
        return preflight_checks.client(self._binding.spec(), server, requested=requested)

    # Kubernetes

    def changed(self, run_id: UUID) -> None:
        """Count the run by its Jobs and pods."""
        jobs, pods = self._cluster.jobs.by_run(str(run_id)), self._cluster.pods.by_run(str(run_id))
        self._capacity.update(str(run_id), stage_of(None, jobs, pods))
        self._reported.set()

    def listed(self, namespace: str, resource: str) -> None:
        """Log that the watch works again."""
        self._problems.resolved(f"cannot watch {resource} in namespace {namespace}")
        self._unwatched.pop((namespace, resource), None)
        self._reported.set()

    def failed(self, namespace: str, resource: str, error: OperatorError) -> None:
        """Log the failure. Check the rights if the API server refused the watch."""
        self._problems.report(f"cannot watch {resource} in namespace {namespace}", error)
        if isinstance(error, KubernetesRefused):
            self._unwatched[namespace, resource] = f"Namespace {namespace}: {error}"
            self._preflight.recheck()

    # Status

    def spec_changed(self) -> None:
        """Check the new spec now, or begin with the deletion."""
        self._reported.set()
        if self._binding.deletion():
            self._deletion_requested.set()

    async def _keep_status(self) -> None:
        while True:
            self._beat("status", within=2 * LONGEST_RETRY_AFTER_SECONDS)
            if self._connection:
                self._connection.check_reconcilers()
            if self._binding.generation() != self._preflight.generation:
                self._preflight.recheck()
            self._reported.clear()
            await self._wait_for_report(closest=await self._write_status())

    async def _wait_for_report(self, *, closest: float) -> None:
        """Wait until the status may have changed and nothing follows at once, at least `closest`
        seconds."""
        earliest = self._context.clock.monotonic() + closest
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_STATUS_SECONDS):
                await self._reported.wait()
        await asyncio.sleep(max(SETTLE_SECONDS, earliest - self._context.clock.monotonic()))

    async def _write_status(self) -> float:
        """Write the status if it changed. Return the least number of seconds until the
        next call."""
        try:
            await self._writer.write(self._status_input())
        except KubernetesNotFound:
            self._missing()
            return FAILED_STATUS_SECONDS
        except LeaseNotHeld:  # the holder logs why
            return FAILED_STATUS_SECONDS
        except OperatorError as error:
            self._problems.report("cannot write its status", error)
            if isinstance(error, KubernetesRefused):
                self.unwritten = f"{self._binding.key}: cannot write its status: {error}"
            return max(FAILED_STATUS_SECONDS, error.retry_after or 0.0)
        self._problems.resolved("cannot write its status")
        self.unwritten = ""
        return STATUS_SECONDS

    async def _keep_reviewed(self) -> None:
        while True:
            self._preflight.rights_reviewed.clear()
            found = await rights_review.rights_granted(self._context.kube, self._binding)
            if found != self._rights and found.status == "False":
                log.warning("%s: %s", self._binding.key, found.message)
            before = self._rights, self._crd_outdated
            self._rights = found
            self._crd_outdated = await crd_check.cached(self._context)
            if before != (self._rights, self._crd_outdated):
                self._reported.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(REVIEW_SECONDS):
                    await self._preflight.rights_reviewed.wait()  # its answer is cached

    def _status_input(
        self, *, stopped: bool = False, unserved: ConditionState | None = None
    ) -> StatusInput:
        spec, preflight = self._binding.spec(), self._preflight
        connection = self._connection
        in_flight, shortage = self._in_flight, None
        if connection:
            shortage = connection.controller.shortage(self._binding.poll_settings())
        polled = connection.poller.last if connection else None
        limited = min(polled.limited, polled.queued) if polled else 0
        is_overdue = connection is not None and connection.is_poll_overdue()
        return StatusInput(
            generation=preflight.generation,
            worker_name=self._worker_name,
            holder="" if stopped else self._context.identity,
            pool_name=spec.work_pool.pool_name,
            server_url=preflight.address or PrefectEndpoint(spec.server.url or "").address,
            states=preflight.conditions.states(),
            serving=ServingState(
                suspended=spec.suspend,
                pool_paused=bool(preflight.pool and preflight.pool.is_paused),
                shortage=shortage,
                synced=self.synced and polled is not None and polled.at is not None,
                overdue_since=polled.at if polled and is_overdue else None,
                stopped=stopped,
                unserved=unserved,
                deletion=self._deletion.state() if self._deletion.has_begun else None,
                behind_pool_limit=polled.queued - limited if polled and polled.hidden else 0,
                behind_deployment_limit=limited,
            ),
            extra_conditions=self._extra_conditions(spec),
            server_version=preflight.server_version or None,
            pool=preflight.pool,
            synced_template=preflight.pool_sync.base,
            job_namespaces=self._job_namespaces(),
            running=len(in_flight.running),
            pending=len(in_flight.pending),
            queued=polled.queued if polled else 0,
            polled_at=polled.at if polled else None,
        )

    def figures(self) -> BindingFigures:
        """Return the binding's figures at this moment."""
        inputs = self._status_input()
        conditions = conditions_of(inputs)
        connection, limit = self._connection, self._binding.poll_settings().concurrency_limit
        figures = BindingFigures(
            self._binding.namespace,
            self._binding.name,
            is_held=True,
            conditions=conditions,
            running=inputs.running,
            concurrency_limit=limit,
        )
        if connection is None:
            return replace(figures, pending={"Starting": inputs.pending} if inputs.pending else {})
        controller, polled = connection.controller, connection.poller.last
        return replace(
            figures,
            suspended=len(controller.in_flight().suspended),
            pending=controller.pending_by_reason(),
            queued=queued_by_reason(
                polled.queued,
                conditions[c.CLAIMING],
                limited=polled.limited,
                hidden=polled.hidden,
                deferred=controller.deferred(),
            ),
            poll_age=connection.poll_age(),
            reconciler_queue=len(controller.queue),
        )

    def _job_namespaces(self) -> tuple[str, ...]:
        """Return the namespaces to follow after a restart: those that the spec allows, and those
        that still have Jobs. Empty if that is only `spec.jobs.namespace`."""
        allowed, cluster = set(self._binding.job_namespaces), self._cluster
        unknown = {each for each in cluster.namespaces if not cluster.is_synced(each)}
        found = allowed | (cluster.namespaces & (cluster.jobs.namespaces() | unknown))
        return tuple(sorted(found)) if len(found) > 1 else ()

    def _extra_conditions(self, spec: Spec) -> dict[str, ConditionState]:
        """Return the conditions that do not affect Ready."""
        verify = not (spec.server.tls and spec.server.tls.insecure_skip_verify)
        skipped = c.verification_skipped(self._preflight.address, verify=verify)
        return {
            **self._connection_conditions(spec),
            c.RIGHTS_GRANTED: self._rights,
            c.VERIFICATION_SKIPPED: skipped,
            c.CRD_OUTDATED: self._crd_outdated,
            **self._preflight.pool_sync.conditions(),
        }

    def _connection_conditions(self, spec: Spec) -> dict[str, ConditionState]:
        """Return those that are known only with a connection."""
        if self._connection is None:
            self._context.consumers.remove(self._binding.key)
            return {c.EVENTS_CONNECTED: c.UNCHECKED, c.POOL_SHARED: c.UNCHECKED}
        lost, interval = self._connection.events_lost, spec.poll.interval_seconds
        own = PoolConsumer(
            binding=self._binding.key,
            worker=self._worker_name,
            pool_id=self._connection.pool_id,
            queues=spec.work_queues,
        )
        return {
            c.EVENTS_CONNECTED: c.events_connected(lost, interval=interval),
            c.POOL_SHARED: self._pool_shared(own),
        }

    def _pool_shared(self, own: PoolConsumer) -> ConditionState:
        """Return PoolShared, computed again if a consumer or the online workers changed."""
        consumers, workers = self._context.consumers, self._preflight.workers
        consumers.put(own)
        if (known := (consumers.version, workers)) != self._shared_by:
            self._shared_by = known
            self._shared = pool_shared(own, consumers, workers)
        return self._shared

    def _beat(self, part: str, *, within: float) -> None:
        self._context.watchdog.beat(f"{self._binding.key} {part}", within=within)
