"""Finds the address of the server that a binding names in one of five ways.

`spec.server` has the address itself (`url`), the key of an object that holds it (`urlFrom`), the
ids of a workspace of Prefect Cloud (`cloud`) or a PrefectServer of prefect-operator (`ref`); or
`spec.workPool.ref` is a PrefectWorkPool, which names its server. A reference stands for an address
only: credentials are always those of `spec.server` (docs/decisions/0061).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from workpool_operator.api.v1alpha1 import URL_PATTERN, Spec, URLSource
from workpool_operator.binding import addresses
from workpool_operator.binding import conditions as c
from workpool_operator.binding.key_reference import key_reference
from workpool_operator.errors import (
    BindingFault,
    KubernetesNotFound,
    KubernetesRefused,
    OperatorError,
)
from workpool_operator.kube import permissions
from workpool_operator.kube.client import KubernetesClient, Object, Resource
from workpool_operator.prefect_api.endpoint import PrefectEndpoint

API = "/apis/prefect.io/v1"
SERVERS: Resource[Object] = Resource(API, "prefectservers", Object)
WORK_POOLS: Resource[Object] = Resource(API, "prefectworkpools", Object)
_KINDS = {"prefectservers": "PrefectServer", "prefectworkpools": "PrefectWorkPool"}
_SERVICE = "http://{name}.{namespace}.svc:4200/api"  # as prefect-operator makes and calls it


@dataclass(frozen=True, slots=True)
class ServerSource:
    """The address, and the field of the spec that names it. `remark` is a sentence about the
    source with a blank before it, or ""."""

    url: str
    field: str
    remark: str = ""


async def find_server(spec: Spec, *, namespace: str, kube: KubernetesClient | None) -> ServerSource:
    """Return the address of the spec's server; `namespace` is the binding's.

    Raises:
        BindingFault: the spec names none or several, an object that it names does not exist or
            cannot be read, or its value is not an address.
    """
    field = _field(spec)
    server = spec.server
    if server.url is not None:
        return ServerSource(server.url.rstrip("/"), field)
    if server.cloud is not None:
        ids = {"account": server.cloud.account_id, "workspace": server.cloud.workspace_id}
        return ServerSource(addresses.CLOUD_API.format(**ids), field)
    if kube is None:
        raise OperatorError(f"{field} cannot be read without a cluster: check the kubeconfig")
    if server.url_from is not None:
        return await _from_key(server.url_from, namespace=namespace, kube=kube)
    if server.ref is not None:
        where = server.ref.namespace or namespace
        found = await _read(SERVERS, where, server.ref.name, field, kube)
        url = _SERVICE.format(name=server.ref.name, namespace=where)
        return ServerSource(url, field, _remark(found, f"PrefectServer {server.ref.name!r}"))
    assert spec.work_pool.ref is not None
    return await _from_work_pool(spec.work_pool.ref.name, field, namespace, kube)


def _field(spec: Spec) -> str:
    """Return the field of the spec that names the server, the only one by a rule of the CRD."""
    server = spec.server
    given = {
        "spec.server.url": server.url,
        "spec.server.urlFrom": server.url_from,
        "spec.server.cloud": server.cloud,
        "spec.server.ref": server.ref,
        "spec.workPool.ref": spec.work_pool.ref,
    }
    fields = [field for field, value in given.items() if value is not None]
    if not fields:
        text = "spec.server names no server: set url, urlFrom, cloud or ref."
        raise BindingFault(c.SERVER_RESOLVED, "NoServer", text)
    if len(fields) > 1:
        text = f"{' and '.join(fields)} name the server: keep one of them."
        raise BindingFault(c.SERVER_RESOLVED, "SeveralServers", text)
    return fields[0]


async def _from_key(source: URLSource, *, namespace: str, kube: KubernetesClient) -> ServerSource:
    key = key_reference(
        source, namespace=namespace, path="spec.server.urlFrom", condition=c.SERVER_RESOLVED
    )
    url = await key.value(kube)
    if not re.fullmatch(URL_PATTERN, url):
        raise key.invalid("is not an address like http://prefect-server.prefect.svc:4200/api")
    if PrefectEndpoint(url).address != url:
        text = (
            "contains a user and password, which every Job would show: set spec.server.authString"
        )
        raise key.invalid(text)
    return ServerSource(url.rstrip("/"), key.path)


async def _from_work_pool(
    name: str, field: str, namespace: str, kube: KubernetesClient
) -> ServerSource:
    found = await _read(WORK_POOLS, namespace, name, field, kube)
    server = _mapping(_mapping(found.get("spec")).get("server"))
    url = _address_of(server, namespace)
    if not re.fullmatch(URL_PATTERN, url):
        raise BindingFault(
            c.SERVER_RESOLVED,
            "ReferenceInvalid",
            f"{field}: PrefectWorkPool {name!r} names no server: set its spec.server.name or "
            "spec.server.remoteApiUrl.",
        )
    return ServerSource(url, field, _remark(found, f"PrefectWorkPool {name!r}"))


def _address_of(server: Mapping[str, Any], namespace: str) -> str:
    """Return the address that prefect-operator makes of a PrefectWorkPool's `spec.server`."""
    remote = str(server.get("remoteApiUrl") or "").rstrip("/")
    if not remote:
        name = str(server.get("name") or "")
        where = str(server.get("namespace") or namespace)
        return _SERVICE.format(name=name, namespace=where) if name else ""
    if not remote.endswith("/api"):
        remote += "/api"
    account, workspace = server.get("accountId"), server.get("workspaceId")
    if account and workspace:
        remote += f"/accounts/{account}/workspaces/{workspace}"
    return remote


async def _read(
    resource: Resource[Object], namespace: str, name: str, field: str, kube: KubernetesClient
) -> Object:
    try:
        return await kube.get(resource, namespace, name)
    except KubernetesNotFound:
        await _refuse_missing(resource, namespace, name, field, kube)
    except KubernetesRefused as refused:
        grant = await permissions.how_to_grant(kube, namespace, permissions.BINDINGS_ROLE)
        text = f"{field}: {refused}. Grant it: {grant}"
        raise BindingFault(c.SERVER_RESOLVED, "ReferenceForbidden", text) from refused


async def _refuse_missing(
    resource: Resource[Object], namespace: str, name: str, field: str, kube: KubernetesClient
) -> NoReturn:
    kind = _KINDS[resource.plural]
    try:
        await kube.request("GET", API)
    except KubernetesNotFound as error:
        raise BindingFault(
            c.SERVER_RESOLVED,
            "PrefectOperatorNotInstalled",
            f"{field} is a {kind} (prefect.io/v1), which this cluster does not have: install "
            "prefect-operator, or name the pool in spec.workPool.name and the server in "
            "spec.server.url.",
        ) from error
    except KubernetesRefused:
        pass  # only if the cluster has revoked this right, which all users have
    text = f"{field}: {kind} {name!r} does not exist in namespace {namespace!r}: create it."
    raise BindingFault(c.SERVER_RESOLVED, "ReferenceNotFound", text)


def _remark(found: Object, what: str) -> str:
    ready = _mapping(found.get("status")).get("ready")
    return "" if ready else f" {what} is not ready, says prefect-operator."


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
