"""Caches the objects of one kind, by UID and by flow run.

Reflectors fill a cache, one for each namespace; all other callers only add the answers to their own
requests, with `put_if_newer`. A deleted object stays readable in `tombstones` until its run is
forgotten, because often only a pod's last status has its exit code (docs/races.md, 16). No I/O, no
awaits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from workpool_operator.kube.models import Job, Metadata, Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class RunObjects:
    """A run's objects in the cluster, and its deleted objects as they were last seen."""

    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    deleted_jobs: tuple[Job, ...] = ()
    deleted_pods: tuple[Pod, ...] = ()


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


class Cache(Generic[O]):
    """Objects of one kind; `changed(run_id)` is called after every change that concerns a run."""

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
