"""Connects a command to a Prefect server and a cluster, and names the settings that it used.

The address is PREFECT_API_URL of the environment, else the binding's, else that of the active
Prefect profile. Credentials and headers come from the environment, else from the Secrets that the
binding names, else from the profile. They are never part of an address and never printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from workpool_operator.binding import addresses, preflight_checks
from workpool_operator.binding.context import Binding
from workpool_operator.binding.server_source import ServerSource
from workpool_operator.cli.patience import Patience, PatientKubernetesClient
from workpool_operator.connection_errors import repair_untrusted
from workpool_operator.errors import (
    OperatorError,
    PrefectForbidden,
    PrefectRedirects,
    PrefectRefused,
    PrefectThrottled,
    PrefectUnauthorized,
    PrefectUnavailable,
    PrefectUntrusted,
)
from workpool_operator.jobs.secrets import API_KEY, AUTH_STRING, VARIABLES
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api import profile
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint, TLSTrust
from workpool_operator.prefect_api.profile import SSL_CERT_FILE, URL

ELSEWHERE = f"Outside of the cluster: kubectl port-forward, and set {URL} to the forwarded address"
NO_SERVER = f"no Prefect server: set {URL}, or select a profile (prefect profile use)"


class NoServer(OperatorError):
    """Neither the environment, nor a profile, nor a binding names a server."""


@dataclass(frozen=True, slots=True)
class ServerConnection:
    """A server, and the names of the settings for its address, credentials and CA."""

    server: PrefectEndpoint
    url: str
    credentials: str
    ca: str


class PatientPrefectApi(PrefectApi):
    """Repeats a request that the server did not accept yet."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._patience = Patience()

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """See `PrefectApi.request`."""
        return await self._patience.outlast(partial(super().request, method, path, body))


async def connect_server(
    binding: Binding | None, kube: KubernetesClient | None, *, named: str
) -> ServerConnection:
    """Return the server with its credentials; `named` is the binding's file or name.

    Raises:
        OperatorError: no server is set, or its Secrets cannot be read.
    """
    if binding and not os.environ.get(URL):
        return await _of_binding(binding, kube, named)
    own = profile.current()
    if not own.url:
        raise NoServer(NO_SERVER)
    if not own.url.startswith(("http://", "https://")):
        raise OperatorError(f"{URL}: {own.url!r} does not start with http:// or https://")
    url = URL if os.environ.get(URL) else f"{URL} of your Prefect profile"
    return ServerConnection(
        own, url=url, credentials=f"{API_KEY} or {AUTH_STRING}", ca=SSL_CERT_FILE
    )


async def _of_binding(
    binding: Binding, kube: KubernetesClient | None, named: str
) -> ServerConnection:
    own = any(os.environ.get(name) for name in VARIABLES)
    source = await preflight_checks.find_server(
        binding.spec(), namespace=binding.namespace, kube=kube
    )
    found = _with_profile(source) if own else await _with_secrets(binding, source, kube)
    about = f"spec.server.{{}} of {named}"
    credentials = f"{API_KEY} or {AUTH_STRING}"
    return ServerConnection(
        found,
        url=f"{source.field} of {named}",
        credentials=credentials if own else f"{about.format('apiKey')}, or {credentials}",
        ca=f"{about.format('caBundle')}, or {SSL_CERT_FILE}",
    )


def _with_profile(source: ServerSource) -> PrefectEndpoint:
    """Return the binding's server with the credentials of the environment and the profile."""
    return replace(profile.current(), url=source.url)


async def _with_secrets(
    binding: Binding, source: ServerSource, kube: KubernetesClient | None
) -> PrefectEndpoint:
    """Return the binding's server with its credentials; CAs of this machine are trusted, too."""
    spec, trust = binding.spec(), profile.current().trust
    named = [spec.server.api_key, spec.server.auth_string, spec.server.headers]
    if not any((*named, spec.server.ca_bundle, spec.server.tls)):
        return PrefectEndpoint(source.url, trust=trust)
    if kube is None:
        text = f"cannot read the Secrets that spec.server of {binding.key} names without a cluster"
        raise OperatorError(f"{text}: check the kubeconfig, or set {' or '.join(VARIABLES)}")
    its = await preflight_checks.read_ca(spec, namespace=binding.namespace, kube=kube)
    both = "".join(filter(None, (trust.ca_bundle, its.ca_bundle))) or None
    return await preflight_checks.read_credentials(
        spec,
        source,
        namespace=binding.namespace,
        kube=kube,
        trust=TLSTrust(ca_bundle=both, verify=trust.verify and its.verify),
    )


@contextmanager
def explain_failures(found: ServerConnection) -> Iterator[None]:
    """Add the server's address, its setting and the fix to the error of a request."""
    where = f"{found.server.address} ({found.url})"
    try:
        yield
    except PrefectUntrusted as error:
        trust = f"set the CA in {found.ca}"
        repair = repair_untrusted(error, url=found.server.url, trust=trust).rstrip(".")
        raise OperatorError(f"{where}: {_reason(error)}. {repair}") from error
    except PrefectThrottled as error:
        wait = f": try again in {error.retry_after:.0f} s" if error.retry_after else ""
        raise OperatorError(f"{where} limits the rate of requests{wait}") from error
    except PrefectUnavailable as error:
        text = (
            f"cannot reach {where}: {_reason(error)}. Is the server running, and the address right"
        )
        raise OperatorError(f"{text}?{_warnings(found)}{_elsewhere(found)}") from error
    except PrefectRedirects as error:
        fix = f": set {found.url} to it" if error.is_api else ", which is probably a login page"
        raise OperatorError(f"{where} redirects to {error.to}{fix}") from error
    except PrefectRefused as error:
        text = f"{_refusal(error, found, where)}.{_warnings(found)}"
        raise OperatorError(text.rstrip(".")) from error


def _reason(error: PrefectUnavailable) -> str:
    return str(error).partition(": ")[2]  # without the request


def _refusal(error: PrefectRefused, found: ServerConnection, where: str) -> str:
    if isinstance(error, PrefectUnauthorized | PrefectForbidden):
        if found.server.without_credentials:
            text = "a request without credentials: set"
        else:
            text = f"the {'API key' if found.server.api_key else 'auth string'}: check"
        return f"{where} answered {error.status} to {text} {found.credentials}"
    return f"{where} answered {error.status}: {error}"


def _elsewhere(found: ServerConnection) -> str:
    """Return what to do outside of the cluster, if the address is one of a Service."""
    host = urlsplit(found.server.url).hostname or ""
    is_of_service = host.endswith((".svc", ".svc.cluster.local"))
    return f" {ELSEWHERE}" if is_of_service and found.url != URL else ""


def _warnings(found: ServerConnection) -> str:
    """Return what is probably wrong with the address; a local one is fine for a command."""
    url = found.server.address
    found_warnings = () if addresses.is_local(url) else addresses.address_warnings(url)
    return "".join(f" The address {text}." for text in found_warnings).rstrip(".")


async def connect_cluster() -> KubernetesClient | None:
    """Return a client of the kubeconfig's cluster; None if the kubeconfig cannot be used."""
    try:
        return await PatientKubernetesClient.from_environment()
    except OperatorError:
        return None
