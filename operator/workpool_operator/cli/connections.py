"""The Prefect server and the cluster that a command talks to, and why these.

The address is PREFECT_API_URL of the environment, else the binding's, else that of the user's
Prefect profile. Credentials and headers are those of the environment, else of the Secrets that the
binding names, else of the profile: never in an address, never printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from workpool_operator.binding import addresses, preflight_checks
from workpool_operator.binding.context import Binding
from workpool_operator.errors import (
    OperatorError,
    PrefectForbidden,
    PrefectRedirects,
    PrefectRefused,
    PrefectUnauthorized,
    PrefectUnavailable,
    PrefectUntrusted,
)
from workpool_operator.jobs.credentials import API_KEY, AUTH_STRING, VARIABLES
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api import profile
from workpool_operator.prefect_api.endpoint import PrefectEndpoint, TLSTrust
from workpool_operator.prefect_api.profile import SSL_CERT_FILE, URL

NO_SERVER = (
    f"no Prefect server: set {URL}, choose a profile (prefect profile use), give --binding, or "
    "render without a server by --template and --variables"
)


@dataclass(frozen=True, slots=True)
class ServerConnection:
    """A server, and the settings that it is from, as a person finds them."""

    server: PrefectEndpoint
    url: str
    credentials: str
    ca: str


async def connect_server(
    binding: Binding | None, kube: KubernetesClient | None, *, named: str
) -> ServerConnection:
    """The server, with what opens it; `named` is the file or name that the binding is from.

    Raises:
        OperatorError: there is none, or its Secret cannot be read.
    """
    if binding and binding.spec().server.url and not os.environ.get(URL):
        return await _of_binding(binding, kube, named)
    own = profile.current()
    if not own.url:
        raise OperatorError(NO_SERVER)
    if not own.url.startswith(("http://", "https://")):
        raise OperatorError(f"{URL} is {own.url!r}: it must begin with http:// or https://")
    url = URL if os.environ.get(URL) else f"{URL} of your Prefect profile"
    return ServerConnection(
        own, url=url, credentials=f"{API_KEY} or {AUTH_STRING}", ca=SSL_CERT_FILE
    )


async def _of_binding(
    binding: Binding, kube: KubernetesClient | None, named: str
) -> ServerConnection:
    own = any(os.environ.get(name) for name in VARIABLES)
    found = await (_with_own(binding) if own else _with_its_own(binding, kube))
    about = f"spec.server.{{}} of {named}"
    credentials = f"{API_KEY} or {AUTH_STRING}"
    return ServerConnection(
        found,
        url=about.format("url"),
        credentials=credentials if own else f"{about.format('apiKey')}, or {credentials}",
        ca=f"{about.format('caBundle')}, or {SSL_CERT_FILE}",
    )


async def _with_own(binding: Binding) -> PrefectEndpoint:
    """What the environment has opens it."""
    own = profile.current()
    return replace(own, url=preflight_checks.check_server_url(binding.spec()))


async def _with_its_own(binding: Binding, kube: KubernetesClient | None) -> PrefectEndpoint:
    """What the binding names opens it; whom this machine trusts is trusted, too."""
    spec, trust = binding.spec(), profile.current().trust
    named = [spec.server.api_key, spec.server.auth_string, spec.server.headers]
    if not any((*named, spec.server.ca_bundle)):
        return PrefectEndpoint(preflight_checks.check_server_url(spec), trust=trust)
    if kube is None:
        text = f"what spec.server of {binding.key} names is in a cluster that cannot be reached"
        raise OperatorError(f"{text}; set {' or '.join(VARIABLES)} instead")
    its = await preflight_checks.read_ca(spec, namespace=binding.namespace, kube=kube)
    both = "".join(filter(None, (trust.ca_bundle, its.ca_bundle))) or None
    return await preflight_checks.read_credentials(
        spec,
        namespace=binding.namespace,
        kube=kube,
        trust=TLSTrust(ca_bundle=both, verify=trust.verify),
    )


@contextmanager
def explain_failures(found: ServerConnection) -> Iterator[None]:
    """An error of a request names the server's address, its setting and the fix."""
    where = f"{found.server.address} ({found.url})"
    try:
        yield
    except PrefectUntrusted as error:
        text = f"{where}: {_reason(error)}. If a private CA signed it, name the CA in {found.ca}"
        raise OperatorError(text) from error
    except PrefectUnavailable as error:
        text = f"{where} cannot be reached: {_reason(error)}. Check that it runs, and the address"
        raise OperatorError(text + _doubts(found)) from error
    except PrefectRedirects as error:
        fix = f": set {found.url} to it" if error.is_api else ", where it may ask for a login"
        raise OperatorError(f"{where} redirects to {error.to}{fix}") from error
    except PrefectRefused as error:
        raise OperatorError(_refusal(error, found, where) + _doubts(found)) from error


def _reason(error: PrefectUnavailable) -> str:
    return str(error).partition(": ")[2]  # without the request


def _refusal(error: PrefectRefused, found: ServerConnection, where: str) -> str:
    if isinstance(error, PrefectUnauthorized | PrefectForbidden):
        sent = "the API key" if found.server.api_key else "the auth string"
        if found.server.without_credentials:
            sent = "a request without credentials"
        return f"{where} answered {error.status} to {sent}: set {found.credentials}"
    return f"{where} answered {error.status}: {error}"


def _doubts(found: ServerConnection) -> str:
    return "".join(f". Its address {doubt}" for doubt in _certain(found.server.address))


def _certain(url: str) -> list[str]:
    """What is wrong with it also for a command, which may reach a server on its own machine."""
    return [] if addresses.is_local(url) else list(addresses.address_warnings(url))


async def connect_cluster() -> KubernetesClient | None:
    """The cluster of the kubeconfig; None without one that can be used."""
    try:
        return await KubernetesClient.from_environment()
    except OperatorError:
        return None
