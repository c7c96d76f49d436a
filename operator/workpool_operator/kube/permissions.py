"""Reviews the operator's rights in a namespace, and explains how to grant those that it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workpool_operator import settings
from workpool_operator.errors import KubernetesRefused
from workpool_operator.kube import decoding
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.rights import Permission


@dataclass(frozen=True, slots=True)
class Role:
    """Rights in one namespace: a ClusterRole of manifests/base that a RoleBinding grants there, and
    the change to the chart's values that grants the same; {} stands for the namespace. Without a
    ClusterRole, manifests/base itself grants them. `part` is what the chart grants in one namespace
    with other such rights, None if a value of its own grants these."""

    cluster_role: str
    values: str
    part: Literal["bindings", "jobs"] | None = None


_PER_NAMESPACE = "workpool-operator-jobs"
JOBS_ROLE = Role(_PER_NAMESPACE, "add {} to jobNamespaces (default: watchNamespaces)", "jobs")
BINDINGS_ROLE = Role(
    _PER_NAMESPACE, "add {} to watchNamespaces (with clusterWide: to jobNamespaces)", "bindings"
)
FOLLOW_BINDINGS_ROLE = Role("", "add {} to watchNamespaces", "bindings")
REPLICAS_ROLE = Role("", "set rbac.create to true, which grants rights to Leases in {},")
WRITE_SECRETS_ROLE = Role(
    "workpool-operator-secrets", "set writeSecrets to true, with {} among jobNamespaces"
)


async def missing_permissions(
    kube: KubernetesClient, namespace: str, permissions: Sequence[Permission]
) -> list[str]:
    """Return the permissions that the operator lacks, in the form `create jobs`.

    One request reviews all rights of the namespace. An authorizer such as a webhook cannot list
    rights: what such an incomplete answer lacks is asked for one by one.
    """
    if not permissions:
        return []
    rights = await kube.rights(namespace)
    missing = [
        (verb, group, resource)
        for verb, group, resource in permissions
        if not rights.allow(verb=verb, group=group, resource=resource)
    ]
    if rights.incomplete:
        missing = await _refused(kube, namespace, missing)
    return [f"{verb} {resource}" for verb, _, resource in missing]


async def _refused(
    kube: KubernetesClient, namespace: str, permissions: Sequence[Permission]
) -> list[Permission]:
    """Return the permissions that a review of each refuses."""
    answers = await asyncio.gather(
        *(
            kube.allowed(namespace, verb=verb, group=group, resource=resource)
            for verb, group, resource in permissions
        )
    )
    return [each for each, allowed in zip(permissions, answers, strict=True) if not allowed]


async def how_to_grant(kube: KubernetesClient, namespace: str, role: Role) -> str:
    """Return how to grant the operator the role in the namespace: for a Helm release the change of
    its values, or if these grant it already, its upgrade; else a kubectl command or what to apply.
    """
    if release := settings.helm_release():
        return _how_to_grant_by_helm(release, namespace, role)
    if settings.manifests() == "namespaced":
        return await _how_to_grant_in_one_namespace(kube, namespace, role)
    if not role.cluster_role:
        return "apply manifests/base again, which grants it"
    create = f"kubectl -n {namespace} create rolebinding {role.cluster_role}"
    return f"{create} --clusterrole={role.cluster_role} {await _subject(kube)}"


def _how_to_grant_by_helm(release: str, namespace: str, role: Role) -> str:
    home, _, name = release.rpartition("/")
    named = f"Helm release {name!r} (namespace {home!r})"
    if role.part and namespace in settings.helm_namespaces(role.part):
        return (
            f"upgrade {named} with the same values, which restores its RoleBindings in namespace "
            f"{namespace!r}: they are missing or were changed"
        )
    return f"{role.values.format(repr(namespace))} in the values of {named} and upgrade it"


async def _how_to_grant_in_one_namespace(kube: KubernetesClient, namespace: str, role: Role) -> str:
    """Return how manifests/namespaced grants it: by Roles in the operator's own namespace."""
    if namespace != kube.namespace:
        return (
            f"install the chart or manifests/base: manifests/namespaced, which this operator was "
            f"installed from, grants rights in namespace {kube.namespace!r} only"
        )
    if role is not WRITE_SECRETS_ROLE:
        return "apply manifests/namespaced again, which grants it"
    create = f"kubectl -n {namespace} create rolebinding {role.cluster_role}"
    return f"{create} --role={role.cluster_role} {await _subject(kube)}"


async def _subject(kube: KubernetesClient) -> str:
    """Return the option of `kubectl create rolebinding` that names the operator."""
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    try:
        body = await kube.request("POST", path, body={})
    except KubernetesRefused:  # only if the cluster has revoked this right, which all users have
        return "--serviceaccount=NAMESPACE:NAME (of the operator)"
    user = str(decoding.field(body, "status", "userInfo", "username"))
    account = user.removeprefix("system:serviceaccount:")
    return f"--serviceaccount={account}" if account != user else f"--user={user}"
