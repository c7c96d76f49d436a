"""Sends requests to the Kubernetes API: one shared session, typed errors, raw bodies.

kubernetes_asyncio provides configuration, tokens (read again when they rotate) and TLS. Its models,
serialisation and Watch are not used: they take 35 times the CPU of this package's models. No
request is retried here: the caller decides.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import aiohttp
from kubernetes_asyncio import config as kube_config
from kubernetes_asyncio.client import ApiClient, Configuration
from pydantic import TypeAdapter, ValidationError

from workpool_operator import connection_errors
from workpool_operator.clock import SYSTEM_CLOCK, Clock, ServerClock
from workpool_operator.errors import (
    Cause,
    KubernetesBadRequest,
    KubernetesConflict,
    KubernetesForbidden,
    KubernetesGone,
    KubernetesInvalid,
    KubernetesNotFound,
    KubernetesRefused,
    KubernetesThrottled,
    KubernetesUnavailable,
    OperatorError,
)
from workpool_operator.kube import decoding, models
from workpool_operator.kube.kubeconfig import Kubeconfig
from workpool_operator.request_observer import NO_ANSWER, RequestObserver, ignore
from workpool_operator.settings import tls_strict
from workpool_operator.ttl_cache import TTLCache

T = TypeVar("T")
Object = dict[str, Any]
REQUEST_TIMEOUT_SECONDS = 15.0
REVIEW_SECONDS = 5.0  # a changed right is noticed within 15 s: a preflight check waits up to 8 s
UNLIMITED = 0  # each binding has two watches open: under a limit, requests would wait for them
MERGE_PATCH = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"  # of a list
DEFAULT_KUBECONFIG = Kubeconfig()
_REFUSALS = {
    400: KubernetesBadRequest,
    403: KubernetesForbidden,
    404: KubernetesNotFound,
    409: KubernetesConflict,
    410: KubernetesGone,
    422: KubernetesInvalid,
}
# Without them there is no API server; an unknown group gets a page without a Status, too.
_ALWAYS_SERVED = ("/api/", "/apis/batch/")
_AUTHORIZATION = "/apis/authorization.k8s.io/v1"
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_WARNING = re.compile(r'299 \S+ "(.*)"')
_status = TypeAdapter(models.Status)
_rules_review = TypeAdapter(models.SelfSubjectRulesReview)


@dataclass(frozen=True)
class Resource(Generic[T]):
    """A namespaced resource: the path of its objects, and the type that they are decoded to."""

    api: str
    plural: str
    view: type[T]

    def path(self, namespace: str, name: str = "") -> str:
        """Return the path of one object, or of the namespace's collection; without a namespace, of
        all namespaces."""
        if not namespace:
            return f"{self.api}/{self.plural}"
        base = f"{self.api}/namespaces/{namespace}/{self.plural}"
        return f"{base}/{name}" if name else base

    def read(self, body: bytes) -> T:
        """Return the object in the body.

        Raises:
            KubernetesUnavailable: the body is not such an object.
        """
        return models.decode(self._object, body)

    def read_list(self, body: bytes) -> tuple[T, ...]:
        """Return the objects of the list in the body.

        Raises:
            KubernetesUnavailable: the body is not such a list.
        """
        return models.decode(self._page, body).items

    @cached_property
    def _object(self) -> TypeAdapter[T]:
        return TypeAdapter(self.view)

    @cached_property
    def _page(self) -> TypeAdapter[models.Page[T]]:
        view: Any = self.view
        return TypeAdapter(models.Page[view])


JOBS = Resource("/apis/batch/v1", "jobs", models.Job)
PODS = Resource("/api/v1", "pods", models.Pod)
EVENTS = Resource("/api/v1", "events", models.Event)
LEASES = Resource("/apis/coordination.k8s.io/v1", "leases", models.Lease)
SECRETS = Resource("/api/v1", "secrets", Object)
CONFIG_MAPS = Resource("/api/v1", "configmaps", Object)


class KubernetesClient:
    """Requests objects of one API server; use it as an async context manager. Each request is
    reported to `requested`."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        namespace: str = "default",
        context: str = "",
        user: str = "",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.namespace = namespace
        self.context = context
        self._user = user
        self.requested: RequestObserver = ignore
        self.clock = ServerClock("the Kubernetes API server", clock=clock)
        self._configuration = configuration
        configuration.connection_pool_maxsize = UNLIMITED
        self._api = ApiClient(configuration)
        # The ApiClient's session uses the proxies of the environment and ignores networks in
        # NO_PROXY. kopf connects directly, and so does this session.
        connector = self._api.rest_client.pool_manager.connector
        self._session = aiohttp.ClientSession(connector=connector, connector_owner=False)
        # What a kubeconfig says of the cluster: proxy-url and tls-server-name.
        self._connection = {
            "proxy": configuration.proxy,
            "server_hostname": configuration.tls_server_name,
        }
        self._rights: TTLCache[models.Rights] = TTLCache(seconds=REVIEW_SECONDS)
        self._reviews: TTLCache[bool] = TTLCache(seconds=REVIEW_SECONDS)

    @classmethod
    async def from_environment(cls, kubeconfig: Kubeconfig = DEFAULT_KUBECONFIG) -> Self:
        """Connect to the cluster of the kubeconfig; in a pod, unless a kubeconfig is named, to the
        cluster of the service account. `namespace` is that of the context or the pod.

        Raises:
            OperatorError: the kubeconfig or the service account cannot be used.
        """
        configuration = Configuration()
        configuration.disable_strict_ssl_verification = not tls_strict()
        if kubeconfig.is_named or not _in_a_pod():
            context, namespace = await kubeconfig.load(configuration)
            return cls(configuration, namespace=namespace, context=context, user=kubeconfig.user)
        try:
            kube_config.load_incluster_config(client_configuration=configuration)
            return cls(configuration, namespace=_own_namespace(), user=kubeconfig.user)
        except Exception as error:  # a broken mount can raise anything in the loader
            raise OperatorError(f"the pod's service account cannot be used: {error}") from error

    @property
    def address(self) -> str:
        """The address of the API server, with the kubeconfig's context if there is one."""
        host = str(self._configuration.host)
        return f"{host} (context {self.context})" if self.context else host

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._api.close()

    async def get(self, resource: Resource[T], namespace: str, name: str) -> T:
        """Return the object."""
        return resource.read(await self.request("GET", resource.path(namespace, name)))

    async def list(
        self,
        resource: Resource[T],
        namespace: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> tuple[T, ...]:
        """Return the namespace's objects that match both selectors."""
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        query = {key: value for key, value in selectors.items() if value}
        return resource.read_list(await self.request("GET", resource.path(namespace), query=query))

    async def namespace_uid(self, namespace: str) -> str:
        """Return the namespace's UID, which identifies the cluster and can be read with a Role
        (docs/decisions/0001-cluster-id.md)."""
        body = await self.request("GET", f"/api/v1/namespaces/{namespace}")
        return str(decoding.field(body, "metadata", "uid"))

    async def rights(self, namespace: str) -> models.Rights:
        """Return what the operator may do in the namespace. Answers are cached for
        `REVIEW_SECONDS`, because all bindings of a namespace need the same ones."""

        async def review() -> models.Rights:
            path = f"{_AUTHORIZATION}/selfsubjectrulesreviews"
            answer = await self.request("POST", path, body={"spec": {"namespace": namespace}})
            return models.decode(_rules_review, answer).status

        return await self._rights.get(namespace, review)

    async def allowed(self, namespace: str, *, verb: str, group: str, resource: str) -> bool:
        """Return whether the operator may do that; cached as `rights`, which answers most
        questions."""
        kind, _, subresource = resource.partition("/")
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": kind}
        attributes["subresource"] = subresource

        async def review() -> bool:
            path = f"{_AUTHORIZATION}/selfsubjectaccessreviews"
            body = {"spec": {"resourceAttributes": attributes}}
            answer = await self.request("POST", path, body=body)
            return bool(decoding.field(answer, "status", "allowed"))

        return await self._reviews.get(tuple(attributes.values()), review)

    async def create(self, resource: Resource[T], namespace: str, manifest: Mapping[str, Any]) -> T:
        """Create the object and return it as the API server stored it."""
        body = await self.request("POST", resource.path(namespace), body=manifest)
        return resource.read(body)

    async def dry_run(
        self, resource: Resource[Any], namespace: str, manifest: Mapping[str, Any]
    ) -> tuple[str, ...]:
        """Have the API server check the object without storing it, and return its warnings."""
        query = {"dryRun": "All", "fieldValidation": "Warn"}
        headers, data = {"Content-Type": "application/json"}, json.dumps(manifest).encode()
        path, limit = resource.path(namespace), aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
        call = self._open("POST", path, params=query, data=data, headers=headers, timeout=limit)
        async with call as response:
            found = (_WARNING.fullmatch(text) for text in response.headers.getall("Warning", []))
            return tuple(match[1].replace(r"\"", '"') for match in found if match)

    async def patch(
        self, resource: Resource[T], namespace: str, name: str, patch: Mapping[str, Any]
    ) -> T:
        """Merge-patch the object and return it."""
        path = resource.path(namespace, name)
        body = await self.request("PATCH", path, body=patch, content_type=MERGE_PATCH)
        return resource.read(body)

    async def delete(
        self,
        resource: Resource[T],
        namespace: str,
        name: str,
        *,
        uid: str,
        grace_seconds: int | None = None,
    ) -> T | None:
        """Delete exactly this object, in the foreground. Return the object while it still exists,
        None if it does not (404) or another one has its name (409)."""
        options: dict[str, Any] = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            body = await self.request("DELETE", resource.path(namespace, name), body=options)
        except (KubernetesNotFound, KubernetesConflict):
            return None
        return None if decoding.field(body, "kind") == "Status" else resource.read(body)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        """Send one request and return the body of the answer.

        Raises:
            KubernetesRefused: 4xx, except for 408 and 429.
            KubernetesUnavailable: no answer, 408, 429 or 5xx.
        """
        data = None if body is None else json.dumps(body).encode()
        limit = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
        headers = {"Accept": accept} | ({"Content-Type": content_type} if data else {})
        call = self._open(method, path, params=query, data=data, headers=headers, timeout=limit)
        async with call as response:
            return await response.read()

    @asynccontextmanager
    async def watch(
        self, path: str, query: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch as an iterator of lines. The caller limits how long it waits for a line."""
        limit = aiohttp.ClientTimeout(total=None)
        params = {**query, "watch": "true"}
        async with self._open("GET", path, params=params, headers={}, timeout=limit) as response:
            yield _lines(response.content.iter_any())

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the client's own
        **request: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send the request and yield the answer once its headers have arrived. Without a total
        time-out, they must arrive within `REQUEST_TIMEOUT_SECONDS`."""
        seconds = None if timeout.total else REQUEST_TIMEOUT_SECONDS
        url = f"{self._configuration.host}{path}"
        verb = "WATCH" if "watch" in (request.get("params") or ()) else method
        sent_at, answered = self.clock.monotonic(), False
        try:
            headers = {"Accept": "application/json", **headers, **await self._authorization()}
            request |= {"headers": headers, "timeout": timeout, **self._connection}
            async with (
                asyncio.timeout(seconds) as opening,
                self._session.request(method, url, **request) as response,
            ):
                answered = True
                self.requested(verb, response.status, self.clock.monotonic() - sent_at)
                self.clock.observe(response.headers.get("Date"))
                if response.status >= 400:
                    raise _error(method, path, response, await response.read())
                opening.reschedule(None)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not answered:
                self.requested(verb, NO_ANSWER, self.clock.monotonic() - sent_at)
            raise KubernetesUnavailable(
                f"{method} {path}: {connection_errors.explain(error)}"
            ) from error

    async def _authorization(self) -> dict[str, str]:
        """Return the headers for the next request: tokens rotate."""
        settings = (await self._configuration.auth_settings()).values()
        found = {s["key"]: s["value"] for s in settings if s["in"] == "header" and s["value"]}
        return found | ({"Impersonate-User": self._user} if self._user else {})


def _in_a_pod() -> bool:
    return _SERVICE_ACCOUNT.exists()


def _own_namespace() -> str:
    return _SERVICE_ACCOUNT.with_name("namespace").read_text().strip()


def _error(
    method: str, path: str, response: aiohttp.ClientResponse, body: bytes
) -> KubernetesRefused | KubernetesUnavailable:
    code = response.status
    try:
        status = _status.validate_json(body)
    except ValidationError:
        status = models.Status()  # not from an API server: a page that may repeat the request
        if code == 404 and path.startswith(_ALWAYS_SERVED):
            return KubernetesUnavailable(f"{method} {path}: HTTP 404 of a gateway")
    text = status.message or f"{method} {path}: HTTP {code}"
    if code in (400, 422) and f"/{SECRETS.plural}" in path:
        text = f"{method} {path}: HTTP {code} {status.reason}"  # the message has values
    if code == 401:
        return KubernetesUnavailable(
            f"the API server does not accept the credentials (HTTP 401: {text})"
        )
    if code in (408, 429) or code >= 500:
        named = response.headers.get("Retry-After", "")
        wait = float(named) if named.isdecimal() else status.details.retry_after_seconds
        kind = KubernetesThrottled if code == 429 else KubernetesUnavailable
        return kind(text, retry_after=wait or None)
    causes = [Cause(each.field, each.message, each.reason) for each in status.details.causes]
    return _REFUSALS.get(code, KubernetesRefused)(text, causes=causes)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Split on newlines without the line limit of aiohttp's own reader."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
