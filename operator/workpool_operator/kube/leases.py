"""Acquires, renews and releases a Lease, by the rules of client-go's leader election.

Only durations on this process's monotonic clock count, because the clocks of two machines differ. A
process holds a Lease until `LEASE_SECONDS` after it sent its last successful request. It takes the
Lease of another if that one's record did not change before its eyes for `LEASE_SECONDS`, or for the
longer duration that the record names: another version may renew less often. The times in a Lease
are for people. A write names the version that it changes: of two that take a Lease at the same
time, one gets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import (
    KubernetesConflict,
    KubernetesNotFound,
    KubernetesUnavailable,
)
from workpool_operator.kube.client import LEASES, KubernetesClient
from workpool_operator.kube.models import Lease

T = TypeVar("T")

LEASE_SECONDS = 10.0
LONGEST_LEASE_SECONDS = 60.0  # if a Lease names a longer duration: it was edited by hand
RENEW_SECONDS = 3.0  # between renewals: two in a row may fail
REQUEST_SECONDS = 3.0  # for one request: a third attempt still comes in time
NEVER = float("-inf")


class ObservedLease:
    """A Lease as it was last seen, and when its record changed."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._changed_at = NEVER
        self.lease: Lease | None = None

    @property
    def holder(self) -> str:
        """The identity in the Lease; "" if there is none."""
        return self.lease.holder if self.lease else ""

    @property
    def seconds_left(self) -> float:
        """The number of seconds until the record counts as expired; 0 without a holder."""
        if not self.holder:
            return 0.0
        named = self.lease.spec.lease_duration_seconds if self.lease else None
        lasts = min(max(named or 0.0, LEASE_SECONDS), LONGEST_LEASE_SECONDS)
        return max(0.0, self._changed_at + lasts - self._clock.monotonic())

    def observe(self, lease: Lease) -> bool:
        """Remember the Lease, unless a later version is known. Return whether its record is new."""
        known = self.lease
        if known and lease.metadata.version <= known.metadata.version:
            return False
        changed = known is None or known.spec != lease.spec
        if changed:
            self._changed_at = self._clock.monotonic()
        self.lease = lease
        return changed

    def forget(self, uid: str = "") -> None:
        """Forget the Lease, because it was deleted; with a uid, only if it is the one known."""
        if self.lease and uid in ("", self.lease.metadata.uid):
            self.lease = None


