"""What the cluster holds of one kind, by key and by flow run.

A cache belongs to the reflectors of its namespaces; others only pass it the answers to their own
requests, with `put_if_newer`. A deleted object stays readable among the `tombstones` until its run
is forgotten, because a pod's exit code is often known only from its last status (docs/races.md,
16). No I/O, no awaits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from workpool_operator.kube.models import Job, Metadata, Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class RunObjects:
    """A run's objects in the cluster; the gone ones as they were last seen."""

    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    gone_jobs: tuple[Job, ...] = ()
    gone_pods: tuple[Pod, ...] = ()


class HasRunId(Protocol):
    """An object that carries the id of the flow run it was made for."""

    @property
    def metadata(self) -> Metadata:
        """The object's metadata."""

    @property
    def run_id(self) -> str:
        """The flow run that the object belongs to; "" if it belongs to none."""


O = TypeVar("O", bound=HasRunId)  # noqa: E741
Changed = Callable[[str], None]


class Cache(Generic[O]):
    """Objects of one kind; `changed(run_id)` is called after every change that concerns a run."""

    def __init__(self, changed: Changed) -> None:
        self._changed = changed
        self._by_uid: dict[str, O] = {}
        self._by_run: dict[str, dict[str, O]] = {}
        self._departed: dict[str, dict[str, O]] = {}

    def __len__(self) -> int:
        return len(self._by_uid)

    def __iter__(self) -> Iterator[O]:
        return iter(self._by_uid.values())

    def by_run(self, run_id: str) -> tuple[O, ...]:
        """The run's objects that exist."""
        return tuple(self._by_run.get(run_id, {}).values())

    def tombstones(self, run_id: str) -> tuple[O, ...]:
        """The last known views of the run's objects that exist no more."""
        return tuple(self._departed.get(run_id, {}).values())

    def by_run_with_tombstones(self, run_id: str) -> tuple[O, ...]:
        """Both."""
        return (*self.by_run(run_id), *self.tombstones(run_id))

    def run_ids(self) -> set[str]:
        """Every run that has an object."""
        return set(self._by_run)

    def put(self, item: O) -> None:
        """Insert or replace."""
        uid = item.metadata.uid
        self._unindex(uid)
        _discard(self._departed, item.run_id, uid)
        self._by_uid[uid] = item
        self._by_run.setdefault(item.run_id, {})[uid] = item
        self._changed(item.run_id)

    def put_if_newer(self, item: O) -> None:
        """What a request was answered: the watch may have brought something newer meanwhile."""
        uid = item.metadata.uid
        known = self._by_uid.get(uid)
        gone = self._departed.get(item.run_id, {}).get(uid)
        if known and _version(item) <= _version(known):
            return
        if gone and _version(item) < _version(gone):
            return
        self.put(item)

    def remove(self, uid: str) -> None:
        """The object is gone; what it last said stays in `tombstones`."""
        item = self._unindex(uid)
        if item is None:
            return
        if item.run_id:  # else no run's end would ever forget it
            self._departed.setdefault(item.run_id, {})[uid] = item
        self._changed(item.run_id)

    def replace(self, items: Iterable[O], *, namespace: str) -> None:
        """Take a full list of the namespace as the truth: what is known and not listed was
        deleted."""
        listed = {item.metadata.uid: item for item in items}
        for uid, item in tuple(self._by_uid.items()):
            if item.metadata.namespace == namespace and uid not in listed:
                self.remove(uid)
        for uid, item in listed.items():
            known = self._by_uid.get(uid)
            if known is None or known.metadata.resource_version != item.metadata.resource_version:
                self.put(item)

    def drop_tombstones(self, run_id: str) -> None:
        """Drop the run's departed objects: its end is reported."""
        self._departed.pop(run_id, None)

    def _unindex(self, uid: str) -> O | None:
        """Drop the object from where it is found, which is not where a changed label puts it."""
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
    """Resource versions of one kind are ordered; one that is no number counts as old."""
    version = item.metadata.resource_version
    return int(version) if version.isdigit() else 0
