"""What the operator may do in a namespace, as the API server says, and how to grant the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from workpool_operator import settings
from workpool_operator.errors import KubernetesRefused
from workpool_operator.kube import decoding
from workpool_operator.kube.client import KubernetesClient

Permission = tuple[str, str, str]  # verb, API group, resource


@dataclass(frozen=True, slots=True)
class Role:
    """Rights in one namespace: a ClusterRole of manifests/base, and the change of the chart's
    values that gives the same, with the namespace in place of {}."""

    cluster_role: str
    values: str


JOBS_ROLE = Role("workpool-operator-jobs", "add {} to jobNamespaces (default: watchNamespaces)")
READ_SECRETS_ROLE = Role("workpool-operator-jobs", "add {} to watchNamespaces")
WRITE_SECRETS_ROLE = Role(
    "workpool-operator-secrets", "set writeSecrets to true, with {} among jobNamespaces"
)


async def missing_permissions(
    kube: KubernetesClient, namespace: str, permissions: Sequence[Permission]
) -> list[str]:
    """Those that the operator has not, as `create jobs`."""
    answers = await asyncio.gather(
        *(
            kube.allowed(namespace, verb=verb, group=group, resource=resource)
            for verb, group, resource in permissions
        )
    )
    asked = zip(permissions, answers, strict=True)
    return [f"{verb} {resource}" for (verb, _, resource), allowed in asked if not allowed]


async def how_to_grant(kube: KubernetesClient, namespace: str, role: Role) -> str:
    """How to give the operator the role in the namespace, in the way that it was installed."""
    if release := settings.helm_release():
        home, _, name = release.rpartition("/")
        change = role.values.format(repr(namespace))
        return (
            f"{change} in the values of Helm release {name!r} (namespace {home!r}) and upgrade it"
        )
    create = f"kubectl -n {namespace} create rolebinding {role.cluster_role}"
    return f"{create} --clusterrole={role.cluster_role} {await _subject(kube)}"


async def _subject(kube: KubernetesClient) -> str:
    """Who the operator is, as `kubectl create rolebinding` takes it."""
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    try:
        body = await kube.request("POST", path, body={})
    except KubernetesRefused:  # only where the cluster took it from everybody
        return "--serviceaccount=NAMESPACE:NAME (of the operator)"
    user = str(decoding.field(body, "status", "userInfo", "username"))
    account = user.removeprefix("system:serviceaccount:")
    return f"--serviceaccount={account}" if account != user else f"--user={user}"
