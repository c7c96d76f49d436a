"""Caches the Jobs and pods of one owner's flow runs, in any number of namespaces.

    watch(namespace) --> Reflector of Jobs --> Cache of Jobs --+
                     +-> Reflector of Pods --> Cache of Pods --+--> subscribers

It outlives its subscribers: a new connection to Prefect starts with a filled cache.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import KubernetesRefused, OperatorError
from workpool_operator.kube.client import JOBS, PODS, KubernetesClient, Resource
from workpool_operator.kube.models import RUN_LABEL, Job, Metadata, Pod, RunObjects
from workpool_operator.kube.reflector import Reflector, Restart


class HasRunId(Protocol):
    """An object that has the id of the flow run for which it was created."""

    @property
    def metadata(self) -> Metadata:
        """The object's metadata."""

    @property
    def run_id(self) -> str:
        """The id of the object's flow run; "" if it belongs to none."""


O = TypeVar("O", bound=HasRunId)  # noqa: E741
Changed = Callable[[str], None]


class Subscriber:
    """Handles the changes of a cache; a subclass overrides what it needs."""

    def changed(self, run_id: UUID) -> None:
        """Handle that a Job or pod of the run was added, changed or deleted."""

    def listed(self, namespace: str, resource: str) -> None:
        """Handle that the cache was made equal to the cluster by a full list."""

    def failed(self, namespace: str, resource: str, error: OperatorError) -> None:
        """Handle that a list or watch failed; the reflector tries again by itself."""


