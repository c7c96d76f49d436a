"""The Prefect server and the cluster that a command talks to, and why these.

The address is PREFECT_API_URL of the environment, else the binding's, else that of the user's
Prefect profile. Credentials are those of the environment, else of the Secret that the binding
names, else of the profile: never in an address, never printed.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import get_current_settings

from workpool_operator.binding import prerequisites
from workpool_operator.binding.surroundings import Binding
from workpool_operator.errors import OperatorError, PrefectRefused, PrefectUnavailable
from workpool_operator.jobs.credentials import VARIABLES
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api.client import Server, tls_context

URL = "PREFECT_API_URL"
NO_SERVER = (
    f"no Prefect server: set {URL}, choose a profile (prefect profile use), give --binding, or "
    "render without a server by --template and --variables"
)


async def server(binding: Binding | None, kube: KubernetesClient | None) -> Server:
    """The server, with what opens it.

    Raises:
        OperatorError: there is none, or its Secret cannot be read.
    """
    if binding and binding.spec().server.url and not os.environ.get(URL):
        return await _of_binding(binding, kube)
    own = _of_settings()
    if not own.url:
        raise OperatorError(NO_SERVER)
    if not own.url.startswith(("http://", "https://")):
        raise OperatorError(f"{URL} is {own.url!r}: it must begin with http:// or https://")
    return own


async def _of_binding(binding: Binding, kube: KubernetesClient | None) -> Server:
    spec, own = binding.spec(), _of_settings()
    url = prerequisites.server_url(spec)
    if any(os.environ.get(name) for name in VARIABLES):
        return Server(url, api_key=own.api_key, auth_string=own.auth_string)
    if not (spec.server.api_key or spec.server.auth_string):
        return Server(url)
    if kube is None:
        text = f"the Secret that spec.server of {binding.key} names is in a cluster that"
        raise OperatorError(f"{text} cannot be reached; set {' or '.join(VARIABLES)} instead")
    return await prerequisites.credentials(spec, namespace=binding.namespace, kube=kube)


@contextmanager
def failures_told(server: Server) -> Iterator[None]:
    """What the server answers to nobody is told with its address and the fix."""
    try:
        yield
    except PrefectUnavailable as error:
        reason = str(error).partition(": ")[2]  # without the request
        text = f"{server.url} gives no usable answer: {reason}. Check that it runs, and {URL}"
        raise OperatorError(text) from error
    except PrefectRefused as error:
        raise OperatorError(_refusal(error, server)) from error


def _refusal(error: PrefectRefused, server: Server) -> str:
    if error.status in (401, 403):
        sent = "the API key" if server.api_key else "the auth string"
        if not (server.api_key or server.auth_string):
            sent = "a request without credentials"
        return f"{server.url} answered {error.status} to {sent}: set {' or '.join(VARIABLES)}"
    if error.status == 404 and "/api" not in server.url:
        return f"{server.url} is no Prefect API: is the address incomplete? Most end in /api"
    return f"{server.url} answered {error.status}: {error}"


def _of_settings() -> Server:
    """What the `prefect` command itself would use: environment, then profile."""
    api = get_current_settings().api
    return Server(
        str(api.url or ""),
        api_key=api.key.get_secret_value() if api.key else None,
        auth_string=api.auth_string.get_secret_value() if api.auth_string else None,
    )


def tls() -> ssl.SSLContext:
    """What the operator trusts, and what the user's Prefect settings do."""
    api, context = get_current_settings().api, tls_context()
    if api.ssl_cert_file:
        context.load_verify_locations(api.ssl_cert_file)
    if api.tls_insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def cluster() -> KubernetesClient | None:
    """The cluster of the kubeconfig; None without one that can be used."""
    try:
        return await KubernetesClient.from_environment()
    except OperatorError:
        return None