class LeaseLock:
    """The Lease `namespace`/`name`, which this process takes as `identity`.

    `metadata` (labels, owner references) and the duration are written with every request, so that
    an edit by hand does not last.
    """

    def __init__(
        self,
        kube: KubernetesClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        metadata: Mapping[str, Any],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._metadata = metadata
        self._clock = clock
        self._seen = ObservedLease(clock)
        self._held_until = NEVER

    @property
    def name(self) -> str:
        """NAMESPACE/NAME of the Lease."""
        return f"{self._namespace}/{self._name}"

    @property
    def holder(self) -> str:
        """The identity that the Lease had when it was last seen; "" without a holder."""
        return self._seen.holder

    def is_held(self) -> bool:
        """Return whether this process holds the Lease at this moment."""
        return self._clock.monotonic() < self._held_until

    def seconds_left(self) -> float:
        """Return the number of seconds until another's Lease may be taken; 0 if it may be now."""
        return 0.0 if self.holder == self._identity else self._seen.seconds_left

    def observe(self, lease: Lease) -> None:
        """Take note of a version of the Lease that a watch reports."""
        self._seen.observe(lease)
        if self.holder != self._identity:
            self._held_until = NEVER

    def deleted(self, uid: str) -> None:
        """Take note that the Lease with this uid was deleted."""
        self._seen.forget(uid)
        if self._seen.lease is None:
            self._held_until = NEVER

    async def acquire(self) -> bool:
        """Take the Lease, unless another holds it. Return whether this process holds it now.

        Raises:
            KubernetesRefused: a right is missing, or the namespace is being deleted.
            KubernetesUnavailable: it may or may not have been taken; call again.
        """
        if self._seen.lease is None and not await self._create():
            await self._read()
        if self.is_held():
            return True
        if self._seen.lease is None or self.seconds_left() > 0:
            return False
        try:
            await self._write(acquires=True)
        except KubernetesConflict:
            await self._read()
        except KubernetesNotFound:
            self._lose()
        return self.is_held()

    async def renew(self) -> bool:
        """Renew the Lease. Return False if it was lost: another holds it, or it was deleted.

        Raises:
            KubernetesRefused: a right is missing, or the namespace is being deleted.
            KubernetesUnavailable: it may or may not be renewed; call again.
        """
        if self.holder != self._identity:
            return False
        try:
            await self._write()
        except KubernetesConflict:  # edited, or the answer to the last renewal was lost
            await self._read()
            if self.holder != self._identity:
                return False
            await self._write()
        except KubernetesNotFound:
            self._lose()
            return False
        return True

    async def release(self) -> None:
        """Release the Lease, so that another can take it at once; do nothing if it is not held.

        Raises:
            KubernetesRefused: it is not released, and expires.
            KubernetesUnavailable: the same, unless the answer was lost.
        """
        if self.holder != self._identity:
            return
        self._held_until = NEVER
        spec = {"holderIdentity": None, "renewTime": _micro_time(self._clock.now())}
        try:
            self._seen.observe(await self._patch(spec))
        except KubernetesConflict:  # edited, or the answer to a renewal was lost
            await self._read()
            if self.holder == self._identity:
                self._seen.observe(await self._patch(spec))
        except KubernetesNotFound:
            self._lose()

    async def _create(self) -> bool:
        """Create the Lease as its holder; return False if it exists."""
        sent_at = self._clock.monotonic()
        metadata = {**self._metadata, "name": self._name, "namespace": self._namespace}
        manifest = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {**self._spec(acquires=True), "leaseTransitions": 0},
        }
        try:
            created = await _soon(self._kube.create(LEASES, self._namespace, manifest))
        except KubernetesConflict:
            return False
        self._take(created, sent_at)
        return True

    async def _write(self, *, acquires: bool = False) -> None:
        sent_at = self._clock.monotonic()
        self._take(await self._patch(self._spec(acquires=acquires)), sent_at)

    async def _patch(self, spec: Mapping[str, Any]) -> Lease:
        version = self._seen.lease.metadata.resource_version if self._seen.lease else ""
        patch = {"metadata": {**self._metadata, "resourceVersion": version}, "spec": spec}
        return await _soon(self._kube.patch(LEASES, self._namespace, self._name, patch))

    async def _read(self) -> None:
        try:
            self.observe(await _soon(self._kube.get(LEASES, self._namespace, self._name)))
        except KubernetesNotFound:
            self._lose()

    def _take(self, lease: Lease, sent_at: float) -> None:
        self._seen.observe(lease)
        if self.holder == self._identity:  # a watch may have shown a later version
            self._held_until = sent_at + LEASE_SECONDS

    def _lose(self) -> None:
        self._seen.forget()
        self._held_until = NEVER

    def _spec(self, *, acquires: bool) -> dict[str, Any]:
        now = _micro_time(self._clock.now())
        spec: dict[str, Any] = {"renewTime": now, "leaseDurationSeconds": int(LEASE_SECONDS)}
        if acquires:
            before = self._seen.lease.spec.lease_transitions if self._seen.lease else None
            changes = self.holder != self._identity
            spec |= {
                "holderIdentity": self._identity,
                "acquireTime": now,
                "leaseTransitions": (before or 0) + changes,
            }
        return spec


async def _soon(request: Awaitable[T]) -> T:
    """Return the answer, within `REQUEST_SECONDS`."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            return await request
    except TimeoutError as error:
        text = f"no answer within {REQUEST_SECONDS:g} s"
        raise KubernetesUnavailable(text) from error


def _micro_time(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
