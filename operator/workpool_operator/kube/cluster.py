"""Caches the Jobs and pods of one owner's flow runs, in any number of namespaces.

    watch(namespace) --> Reflector of Jobs --> Cache of Jobs --+
                     +-> Reflector of Pods --> Cache of Pods --+--> subscribers

It outlives its subscribers: a new connection to Prefect starts with a filled cache.

A reflector lists in pages, watches from there, and lists again after a gap:

- After any gap the cache equals the cluster again, because each full list replaces its objects.
- A silent, broken or refused watch is noticed, and opened again with backoff.
- Decoding blocks the event loop for at most one page.
- An object that cannot be decoded is left out, and logged once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from uuid import UUID

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import (
    KubernetesGone,
    KubernetesRefused,
    KubernetesUnavailable,
    OperatorError,
)
from workpool_operator.kube.client import JOBS, PODS, KubernetesClient, Resource
from workpool_operator.kube.decoding import Decoder
from workpool_operator.kube.models import (
    RUN_LABEL,
    Job,
    Metadata,
    Pod,
    RunObjects,
    Status,
    first_mismatch,
)

if TYPE_CHECKING:
    from pydantic import ValidationError

log = logging.getLogger(__name__)

PAGE_SIZE = 100  # decoding 100 pods blocks the event loop for 14 ms, 500 pods for 51 ms
RELIST_SECONDS = 600.0
WATCH_SECONDS = 270
SILENCE_SECONDS = 75.0  # bookmarks come every 60 s: a longer silence is a dead connection
BACKOFF_SECONDS = (0.2, 10.0)  # a granted right is noticed within 15 s


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
Followed = Callable[[OperatorError | None], None]


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

    `alive(resource)` is called in every round of a reflector's loop.
    """

    def __init__(
        self,
        client: KubernetesClient,
        *,
        selector: str,
        alive: Callable[[str], None] = lambda _: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._client = client
        self._selector = selector
        self._alive = alive
        self._clock = clock
        self._subscribers: list[Subscriber] = []
        self._unlisted: dict[str, set[str]] = {}  # by namespace: the resources not listed yet
        self._synced: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
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

    def run_ids(self) -> set[UUID]:
        """Return every run that has an object."""
        return {UUID(run_id) for run_id in self.jobs.run_ids() | self.pods.run_ids() if run_id}

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
            clock=self._clock,
        )

    def _followed(self, namespace: str, resource: str, error: OperatorError | None) -> None:
        if error is None:
            self._unlisted[namespace].discard(resource)
            if not self._unlisted[namespace]:
                self._synced[namespace].set()
        for subscriber in tuple(self._subscribers):
            if error is None:
                subscriber.listed(namespace, resource)
            else:
                subscriber.failed(namespace, resource, error)

    def _changed(self, run_id: str) -> None:
        if run_id:
            for subscriber in tuple(self._subscribers):
                subscriber.changed(UUID(run_id))


