"""Does what only the holder of a binding's Lease does: sets the finalizer, runs sessions, and
deletes what a deleted binding leaves behind before it removes the finalizer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import Enum
from typing import Any, TypeVar

from workpool_operator.binding import finalizers, secrets
from workpool_operator.binding.conditions import (
    CLAIMING,
    READY,
    Conditions,
    ConditionState,
    ServingState,
)
from workpool_operator.binding.context import Binding, OperatorContext
from workpool_operator.binding.deletion import Deletion, Remaining
from workpool_operator.binding.figures import BindingFigures
from workpool_operator.binding.live_binding import LiveBinding
from workpool_operator.binding.session import BindingSession
from workpool_operator.binding.status import BINDINGS, StatusInput, StatusWriter
from workpool_operator.errors import (
    KubernetesNotFound,
    KubernetesRefused,
    LeaseNotHeld,
    OperatorError,
    Unavailable,
)
from workpool_operator.logs import ProblemLogger

log = logging.getLogger(__name__)

T = TypeVar("T")

RESTART_SECONDS = (5.0, 60.0)  # after a bug: the first and the longest delay
RETRY_SECONDS = 3.0


class End(Enum):
    """Why a replica stops serving a binding whose Lease it holds."""

    DELETED = "deleted"
    NOT_FOUND = "not found"
    MOVED = "moved to another replica"
    UNSELECTED = "no longer selected"
    STOPPED = "stopped"


class Lifecycle:
    """Serves one binding from the moment that its Lease was taken.

    `holds_lease()` returns whether it is still held. `release_lease()` releases it. `missing()` is
    called if the binding does not exist. `is_alone()` returns whether no other replica can serve
    the binding.
    """

    def __init__(
        self,
        live: LiveBinding,
        context: OperatorContext,
        *,
        holds_lease: Callable[[], bool],
        release_lease: Callable[[], Awaitable[None]],
        missing: Callable[[], None],
        is_alone: Callable[[], bool],
    ) -> None:
        self._live = live
        self._context = context
        self._holds_lease = holds_lease
        self._release_lease = release_lease
        self._missing = missing
        self._is_alone = is_alone
        self._problems = ProblemLogger(log, live.key)
        self._unserved: StatusWriter | None = None
        self._deletion = Deletion(live.key, context.clock)
        self._unserved_for: ConditionState | None = None
        self.session: BindingSession | None = None

    async def serve(self, ending: asyncio.Future[End]) -> End:
        """Serve until `ending` resolves, then clean up. Return why it ended."""
        if not self._live.has_finalizer and not await self._add_finalizer():
            return End.NOT_FOUND
        self._deletion = Deletion(self._live.key, self._context.clock)
        if self._live.deletion != "Orphan":
            log.info("%s: serving", self._live.key)
            await self._run_sessions(ending)
        end = ending.result() if ending.done() else End.DELETED
        if end is End.STOPPED and self.session and self._is_alone():
            await self.session.report_stopped()
        if end in (End.DELETED, End.NOT_FOUND):
            end = await self._until_answered(self._release_if_deleted)
        if end is End.UNSELECTED and self.session:
            await self.session.report_unselected()
        log.info("%s: %s", self._live.key, end.value)
        return end

    def outage_ended(self) -> None:
        """Try again at once what failed while the Lease could not be renewed."""
        if self.session:
            self.session.outage_ended()

    def figures(self) -> BindingFigures:
        """Return the binding's figures at this moment."""
        if self.session:
            return self.session.figures()
        live, why = self._live, self._unserved_for
        conditions = {READY: why, CLAIMING: why} if why else {}
        return BindingFigures(live.namespace, live.name, is_held=True, conditions=conditions)

    async def release(self, *, check: finalizers.Check = lambda: None) -> None:
        """Delete what a deleted binding leaves behind, and remove its finalizer. `check()` is
        called before each.

        Raises:
            OperatorError: not done yet; call again.
        """
        check()
        if self.session:
            await self.session.delete_worker()
        kube, live = self._context.kube, self._live
        check()
        await secrets.release_secrets(self._binding(), kube)
        await finalizers.remove(kube, live.namespace, live.name, uid=live.uid, check=check)

    async def report_unserved(self, state: ConditionState) -> None:
        """Write to the status why the binding has no session, as Ready and Claiming.

        Raises:
            OperatorError: the status was not written.
        """
        self._unserved_for = state
        if self._unserved is None:
            kube, binding = self._context.kube, self._live.binding(holds_lease=lambda: True)
            self._unserved = StatusWriter(kube, binding, clock=self._context.clock)
        await self._unserved.write(
            StatusInput(
                generation=self._binding().generation(),
                worker_name="",
                pool_name=self._live.pool_name,
                server_url="",
                states=Conditions().states(),
                serving=ServingState(unserved=state),
            )
        )

    async def _add_finalizer(self) -> bool:
        """Set the finalizer; return whether the binding exists."""
        live = self._live
        found = await self._until_answered(
            lambda: finalizers.add(
                self._context.kube,
                live.namespace,
                live.name,
                uid=live.uid,
                check=self._binding().check_lease,
            )
        )
        if found is not None:
            live.update(found)
        return found is not None

    async def _release_if_deleted(self) -> End:
        """Release the binding, unless it exists and is still to be served: its labels then no
        longer match the operator's selector. Another object may have its name."""
        live = self._live
        try:
            found = await self._context.kube.get(BINDINGS, live.namespace, live.name)
        except KubernetesNotFound:
            found = {}
        if found.get("metadata", {}).get("uid") == live.uid:
            live.update(found)
            if not (live.deletion == "Orphan" or self._deletion.is_over):
                return End.UNSELECTED
        await self.release(check=self._binding().check_lease)
        return End.DELETED

    async def _run_sessions(self, ending: asyncio.Future[End]) -> None:
        """Run one session after the other until `ending` resolves, or the binding's deletion has
        waited for its runs: a bug in the operator ends one, and the next one starts with empty
        caches."""
        binding = self._binding()
        delay, longest = RESTART_SECONDS
        while not (ending.done() or self._deletion.is_over):
            if self.session:
                binding = replace(binding, status=self.session.status)
            if (session := await self._make_session(binding)) is None:
                await asyncio.wait([ending], timeout=RESTART_SECONDS[0])
                continue
            self.session = session
            began = self._context.clock.monotonic()
            if error := await self._run_until(session, ending):
                if self._context.clock.monotonic() - began > longest:
                    delay = RESTART_SECONDS[0]
                await session.report_failed(error)
                await asyncio.wait([ending], timeout=delay)
                delay = min(delay * 2, longest)

    async def _run_until(
        self, session: BindingSession, ending: asyncio.Future[End]
    ) -> Exception | None:
        """Run the session until `ending` resolves. Return the exception that ended it earlier."""
        task = asyncio.create_task(session.run(), name="session")
        waiting: list[asyncio.Future[Any]] = [task, ending]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await session.drain()
                await self._hand_over(ending.result())
                await session.flush()
        finally:
            task.cancel()
            [error] = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(error, Exception):
            return None
        log.error("a bug in the operator ended a session; it starts again", exc_info=error)
        return error

    async def _hand_over(self, end: End) -> None:
        """Release the Lease if another replica takes over: what is left to do needs none."""
        if end is End.MOVED or (end is End.STOPPED and not self._is_alone()):
            await self._release_lease()

    async def _make_session(self, binding: Binding) -> BindingSession | None:
        what = f"cannot serve {binding.key}"
        try:
            cluster_id = await self._context.kube.namespace_uid(binding.namespace)
            session = BindingSession(
                binding,
                self._context,
                cluster_id=cluster_id,
                deletion=self._deletion,
                missing=self._missing,
            )
        except OperatorError as error:
            self._problems.report(what, error)
            waits = None
            if policy := self._live.deletion:
                self._deletion.observe(Remaining(policy, unseen=f"The operator {what}: {error}"))
                waits = self._deletion.state()
            await self._report_failed_start(error, waits)
            return None
        self._problems.resolved(what)
        return session

    async def _report_failed_start(
        self, error: OperatorError, waits: ConditionState | None = None
    ) -> None:
        """Write to the status why the binding has no session, or what its deletion `waits` for."""
        if isinstance(error, Unavailable):
            return
        reason = "KubernetesRefused" if isinstance(error, KubernetesRefused) else "InvalidSpec"
        failed = ConditionState("False", reason, f"{error}.")
        try:
            await self.report_unserved(waits or failed)
        except OperatorError as unwritten:
            log.debug("%s: cannot write its status: %s", self._live.key, unwritten)

    async def _until_answered(self, request: Callable[[], Awaitable[T]]) -> T:
        """Repeat the request until it succeeds."""
        while True:
            try:
                answer = await request()
            except LeaseNotHeld:
                await asyncio.sleep(RETRY_SECONDS)  # it is renewed, or this holder ends
            except OperatorError as error:
                self._problems.report("waits for the Kubernetes API", error)
                if isinstance(error, KubernetesRefused):
                    await self._report_failed_start(error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._problems.resolved("waits for the Kubernetes API")
                return answer

    def _binding(self) -> Binding:
        return self._live.binding(holds_lease=self._holds_lease)
