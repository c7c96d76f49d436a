"""Reads bindings and their runs in flight from a cluster, as far as the caller may read them.

A part that cannot be read becomes a note. Prefect is asked only about claimed runs that have no
Job, which Kubernetes does not know.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workpool_operator.cli.binding_list import list_bindings
from workpool_operator.cli.objects import key_of
from workpool_operator.cli.operator_log import pod_of, why_silent
from workpool_operator.cli.runs_in_flight import RunInFlight, runs_in_flight
from workpool_operator.cli.status_report import is_silent, runs_of
from workpool_operator.errors import OperatorError
from workpool_operator.jobs.field_errors import get_path
from workpool_operator.kube.client import EVENTS, JOBS, PODS, KubernetesClient
from workpool_operator.kube.models import BINDING_LABEL, Job, Pod

NAME_LABEL = "prefect.io/flow-run-name"
MOST_EVENTS = 50  # runs whose Events are read
CONCURRENT = 8

Object = dict[str, Any]
Page = tuple[tuple[Job, ...], tuple[Pod, ...], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which bindings to read. No namespace means all; no key means all of the namespaces."""

    namespaces: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def listed(self) -> tuple[str, ...]:
        """The namespaces to list."""
        named = dict.fromkeys(key.partition("/")[0] for key in self.keys)
        return tuple(named) or self.namespaces


@dataclass(slots=True)
class Overview:
    """What was read at `now`, by the API server's clock; `notes` say what could not be read.

    `next_steps` has, by the key of a binding, what to do if its status does not say so.
    """

    now: datetime
    bindings: list[Object] = field(default_factory=list)
    runs: list[RunInFlight] = field(default_factory=list)
    next_steps: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


async def read_overview(kube: KubernetesClient, selection: Selection) -> Overview:
    """Return the bindings and their runs in flight.

    Raises:
        OperatorError: the bindings cannot be listed, or one that is named does not exist.
    """
    listed = await list_bindings(kube, selection.listed)
    bindings = sorted(filter(_is_complete, listed), key=key_of)
    if selection.keys:
        bindings = _chosen(bindings, selection.keys)
    found = Overview(kube.clock.now(), bindings)
    await _read_runs(kube, found, everywhere=not selection.listed)
    await _add_claims(kube, found)
    await _add_next_steps(kube, found)
    return found


def _is_complete(binding: Object) -> bool:
    return isinstance(get_path(binding, ("spec",)), dict)


def _chosen(bindings: Iterable[Object], keys: Sequence[str]) -> list[Object]:
    by_key = {key_of(binding): binding for binding in bindings}
    for key in keys:
        if key not in by_key:
            raise OperatorError(f"there is no binding {key}: kubectl get wpb --all-namespaces")
    return [by_key[key] for key in dict.fromkeys(keys)]


def job_namespaces(binding: Object) -> set[str]:
    """Return every namespace that can have Jobs of the binding, which may be malformed."""
    jobs = get_path(binding, ("spec", "jobs"))
    jobs = jobs if isinstance(jobs, dict) else {}
    followed = get_path(binding, ("status", "jobNamespaces"))
    more = [*(jobs.get("allowedNamespaces") or ()), *(followed or ())]
    return {str(jobs.get("namespace") or binding["metadata"]["namespace"]), *map(str, more)}


async def _read_runs(kube: KubernetesClient, found: Overview, *, everywhere: bool) -> None:
    shown = {key_of(binding) for binding in found.bindings}
    wanted = sorted(set[str]().union(*map(job_namespaces, found.bindings)))
    pages = await _list_everywhere(kube) if everywhere and wanted else None
    if pages is None:
        pages = await _list_each(kube, wanted, found.notes)
    found.now = kube.clock.now()
    for jobs, pods, names in pages:
        runs = runs_in_flight(jobs, pods, names=names, now=found.now)
        found.runs += [run for run in runs if run.binding in shown]
    found.runs = await _explained(kube, found.runs)


async def _list_everywhere(kube: KubernetesClient) -> list[Page] | None:
    """Return the objects of all namespaces, None if they cannot be listed together."""
    try:
        return [await list_objects(kube, "")]
    except OperatorError:
        return None


