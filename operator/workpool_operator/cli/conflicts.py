"""Finds bindings that are each valid and conflict with each other. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from workpool_operator.cli.findings import Finding
from workpool_operator.cli.objects import KubernetesObject, pool_name
from workpool_operator.jobs.field_errors import get_path

Conflicts = Iterator[tuple[KubernetesObject, Finding]]


def find_conflicts(bindings: Iterable[KubernetesObject]) -> Conflicts:
    """Yield the later one of two that conflict, with a warning that names the earlier one."""
    bindings = list(bindings)
    repeated = dict(_same_name(bindings))
    yield from repeated.items()
    yield from _same_runs(each for each in bindings if each not in repeated)


def _same_name(bindings: Iterable[KubernetesObject]) -> Conflicts:
    first: dict[tuple[str, str], KubernetesObject] = {}
    for binding in bindings:
        namespace, name = (
            get_path(binding.value, ("metadata", key)) for key in ("namespace", "name")
        )
        if not isinstance(name, str):
            continue
        other = first.setdefault((str(namespace or ""), name), binding)
        if other is not binding:
            text = f"same namespace and name as {other}: applying one replaces the other"
            yield binding, Finding(("metadata", "name"), text, "warning")


def _same_runs(bindings: Iterable[KubernetesObject]) -> Conflicts:
    served: dict[tuple[str, str], _PoolConsumers] = defaultdict(_PoolConsumers)
    for binding in bindings:
        spec = binding.value.get("spec")
        server, pool = _server(binding), pool_name(spec)
        if not (server and pool):
            continue
        shared = served[server, pool].add(binding, _queues(spec))
        if shared:
            other, queue = shared
            what = f"work queue {queue!r} of work pool {pool!r}" if queue else f"work pool {pool!r}"
            text = f"{other} also serves {what}: each run goes to the binding that claims it first"
            yield binding, Finding(("spec", "workPool", "name"), text, "warning")


def _server(binding: KubernetesObject) -> str:
    """Return what identifies the binding's server without a cluster; "" if nothing does."""
    server = get_path(binding.value, ("spec", "server"))
    given = server if isinstance(server, Mapping) else {}
    if isinstance(url := given.get("url"), str):
        return url.rstrip("/")
    if cloud := given.get("cloud"):
        return json.dumps(cloud, sort_keys=True, default=str)
    pool = get_path(binding.value, ("spec", "workPool", "ref"))
    source = given.get("urlFrom") or given.get("ref") or pool
    namespace = get_path(binding.value, ("metadata", "namespace"))
    return json.dumps([namespace, source], sort_keys=True, default=str) if source else ""


def _queues(spec: Any) -> list[str]:
    """Return the queues that the binding names; an empty list means all of the pool."""
    named = get_path(spec, ("workQueues",))
    return [each for each in named if isinstance(each, str)] if isinstance(named, list) else []


@dataclass(slots=True)
class _PoolConsumers:
    """The bindings that serve a work pool: the first of any queue, of all queues, of each queue."""

    any: KubernetesObject | None = None
    all: KubernetesObject | None = None
    by_queue: dict[str, KubernetesObject] = field(default_factory=dict)

    def add(
        self, binding: KubernetesObject, queues: list[str]
    ) -> tuple[KubernetesObject, str] | None:
        """Add a binding; return an earlier one that shares a queue, and the queue ("": all)."""
        shared = [(self.by_queue[queue], queue) for queue in queues if queue in self.by_queue]
        whole = self.all if queues else self.any
        self.any = self.any or binding
        self.all = self.all or (None if queues else binding)
        for queue in queues:
            self.by_queue.setdefault(queue, binding)
        return (whole, "") if whole else next(iter(shared), None)
