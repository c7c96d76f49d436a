"""Reads what a cluster knows of one flow run, with the rights of the person who asks.

What this person may not read is noted and left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from workpool_operator.api import v1alpha1
from workpool_operator.binding.status import BINDINGS
from workpool_operator.cli import objects
from workpool_operator.cli.explain.reason import MOST_LISTED
from workpool_operator.cli.explain.snapshot import (
    BindingFacts,
    ClusterFacts,
    Holder,
    PrefectFacts,
    Unread,
)
from workpool_operator.cli.overview import job_namespaces, list_objects, operator_namespace
from workpool_operator.cli.runs_in_flight import RunInFlight, runs_in_flight
from workpool_operator.errors import KubernetesForbidden, KubernetesNotFound, OperatorError
from workpool_operator.jobs import kueue, names
from workpool_operator.jobs.field_errors import get_path
from workpool_operator.jobs.manifest import FLOW_RUN_ID_KEY
from workpool_operator.kube import events
from workpool_operator.kube.client import EVENTS, JOBS, PODS, KubernetesClient, Resource
from workpool_operator.kube.models import RUN_LABEL, Condition, Event, Job, Pod

T = TypeVar("T")
Object = dict[str, Any]

_MOST_PODS = 3  # whose Events are read, newest first
_conditions = TypeAdapter(tuple[Condition, ...])


@dataclass
class ClusterReader:
    """Reads through `kube`; `unread` is what this person may not read, or what did not answer.

    `namespace` limits the lookups to one namespace; "" means every namespace, or, if this person
    may not list that, the namespaces that bindings, run and kubeconfig name.
    """

    kube: KubernetesClient
    namespace: str = ""
    unread: list[Unread] = field(default_factory=list)

    async def read(self, run_id: str, prefect: PrefectFacts | None) -> ClusterFacts:
        """Return the facts about the run.

        Raises:
            OperatorError: the API server does not answer, or does not know who asks.
        """
        bindings, bindings_readable = await self._bindings()
        run = prefect.run if prefect else None
        candidates = [
            await self._of_run(each, run_id, prefect) if _may_serve(each, prefect) else each
            for each in bindings
        ]
        recorded = (run.infrastructure_pid or "").rpartition(":")[0] if run else ""
        where = [recorded, *(ns for each in candidates for ns in each.job_namespaces)]
        jobs, jobs_readable = await self._of_label(JOBS, run_id, where) if run_id else ((), True)
        where = [*(job.metadata.namespace for job in jobs), recorded] if jobs or recorded else where
        pods, pods_readable = await self._of_label(PODS, run_id, where) if run_id else ((), True)
        return ClusterFacts(
            address=self.kube.address,
            now=self.kube.clock.now(),
            bindings=tuple(candidates),
            bindings_readable=bindings_readable,
            jobs=jobs,
            pods=pods,
            events=await self._events(jobs, pods),
            jobs_readable=jobs_readable,
            pods_readable=pods_readable,
            unseen=await self._unseen(prefect),
        )

    # Bindings

    async def _bindings(self) -> tuple[list[BindingFacts], bool]:
        """Return the bindings, and whether all that could serve the run were read."""
        try:
            found = await self.kube.list(BINDINGS, self.namespace)
            return [_binding(each) for each in found], True
        except KubernetesNotFound:
            why = f"the CRD {v1alpha1.PLURAL}.{v1alpha1.GROUP} is not installed"
            self.unread.append(Unread(f"bindings in {self.kube.address}", why))
            return [], True
        except KubernetesForbidden as refused:
            own = self.namespace or self.kube.namespace
            self._note("workpoolbindings", self.namespace, refused)
            if not self.namespace:
                with suppress(KubernetesForbidden):
                    return [_binding(each) for each in await self.kube.list(BINDINGS, own)], False
            return [], False

    async def _of_run(
        self, binding: BindingFacts, run_id: str, prefect: PrefectFacts | None
    ) -> BindingFacts:
        """Add what proves its claims on the run, and what it says about the run."""
        pool_id = prefect.pool_id if prefect else None
        if not run_id or pool_id is None:
            return binding
        claiming = binding.claiming
        full = claiming is not None and claiming.reason == "AtCapacity"
        return replace(
            binding,
            operator_namespace=await operator_namespace(
                self.kube, binding.operator_pod, near=binding.namespace
            ),
            transition_id=await self._transition_id(binding, pool_id, UUID(run_id)),
            refused_claim=await self._refused_claim(binding, run_id),
            in_flight=await self._in_flight(binding) if full else (),
        )

    async def _transition_id(
        self, binding: BindingFacts, pool_id: UUID, run_id: UUID
    ) -> UUID | None:
        try:
            cluster_id = await self.kube.namespace_uid(binding.namespace)
        except OperatorError as error:
            what = f"namespace {binding.namespace}"
            self._note(what, "", error, step=f"ask for the right to get {what}")
            return None
        return names.transition_id(
            cluster_id=cluster_id, binding=binding.key, pool_id=pool_id, run_id=run_id
        )

    async def _refused_claim(self, binding: BindingFacts, run_id: str) -> str:
        """Return the message of the Event about a refused claim that still delays the run."""
        about = f"involvedObject.name={binding.name},reason={events.CLAIM_REFUSED}"
        found = await self._list(EVENTS, binding.namespace, fields=about)
        of_run = [each for each in found if run_id in each.message]
        last = max(of_run, key=_event_time, default=None)
        until = _UNTIL.search(last.message) if last else None
        if last is None or until is None:
            return ""
        is_over = datetime.fromisoformat(until[1]) <= self.kube.clock.now()
        return "" if is_over else last.message

    async def _in_flight(self, binding: BindingFacts) -> tuple[Holder, ...]:
        """Return the runs that take the binding's slots."""
        found: list[Holder] = []
        for namespace in binding.job_namespaces:
            try:
                jobs, pods, run_names = await list_objects(self.kube, namespace)
            except OperatorError as error:
                self._note("jobs", namespace, error)
                continue
            runs = runs_in_flight(jobs, pods, names=run_names, now=self.kube.clock.now())
            found += [_holder(run) for run in runs if run.binding == binding.key]
        return tuple(found)

    # The run's objects

    async def _of_label(
        self, resource: Resource[T], run_id: str, namespaces: Iterable[str]
    ) -> tuple[tuple[T, ...], bool]:
        """Return the run's objects, and whether all that can exist were read."""
        try:
            return await self._labelled(resource, self.namespace, run_id), True
        except KubernetesForbidden as refused:
            first = refused
        wanted = dict.fromkeys([*filter(None, namespaces), self.kube.namespace])
        found: list[T] = []
        refused_in = []
        for namespace in () if self.namespace else wanted:
            try:
                found += await self._labelled(resource, namespace, run_id)
            except KubernetesForbidden:
                refused_in.append(namespace)
        if not found:
            where = ", ".join(refused_in) or self.namespace
            self._note(resource.plural, where, first)
        return tuple(found), bool(found)

    async def _unseen(self, prefect: PrefectFacts | None) -> frozenset[str]:
        """Return which of the runs that take slots have neither a Job nor a pod in the cluster;
        none if not all of it can be read."""
        started = {each.id for each in _holders_of(prefect) if each.started}
        if not started or self.namespace:
            return frozenset()
        among = ",".join(sorted(started))
        seen: set[str] = set()
        for label in (RUN_LABEL, FLOW_RUN_ID_KEY):
            query = {"labelSelector": f"{label} in ({among})"}
            for resource in (JOBS, PODS):
                try:
                    body = await self.kube.request("GET", resource.path(""), query=query)
                except OperatorError:
                    return frozenset()
                labels = (item["metadata"].get("labels", {}) for item in json.loads(body)["items"])
                seen.update(found[label] for found in labels)
        return frozenset(started - seen)

    async def _labelled(self, resource: Resource[T], namespace: str, run_id: str) -> tuple[T, ...]:
        """Return the objects of ours; if there are none, those of a stock worker."""
        ours = await self.kube.list(resource, namespace, label_selector=f"{RUN_LABEL}={run_id}")
        if ours:
            return ours
        stock = f"{FLOW_RUN_ID_KEY}={run_id}"
        return await self.kube.list(resource, namespace, label_selector=stock)

    async def _events(
        self, jobs: Iterable[Job], pods: Iterable[Pod]
    ) -> Mapping[str, tuple[Event, ...]]:
        newest = sorted(pods, key=lambda pod: str(pod.metadata.creation_timestamp), reverse=True)
        about: list[Job | Pod] = [*jobs, *newest[:_MOST_PODS]]
        found: dict[str, tuple[Event, ...]] = {}
        for each in about:
            found[each.metadata.name] = await self._events_of(each.metadata.namespace, each)
        for job in jobs:
            if workload := kueue.workload_name(found.get(job.name, ())):
                fields = f"involvedObject.name={workload}"
                found[workload] = await self._list(EVENTS, job.metadata.namespace, fields=fields)
        return found

    async def _events_of(self, namespace: str, item: Job | Pod) -> tuple[Event, ...]:
        fields = f"involvedObject.uid={item.metadata.uid}"
        return tuple(sorted(await self._list(EVENTS, namespace, fields=fields), key=_event_time))

    async def _list(self, resource: Resource[T], namespace: str, *, fields: str) -> tuple[T, ...]:
        """Return the objects; note and return none if they cannot be read."""
        try:
            return await self.kube.list(resource, namespace, field_selector=fields)
        except OperatorError as error:
            self._note(resource.plural, namespace, error)
            return ()

    def _note(self, what: str, namespace: str, error: OperatorError, *, step: str = "") -> None:
        where = f" in namespace {namespace}" if namespace else ""
        if isinstance(error, KubernetesForbidden) and not step:
            flag = f"-n {namespace}" if namespace and "," not in namespace else "-A"
            step = f"ask for the right to get and list them: kubectl auth can-i list {what} {flag}"
        found = Unread(f"{what}{where}", str(error), step)
        if found not in self.unread:
            self.unread.append(found)