class ClusterCache:
    """The Jobs and pods that match `selector` in each watched namespace.

    `alive(resource)` is called in every round of a reflector's loop, `restarted(resource, cause)`
    when a watch has to be opened again.
    """

    def __init__(
        self,
        client: KubernetesClient,
        *,
        selector: str,
        alive: Callable[[str], None] = lambda _: None,
        restarted: Callable[[str, Restart], None] = lambda *_: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._client = client
        self._selector = selector
        self._alive = alive
        self._restarted = restarted
        self._clock = clock
        self._subscribers: list[Subscriber] = []
        self._unlisted: dict[str, set[str]] = {}  # by namespace: the resources not listed yet
        self._synced: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        # Namespaces that are synced, or that the API server refuses to list.
        self._answered: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._waiting: list[Reflector[Any]] = []  # until `run`
        self._group: asyncio.TaskGroup | None = None
        self.jobs: Cache[Job] = Cache(self._changed)
        self.pods: Cache[Pod] = Cache(self._changed)

    def watch(self, namespace: str) -> None:
        """Follow the namespace from now on; a second call changes nothing."""
        if namespace in self._unlisted:
            return
        self._unlisted[namespace] = {JOBS.plural, PODS.plural}
        self._start(self._reflector(JOBS, namespace, self.jobs))
        self._start(self._reflector(PODS, namespace, self.pods))

    @property
    def namespaces(self) -> frozenset[str]:
        """The namespaces that are followed."""
        return frozenset(self._unlisted)

    def is_synced(self, namespace: str) -> bool:
        """Return whether the namespace's Jobs and pods were listed."""
        return self._synced[namespace].is_set()

    async def synced(self, namespace: str) -> None:
        """Wait until the namespace is synced."""
        await self._synced[namespace].wait()

    def is_answered(self, namespace: str) -> bool:
        """Return whether the namespace is synced, or the API server refused to list it."""
        return self._answered[namespace].is_set()

    async def answered(self, namespace: str) -> None:
        """Wait until the namespace is synced or the API server refuses to list it."""
        await self._answered[namespace].wait()

    def run_ids(self) -> Iterator[UUID]:
        """Return every run that has an object now."""
        return map(UUID, (self.jobs.run_ids() | self.pods.run_ids()) - {""})

    def objects(self, run_id: UUID) -> RunObjects:
        """Return what is known of the run."""
        key = str(run_id)
        return RunObjects(
            jobs=self.jobs.by_run(key),
            pods=self.pods.by_run(key),
            deleted_jobs=self.jobs.tombstones(key),
            deleted_pods=self.pods.tombstones(key),
        )

    def forget(self, run_id: UUID) -> None:
        """Drop the run's deleted objects: its end is reported."""
        self.jobs.drop_tombstones(str(run_id))
        self.pods.drop_tombstones(str(run_id))

    @contextmanager
    def subscribe(self, subscriber: Subscriber) -> Iterator[None]:
        """Pass every change to the subscriber."""
        self._subscribers.append(subscriber)
        try:
            yield
        finally:
            self._subscribers.remove(subscriber)

    async def run(self) -> None:
        """Follow until cancelled; an unexpected error of a reflector ends it."""
        async with asyncio.TaskGroup() as self._group:
            for reflector in self._waiting:
                self._start(reflector)
            await asyncio.Event().wait()

    def _start(self, reflector: Reflector[Any]) -> None:
        if self._group is None:
            self._waiting.append(reflector)
        else:
            self._group.create_task(reflector.run(), name="reflector")

    def _reflector(
        self, resource: Resource[Any], namespace: str, cache: Cache[Any]
    ) -> Reflector[Any]:
        return Reflector(
            self._client,
            resource,
            namespace=namespace,
            selector=self._selector,
            cache=cache,
            followed=partial(self._followed, namespace, resource.plural),
            alive=partial(self._alive, resource.plural),
            restarted=partial(self._restarted, resource.plural),
            flaw=_flaw,
            clock=self._clock,
        )

    def _followed(self, namespace: str, resource: str, error: OperatorError | None) -> None:
        if error is None:
            self._unlisted[namespace].discard(resource)
            if not self._unlisted[namespace]:
                self._synced[namespace].set()
                self._answered[namespace].set()
        elif isinstance(error, KubernetesRefused):
            self._answered[namespace].set()
        for subscriber in tuple(self._subscribers):
            if error is None:
                subscriber.listed(namespace, resource)
            else:
                subscriber.failed(namespace, resource, error)

    def _changed(self, run_id: str) -> None:
        if run_id:
            for subscriber in tuple(self._subscribers):
                subscriber.changed(UUID(run_id))


class Cache(Generic[O]):
    """The objects of one kind, by UID and by flow run; `changed(run_id)` is called after every
    change that concerns a run and that the objects' models show.

    Reflectors fill a cache, one for each namespace; all other callers only add the answers to their
    own requests, with `put_if_newer`. A deleted object stays readable in `tombstones` until its run
    is forgotten, because often only a pod's last status has its exit code (docs/races.md, 16). No
    I/O, no awaits.
    """

    def __init__(self, changed: Changed) -> None:
        self._changed = changed
        self._by_uid: dict[str, O] = {}
        self._by_run: dict[str, dict[str, O]] = {}
        self._by_namespace: dict[str, dict[str, O]] = {}
        self._tombstones: dict[str, dict[str, O]] = {}

    def __len__(self) -> int:
        return len(self._by_uid)

    def __iter__(self) -> Iterator[O]:
        return iter(self._by_uid.values())

    def by_run(self, run_id: str) -> tuple[O, ...]:
        """Return the run's objects that exist."""
        return tuple(self._by_run.get(run_id, {}).values())

    def tombstones(self, run_id: str) -> tuple[O, ...]:
        """Return the run's deleted objects as they were last seen."""
        return tuple(self._tombstones.get(run_id, {}).values())

    def by_run_with_tombstones(self, run_id: str) -> tuple[O, ...]:
        """Return the run's objects, whether they exist or were deleted."""
        return (*self.by_run(run_id), *self.tombstones(run_id))

    def run_ids(self) -> set[str]:
        """Return the ids of the runs that have an object."""
        return set(self._by_run)

    def uids(self, namespace: str) -> set[str]:
        """Return the UIDs of the namespace's objects."""
        return set(self._by_namespace.get(namespace, ()))

    def namespaces(self) -> Set[str]:
        """Return the namespaces that have objects."""
        return self._by_namespace.keys()

    def put(self, item: O) -> None:
        """Insert or replace the object."""
        uid, run_id = item.metadata.uid, item.run_id
        before = self._unindex(uid)
        _discard(self._tombstones, run_id, uid)
        self._by_uid[uid] = item
        self._by_run.setdefault(run_id, {})[uid] = item
        self._by_namespace.setdefault(item.metadata.namespace, {})[uid] = item
        if before is not None and before.run_id != run_id:
            self._changed(before.run_id)
        if item != before:
            self._changed(run_id)

    def put_if_newer(self, item: O) -> None:
        """Insert the answer to a request, unless the watch delivered a newer version meanwhile."""
        uid = item.metadata.uid
        known = self._by_uid.get(uid)
        gone = self._tombstones.get(item.run_id, {}).get(uid)
        if known and item.metadata.version <= known.metadata.version:
            return
        if gone and item.metadata.version < gone.metadata.version:
            return
        self.put(item)

    def remove(self, uid: str) -> None:
        """Remove a deleted object; its last version stays in `tombstones`."""
        item = self._unindex(uid)
        if item is None:
            return
        if item.run_id:  # without a run, `drop_tombstones` would never remove it
            self._tombstones.setdefault(item.run_id, {})[uid] = item
        self._changed(item.run_id)

    def drop_tombstones(self, run_id: str) -> None:
        """Drop the run's deleted objects: its end is reported."""
        self._tombstones.pop(run_id, None)

    def _unindex(self, uid: str) -> O | None:
        """Remove and return the cached object, also from the run that its label named before."""
        item = self._by_uid.pop(uid, None)
        if item is not None:
            _discard(self._by_run, item.run_id, uid)
            _discard(self._by_namespace, item.metadata.namespace, uid)
        return item


def _flaw(item: HasRunId) -> str:
    """Return why the object belongs to no run, "" if it belongs to one."""
    return "" if item.run_id else f"label {RUN_LABEL} is not a flow run id"


def _discard(index: dict[str, dict[str, O]], run_id: str, uid: str) -> None:
    items = index.get(run_id, {})
    items.pop(uid, None)
    if not items:
        index.pop(run_id, None)
