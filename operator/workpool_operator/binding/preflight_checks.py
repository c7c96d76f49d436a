"""The preflight checks: one or more for each condition, in the order in which they are made.

A check returns what it read, or raises a `BindingFault` that names condition, reason and fix.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from workpool_operator.api.v1alpha1 import Header, SecretKeySelector, SecretValue, Spec
from workpool_operator.binding import addresses, server_source
from workpool_operator.binding import conditions as c
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.key_reference import KeyReference, key_reference
from workpool_operator.binding.server_source import ServerSource
from workpool_operator.binding.template_dry_run import TemplateDryRun
from workpool_operator.binding.template_findings import MAX_LISTED
from workpool_operator.connection_errors import repair_untrusted
from workpool_operator.errors import (
    BindingFault,
    KubernetesRefused,
    OperatorError,
    PrefectDisconnected,
    PrefectForbidden,
    PrefectNotFound,
    PrefectRedirects,
    PrefectRefused,
    PrefectUnauthorized,
    PrefectUnavailable,
    PrefectUntrusted,
)
from workpool_operator.kube import permissions, rights
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.rights import Scope
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import (
    ClientCertificate,
    Headers,
    PrefectEndpoint,
    TLSTrust,
)
from workpool_operator.prefect_api.models import WorkPool
from workpool_operator.prefect_api.proxies import proxy_of
from workpool_operator.request_observer import RequestObserver, ignore

log = logging.getLogger(__name__)

#: The oldest that `make test-versions` ran without a failure; tests/unit/testbed/test_versions.py
#: compares.
OLDEST_SERVER = (3, 6)
_MINOR_VERSION = re.compile(r"(\d+)\.(\d+)\b")
_MOST_QUEUES = 10
INVALID_PATCH = "InvalidPatch"
_URL = "spec.server.url"
_CLIENT_CERTIFICATE = "spec.server.tls.clientCertificate"
_MOST_FINDINGS = 3  # conditions are read in a terminal
PERMISSIONS = rights.permissions(rights.rules(Scope.JOBS), condition=rights.JOBS_PERMITTED)


async def find_server(spec: Spec, *, namespace: str, kube: KubernetesClient | None) -> ServerSource:
    """Return the API's address, if the operator's environment allows a connection to it."""
    found = await server_source.find_server(spec, namespace=namespace, kube=kube)
    try:
        proxy_of(found.url)
    except ValueError as error:
        raise _invalid_url(found.url, found.field) from error
    except OperatorError as error:
        raise BindingFault(c.SERVER_RESOLVED, "ProxyInvalid", str(error)) from error
    return found


async def read_ca(spec: Spec, *, namespace: str, kube: KubernetesClient) -> TLSTrust:
    """Return the certificates of this server that the operator trusts."""
    ca_bundle, tls = spec.server.ca_bundle, spec.server.tls
    if ca_bundle is None:
        return TLSTrust(verify=not (tls and tls.insecure_skip_verify))
    key = key_reference(
        ca_bundle, namespace=namespace, path="spec.server.caBundle", condition=c.SERVER_RESOLVED
    )
    return TLSTrust(ca_bundle=await key.certificates(kube))


async def read_credentials(
    spec: Spec,
    found: ServerSource,
    *,
    namespace: str,
    kube: KubernetesClient,
    trust: TLSTrust,
) -> PrefectEndpoint:
    """Return the server, with the credentials and headers from the Secrets that the spec names."""
    server = spec.server
    tls = server.tls
    if tls and tls.client_certificate:
        secret = tls.client_certificate.secret_ref.name
        trust = replace(
            trust, client_certificate=await _client_certificate(secret, namespace, kube)
        )
    return PrefectEndpoint(
        url=found.url,
        api_key=await _secret("apiKey", server.api_key, namespace, kube),
        auth_string=await _secret("authString", server.auth_string, namespace, kube),
        headers=await _headers(server.headers or (), namespace, kube),
        trust=trust,
        setting=found.field,
    )


def client(
    spec: Spec,
    server: PrefectEndpoint,
    *,
    requested: RequestObserver = ignore,
    kind: type[PrefectApi] = PrefectApi,
) -> PrefectApi:
    """Return a client of the server. Sends no request yet."""
    try:
        _ = urlsplit(server.url).port  # httpx accepts any number as a port
        return kind(server, pool=spec.work_pool.pool_name, requested=requested)
    except (httpx.InvalidURL, ValueError) as error:
        raise _invalid_url(server.url, server.setting) from error


def _invalid_url(url: str, field: str) -> BindingFault:
    return BindingFault(
        c.SERVER_RESOLVED,
        "InvalidServerURL",
        f"{field}: {PrefectEndpoint(url).address!r} is not a valid URL. "
        "Correct its host and port; for example http://prefect-server.prefect.svc:4200/api",
    )


async def read_pool(api: PrefectApi) -> WorkPool | None:
    """Return the pool as the server has it, None if the server has none of that name."""
    try:
        return await api.work_pool()
    except PrefectNotFound:
        return None
    except OperatorError as error:
        raise server_fault(error, api.server) from error


async def server_version(api: PrefectApi) -> str:
    """Return the server's version, "" if it is unknown: Prefect Cloud does not report one."""
    try:
        return await api.version()
    except OperatorError:
        return ""


