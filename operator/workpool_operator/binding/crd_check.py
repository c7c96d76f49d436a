"""Checks that the API server has the CRD and lets the operator list WorkPoolBindings."""

from __future__ import annotations

from collections.abc import Sequence

from workpool_operator import settings
from workpool_operator.api import v1alpha1
from workpool_operator.binding.status import BINDINGS
from workpool_operator.errors import (
    KubernetesForbidden,
    KubernetesNotFound,
    KubernetesRefused,
    KubernetesUnavailable,
)
from workpool_operator.kube.client import KubernetesClient


async def crd_problem(kube: KubernetesClient, namespaces: Sequence[str]) -> str:
    """Return why the operator cannot list bindings in these namespaces, "" if it can.

    Without `namespaces` it has to list those of the whole cluster.
    """
    paths = [BINDINGS.path(namespace) for namespace in namespaces or [""]]
    try:
        for path in paths:
            await kube.request("GET", path, query={"limit": "1"})
        for namespace in namespaces or [""]:
            if not await _may_watch(kube, namespace):
                where = f"namespace {namespace!r}" if namespace else "all namespaces"
                return f"the operator may not watch {v1alpha1.PLURAL} in {where}; {_fix()}"
    except KubernetesUnavailable as error:
        return f"the Kubernetes API does not answer: {error}"
    except KubernetesRefused as refused:
        return _refusal(refused)
    return ""


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
