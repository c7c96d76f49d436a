"""Reads how the user's own Prefect reaches its server, as the `prefect` command does.

Commands and the worker type use it; a binding has all of it in its spec.
"""

from __future__ import annotations

from pathlib import Path

from prefect.settings import Settings, get_current_settings

from workpool_operator.errors import OperatorError
from workpool_operator.prefect_api import endpoint
from workpool_operator.prefect_api.endpoint import Headers, PrefectEndpoint, TLSTrust

URL = "PREFECT_API_URL"
CUSTOM_HEADERS = "PREFECT_CLIENT_CUSTOM_HEADERS"
SSL_CERT_FILE = "PREFECT_API_SSL_CERT_FILE"


def current() -> PrefectEndpoint:
    """Return the endpoint of Prefect's settings: environment, then profile. Its URL is empty if
    none is set.

    Raises:
        OperatorError: a setting cannot be used; the text names it, without its value.
    """
    settings = get_current_settings()
    api = settings.api
    key = api.key.get_secret_value() if api.key else None
    auth = api.auth_string.get_secret_value() if api.auth_string else None
    for name, value in (("PREFECT_API_KEY", key), ("PREFECT_API_AUTH_STRING", auth)):
        _check(name, endpoint.header_value_problem(value) if value else "")
    return PrefectEndpoint(
        url=str(api.url or ""),
        api_key=key or None,
        auth_string=auth or None,
        headers=_headers(settings, authorized=bool(key or auth)),
        trust=TLSTrust(
            ca_bundle=_ca_bundle(api.ssl_cert_file), verify=not api.tls_insecure_skip_verify
        ),
    )


def _headers(settings: Settings, *, authorized: bool) -> Headers:
    """Return the custom headers, as Prefect's client does: without those that it sets itself."""
    custom = settings.client.custom_headers
    for name, value in custom.items():
        _check(f"{CUSTOM_HEADERS}, {name!r}", endpoint.header_value_problem(value))
    return tuple(
        (name, value)
        for name, value in custom.items()
        if not endpoint.header_name_problem(name, authorized=authorized)
    )


def _ca_bundle(file: str | None) -> str | None:
    """Return the certificates of the file, which Prefect sets to SSL_CERT_FILE by default."""
    if not file:
        return None
    try:
        return endpoint.certificates(Path(file).read_text(errors="replace"))
    except OSError as error:
        raise OperatorError(f"{SSL_CERT_FILE}: {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise OperatorError(f"{SSL_CERT_FILE}: {file} {error}") from error


def _check(setting: str, problem: str) -> None:
    if problem:
        raise OperatorError(f"{setting} {problem}: correct it")