def version_warning(version: str) -> str:
    """Return what a server of this version cannot do, as a sentence; "" if it can do everything."""
    found = _MINOR_VERSION.match(version)  # Prefect Cloud reports none
    if found is None or (int(found[1]), int(found[2])) >= OLDEST_SERVER:
        return ""
    oldest = ".".join(map(str, OLDEST_SERVER))
    return (
        f"It is Prefect {version}, and runs that wait show no reason in their state with a server "
        f"older than {oldest}: upgrade it."
    )


async def workers_online(api: PrefectApi) -> list[str] | None:
    """Return the names of the pool's online workers, None if the server does not list them."""
    try:
        workers = await api.workers()
    except OperatorError as error:
        log.debug("cannot list the workers of work pool %r: %s", api.pool, error)
        return None
    return [worker.name for worker in workers if worker.status == "ONLINE"]


def check_pool_type(pool: WorkPool | None, spec: Spec, api: PrefectApi) -> WorkPool:
    """Return the pool, if it exists and has the type that the spec names."""
    type_ = spec.work_pool.type
    if pool is None:
        name = api.pool
        raise BindingFault(
            c.WORK_POOL_FOUND,
            "WorkPoolNotFound",
            f"{api.server.address} has no work pool {name!r}. {_how_to_create(spec)} If the name "
            f"is wrong, create another binding.{_address_hints(api.server)}",
        )
    if pool.type != type_:
        raise BindingFault(
            c.WORK_POOL_FOUND,
            "WorkPoolTypeUnsupported",
            f"Work pool {pool.name!r} has type {pool.type!r}, but spec.workPool.type is "
            f"{type_!r}. Bind a pool of that type, or correct spec.workPool.type.",
        )
    return pool


def _how_to_create(spec: Spec) -> str:
    name = spec.work_pool.pool_name
    if spec.work_pool.ref:
        return f"prefect-operator creates it: kubectl describe prefectworkpool {name} says why not."
    create = f"Create it: prefect work-pool create {name!r} --type {spec.work_pool.type}"
    if spec.work_pool.creation_policy != "Never":  # the operator creates none during a deletion
        return f"{create}."
    return f"{create}, or set spec.workPool.creationPolicy to IfNotPresent."


async def check_queues(
    spec: Spec, api: PrefectApi
) -> tuple[tuple[str, ...] | None, BindingFault | None]:
    """Return the queues to poll (None: all), and the fault if some do not exist.

    A poll that names a queue which the pool does not have would fail as a whole.
    """
    if spec.work_queues is None:
        return None, None
    existing = sorted(queue.name for queue in await api.work_queues())
    served = tuple(name for name in spec.work_queues if name in existing)
    missing = [name for name in spec.work_queues if name not in existing]
    return served, _queue_fault(api.pool, served, missing, existing) if missing else None


def _queue_fault(
    pool: str, served: Sequence[str], missing: Sequence[str], existing: Sequence[str]
) -> BindingFault:
    rest = f"Only runs of {_quoted(served)} are claimed. " if served else "No runs are claimed. "
    return BindingFault(
        c.WORK_POOL_FOUND,
        "QueueNotFound",
        f"Work pool {pool!r} has no work queue {_quoted(missing)}; it has {_quoted(existing)}. "
        f"{rest}Correct spec.workQueues, or create it: "
        f"prefect work-queue create {missing[0]!r} --pool {pool!r}",
        partial=bool(served),
    )


