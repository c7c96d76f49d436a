"""The composition root: builds what all bindings share, and one session per binding.

    handlers (kopf) --a binding--> App.serve --> Session --+--> ClusterCache
                                                           +--> Connection: RunController, Acquire
                                                           +--> status

Every background task is created inside a session's TaskGroups or here; nothing is fire and forget.
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

RESTART_SECONDS = (5.0, 60.0)


class App:
    """One process, as an async context manager; `serve` is called once per binding."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._watchdog = health.Watchdog()
        self._sessions: dict[str, BindingSession] = {}
        self._unserved: dict[str, StatusWriter] = {}
        self._trouble = ProblemLogger(log, "operator")
        self._obstacle = "starting"

    async def __aenter__(self) -> Self:
        """Read the access to Kubernetes and answer probes; nothing is asked of anybody yet."""
        async with AsyncExitStack() as opened:
            await self._open(opened)
            self._stack = opened.pop_all()
        return self

    async def _open(self, stack: AsyncExitStack) -> None:
        kube = await stack.enter_async_context(await KubernetesClient.from_environment())
        self._around = OperatorContext(
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
        """Whether there is any use in watching; why not is told once, and by readiness."""
        self._obstacle = await crd_check.crd_problem(self._around.kube, namespaces)
        if self._obstacle:
            self._trouble.report("cannot see any WorkPoolBinding", self._obstacle)
        else:
            self._trouble.resolved("cannot see any WorkPoolBinding")
        return not self._obstacle

    async def serve(
        self,
        binding: Binding,
        *,
        stopped: asyncio.Future[bool],
        announce: Callable[[ConditionState], None],
    ) -> None:
        """Serve the binding until `stopped`, whose result says whether the binding is deleted."""
        log.info("%s: serving", binding.key)
        try:
            await self._serve(binding, stopped, announce)
        finally:
            self._sessions.pop(binding.key, None)
            self._unserved.pop(binding.key, None)
        log.info("%s: %s", binding.key, "deleted" if stopped.result() else "stopped")

    async def release(self, binding: Binding) -> None:
        """After `serve`, or without it where the operator was started since: a deleted binding
        leaves no Secret behind but what its Jobs still need.

        Raises:
            Unavailable: not done yet; call again.
        """
        if binding.key in self._sessions:
            raise Unavailable("its session has not ended yet")
        await secrets.release_secrets(binding, self._around.kube)

    async def _serve(
        self,
        binding: Binding,
        stopped: asyncio.Future[bool],
        announce: Callable[[ConditionState], None],
    ) -> None:
        session: BindingSession | None = None
        delay, longest = RESTART_SECONDS
        while not stopped.done():
            if session:  # it failed: the next begins with new caches
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
        """Run the session until `stopped`; the defect of the operator that ended it before."""
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
            log.exception("a session ended by a defect of the operator; it starts again")
            return error
        return None

    async def _session(
        self, binding: Binding, announce: Callable[[ConditionState], None]
    ) -> BindingSession | None:
        try:
            cluster_id = await self._around.kube.namespace_uid(binding.namespace)
            session = BindingSession(
                binding, self._around, cluster_id=cluster_id, announce=announce
            )
        except OperatorError as error:
            self._trouble.report(f"cannot serve {binding.key}", error)
            await self._report_unserved(binding, announce, error)
            return None
        self._trouble.resolved(f"cannot serve {binding.key}")
        return session

    async def _report_unserved(
        self, binding: Binding, announce: Callable[[ConditionState], None], error: OperatorError
    ) -> None:
        """Where the API server answers, the status says why."""
        if isinstance(error, Unavailable):
            return
        writer = self._unserved.setdefault(
            binding.key,
            StatusWriter(self._around.kube, binding, announce=announce, clock=self._around.clock),
        )
        reason = "KubernetesRefused" if isinstance(error, KubernetesRefused) else "InvalidSpec"
        sight = StatusInput(
            generation=binding.generation(),
            worker_name="",
            server_url="",
            states=Conditions().states(),
            serving=ServingState(unserved=ConditionState("False", reason, f"{error}.")),
        )
        with suppress(OperatorError):
            await writer.write(sight)

    def _unready(self) -> list[str]:
        if self._obstacle:
            return [self._obstacle]
        return [f"{key} is not synced" for key, s in self._sessions.items() if s.starting]
