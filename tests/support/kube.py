"""A small Kubernetes client for tests: plain dicts, one short call each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import httpx
import yaml

from tests.support.endpoint import Endpoint
from tests.support.polling import NotYet, poll

Object = dict[str, Any]
APIS = {
    "configmaps": "/api/v1",
    "deployments": "/apis/apps/v1",
    "events": "/api/v1",
    "namespaces": "/api/v1",
    "nodes": "/api/v1",
    "pods": "/api/v1",
    "resourcequotas": "/api/v1",
    "secrets": "/api/v1",
    "serviceaccounts": "/api/v1",
    "jobs": "/apis/batch/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "roles": "/apis/rbac.authorization.k8s.io/v1",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1",
    "prefectservers": "/apis/prefect.io/v1",
    "prefectworkpools": "/apis/prefect.io/v1",
    "workpoolbindings": "/apis/workpool-operator.dev/v1alpha1",
}


class Kube:
    """`await kube.list("jobs", namespace)`; every error status raises `httpx.HTTPStatusError`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.http = httpx.AsyncClient(
            base_url=endpoint.url,
            headers=endpoint.headers,
            verify=endpoint.certified_tls or True,
            trust_env=False,
            timeout=30,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def get(self, plural: str, namespace: str, name: str) -> Object | None:
        """Return the object; None if it does not exist."""
        response = await self.http.get(path(plural, namespace, name))
        return None if response.status_code == 404 else _body(response)

    async def list(self, plural: str, namespace: str, *, selector: str = "") -> list[Object]:
        response = await self.http.get(
            path(plural, namespace), params={"labelSelector": selector} if selector else {}
        )
        items: list[Object] = _body(response)["items"]
        return items

    async def create(self, plural: str, namespace: str, manifest: Object) -> Object:
        return _body(await self.http.post(path(plural, namespace), json=manifest))

    async def apply(self, plural: str, namespace: str, manifest: Object) -> Object:
        """Apply on the server, as `kubectl apply --server-side --force-conflicts` does."""
        response = await self.http.patch(
            path(plural, namespace, manifest["metadata"]["name"]),
            params={"fieldManager": "tests", "force": "true"},
            headers={"Content-Type": "application/apply-patch+yaml"},
            content=yaml.safe_dump(manifest),
        )
        return _body(response)

    async def patch(
        self, plural: str, namespace: str, name: str, change: Object, *, subresource: str = ""
    ) -> Object:
        """Merge-patch the object."""
        target = path(plural, namespace, name) + (f"/{subresource}" if subresource else "")
        response = await self.http.patch(
            target, json=change, headers={"Content-Type": "application/merge-patch+json"}
        )
        return _body(response)

    async def delete(
        self,
        plural: str,
        namespace: str,
        name: str,
        *,
        propagation: str = "Background",
        **options: str,
    ) -> None:
        """Delete the object, if it exists. `options` are parameters of the API."""
        response = await self.http.delete(
            path(plural, namespace, name), params={"propagationPolicy": propagation, **options}
        )
        if response.status_code != 404:
            response.raise_for_status()

    async def delete_all(self, plural: str, namespace: str) -> None:
        """Delete all objects of the kind; thousands take longer than other requests."""
        response = await self.http.delete(
            path(plural, namespace), params={"propagationPolicy": "Background"}, timeout=120
        )
        response.raise_for_status()

    async def evict(self, namespace: str, pod: str) -> None:
        """Evict the pod, as `kubectl drain` does."""
        body = {"metadata": {"name": pod, "namespace": namespace}}
        _body(await self.http.post(path("pods", namespace, pod) + "/eviction", json=body))

    async def wait(
        self,
        plural: str,
        namespace: str,
        name: str,
        *,
        until: Callable[[Any], bool],
        seconds: float = 30,
    ) -> Object | None:
        """Return the object once `until(object)` is true; None means that it does not exist."""

        async def read() -> Object | None:
            return await self.get(plural, namespace, name)

        try:
            return await poll(read, until=until, seconds=seconds)
        except NotYet as error:
            raise AssertionError(
                f"{plural} {namespace}/{name} after {seconds:g} s is still:\n"
                f"{yaml.safe_dump(error.last)}"
            ) from None


def path(plural: str, namespace: str = "", name: str = "") -> str:
    """Return the path; without a namespace, that of a cluster-wide kind or of all namespaces."""
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{APIS[plural]}{scope}/{plural}" + (f"/{name}" if name else "")


def _body(response: httpx.Response) -> Object:
    if response.is_error:
        raise httpx.HTTPStatusError(
            f"{response.status_code} {response.request.method} {response.request.url.path}: "
            f"{response.text}",
            request=response.request,
            response=response,
        )
    body: Object = response.json()
    return body