async def check_template(pool: WorkPool, api: PrefectApi, dry_run: TemplateDryRun) -> str:
    """Check that the pool's base job template renders valid Jobs. Return warnings about it."""
    findings = await dry_run.check(pool, api)
    if findings.patch_faults:
        raise BindingFault(
            c.TEMPLATE_VALID,
            "InvalidPatch",
            f"{_listed(findings.patch_faults)}. Correct it; no runs are claimed until then.",
        )
    if findings.faults:
        raise BindingFault(
            c.TEMPLATE_VALID,
            "InvalidTemplate",
            f"Base job template of work pool {pool.name!r}: {_listed(findings.faults)}. Correct it "
            "in Prefect (work pool, Edit, Advanced); no runs are claimed until then.",
        )
    parts = ["The base job template renders a Job."]
    if findings.crashes:
        parts.append(f"But a run that sets no job variable crashes: {_listed(findings.crashes)}.")
    if findings.warnings:
        parts.append(f"Warnings: {_listed(findings.warnings)}.")
    if findings.not_checked:
        why = findings.not_checked
        parts.append(f"The API server did not check it, and the operator tries again: {why}.")
    return " ".join(parts)


def _listed(findings: Sequence[str]) -> str:
    more = f" (and {len(findings) - _MOST_FINDINGS} more)" if len(findings) > _MOST_FINDINGS else ""
    more = " (and many more)" if len(findings) >= MAX_LISTED else more
    return "; ".join(findings[:_MOST_FINDINGS]) + more


async def check_jobs_permitted(kube: KubernetesClient, namespace: str, consent: Consent) -> None:
    """Check that the namespace allows the binding's Jobs, and that the operator has the rights."""
    await consent.read(namespace)
    if missing := await permissions.missing_permissions(kube, namespace, PERMISSIONS):
        grant = await permissions.how_to_grant(kube, namespace, permissions.JOBS_ROLE)
        raise BindingFault(
            c.JOBS_PERMITTED,
            "JobsForbidden",
            f"The operator may not {', '.join(missing)} in namespace {namespace!r}. "
            f"Grant it: {grant}",
        )


def kubernetes_fault(refused: KubernetesRefused, condition: str) -> BindingFault:
    """Return the fault of a check that the API server refused."""
    text = f"{refused}. Grant the operator this right as the chart and manifests/base do."
    return BindingFault(condition, "KubernetesRefused", text)


def poll_fault(error: OperatorError, api: PrefectApi) -> BindingFault:
    """Return the fault of a server that answers other requests but fails the polls."""
    if isinstance(error, PrefectRedirects):
        return server_fault(error, api.server)
    denied = isinstance(error, PrefectUnauthorized | PrefectForbidden)
    if denied or (isinstance(error, PrefectUnavailable) and error.retry_after):
        return server_fault(error, api.server)
    return BindingFault(
        c.SERVER_REACHABLE,
        "PollRefused" if isinstance(error, PrefectRefused) else "PollFailed",
        f"{api.server.address} answers, but polls of work pool {api.pool!r} fail ({error}): no "
        "runs are claimed. Read the server's log. A proxy in front of it must let POST requests "
        "through.",
    )


_TRUST = "name a ConfigMap or Secret with the CA's certificate in spec.server.caBundle"


def server_fault(error: OperatorError, server: PrefectEndpoint) -> BindingFault:
    """Return the fault of the binding that a failed request to Prefect shows."""
    if isinstance(error, PrefectUnauthorized | PrefectForbidden):
        return _unauthorized(error, server)
    if isinstance(error, PrefectRedirects):
        return _redirected(error, server)
    if isinstance(error, PrefectUnavailable) and error.retry_after:
        return BindingFault(
            c.SERVER_REACHABLE,
            "RateLimited",
            f"{server.address} limits the rate of requests ({error}). The operator retries in "
            f"{error.retry_after:.0f} s.",
        )
    if isinstance(error, PrefectUntrusted):
        return BindingFault(
            c.SERVER_REACHABLE,
            "CertificateNotTrusted",
            f"{server.address}: {error}. {repair_untrusted(error, url=server.url, trust=_TRUST)}",
        )
    hints = _address_hints(server)
    known = "" if hints else f", and that {server.setting} is its address as seen from the operator"
    return BindingFault(
        c.SERVER_REACHABLE,
        "ConnectionFailed",
        f"The operator cannot reach a Prefect API at {server.address} ({error}). Check that the "
        f"server is running{known}.{hints}{_certificate_hint(error, server)}{_proxy_hint(server)}",
    )


