"""Checks that the API server has the CRD, with every field of this version, and lets the operator
list WorkPoolBindings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from workpool_operator import settings
from workpool_operator.api import crd, v1alpha1
from workpool_operator.binding.conditions import ConditionState
from workpool_operator.binding.context import OperatorContext
from workpool_operator.binding.status import BINDINGS
from workpool_operator.errors import (
    KubernetesForbidden,
    KubernetesNotFound,
    KubernetesRefused,
    KubernetesUnavailable,
    OperatorError,
)
from workpool_operator.kube.client import KubernetesClient

NOT_READ = ConditionState("Unknown", "NotChecked", "Not checked yet.")
_SERVED = f"/openapi/v3/apis/{v1alpha1.API_VERSION}"  # everyone who is authenticated may read it
_MOST_FIELDS = 5

Object = dict[str, Any]


async def crd_outdated(kube: KubernetesClient) -> ConditionState:
    """Return CRDOutdated: whether the API server drops fields that this version of the operator
    knows. It does so without an error if another release, or Helm's `crds/`, left an older CRD."""
    try:
        lacking = missing_fields(json.loads(await kube.request("GET", _SERVED)))
    except OperatorError as error:
        return ConditionState("Unknown", "NotChecked", f"The schema cannot be read: {error}.")
    if not lacking:
        return ConditionState("False", "Current", "The CRD has every field of this version.")
    more = f" and {len(lacking) - _MOST_FIELDS} more" if len(lacking) > _MOST_FIELDS else ""
    text = (
        "The CustomResourceDefinition in the cluster is of an older version: the API server drops "
        f"{', '.join(lacking[:_MOST_FIELDS])}{more}. {_upgrade()}"
    )
    return ConditionState("True", "FieldsMissing", text)


async def cached(context: OperatorContext) -> ConditionState:
    """Return CRDOutdated as the process read it last, at most `CRD_SECONDS` ago: the document has
    more than 100 kB."""
    return await context.crd_outdated.get(context.kube, lambda: crd_outdated(context.kube))


def missing_fields(served: Object) -> list[str]:
    """Return the fields of a binding that the API server's OpenAPI document does not have; of a
    field that is missing, not the inner ones."""
    schemas = served["components"]["schemas"].values()
    kinds = "x-kubernetes-group-version-kind"
    known = {each["kind"]: schema for schema in schemas for each in schema.get(kinds, ())}
    return list(_missing(_own_schema(), known[v1alpha1.KIND], ""))


@cache
def _own_schema() -> Object:
    return crd.schema()


def _missing(own: Object, served: Object, path: str) -> Iterator[str]:
    for name, inner in own.get("properties", {}).items():
        if name in served.get("properties", {}):
            yield from _missing(inner, served["properties"][name], f"{path}{name}.")
        else:
            yield f"{path}{name}"
    if "items" in own and "items" in served:
        yield from _missing(own["items"], served["items"], f"{path.removesuffix('.')}[].")


def _upgrade() -> str:
    apply = "workpool-operator crd | kubectl apply --server-side --force-conflicts -f -"
    if release := settings.helm_release():
        return f"Run helm upgrade for release {release!r}, whose hook replaces it, or: {apply}"
    return f"Replace it: {apply}"


async def unwatchable(kube: KubernetesClient, namespaces: Sequence[str]) -> dict[str, str]:
    """Return why the operator cannot list and watch bindings, for each namespace where it cannot;
    "" among the namespaces is the whole cluster."""
    try:
        problems = {namespace: await _problem(kube, namespace) for namespace in namespaces}
    except KubernetesUnavailable as error:
        return dict.fromkeys(namespaces, f"the Kubernetes API does not answer: {error}")
    return {namespace: problem for namespace, problem in problems.items() if problem}


async def _problem(kube: KubernetesClient, namespace: str) -> str:
    try:
        await kube.request("GET", BINDINGS.path(namespace), query={"limit": "1"})
        if await _may_watch(kube, namespace):
            return ""
    except KubernetesRefused as refused:
        return _refusal(refused)
    where = f"namespace {namespace!r}" if namespace else "all namespaces"
    return f"the operator may not watch {v1alpha1.PLURAL} in {where}; {_fix()}"


def _refusal(refused: KubernetesRefused) -> str:
    match refused:
        case KubernetesNotFound():
            fix = "install it: workpool-operator crd | kubectl apply --server-side -f -"
            return f"the CustomResourceDefinition of WorkPoolBinding is missing; {fix}"
        case KubernetesForbidden():
            return f"{refused}; {_fix()}"
        case _:
            return f"the Kubernetes API refuses the operator: {refused}"


async def _may_watch(kube: KubernetesClient, namespace: str) -> bool:
    return await kube.allowed(
        namespace, verb="watch", group=v1alpha1.GROUP, resource=v1alpha1.PLURAL
    )


def _fix() -> str:
    if release := settings.helm_release():
        return f"upgrade Helm release {release!r}, which grants it in its watchNamespaces"
    return f"apply manifests/{settings.manifests()}, which grants it"