#: As `binding.connection` writes it.
_UNTIL = re.compile(r"not before (\S+Z)")


def _holder(run: RunInFlight) -> Holder:
    name = run.name or f"Job {run.namespace}/{run.job}"
    return Holder(name=name, id=run.run_id, state=run.phase, since=run.since)


def _holders_of(prefect: PrefectFacts | None) -> Iterator[Holder]:
    """Yield the runs that are shown as taking slots of the run's limits."""
    if prefect is None:
        return
    slots = prefect.deployment.slots if prefect.deployment else None
    for limit in (prefect.queue, prefect.pool, slots):
        if limit and limit.full:
            yield from limit.holders[:MOST_LISTED]


def _may_serve(binding: BindingFacts, prefect: PrefectFacts | None) -> bool:
    if prefect is None or prefect.run is None:
        return False
    pool = str(prefect.run.document.get("work_pool_name") or "")
    return binding.has_pool(prefect.pool_id, pool)


def _binding(manifest: Object) -> BindingFacts:
    """Return the facts in the manifest. The API server has checked it by the CRD's schema."""
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    status = manifest.get("status") or {}
    return BindingFacts(
        namespace=metadata["namespace"],
        name=metadata["name"],
        pool_name=objects.pool_name(spec) or str(get_path(status, ("workPool", "name")) or ""),
        pool_id=str(get_path(status, ("workPool", "id")) or ""),
        server_url=str(get_path(status, ("server", "url")) or ""),
        worker_name=str(status.get("workerName") or ""),
        operator=str(status.get("holderIdentity") or ""),
        queues=tuple(spec["workQueues"]) if spec.get("workQueues") else None,
        suspended=bool(spec.get("suspend")),
        deleting=bool(metadata.get("deletionTimestamp")),
        poll_seconds=objects.poll_interval(spec),
        job_namespaces=tuple(sorted(job_namespaces(manifest))),
        conditions=_read_conditions(status.get("conditions")),
        last_poll=_time(status.get("lastPollTime")),
    )


def _read_conditions(found: Any) -> tuple[Condition, ...]:
    try:
        return _conditions.validate_python(found or ())
    except ValidationError:
        return ()


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None


def _event_time(event: Event) -> datetime:
    return event.time or datetime.fromtimestamp(0, UTC)
