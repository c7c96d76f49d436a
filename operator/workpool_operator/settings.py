"""Settings of the process; everything about a pool is in its binding instead.

Each is read from the environment variable `WORKPOOL_OPERATOR_<NAME>`.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Read once at the start; a command line option wins over its variable."""

    model_config = SettingsConfigDict(env_prefix="WORKPOOL_OPERATOR_", frozen=True)

    health_port: int = Field(default=8080, ge=0, le=65535)
    """Port of /healthz and /readyz on every interface; 0 picks a free one and logs it."""

    log_format: Literal["text", "json"] = "text"
    """`json` for log collectors: one object per line."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """INFO has one line per change; DEBUG also one per step of a run."""

    reconcilers: int = Field(default=16, ge=1, le=64)
    """Runs of one binding worked on at the same time. Prefect's client opens 16 connections, so
    more only wait for each other; fewer lower the load on a small server."""

    heartbeat_seconds: int = Field(default=30, ge=5, le=300)
    """Seconds between a worker's heartbeats; Prefect calls it OFFLINE after three missed ones."""

    tls_strict: bool = True
    """False accepts a certificate authority without the extensions that RFC 5280 asks for (as
    `keyUsage`), as Python did before 3.13: for the Prefect API and the Kubernetes API alike."""

    template_environment: Annotated[frozenset[str], NoDecode] = frozenset()
    """Names of the operator's own environment variables, separated by commas, that a base job
    template may read as `{{ $NAME }}`. None by default: whoever edits a template would read every
    credential of the operator."""

    helm_release: str = ""
    """NAMESPACE/NAME of the Helm release that runs the operator; the chart sets it. Messages about
    missing rights then name the chart's values, else the ClusterRoles of manifests/base."""

    @field_validator("template_environment", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return frozenset(name.strip() for name in value.split(",") if name.strip())
        return value


@cache
def template_environment() -> frozenset[str]:
    """The setting of that name: rendering is the same in the operator, in a command and in
    Prefect's own worker process, which reads no other setting."""
    return Settings().template_environment


@cache
def helm_release() -> str:
    """The setting of that name, for whoever tells how to grant a right."""
    return Settings().helm_release


@cache
def tls_strict() -> bool:
    """The setting of that name, for the operator, a command and Prefect's own worker process."""
    return Settings().tls_strict
