"""What must hold before a pool can be served, one check per condition.

Each check returns what it found or raises a `BindingFault` that names the fault, where it is and
how to mend it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from workpool_operator.api.v1alpha1 import Header, SecretValue, Spec
from workpool_operator.binding import addresses
from workpool_operator.binding import conditions as c
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.key_reference import KeyReference, ca_reference
from workpool_operator.errors import (
    BindingFault,
    OperatorError,
    PrefectForbidden,
    PrefectNotFound,
    PrefectRedirects,
    PrefectRefused,
    PrefectUnauthorized,
    PrefectUnavailable,
    PrefectUntrusted,
)
from workpool_operator.kube import permissions
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import Headers, PrefectEndpoint, TLSTrust
from workpool_operator.prefect_api.models import WorkPool
from workpool_operator.prefect_api.proxies import proxy_of

log = logging.getLogger(__name__)

_LISTED = 10
PERMISSIONS = (
    ("list", "batch", "jobs"),
    ("watch", "batch", "jobs"),
    ("create", "batch", "jobs"),
    ("patch", "batch", "jobs"),
    ("delete", "batch", "jobs"),
    ("list", "", "pods"),
    ("watch", "", "pods"),
    ("patch", "", "pods"),
)


def check_server_url(spec: Spec) -> str:
    """Where the API is, and that the operator's environment lets it be reached."""
    if spec.server.url is None:
        raise BindingFault(c.SERVER_RESOLVED, "NoServer", "spec.server.url is not set: set it.")
    url = spec.server.url.rstrip("/")
    try:
        proxy_of(url)
    except ValueError as error:
        raise _no_url(url) from error
    except OperatorError as error:
        raise BindingFault(c.SERVER_RESOLVED, "ProxyInvalid", str(error)) from error
    return url


async def read_ca(spec: Spec, *, namespace: str, kube: KubernetesClient) -> TLSTrust:
    """Whose certificates the server may have."""
    named = spec.server.ca_bundle
    if named is None:
        return TLSTrust()
    key = ca_reference(
        named, namespace=namespace, path="spec.server.caBundle", condition=c.SERVER_RESOLVED
    )
    return TLSTrust(ca_bundle=await key.certificates(kube))


async def read_credentials(
    spec: Spec, *, namespace: str, kube: KubernetesClient, trust: TLSTrust
) -> PrefectEndpoint:
    """The server with the values of the Secrets that the spec names."""
    server = spec.server
    return PrefectEndpoint(
        url=check_server_url(spec),
        api_key=await _secret("apiKey", server.api_key, namespace, kube),
        auth_string=await _secret("authString", server.auth_string, namespace, kube),
        headers=await _headers(server.headers or (), namespace, kube),
        trust=trust,
    )


async def read_pool(api: PrefectApi) -> WorkPool | None:
    """The pool as a server has it that answers and accepts the credentials; None: it has none."""
    try:
        return await api.work_pool()
    except PrefectNotFound:
        return None
    except OperatorError as error:
        raise server_fault(error, api.server) from error


async def server_version(api: PrefectApi) -> str:
    """Empty where the server does not tell: Prefect Cloud has no such page."""
    try:
        return await api.version()
    except OperatorError:
        return ""


async def workers_online(api: PrefectApi) -> list[str] | None:
    """The names of those that the server lists as online on the pool; None: it does not say."""
    try:
        found = await api.workers()
    except OperatorError as error:
        log.debug("the workers of work pool %r are not listed: %s", api.pool, error)
        return None
    return [worker.name for worker in found if worker.status == "ONLINE"]


def check_pool_type(pool: WorkPool | None, spec: Spec, api: PrefectApi) -> WorkPool:
    """The pool, if it is there and of the type that the spec names."""
    wanted = spec.work_pool.type
    if pool is None:
        name = api.pool
        raise BindingFault(
            c.WORK_POOL_FOUND,
            "WorkPoolNotFound",
            f"{api.server.address} has no work pool {name!r}. Create it: prefect work-pool create "
            f"{name!r} --type {wanted}. If the name is wrong, apply another binding."
            f"{_doubts(api.server)}",
        )
    if pool.type != wanted:
        raise BindingFault(
            c.WORK_POOL_FOUND,
            "WorkPoolTypeUnsupported",
            f"Work pool {pool.name!r} is of type {pool.type!r}, spec.workPool.type asks for "
            f"{wanted!r}. Bind a pool of that type, or correct the spec.",
        )
    return pool


