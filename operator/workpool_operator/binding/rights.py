"""What the operator may do in a namespace, as the API server says, and how to grant the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from workpool_operator.kube import reading
from workpool_operator.kube.client import KubernetesClient

Right = tuple[str, str, str]  # verb, API group, resource


async def missing(kube: KubernetesClient, namespace: str, rights: Sequence[Right]) -> list[str]:
    """Those that the operator has not, as `create jobs`."""
    answers = await asyncio.gather(*(_allowed(kube, namespace, *right) for right in rights))
    asked = zip(rights, answers, strict=True)
    return [f"{verb} {resource}" for (verb, _, resource), allowed in asked if not allowed]


async def grant(kube: KubernetesClient, namespace: str, *, role: str) -> str:
    """The command that gives the operator a ClusterRole of manifests/base in the namespace."""
    create = f"kubectl -n {namespace} create rolebinding {role} --clusterrole={role}"
    return f"{create} {await _subject(kube)}"


async def _allowed(
    kube: KubernetesClient, namespace: str, verb: str, group: str, resource: str
) -> bool:
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
    review = {"spec": {"resourceAttributes": attributes}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    body = await kube.request("POST", path, body=review)
    return bool(reading.field(body, "status", "allowed"))


async def _subject(kube: KubernetesClient) -> str:
    """Who the operator is, as `kubectl create rolebinding` takes it."""
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    body = await kube.request("POST", path, body={})
    user = str(reading.field(body, "status", "userInfo", "username"))
    account = user.removeprefix("system:serviceaccount:")
    return f"--serviceaccount={account}" if account != user else f"--user={user}"
