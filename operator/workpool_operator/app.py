"""The composition root: creates what all bindings share, and one session per binding.

    handlers (kopf) --binding--> App.serve --> BindingSession --+--> ClusterCache
                                                                +--> Connection: RunController,
                                                                |    Poller, Heartbeat
                                                                +--> StatusWriter

Every background task belongs to a TaskGroup of a session or is awaited here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any, Self

from workpool_operator import health
from workpool_operator.binding import crd_check, secrets
from workpool_operator.binding.conditions import Conditions, ConditionState, ServingState
from workpool_operator.binding.context import Binding, OperatorContext
from workpool_operator.binding.session import BindingSession
from workpool_operator.binding.status import StatusInput, StatusWriter
from workpool_operator.errors import KubernetesRefused, OperatorError, Unavailable
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.logs import ProblemLogger
from workpool_operator.settings import Settings

log = logging.getLogger(__name__)

RESTART_SECONDS = (5.0, 60.0)  # the first and the longest delay
NOT_LISTED = "cannot list WorkPoolBindings"


class App:
    """The operator's process, as an async context manager. Call `serve` once per binding."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._watchdog = health.Watchdog()
        self._sessions: dict[str, BindingSession] = {}
        self._unserved: dict[str, StatusWriter] = {}
        self._problems = ProblemLogger(log, "operator")
        self._crd_problem = "starting"

    async def __aenter__(self) -> Self:
        """Load the Kubernetes configuration and serve the probes. Sends no request yet."""
        async with AsyncExitStack() as opened:
            await self._open(opened)
            self._stack = opened.pop_all()
        return self

    async def _open(self, stack: AsyncExitStack) -> None:
        kube = await stack.enter_async_context(await KubernetesClient.from_environment())
        self._context = OperatorContext(
            kube=kube,
            watchdog=self._watchdog,
            reconcilers=self._settings.reconcilers,
            heartbeat_seconds=self._settings.heartbeat_seconds,
            template_environment=self._settings.template_environment,
        )
        probes = health.serve(
            self._settings.health_port, watchdog=self._watchdog, unready=self._unready
        )
        await stack.enter_async_context(probes)

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def can_watch_bindings(self, namespaces: Sequence[str]) -> bool:
        """Return whether the API server lists bindings. If not, the log and /readyz say why."""
        self._crd_problem = await crd_check.crd_problem(self._context.kube, namespaces)
        if self._crd_problem:
            self._problems.report(NOT_LISTED, self._crd_problem)
        else:
            self._problems.resolved(NOT_LISTED)
        return not self._crd_problem

    async def serve(
        self,
        binding: Binding,
        *,
        stopped: asyncio.Future[bool],
        announce: Callable[[ConditionState], None],
    ) -> None:
        """Serve the binding until `stopped`, which resolves to True if the binding is deleted.

        `announce` is called when Ready changes, for a Kubernetes Event.
        """
        log.info("%s: serving", binding.key)
        try:
            await self._serve(binding, stopped, announce)
        finally:
            self._sessions.pop(binding.key, None)
            self._unserved.pop(binding.key, None)
        log.info("%s: %s", binding.key, "deleted" if stopped.result() else "stopped")

    async def release(self, binding: Binding) -> None:
        """Delete the Secrets of a deleted binding, except those that its Jobs still need.

        Call it after `serve` has ended, also if an earlier process served the binding.

        Raises:
            Unavailable: not done yet; call again.
        """
        if binding.key in self._sessions:
            raise Unavailable("its session has not ended yet")
        await secrets.release_secrets(binding, self._context.kube)

    async def _serve(
        self,
        binding: Binding,
        stopped: asyncio.Future[bool],
        announce: Callable[[ConditionState], None],
    ) -> None:
        session: BindingSession | None = None
        delay, longest = RESTART_SECONDS
        while not stopped.done():
            if session:  # it failed: the next one starts with empty caches
                binding = replace(binding, status=session.status)
            session = await self._session(binding, announce)
            if session is None:
                await asyncio.wait([stopped], timeout=RESTART_SECONDS[0])
                continue
            self._sessions[binding.key] = session
            if error := await self._run_until(session, stopped):
                await session.report_failed(error)
                await asyncio.wait([stopped], timeout=delay)
                delay = min(delay * 2, longest)
        if session:
            await (session.delete_worker() if stopped.result() else session.report_stopped())

    async def _run_until(
        self, session: BindingSession, stopped: asyncio.Future[bool]
    ) -> Exception | None:
        """Run the session until `stopped`. Return the exception that ended it earlier, if any."""
        task = asyncio.create_task(session.run(), name="session")
        waiting: list[asyncio.Future[Any]] = [task, stopped]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await session.drain()
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        except Exception as error:
            log.exception("a bug in the operator ended a session; it starts again")
            return error
        return None

    async def _session(
        self, binding: Binding, announce: Callable[[ConditionState], None]
    ) -> BindingSession | None:
        try:
            cluster_id = await self._context.kube.namespace_uid(binding.namespace)
            session = BindingSession(
                binding, self._context, cluster_id=cluster_id, announce=announce
            )
        except OperatorError as error:
            self._problems.report(f"cannot serve {binding.key}", error)
            await self._report_unserved(binding, announce, error)
            return None
        self._problems.resolved(f"cannot serve {binding.key}")
        return session

    async def _report_unserved(
        self, binding: Binding, announce: Callable[[ConditionState], None], error: OperatorError
    ) -> None:
        """Write to the binding's status why it has no session, unless Kubernetes is unavailable."""
        if isinstance(error, Unavailable):
            return
        writer = self._unserved.setdefault(
            binding.key,
            StatusWriter(self._context.kube, binding, announce=announce, clock=self._context.clock),
        )
        reason = "KubernetesRefused" if isinstance(error, KubernetesRefused) else "InvalidSpec"
        status = StatusInput(
            generation=binding.generation(),
            worker_name="",
            server_url="",
            states=Conditions().states(),
            serving=ServingState(unserved=ConditionState("False", reason, f"{error}.")),
        )
        with suppress(OperatorError):
            await writer.write(status)

    def _unready(self) -> list[str]:
        if self._crd_problem:
            return [self._crd_problem]
        return [f"{key} is not synced" for key, s in self._sessions.items() if s.starting]