def _unauthorized(
    error: PrefectUnauthorized | PrefectForbidden, server: PrefectEndpoint
) -> BindingFault:
    sent = "with an API key" if server.api_key else "with an auth string"
    if server.without_credentials:
        sent = "without credentials"
    return BindingFault(
        c.CREDENTIALS_VALID,
        "Unauthorized" if isinstance(error, PrefectUnauthorized) else "Forbidden",
        f"{server.address} answered {error.status} to a request {sent}. Correct the Secret that "
        "spec.server.apiKey or spec.server.authString names, or set the one that the server "
        "requires. Headers that a proxy in front of it requires belong in spec.server.headers."
        f"{_address_hints(server)}",
    )


def _redirected(error: PrefectRedirects, server: PrefectEndpoint) -> BindingFault:
    """Return the fault of a redirect, which is not followed: it would receive the credentials."""
    if error.is_api:
        instead = "" if server.setting == _URL else f" instead of {server.setting}"
        fix = f"Set {_URL} to {error.to}{instead}."
    else:
        fix = (
            "If that is the login page of a proxy in front of the server, set the headers that "
            f"the proxy requires in spec.server.headers; otherwise correct {server.setting}."
        )
    return BindingFault(
        c.SERVER_REACHABLE,
        "Redirected",
        f"{server.address} redirects to {error.to} (HTTP {error.status}); the operator does not "
        f"follow redirects. {fix}{_address_hints(server)}",
    )


def _address_hints(server: PrefectEndpoint) -> str:
    warnings = addresses.address_warnings(server.address)
    hints = [f"{server.setting} {warning}" for warning in warnings]
    if addresses.is_cloud(server.url) and not _authorized(server):
        hints.append("Prefect Cloud needs an API key: name its Secret in spec.server.apiKey")
    return "".join(f" {hint}." for hint in hints)


def _authorized(server: PrefectEndpoint) -> bool:
    names = (name.lower() for name, _ in server.headers)
    return not server.without_credentials or "authorization" in names


def _certificate_hint(error: OperatorError, server: PrefectEndpoint) -> str:
    """Return what may be wrong with the client certificate: a server without the one that it wants
    closes the connection, or answers 400 if it is nginx."""
    is_refused = isinstance(error, PrefectDisconnected) or (
        isinstance(error, PrefectRefused) and error.status == HTTPStatus.BAD_REQUEST
    )
    if not (is_refused and server.url.startswith("https:")):
        return ""
    if server.trust.client_certificate is None:
        return f" If it requires a client certificate, name its Secret in {_CLIENT_CERTIFICATE}."
    return f" Perhaps it does not accept the client certificate of {_CLIENT_CERTIFICATE}."


def _proxy_hint(server: PrefectEndpoint) -> str:
    proxy = proxy_of(server.url)
    if proxy is None:
        return ""
    return (
        f" The operator called it through the proxy {proxy.address}, which its environment "
        f"variable {proxy.variable} names. If the proxy cannot reach the server, add the server's "
        "host to NO_PROXY."
    )


async def _client_certificate(
    secret: str, namespace: str, kube: KubernetesClient
) -> ClientCertificate:
    certificate, key = (
        KeyReference(
            SecretKeySelector(name=secret, key=name),
            namespace=namespace,
            path=f"{_CLIENT_CERTIFICATE}.secretRef",
            condition=c.CREDENTIALS_VALID,
        )
        for name in ("tls.crt", "tls.key")
    )
    found = ClientCertificate(await certificate.text(kube), await key.text(kube))
    try:
        found.load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except ValueError as error:
        raise key.invalid(f"{error} in its key 'tls.crt'") from error
    return found


async def _headers(headers: tuple[Header, ...], namespace: str, kube: KubernetesClient) -> Headers:
    values = []
    for index, header in enumerate(headers):
        key = KeyReference(
            header.secret_key_ref,
            namespace=namespace,
            path=f"spec.server.headers[{index}].secretKeyRef",
            condition=c.CREDENTIALS_VALID,
        )
        values.append((header.name, await key.value(kube)))
    return tuple(values)


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
    return c.list_first([repr(name) for name in names], most=_MOST_QUEUES)