async def check_jobs_permitted(kube: KubernetesClient, namespace: str, consent: Consent) -> None:
    """The operator may do with Jobs and pods what it does, in a namespace that allows it."""
    await consent.read()
    if missing := await permissions.missing_permissions(kube, namespace, PERMISSIONS):
        grant = await permissions.how_to_grant(kube, namespace, permissions.JOBS_ROLE)
        raise BindingFault(
            c.JOBS_PERMITTED,
            "JobsForbidden",
            f"The operator may not {', '.join(missing)} in namespace {namespace!r}. "
            f"Grant it: {grant}",
        )


def client(spec: Spec, server: PrefectEndpoint) -> PrefectApi:
    """A client of the server; nothing is asked of it yet."""
    try:
        _ = urlsplit(server.url).port  # httpx takes any number for one
        return PrefectApi(server, pool=spec.work_pool.name)
    except (httpx.InvalidURL, ValueError) as error:
        raise _no_url(server.url) from error


def _no_url(url: str) -> BindingFault:
    return BindingFault(
        c.SERVER_RESOLVED,
        "InvalidServerURL",
        f"spec.server.url {PrefectEndpoint(url).address!r} is not a URL. "
        "Correct its host and port; for example http://prefect-server.prefect.svc:4200/api",
    )


async def check_queues(
    spec: Spec, api: PrefectApi
) -> tuple[tuple[str, ...] | None, BindingFault | None]:
    """The queues to poll, None for all, and what is wrong with the others: a poll that names a
    queue which the pool does not have is refused as a whole."""
    if spec.work_queues is None:
        return None, None
    existing = sorted(queue.name for queue in await api.work_queues())
    found = tuple(name for name in spec.work_queues if name in existing)
    missing = [name for name in spec.work_queues if name not in existing]
    return found, _queue_fault(api.pool, found, missing, existing) if missing else None


def _queue_fault(
    pool: str, found: Sequence[str], missing: Sequence[str], existing: Sequence[str]
) -> BindingFault:
    rest = f"Only runs of {_quoted(found)} are claimed. " if found else "No run is claimed. "
    return BindingFault(
        c.WORK_POOL_FOUND,
        "QueueNotFound",
        f"Work pool {pool!r} has no work queue {_quoted(missing)}; it has {_quoted(existing)}. "
        f"{rest}Correct spec.workQueues, or create it: "
        f"prefect work-queue create {missing[0]!r} --pool {pool!r}",
        partial=bool(found),
    )


def poll_fault(error: OperatorError, api: PrefectApi) -> BindingFault:
    """What a server says about the binding that answers, but not its polls."""
    if isinstance(error, PrefectRedirects):
        return server_fault(error, api.server)
    denied = isinstance(error, PrefectUnauthorized | PrefectForbidden)
    if denied or (isinstance(error, PrefectUnavailable) and error.retry_after):
        return server_fault(error, api.server)
    return BindingFault(
        c.SERVER_REACHABLE,
        "PollRefused" if isinstance(error, PrefectRefused) else "PollFailed",
        f"{api.server.address} answers, but polls of work pool {api.pool!r} fail ({error}): no run "
        "is claimed. Look into the server's log; a proxy in front of it must pass POST requests.",
    )


