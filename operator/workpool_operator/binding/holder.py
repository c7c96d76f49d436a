"""Takes the Lease of one binding when it is this replica's to take, and serves while it is held.

    not held --free, and assigned to this replica--> held: Lifecycle.serve --+
       ^                                                                     |
       +--- lost; or released: moved, stopped, deleted <---------------------+

Nothing depends on the Lease for its correctness: two holders at once create one Job for each run.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress

from workpool_operator.binding.conditions import ConditionState
from workpool_operator.binding.context import OperatorContext
from workpool_operator.binding.figures import BindingFigures
from workpool_operator.binding.lifecycle import RESTART_SECONDS, End, Lifecycle
from workpool_operator.binding.live_binding import LiveBinding
from workpool_operator.errors import KubernetesForbidden, OperatorError
from workpool_operator.jobs import names
from workpool_operator.kube import permissions
from workpool_operator.kube.leases import LEASE_SECONDS, RENEW_SECONDS, LeaseLock
from workpool_operator.kube.models import LEASE_LABEL, MANAGED, Lease
from workpool_operator.logs import ProblemLogger

log = logging.getLogger(__name__)

RETRY_SECONDS = 3.0
RETRY_RENEWAL_SECONDS = 1.0
UNTAKEN_SECONDS = 2 * LEASE_SECONDS  # a free Lease is then taken although another replica should
NOT_TAKEN = "cannot take its Lease"
NOT_RENEWED = "cannot renew its Lease"


class BindingHolder:
    """One for each binding that the operator knows. `lease` is the Lease's namespace and name.

    `is_alone()` returns whether no other replica can serve the binding.
    """

    def __init__(
        self,
        live: LiveBinding,
        context: OperatorContext,
        *,
        is_alone: Callable[[], bool],
    ) -> None:
        self.live = live
        self._context = context
        self._identity = context.identity
        self.lease = live.namespace, names.lease_name(live.name)
        self._lock = LeaseLock(
            context.kube,
            namespace=self.lease[0],
            name=self.lease[1],
            identity=context.identity,
            metadata={
                "labels": {**MANAGED, LEASE_LABEL: "binding"},
                "ownerReferences": [live.reference],
            },
            clock=context.clock,
        )
        self.lifecycle = Lifecycle(
            live,
            context,
            holds_lease=self._lock.is_held,
            release_lease=self._release,
            missing=self.missing,
            is_alone=is_alone,
        )
        self._problems = ProblemLogger(log, live.key)
        self._changed = asyncio.Event()
        self._assigned_to = ""
        self._taken_for = ""  # the replica that it was assigned to when this one took the Lease
        self._waits_for = ""  # the holder that was logged
        self._free_since: float | None = None
        self._stopping = False
        self._missing = False
        self._ending: asyncio.Future[End] | None = None
        self._renewing: asyncio.Task[None] | None = None

    def figures(self) -> BindingFigures:
        """Return the binding's figures at this moment."""
        if self._lock.is_held():
            return self.lifecycle.figures()
        return BindingFigures(self.live.namespace, self.live.name)

    # What others report

    def assign(self, replica: str) -> None:
        """Take note of the replica that is to serve the binding."""
        if replica != self._assigned_to:
            self._assigned_to = replica
            self._notify()

    def changed(self) -> None:
        """Take note that `live` changed."""
        self._notify()
        if self.lifecycle.session:
            self.lifecycle.session.spec_changed()

    @property
    def is_ending(self) -> bool:
        """Whether it ends because the binding was missing, also if the binding is back."""
        return self._missing

    def missing(self) -> None:
        """Take note that the binding does not exist, or is no longer this operator's to serve."""
        self._missing = True
        self._notify()

    def observe(self, lease: Lease) -> None:
        """Take note of a version of the Lease."""
        self._lock.observe(lease)
        if self._ending is None or self._lock.holder != self._identity:  # not our own renewal
            self._notify()

    def lease_deleted(self, uid: str) -> None:
        """Take note that the Lease was deleted."""
        self._lock.deleted(uid)
        self._notify()

    def stop(self) -> None:
        """Drain, release the Lease, and end."""
        self._stopping = True
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        if self._ending and not self._ending.done() and (end := self._end()):
            self._ending.set_result(end)

    def _end(self) -> End | None:
        """Return why this replica has to stop serving, None if it has not."""
        if self.live.deletion == "Orphan":
            return End.DELETED
        if self._missing:
            return End.NOT_FOUND
        if self._stopping:
            return End.STOPPED
        if self._assigned_to not in (self._identity, self._taken_for):
            return End.MOVED
        return None

    # The Lease

    async def run(self) -> None:
        """Hold the Lease whenever it is this replica's to hold. Ends if the binding does not exist,
        and after `stop`."""
        while not (self._stopping or self._missing):
            self._changed.clear()
            if self._may_take() and await self._acquire():
                await self._hold()
            elif not (self._stopping or self._missing):
                self._log_other_holder()
                await self._wait(self._seconds_to_next_try())

    def _may_take(self) -> bool:
        """Return whether the Lease is free, and either assigned to this replica or free for so long
        that the other one seems unable to take it."""
        if self._lock.seconds_left() > 0:
            self._free_since = None
            return False
        now = self._context.clock.monotonic()
        self._free_since = now if self._free_since is None else self._free_since
        untaken = now - self._free_since >= UNTAKEN_SECONDS
        return self._assigned_to == self._identity or (untaken and bool(self._assigned_to))

    def _seconds_to_next_try(self) -> float:
        if (left := self._lock.seconds_left()) > 0:
            return left
        return RETRY_SECONDS if self._assigned_to == self._identity else UNTAKEN_SECONDS

    async def _acquire(self) -> bool:
        before = self._lock.holder
        try:
            held = await self._lock.acquire()
        except KubernetesForbidden as refused:
            await self._handle_forbidden(refused)
            return False
        except OperatorError as error:
            self._problems.report(NOT_TAKEN, error)
            return False
        self._problems.resolved(NOT_TAKEN)
        if held:
            self._taken_for, self._free_since = self._assigned_to, None
            if before and before != self._identity:
                text = "%s: took its Lease %s, which %s let expire"
                log.warning(text, self.live.key, self._lock.name, before)
        return held

    def _log_other_holder(self) -> None:
        """Log once which other holder keeps this replica from serving what is assigned to it."""
        is_mine = self._assigned_to == self._identity
        holder = self._lock.holder if is_mine and self._lock.seconds_left() > 0 else ""
        if holder and holder != self._waits_for:
            text = "%s: waits for its Lease %s, which %s holds"
            log.info(text, self.live.key, self._lock.name, holder)
        self._waits_for = holder

    async def _handle_forbidden(self, refused: KubernetesForbidden) -> None:
        """Report the missing right. In a namespace that is being deleted nothing can be created,
        and a deleted binding is released without a Lease."""
        terminating = any(cause.reason == "NamespaceTerminating" for cause in refused.causes)
        try:
            if terminating:
                if self.live.is_deleting:
                    await self.lifecycle.release()
                    self._missing = True
                return
            self._problems.report(NOT_TAKEN, refused)
            grant = await permissions.how_to_grant(
                self._context.kube, self.live.namespace, permissions.BINDINGS_ROLE
            )
            text = f"{refused}. Grant it: {grant}"
            state = ConditionState("False", "LeaseForbidden", text)
            await self.lifecycle.report_unserved(state)
        except OperatorError as error:
            log.debug("%s: %s", self.live.key, error)

    async def _hold(self) -> None:
        """Renew the Lease and serve, until either ends; release the Lease unless it was lost."""
        self._ending = asyncio.get_running_loop().create_future()
        self._notify()
        self._renewing = renewing = asyncio.create_task(self._renew_until_lost(), name="lease")
        serving = asyncio.create_task(self.lifecycle.serve(self._ending), name="serve")
        try:
            await asyncio.wait([renewing, serving], return_when=asyncio.FIRST_COMPLETED)
            if renewing.done() and not renewing.cancelled():
                await renewing
            else:
                await asyncio.wait([serving])
                await self._release()
                if await serving in (End.DELETED, End.NOT_FOUND):
                    self._missing = True
        except Exception:
            log.exception("%s: a bug in the operator", self.live.key)
            await asyncio.sleep(RESTART_SECONDS[0])
        finally:
            renewing.cancel()
            serving.cancel()
            await asyncio.gather(renewing, serving, return_exceptions=True)
            self._ending = self.lifecycle.session = None

    async def _release(self) -> None:
        """Release the Lease, if it is held."""
        if self._renewing:
            self._renewing.cancel()
        with suppress(OperatorError):
            await self._lock.release()

    async def _renew_until_lost(self) -> None:
        """Renew the Lease until another holds it, or until it was deleted.

        While the API server does not answer, the session stays, but acts no more once the Lease has
        expired. If the Lease is unchanged when the API server is back, the session acts again at
        once.
        """
        delay = RENEW_SECONDS
        while True:
            await self._wait_while_held(delay * random.uniform(0.9, 1.1))  # not all at once
            was_held = self._lock.is_held()
            try:
                if not await self._lock.renew():
                    break
                self._problems.resolved(NOT_RENEWED)
                delay = RENEW_SECONDS
                if not was_held:
                    self.lifecycle.outage_ended()
            except OperatorError as error:
                self._problems.report(NOT_RENEWED, error)
                if isinstance(error, KubernetesForbidden) and not self._lock.is_held():
                    break
                delay = RETRY_RENEWAL_SECONDS
        self._context.observer.lease_lost(self.live.namespace, self.live.name)
        text = "%s: lost its Lease %s: %s; stops serving"
        log.warning(text, self.live.key, self._lock.name, self._why_lost())

    def _why_lost(self) -> str:
        match self._lock.holder:
            case self._identity:
                return "it has expired, because it may not be renewed"
            case "":
                return "it was deleted, or edited by hand"
            case holder:
                return f"{holder} holds it"

    async def _wait_while_held(self, seconds: float) -> None:
        """Wait, at most until a watch shows that the Lease changed hands."""
        deadline = self._context.clock.monotonic() + seconds
        while self._lock.holder == self._identity:
            left = deadline - self._context.clock.monotonic()
            if left <= 0:
                return
            self._changed.clear()
            await self._wait(left)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
