"""The holders of all bindings that the operator knows, and what reaches them: changes of bindings,
Leases, and which replica is to serve which binding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from workpool_operator import logs
from workpool_operator.binding.assignment import assign
from workpool_operator.binding.context import OperatorContext
from workpool_operator.binding.holder import BindingHolder
from workpool_operator.binding.live_binding import LiveBinding
from workpool_operator.binding.replicas import Replicas
from workpool_operator.binding.status import BINDINGS
from workpool_operator.kube import decoding
from workpool_operator.kube.client import METADATA_ONLY
from workpool_operator.kube.models import Lease

QUIET_SECONDS = 0.05  # changes that come together cause one assignment

Object = Mapping[str, Any]


class BindingHolders:
    """One BindingHolder for each binding; also the `kube.reflector.Store` of the bindings' Leases.

    `changed` is set when the replicas or the bindings changed.
    """

    def __init__(
        self, context: OperatorContext, replicas: Replicas, *, changed: asyncio.Event
    ) -> None:
        self._context = context
        self._replicas = replicas
        self._changed = changed
        self._group: asyncio.TaskGroup | None = None
        self._holders: dict[str, BindingHolder] = {}  # by NAMESPACE/NAME
        self._tasks: dict[str, asyncio.Task[None]] = {}  # the same
        self._back: dict[str, Object] = {}  # created or selected again while the holder ends
        self._leases: dict[tuple[str, str], Lease] = {}  # by namespace and name
        self._by_lease: dict[tuple[str, str], BindingHolder] = {}  # the same

    def __iter__(self) -> Iterator[BindingHolder]:
        return iter(tuple(self._holders.values()))

    async def run(self) -> None:
        """Run every holder and assign the bindings, until cancelled."""
        await self._replicas.known()
        async with asyncio.TaskGroup() as self._group:
            for holder in self:
                self._start(holder)
            while True:
                self._changed.clear()
                self._assign()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._replicas.seconds_to_expiry()):
                        await self._changed.wait()
                await asyncio.sleep(QUIET_SECONDS)

    def _assign(self) -> None:
        assigned = assign(self._holders, self._replicas.live())
        for key, replica in assigned.items():
            self._holders[key].assign(replica)

    async def stop(self) -> None:
        """Have every holder drain and release its Lease; wait until all have ended."""
        for holder in self:
            holder.stop()
        await asyncio.gather(*self._tasks.values())

    # Bindings

    def binding_changed(self, found: Object) -> None:
        """Take note of a version of a binding."""
        live = LiveBinding(found)
        holder = self._holders.get(live.key)
        if holder is None:
            self._add(live)
        elif holder.live.uid == live.uid and not holder.is_ending:
            holder.live.update(found)
            holder.changed()
        else:
            self._back[live.key] = found
            holder.missing()
        self._note_consumer(live)

    def _note_consumer(self, live: LiveBinding) -> None:
        """Have the sessions know what a binding takes that another replica serves."""
        holder = self._holders.get(live.key)
        if holder is None or holder.lifecycle.session:
            return
        if consumer := live.consumer:
            self._context.consumers.put(consumer)
        else:
            self._context.consumers.remove(live.key)

    def binding_gone(self, found: Object) -> None:
        """Take note that a binding was deleted, or does not match the selector any more."""
        live = LiveBinding(found)
        holder = self._holders.get(live.key)
        if holder and holder.live.uid == live.uid:
            holder.missing()

    async def relist(self, namespace: str, *, selector: str) -> None:
        """End the holders of bindings that do not exist in the namespace ("": in any): after some
        gaps, kopf reports no deletions.

        Raises:
            OperatorError: the bindings cannot be listed.
        """
        before = tuple(self)
        query = {"labelSelector": selector} if selector else {}
        path = BINDINGS.path(namespace)
        body = await self._context.kube.request("GET", path, query=query, accept=METADATA_ONLY)
        listed = {each["metadata"]["uid"] for each in decoding.field(body, "items")}
        for holder in before:
            if namespace in ("", holder.live.namespace) and holder.live.uid not in listed:
                holder.missing()

    def _add(self, live: LiveBinding) -> None:
        if live.is_released:
            return
        holder = BindingHolder(live, self._context, is_alone=self._is_alone)
        self._holders[live.key] = self._by_lease[holder.lease] = holder
        if lease := self._leases.get(holder.lease):
            holder.observe(lease)
        self._start(holder)
        self._changed.set()

    def _start(self, holder: BindingHolder) -> None:
        if self._group:
            name = f"holder-of-{holder.live.key}"
            self._tasks[holder.live.key] = self._group.create_task(self._run(holder), name=name)

    async def _run(self, holder: BindingHolder) -> None:
        key = holder.live.key
        with logs.about(binding=key):
            await holder.run()
        del self._holders[key], self._by_lease[holder.lease], self._tasks[key]
        self._context.consumers.remove(key)
        self._context.observer.binding_gone(holder.live.namespace, holder.live.name)
        self._changed.set()
        if again := self._back.pop(key, None):
            self._add(LiveBinding(again))

    def _is_alone(self) -> bool:
        return self._replicas.live() <= {self._context.identity}

    # Leases

    def put(self, lease: Lease) -> None:
        """See `kube.reflector.Store`."""
        key = (lease.metadata.namespace, lease.metadata.name)
        known = self._leases.get(key)
        if known and known.metadata.uid != lease.metadata.uid:  # deleted and created between lists
            self.remove(known.metadata.uid)
        self._leases[key] = lease
        if holder := self._by_lease.get(key):
            holder.observe(lease)

    def remove(self, uid: str) -> None:
        """See `kube.reflector.Store`."""
        for key, lease in tuple(self._leases.items()):
            if lease.metadata.uid == uid:
                del self._leases[key]
                if holder := self._by_lease.get(key):
                    holder.lease_deleted(uid)

    def uids(self, namespace: str) -> set[str]:
        """See `kube.reflector.Store`."""
        found = (lease.metadata for lease in self._leases.values())
        return {each.uid for each in found if namespace in ("", each.namespace)}
