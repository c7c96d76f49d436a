"""Knows the replicas that share the bindings: each keeps a Lease in the operator's own namespace.

A replica shares with those that serve the same namespaces and the same selector, which a label of
the Lease says: during an upgrade that changes them, old and new replicas do not count each other,
and the Leases of the bindings alone decide.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import socket
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from slugify import slugify

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import KubernetesForbidden, KubernetesRefused, OperatorError
from workpool_operator.kube import permissions
from workpool_operator.kube.client import LEASES, KubernetesClient
from workpool_operator.kube.leases import RENEW_SECONDS, LeaseLock, ObservedLease
from workpool_operator.kube.models import LEASE_LABEL, MANAGED, REPLICAS_LABEL, Lease
from workpool_operator.kube.reflector import Reflector
from workpool_operator.logs import ProblemLogger

log = logging.getLogger(__name__)

LEAVE_SECONDS = 1.0
NOT_KEPT = "cannot keep its Lease"
NOT_FOLLOWED = "cannot follow the Leases of the other replicas"
SHARED = "shares its bindings with another installation"


def new_identity() -> str:
    """Return the identity of this process: its pod's name, and what no other process has."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"


def group_of(namespaces: Sequence[str], selector: str) -> str:
    """Return the label value that replicas have in common which serve the same bindings."""
    served = "\n".join([selector, *sorted(set(namespaces))])
    return hashlib.sha256(served.encode()).hexdigest()[:16]


class Replicas:
    """The replicas that share bindings with this one, `identity`.

    `changed()` is called when one joined, left, or may have expired. `pod` is the owner of the
    Lease, with which Kubernetes deletes it; None outside of a cluster. `restarted(resource, cause)`
    is called when their watch has to be opened again.
    """

    def __init__(
        self,
        kube: KubernetesClient,
        *,
        identity: str,
        group: str,
        pod: dict[str, str] | None,
        changed: Callable[[], None],
        restarted: Callable[[str, str], None] = lambda *_: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._kube = kube
        self._restarted = restarted
        self._identity = identity
        self._group = group
        self._changed = changed
        self._clock = clock
        self._known: dict[str, ObservedLease] = {}  # by uid
        self._problems = ProblemLogger(log, "operator")
        self._is_pod = pod is not None
        self._listed = asyncio.Event()
        self._joined = asyncio.Event()  # or failed to
        self._left = False
        self._lock = LeaseLock(
            kube,
            namespace=kube.namespace,
            name=_lease_name(identity),
            identity=identity,
            metadata=_metadata(group, pod),
            clock=clock,
        )
        self.problem = ""

    async def run(self) -> None:
        """Keep this replica's Lease and follow those of the others, until cancelled. Its own would
        come back with every renewal."""
        reflector = Reflector(
            self._kube,
            LEASES,
            namespace=self._kube.namespace,
            selector=f"{REPLICAS_LABEL}={self._group}",
            except_name=_lease_name(self._identity),
            cache=self,
            followed=self._followed,
            restarted=partial(self._restarted, LEASES.plural),
            clock=self._clock,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(reflector.run(), name="replicas")
            group.create_task(self._keep_lease(), name="replica-lease")

    async def known(self) -> None:
        """Wait until the others are known, as far as the operator's rights allow."""
        await self._joined.wait()
        await self._listed.wait()

    def live(self) -> set[str]:
        """Return the identities of the live replicas, this one included until it leaves."""
        others = {seen.holder for seen in self._known.values() if seen.seconds_left > 0}
        return others - {self._identity} | (set() if self._left else {self._identity})

    def seconds_to_expiry(self) -> float | None:
        """Return the number of seconds until the next of the others expires; None without one."""
        left = (seen.seconds_left for seen in self._known.values() if seen.holder)
        return min((seconds for seconds in left if seconds > 0), default=None)

    async def leave(self) -> None:
        """Tell the others to take over."""
        self._left = True
        with suppress(OperatorError, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._lock.release()

    async def _keep_lease(self) -> None:
        while True:
            try:
                if not self._left and not await self._lock.renew():
                    await self._lock.acquire()
                self._solved(NOT_KEPT)
            except OperatorError as error:
                await self._report(NOT_KEPT, error)
            self._joined.set()
            await asyncio.sleep(RENEW_SECONDS * random.uniform(0.9, 1.0))

    def _followed(self, error: OperatorError | None) -> None:
        self._listed.set()
        if error is None:
            self._problems.resolved(NOT_FOLLOWED)
        elif isinstance(error, KubernetesRefused):  # an outage is logged with NOT_KEPT
            self._problems.report(NOT_FOLLOWED, error)

    def _report_installations(self) -> None:
        """Log which other Deployments serve the same bindings: the chart may be installed twice."""
        if not self._is_pod:
            return
        others = {_deployment(each) for each in self.live()} - {_deployment(self._identity)}
        if not others:
            self._problems.resolved(SHARED)
            return
        self._problems.report(
            SHARED,
            f"Deployment {', '.join(sorted(others))} in namespace {self._kube.namespace} serves "
            "the same namespaces. Each binding has one holder, as with replicas of one "
            "installation. "
            "If that is not intended, uninstall one of them, or set its namespaces or selector.",
        )

    async def _report(self, what: str, error: OperatorError) -> None:
        text = str(error)
        if isinstance(error, KubernetesForbidden):
            namespace = self._kube.namespace
            grant = await permissions.how_to_grant(self._kube, namespace, permissions.REPLICAS_ROLE)
            text = f"{error}. Grant it: {grant}"
            self.problem = f"{what}: {text}"
        self._problems.report(what, text)

    def _solved(self, what: str) -> None:
        self.problem = ""
        self._problems.resolved(what)

    # What the reflector fills

    def put(self, lease: Lease) -> None:
        """See `kube.reflector.Store`."""
        seen = self._known.setdefault(lease.metadata.uid, ObservedLease(self._clock))
        before = seen.holder if seen.seconds_left > 0 else ""
        seen.observe(lease)
        if seen.holder != before:
            self._report_installations()
            self._changed()

    def remove(self, uid: str) -> None:
        """See `kube.reflector.Store`."""
        if self._known.pop(uid, None):
            self._report_installations()
            self._changed()

    def uids(self, _: str) -> set[str]:
        """See `kube.reflector.Store`; all replicas have their Leases in one namespace."""
        return set(self._known)


def _lease_name(identity: str) -> str:
    return f"workpool-operator-{slugify(identity, max_length=200)}"


def _deployment(identity: str) -> str:
    """Return the name of the Deployment whose pod has the identity."""
    return identity.partition("_")[0].rsplit("-", 2)[0]


def _metadata(group: str, pod: dict[str, str] | None) -> dict[str, Any]:
    labels = {**MANAGED, LEASE_LABEL: "replica", REPLICAS_LABEL: group}
    return {"labels": labels, "ownerReferences": [pod]} if pod else {"labels": labels}