def server_fault(error: OperatorError, server: PrefectEndpoint) -> BindingFault:
    """What a failed request to Prefect says about the binding."""
    if isinstance(error, PrefectUnauthorized | PrefectForbidden):
        return _unauthorized(error, server)
    if isinstance(error, PrefectRedirects):
        return _redirected(error, server)
    if isinstance(error, PrefectUnavailable) and error.retry_after:
        return BindingFault(
            c.SERVER_REACHABLE,
            "RateLimited",
            f"{server.address} asks to come back in {error.retry_after:.0f} s: {error}",
        )
    if isinstance(error, PrefectUntrusted):
        return BindingFault(
            c.SERVER_REACHABLE,
            "CertificateNotTrusted",
            f"{server.address}: {error}. If a private CA signed it, name a ConfigMap or Secret "
            "with the CA's certificate in spec.server.caBundle.",
        )
    return BindingFault(
        c.SERVER_REACHABLE,
        "ConnectionFailed",
        f"{server.address} gives no usable answer ({error}). Check that the Prefect server runs, "
        f"and that spec.server.url is its address as the operator reaches it."
        f"{_doubts(server)}{_by_proxy(server)}",
    )


def _unauthorized(
    error: PrefectUnauthorized | PrefectForbidden, server: PrefectEndpoint
) -> BindingFault:
    sent = "an API key" if server.api_key else "an auth string"
    if server.without_credentials:
        sent = "a request without credentials"
    return BindingFault(
        c.CREDENTIALS_VALID,
        "Unauthorized" if isinstance(error, PrefectUnauthorized) else "Forbidden",
        f"{server.address} answered {error.status} to {sent}. Correct the Secret that "
        "spec.server.apiKey or spec.server.authString names, or set the one that it asks for; "
        "headers that a proxy in front of it asks for belong into spec.server.headers."
        f"{_doubts(server)}",
    )


def _redirected(error: PrefectRedirects, server: PrefectEndpoint) -> BindingFault:
    """Not followed: a POST would become a GET, and credentials would go there."""
    if error.is_api:
        fix = f"Set spec.server.url to {error.to}."
    else:
        fix = (
            "If that is the login of a proxy in front of the server, give the headers that let "
            "requests pass in spec.server.headers; else correct spec.server.url."
        )
    return BindingFault(
        c.SERVER_REACHABLE,
        "Redirected",
        f"{server.address} redirects to {error.to} (HTTP {error.status}), which is not followed. "
        f"{fix}{_doubts(server)}",
    )


def _doubts(server: PrefectEndpoint) -> str:
    found = [
        f"Look at spec.server.url: {doubt}" for doubt in addresses.address_warnings(server.address)
    ]
    if addresses.is_cloud(server.url) and not _authorized(server):
        found.append("Prefect Cloud needs an API key: name its Secret in spec.server.apiKey")
    return "".join(f" {doubt}." for doubt in found)


def _authorized(server: PrefectEndpoint) -> bool:
    named = (name.lower() for name, _ in server.headers)
    return not server.without_credentials or "authorization" in named


def _by_proxy(server: PrefectEndpoint) -> str:
    proxy = proxy_of(server.url)
    if proxy is None:
        return ""
    return (
        f" It was called through the proxy {proxy.address}, which {proxy.variable} of the operator "
        "names: if the proxy cannot reach it, add its host to NO_PROXY."
    )


async def _headers(named: tuple[Header, ...], namespace: str, kube: KubernetesClient) -> Headers:
    found = []
    for index, header in enumerate(named):
        key = KeyReference(
            header.secret_key_ref,
            namespace=namespace,
            path=f"spec.server.headers[{index}].secretKeyRef",
            condition=c.CREDENTIALS_VALID,
        )
        found.append((header.name, await key.value(kube)))
    return tuple(found)


async def _secret(
    field: str, value: SecretValue | None, namespace: str, kube: KubernetesClient
) -> str | None:
    if value is None:
        return None
    key = KeyReference(
        value.secret_key_ref,
        namespace=namespace,
        path=f"spec.server.{field}.secretKeyRef",
        condition=c.CREDENTIALS_VALID,
    )
    return await key.value(kube)


def _quoted(names: Sequence[str]) -> str:
    more = f" (and {len(names) - _LISTED} more)" if len(names) > _LISTED else ""
    return ", ".join(repr(name) for name in names[:_LISTED]) + more
