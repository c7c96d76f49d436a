"""What a worker takes from Prefect's own settings: its server, and what its runs inherit.

Read once, when the worker starts: the stock worker computes it for each run, which is most of the
time of a render. Credentials are told apart here and go to run pods by reference only.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

from prefect.settings import get_current_settings

from workpool_operator.errors import OperatorError
from workpool_operator.jobs import credentials
from workpool_operator.jobs.credentials import API_KEY, AUTH_STRING, Credentials, SecretKey
from workpool_operator.prefect_api.client import Server, tls_context
from workpool_operator.worker.settings import PREFIX, WorkerSettings

# Paths of the worker's own machine; and what may hold credentials that are not the run's.
NOT_HANDED_ON = (
    "PREFECT_HOME",
    "PREFECT_PROFILES_PATH",
    "PREFECT_CLIENT_CUSTOM_HEADERS",
    "PREFECT_SERVER_",
    "PREFECT_API_DATABASE_",
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`environment` are plain variables of run pods, `secrets` those that go by reference."""

    server: Server
    environment: dict[str, str]
    secrets: dict[str, str]

    def __repr__(self) -> str:
        return f"Surroundings({self.server!r})"

    @property
    def entries(self) -> tuple[dict[str, Any], ...]:
        """The plain variables as Kubernetes has them."""
        return tuple({"name": key, "value": value} for key, value in self.environment.items())

    def credentials(self, settings: WorkerSettings, *, owner: str) -> Credentials:
        """How run pods get the secrets: from the Secrets that the settings name, or a kept one."""
        named = {
            variable: named
            for variable, named in (
                (API_KEY, _named(settings, "api_key")),
                (AUTH_STRING, _named(settings, "api_auth_string")),
            )
            if named
        }
        return credentials.provide(self.secrets, named=named, owner=owner)


def of_settings() -> Surroundings:
    """From the settings in force now."""
    settings = get_current_settings()
    secrets = {API_KEY: settings.api.key, AUTH_STRING: settings.api.auth_string}
    plain = {name: value.get_secret_value() for name, value in secrets.items() if value}
    handed_on = settings.to_environment_variables(exclude_unset=True)
    return Surroundings(
        server=Server(
            url=str(settings.api.url),
            api_key=plain.get(API_KEY),
            auth_string=plain.get(AUTH_STRING),
        ),
        environment={
            name: value
            for name, value in handed_on.items()
            if name not in credentials.VARIABLES and not name.startswith(NOT_HANDED_ON)
        },
        secrets=plain,
    )


def tls() -> ssl.SSLContext:
    """As the settings have it, else what the operator trusts."""
    api = get_current_settings().api
    context = tls_context()
    if api.ssl_cert_file:
        context.load_verify_locations(api.ssl_cert_file)
    if api.tls_insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _named(settings: WorkerSettings, credential: str) -> SecretKey | None:
    name = getattr(settings, f"{credential}_secret_name")
    key = getattr(settings, f"{credential}_secret_key")
    if bool(name) != bool(key):
        variables = f"{PREFIX}{credential.upper()}_SECRET_NAME and ..._SECRET_KEY"
        raise OperatorError(f"{variables} belong together: set both, or none.")
    return SecretKey(name, key) if name else None
