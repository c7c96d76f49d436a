"""What must hold before a pool can be served, one check per condition.

Each check returns what it found or raises a `BindingFault` that names the fault, where it is and
how to mend it.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from workpool_operator.binding import conditions as c
from workpool_operator.binding import rights
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.model import SecretValue, Spec
from workpool_operator.binding.secret_key import NamedKey
from workpool_operator.errors import (
    BindingFault,
    OperatorError,
    PrefectRefused,
    PrefectUnavailable,
)
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api.client import PrefectApi, Server
from workpool_operator.prefect_api.views import WorkPool

_LISTED = 10
RIGHTS = (
    ("list", "batch", "jobs"),
    ("watch", "batch", "jobs"),
    ("create", "batch", "jobs"),
    ("patch", "batch", "jobs"),
    ("delete", "batch", "jobs"),
    ("list", "", "pods"),
    ("watch", "", "pods"),
    ("patch", "", "pods"),
)


def server_url(spec: Spec) -> str:
    """Where the API is."""
    if spec.server.url is None:
        raise BindingFault(c.SERVER_RESOLVED, "NoServer", "spec.server.url is not set: set it.")
    return spec.server.url.rstrip("/")


async def credentials(spec: Spec, *, namespace: str, kube: KubernetesClient) -> Server:
    """The server with the values of the Secrets that the spec names."""
    server = spec.server
    return Server(
        url=server_url(spec),
        api_key=await _secret("apiKey", server.api_key, namespace, kube),
        auth_string=await _secret("authString", server.auth_string, namespace, kube),
    )


async def ask_for_pool(api: PrefectApi) -> WorkPool | None:
    """The pool as a server has it that answers and accepts the credentials; None: it has none."""
    try:
        return await api.work_pool()
    except OperatorError as error:
        if isinstance(error, PrefectRefused) and error.status == 404:
            return None
        raise server_fault(error, api.server) from error


def servable(pool: WorkPool | None, spec: Spec, api: PrefectApi) -> WorkPool:
    """The pool, if it is there and of the type that the spec names."""
    wanted = spec.work_pool.type
    if pool is None:
        url, name = api.server.url, api.pool
        hint = "" if "/api" in url else " Or is the address incomplete? Most end in /api."
        raise BindingFault(
            c.WORK_POOL_FOUND,
            "WorkPoolNotFound",
            f"{url} has no work pool {name!r}. Create it: prefect work-pool create {name!r} "
            f"--type {wanted}. If the name is wrong, apply another binding.{hint}",
        )
    if pool.type != wanted:
        raise BindingFault(
            c.WORK_POOL_FOUND,
            "WorkPoolTypeUnsupported",
            f"Work pool {pool.name!r} is of type {pool.type!r}, spec.workPool.type asks for "
            f"{wanted!r}. Bind a pool of that type, or correct the spec.",
        )
    return pool


async def jobs_permitted(kube: KubernetesClient, namespace: str, consent: Consent) -> None:
    """The operator may do with Jobs and pods what it does, in a namespace that allows it."""
    await consent.ask()
    if missing := await rights.missing(kube, namespace, RIGHTS):
        grant = await rights.grant(kube, namespace, rights.MAKES_JOBS)
        raise BindingFault(
            c.JOBS_PERMITTED,
            "JobsForbidden",
            f"The operator may not {', '.join(missing)} in namespace {namespace!r}. "
            f"Grant it: {grant}",
        )


def client(spec: Spec, server: Server, *, tls: ssl.SSLContext) -> PrefectApi:
    """A client of the server; nothing is asked of it yet."""
    try:
        _ = urlsplit(server.url).port  # httpx takes any number for one
        return PrefectApi(server, pool=spec.work_pool.name, tls=tls)
    except UnicodeError as error:
        raise BindingFault(
            c.CREDENTIALS_VALID,
            "InvalidCredentials",
            "The value that spec.server.apiKey or spec.server.authString names cannot be sent in a "
            "header: it must be one line of ASCII. Correct the Secret.",
        ) from error
    except (httpx.InvalidURL, ValueError) as error:
        raise BindingFault(
            c.SERVER_RESOLVED,
            "InvalidServerURL",
            f"spec.server.url {server.url!r} is not a URL. Correct its host and port; for example "
            "http://prefect-server.prefect.svc:4200/api",
        ) from error


async def queues(spec: Spec, api: PrefectApi) -> tuple[tuple[str, ...] | None, BindingFault | None]:
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
    if isinstance(error, PrefectRefused) and error.status in (401, 403):
        return server_fault(error, api.server)
    return BindingFault(
        c.SERVER_REACHABLE,
        "PollRefused" if isinstance(error, PrefectRefused) else "PollFailed",
        f"{api.server.url} answers, but polls of work pool {api.pool!r} fail ({error}): no run is "
        "claimed. Look into the server's log; a proxy in front of it must pass POST requests on "
        "(where it redirects http, write https in spec.server.url).",
    )


def server_fault(error: OperatorError, server: Server) -> BindingFault:
    """What a failed request to Prefect says about the binding."""
    if isinstance(error, PrefectRefused) and error.status in (401, 403):
        sent = "an API key" if server.api_key else "an auth string"
        if not (server.api_key or server.auth_string):
            sent = "a request without credentials"
        return BindingFault(
            c.CREDENTIALS_VALID,
            "Unauthorized" if error.status == 401 else "Forbidden",
            f"{server.url} answered {error.status} to {sent}. Correct the Secret that "
            "spec.server.apiKey or spec.server.authString names, or set the one that it asks for.",
        )
    if isinstance(error, PrefectUnavailable) and error.retry_after:
        return BindingFault(
            c.SERVER_REACHABLE,
            "RateLimited",
            f"{server.url} asks to come back in {error.retry_after:.0f} s: {error}",
        )
    return BindingFault(
        c.SERVER_REACHABLE,
        "ConnectionFailed",
        f"{server.url} gives no usable answer ({error}). Check that the Prefect server runs, and "
        "that spec.server.url is its address as the operator reaches it.",
    )


async def _secret(
    field: str, value: SecretValue | None, namespace: str, kube: KubernetesClient
) -> str | None:
    if value is None:
        return None
    key = NamedKey(
        value.secret_key_ref,
        namespace=namespace,
        path=f"spec.server.{field}.secretKeyRef",
        condition=c.CREDENTIALS_VALID,
    )
    return await key.value(kube)


def _quoted(names: Sequence[str]) -> str:
    more = f" (and {len(names) - _LISTED} more)" if len(names) > _LISTED else ""
    return ", ".join(repr(name) for name in names[:_LISTED]) + more
