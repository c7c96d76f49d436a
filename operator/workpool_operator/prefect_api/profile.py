"""The server of the user's own Prefect: what the `prefect` command would call, and how.

For a command and for the worker type; a binding has all of it in its spec.
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
    """By the settings in force: environment, then profile; its url is empty where none has one.

    Raises:
        OperatorError: one of them cannot be used; names it, without its value.
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
    """Prefect's client, too, leaves those alone that it sets itself."""
    custom = settings.client.custom_headers
    for name, value in custom.items():
        _check(f"{CUSTOM_HEADERS}, {name!r}", endpoint.header_value_problem(value))
    return tuple(
        (name, value)
        for name, value in custom.items()
        if not endpoint.header_name_problem(name, authorized=authorized)
    )


def _ca_bundle(file: str | None) -> str | None:
    """The file's certificates; Prefect has the one of SSL_CERT_FILE where no other is set."""
    if not file:
        return None
    try:
        return endpoint.certificates(Path(file).read_text(errors="replace"))
    except OSError as error:
        raise OperatorError(f"{SSL_CERT_FILE}: {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise OperatorError(f"{SSL_CERT_FILE}: {file} {error}") from error


def _check(setting: str, fault: str) -> None:
    if fault:
        raise OperatorError(f"{setting} {fault}: correct it")