class Reflector(Generic[O]):
    """Keeps `cache` equal to the objects of `resource` in `namespace` that match `selector`.

    `followed(error)` is called with None after every successful list, and with the error that ended
    a list or a watch. `alive()` is called in every round of the loop, at least every
    `SILENCE_SECONDS`.
    """

    def __init__(
        self,
        client: KubernetesClient,
        resource: Resource[O],
        *,
        namespace: str,
        selector: str,
        cache: Cache[O],
        followed: Followed,
        alive: Callable[[], None] = lambda: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._path = resource.path(namespace)
        self._selector = selector
        self._cache = cache
        self._followed = followed
        self._alive = alive
        self._clock = clock
        self._decoder = Decoder(resource.view, mismatched=self._log_undecodable)
        self._logged: set[str] = set()  # UIDs

    async def run(self) -> None:
        """Follow until cancelled."""
        delay, longest = BACKOFF_SECONDS
        while True:
            self._alive()
            try:
                await self._follow()
                delay = BACKOFF_SECONDS[0]
                await asyncio.sleep(delay)  # in case the server ends every watch at once
            except (KubernetesUnavailable, KubernetesRefused) as error:
                self._followed(error)
                await asyncio.sleep(delay * random.uniform(0.8, 1.2))
                delay = min(delay * 2, longest)

    async def _follow(self) -> None:
        """List once, then watch until a relist is due or the version is too old."""
        version = await self._list()
        until = self._clock.monotonic() + RELIST_SECONDS * random.uniform(0.9, 1.1)
        while version and self._clock.monotonic() < until:
            version = await self._watch(version)
            await asyncio.sleep(0.1)

    async def _list(self) -> str:
        """Fill the cache; return the version to watch from, "" to list again because the server no
        longer has the rest of a list."""
        items: list[O] = []
        query = {"labelSelector": self._selector, "limit": str(PAGE_SIZE)}
        while True:
            try:
                body = await self._client.request("GET", self._path, query=query)
            except KubernetesGone:
                if "continue" not in query:
                    raise
                log.info("list of %s expired between two pages: listing again", self._path)
                return ""
            self._alive()
            page = self._decoder.list_page(body)
            items.extend(page.items)
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        for item in items:
            self._check(item)
        self._cache.replace(items, namespace=self._namespace)
        self._followed(None)
        return page.metadata.resource_version

    async def _watch(self, version: str) -> str:
        """Apply events until the server ends the watch; return the version to continue from, "" to
        list again."""
        query = {
            "labelSelector": self._selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(WATCH_SECONDS * random.uniform(0.9, 1.1))),
        }
        try:
            async with self._client.watch(self._path, query) as lines:
                while version and (line := await self._next(lines)):
                    self._alive()
                    version = self._apply(line)
                return version
        except KubernetesGone:
            return ""

    async def _next(self, lines: AsyncIterator[bytes]) -> bytes | None:
        """Return the watch's next line; None at its end, or if it is silent for too long."""
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                return await anext(lines, None)
        except TimeoutError:
            log.info("watch of %s was silent for %d s", self._path, SILENCE_SECONDS)
            return None

    def _apply(self, line: bytes) -> str:
        """Apply the event; return the version to continue from, "" to list again."""
        event = self._decoder.watch_event(line)
        if isinstance(event, str):
            return event
        if isinstance(event.object, Status):
            log.info("watch of %s ended: %s: listing again", self._path, event.object.message)
            return ""
        if event.type != "BOOKMARK":
            self._check(event.object)
            self._cache.put(event.object)  # also DELETED: the tombstone then has the last status
        if event.type == "DELETED":
            self._cache.remove(event.object.metadata.uid)
        return str(event.object.metadata.resource_version)

    def _check(self, item: O) -> None:
        if not item.run_id:
            self._log_mismatch(
                item.metadata.uid, item.metadata.name, f"label {RUN_LABEL} is not a flow run id"
            )

    def _log_undecodable(self, metadata: dict[str, Any], error: ValidationError) -> None:
        self._log_mismatch(
            str(metadata.get("uid")), str(metadata.get("name")), first_mismatch(error)
        )

    def _log_mismatch(self, uid: str, name: str, why: str) -> None:
        """Log it once for each object, which is in every list again."""
        if uid not in self._logged:
            self._logged.add(uid)
            log.warning("%s/%s is ignored: %s", self._path, name, why)


class Cache(Generic[O]):
    """The objects of one kind, by UID and by flow run; `changed(run_id)` is called after every
    change that concerns a run.

    Reflectors fill a cache, one for each namespace; all other callers only add the answers to their
    own requests, with `put_if_newer`. A deleted object stays readable in `tombstones` until its run
    is forgotten, because often only a pod's last status has its exit code (docs/races.md, 16). No
    I/O, no awaits.
    """

    def __init__(self, changed: Changed) -> None:
        self._changed = changed
        self._by_uid: dict[str, O] = {}
        self._by_run: dict[str, dict[str, O]] = {}
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

    def put(self, item: O) -> None:
        """Insert or replace the object."""
        uid = item.metadata.uid
        self._unindex(uid)
        _discard(self._tombstones, item.run_id, uid)
        self._by_uid[uid] = item
        self._by_run.setdefault(item.run_id, {})[uid] = item
        self._changed(item.run_id)

    def put_if_newer(self, item: O) -> None:
        """Insert the answer to a request, unless the watch delivered a newer version meanwhile."""
        uid = item.metadata.uid
        known = self._by_uid.get(uid)
        gone = self._tombstones.get(item.run_id, {}).get(uid)
        if known and _version(item) <= _version(known):
            return
        if gone and _version(item) < _version(gone):
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

    def replace(self, items: Iterable[O], *, namespace: str) -> None:
        """Replace the namespace's objects by a full list: an object that it lacks was deleted."""
        listed = {item.metadata.uid: item for item in items}
        for uid, item in tuple(self._by_uid.items()):
            if item.metadata.namespace == namespace and uid not in listed:
                self.remove(uid)
        for uid, item in listed.items():
            known = self._by_uid.get(uid)
            if known is None or known.metadata.resource_version != item.metadata.resource_version:
                self.put(item)

    def drop_tombstones(self, run_id: str) -> None:
        """Drop the run's deleted objects: its end is reported."""
        self._tombstones.pop(run_id, None)

    def _unindex(self, uid: str) -> O | None:
        """Remove and return the cached object, also from the run that its label named before."""
        item = self._by_uid.pop(uid, None)
        if item is not None:
            _discard(self._by_run, item.run_id, uid)
        return item


def _discard(index: dict[str, dict[str, O]], run_id: str, uid: str) -> None:
    items = index.get(run_id, {})
    items.pop(uid, None)
    if not items:
        index.pop(run_id, None)


def _version(item: HasRunId) -> int:
    """Return the resource version, which orders the objects of one kind; 0 if not a number."""
    version = item.metadata.resource_version
    return int(version) if version.isdigit() else 0
