"""Reads Prefect's own settings for a worker: its server, and what its runs inherit.

They are read once, when the worker starts: the stock worker computes them for each run, which takes
most of the time of a render. Credentials are separated here and reach run pods by reference only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect.settings import get_current_settings

from workpool_operator.errors import OperatorError
from workpool_operator.jobs.secrets import (
    API_KEY,
    AUTH_STRING,
    CUSTOM_HEADERS,
    VARIABLES,
    Credentials,
    SecretKey,
    custom_headers,
    plan_credentials,
)
from workpool_operator.prefect_api import profile
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.worker.settings import PREFIX, WorkerSettings

# Paths of the worker's machine, and settings that can hold credentials of the server.
NOT_HANDED_ON = (
    "PREFECT_HOME",
    "PREFECT_PROFILES_PATH",
    "PREFECT_SERVER_",
    "PREFECT_API_DATABASE_",
)


@dataclass(frozen=True, slots=True)
class InheritedSettings:
    """What runs inherit: `environment` as plain variables, `secrets` by reference."""

    server: PrefectEndpoint
    environment: dict[str, str]
    secrets: dict[str, str]

    def __repr__(self) -> str:
        return f"InheritedSettings({self.server!r})"

    @property
    def entries(self) -> tuple[dict[str, Any], ...]:
        """The plain variables as entries of a container's `env`."""
        return tuple({"name": key, "value": value} for key, value in self.environment.items())

    def credentials(self, settings: WorkerSettings, *, owner: str) -> Credentials:
        """Plan how run pods get the secrets: from Secrets that the settings name, or from ours."""
        named = {
            variable: named
            for variable, named in (
                (API_KEY, _named(settings, "api_key")),
                (AUTH_STRING, _named(settings, "api_auth_string")),
            )
            if named
        }
        return plan_credentials(self.secrets, named=named, owner=owner)


def inherited_settings() -> InheritedSettings:
    """Read the settings in force.

    Raises:
        OperatorError: one of them cannot be used.
    """
    server = profile.current()
    secrets = {
        API_KEY: server.api_key,
        AUTH_STRING: server.auth_string,
        CUSTOM_HEADERS: custom_headers(server.headers),
    }
    handed_on = get_current_settings().to_environment_variables(exclude_unset=True)
    return InheritedSettings(
        server=server,
        environment={
            name: value
            for name, value in handed_on.items()
            if name not in VARIABLES and not name.startswith(NOT_HANDED_ON)
        },
        secrets={name: value for name, value in secrets.items() if value},
    )


def _named(settings: WorkerSettings, credential: str) -> SecretKey | None:
    name = getattr(settings, f"{credential}_secret_name")
    key = getattr(settings, f"{credential}_secret_key")
    if bool(name) != bool(key):
        variables = f"{PREFIX}{credential.upper()}_SECRET_NAME and ..._SECRET_KEY"
        raise OperatorError(f"{variables} belong together: set both or neither.")
    return SecretKey(name, key) if name else None