async def _list_each(
    kube: KubernetesClient, namespaces: Sequence[str], notes: list[str]
) -> list[Page]:
    """Return the objects of the namespaces that can be listed, and add a note for each other."""
    slots = asyncio.Semaphore(CONCURRENT)

    async def list_one(namespace: str) -> Page:
        try:
            async with slots:
                return await list_objects(kube, namespace)
        except OperatorError as error:
            notes.append(f"runs in namespace {namespace} are missing: {error}")
            return (), (), {}

    return await asyncio.gather(*map(list_one, namespaces))


async def list_objects(kube: KubernetesClient, namespace: str) -> Page:
    """Return the Jobs and pods of runs there, and the names of the runs by the UID of their Job."""
    query = {"labelSelector": BINDING_LABEL}
    bodies = await asyncio.gather(
        *(kube.request("GET", kind.path(namespace), query=query) for kind in (JOBS, PODS))
    )
    names = {
        str(get_path(job, ("metadata", "uid"))): str(
            get_path(job, ("metadata", "labels", NAME_LABEL)) or ""
        )
        for job in json.loads(bodies[0])["items"]
    }
    return JOBS.read_list(bodies[0]), PODS.read_list(bodies[1]), names


async def operator_namespace(kube: KubernetesClient, pod: str, *, near: str) -> str:
    """Return the namespace of the operator's pod, "" if there is no such pod in those that this
    person may list: all, or the one near."""
    for namespace in ("", near) if pod else ():
        with suppress(OperatorError):
            found = await kube.list(PODS, namespace, field_selector=f"metadata.name={pod}")
            return next((each.metadata.namespace for each in found), "")
    return ""


async def _add_next_steps(kube: KubernetesClient, found: Overview) -> None:
    """Say of each binding whose operator is silent where its log is."""
    namespaces: dict[str, str] = {}
    for binding in found.bindings:
        if not is_silent(binding, found.now):
            continue
        pod = pod_of(str(get_path(binding, ("status", "holderIdentity")) or ""))
        if pod not in namespaces:
            near = str(binding["metadata"]["namespace"])
            namespaces[pod] = await operator_namespace(kube, pod, near=near)
        found.next_steps[key_of(binding)] = why_silent(pod, namespaces[pod])


async def _explained(kube: KubernetesClient, runs: list[RunInFlight]) -> list[RunInFlight]:
    """Return the runs, those that wait without a known reason with that of their Events."""
    unexplained = [run for run in runs if run.is_unexplained][:MOST_EVENTS]
    slots = asyncio.Semaphore(CONCURRENT)

    async def explain(run: RunInFlight) -> RunInFlight:
        kind, name = ("Pod", run.pod) if run.pod else ("Job", run.job)
        about = f"involvedObject.kind={kind},involvedObject.name={name}"
        try:
            async with slots:
                events = await kube.list(EVENTS, run.namespace, field_selector=about)
        except OperatorError:  # without the right to list Events
            return run
        return run.explained_by(events)

    explained = await asyncio.gather(*map(explain, unexplained))
    by_job = {run.job_uid: run for run in explained}
    return [by_job.get(run.job_uid, run) for run in runs]


async def _add_claims(kube: KubernetesClient, found: Overview) -> None:
    """Add the claimed runs without a Job of each binding whose status counts more runs."""
    slots = asyncio.Semaphore(CONCURRENT)

    async def add(binding: Object) -> None:
        key, counts = key_of(binding), runs_of(binding)
        with_job = {run.run_id for run in found.runs if run.binding == key}
        number = counts["running"] + counts["pending"] - len(with_job)
        if number <= 0:
            return
        from workpool_operator.cli.claimed_runs import read_claims  # imports Prefect

        try:
            async with slots:
                found.runs += await read_claims(kube, binding, without=with_job)
        except OperatorError as error:
            what = "a claimed run has" if number == 1 else f"{number} claimed runs have"
            found.notes.append(f"{key}: {what} no Job, and Prefect cannot be asked why: {error}")

    await asyncio.gather(*map(add, found.bindings))
