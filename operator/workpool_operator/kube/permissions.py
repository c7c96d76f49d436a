"""Reviews the operator's rights in a namespace, and explains how to grant those that it lacks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence, Set
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
    the change to the chart's values that grants the same. Without a ClusterRole, manifests/base
    itself grants them. `part` is what the chart grants in one namespace with other such rights,
    None if a value of its own grants these.

    In `values`, {namespace} stands for the namespace, {watched} and {jobs} for all that the value
    of that name has to list then: a list that only names the new one would revoke the others.
    """

    cluster_role: str
    values: str
    part: Literal["bindings", "jobs"] | None = None


_PER_NAMESPACE = "workpool-operator-jobs"
JOBS_ROLE = Role(_PER_NAMESPACE, "set jobNamespaces to {jobs}", "jobs")
BINDINGS_ROLE = Role(_PER_NAMESPACE, "set watchNamespaces to {watched}", "bindings")
FOLLOW_BINDINGS_ROLE = Role("", "set watchNamespaces to {watched}", "bindings")
REPLICAS_ROLE = Role("", "set rbac.create to true, which grants rights to Leases in {namespace!r},")
WRITE_SECRETS_ROLE = Role(
    "workpool-operator-secrets", "set writeSecrets to true and jobNamespaces to {jobs}"
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
    watched, jobs = settings.helm_watch_namespaces(), settings.helm_job_namespaces()
    granted = {"bindings": watched | jobs, "jobs": jobs}
    if role.part and namespace in granted[role.part]:
        return (
            f"upgrade {named} with the same values, which restores its RoleBindings in namespace "
            f"{namespace!r}: they are missing or were changed"
        )
    is_cluster_wide = not watched
    values = JOBS_ROLE.values if is_cluster_wide and role is BINDINGS_ROLE else role.values
    change = values.format(
        namespace=namespace, watched=_list(watched, namespace), jobs=_list(jobs, namespace)
    )
    return f"{change} in the values of {named} and upgrade it"


def _list(namespaces: Set[str], another: str) -> str:
    """Return them all as a list in YAML, quoted: a namespace may be named `1e3`."""
    return json.dumps(sorted({*namespaces, another}))


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
