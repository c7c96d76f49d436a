"""Bindings that are each valid and get in each other's way. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from workpool_operator.cli.findings import Finding
from workpool_operator.cli.objects import KubernetesObject
from workpool_operator.jobs.field_errors import get_path

Found = Iterator[tuple[KubernetesObject, Finding]]


def conflicts(bindings: Iterable[KubernetesObject]) -> Found:
    """Of two that conflict, the later one and what it shares with the earlier one."""
    bindings = list(bindings)
    repeated = dict(_same_name(bindings))
    yield from repeated.items()
    yield from _same_runs(each for each in bindings if each not in repeated)


def _same_name(bindings: Iterable[KubernetesObject]) -> Found:
    first: dict[tuple[str, str], KubernetesObject] = {}
    for binding in bindings:
        namespace, name = (
            get_path(binding.value, ("metadata", key)) for key in ("namespace", "name")
        )
        if not isinstance(name, str):
            continue
        other = first.setdefault((str(namespace or ""), name), binding)
        if other is not binding:
            text = f"the same namespace and name as in {other}: applying one replaces the other"
            yield binding, Finding(("metadata", "name"), text, "warning")


def _same_runs(bindings: Iterable[KubernetesObject]) -> Found:
    served: dict[tuple[str, str], _PoolConsumers] = defaultdict(_PoolConsumers)
    for binding in bindings:
        spec = binding.value.get("spec")
        server, pool = get_path(spec, ("server", "url")), get_path(spec, ("workPool", "name"))
        if not (isinstance(server, str) and isinstance(pool, str)):
            continue
        shared = served[server.rstrip("/"), pool].add(binding, _queues(spec))
        if shared:
            other, queue = shared
            what = f"work queue {queue!r} of work pool {pool!r}" if queue else f"work pool {pool!r}"
            text = f"{other} serves {what}, too: each run goes to the binding that claims it first"
            yield binding, Finding(("spec", "workPool", "name"), text, "warning")


def _queues(spec: Any) -> list[str]:
    """Those that are named; none stands for all of the pool's."""
    named = get_path(spec, ("workQueues",))
    return [each for each in named if isinstance(each, str)] if isinstance(named, list) else []


@dataclass(slots=True)
class _PoolConsumers:
    """Who serves a work pool: the first binding of any queue, of all queues, and of each one."""

    any: KubernetesObject | None = None
    all: KubernetesObject | None = None
    by_queue: dict[str, KubernetesObject] = field(default_factory=dict)

    def add(
        self, binding: KubernetesObject, queues: list[str]
    ) -> tuple[KubernetesObject, str] | None:
        """The binding that serves some of these queues already, and which one if not all."""
        shared = [(self.by_queue[queue], queue) for queue in queues if queue in self.by_queue]
        whole = self.all if queues else self.any
        self.any = self.any or binding
        self.all = self.all or (None if queues else binding)
        for queue in queues:
            self.by_queue.setdefault(queue, binding)
        return (whole, "") if whole else next(iter(shared), None)
