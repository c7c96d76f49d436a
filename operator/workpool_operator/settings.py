"""The settings of the process. Everything about a work pool is in its binding instead.

Each setting is read from the environment variable `WORKPOOL_OPERATOR_<NAME>`.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from workpool_operator.label_selector import invalid_requirement

ENV_PREFIX = "WORKPOOL_OPERATOR_"


class Settings(BaseSettings):
    """The settings, read once at the start. A command line option wins over its variable."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True)

    health_port: int = Field(default=8080, ge=0, le=65535)
    """Port of /healthz and /readyz on every interface; 0 picks a free one and logs it."""

    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of /metrics on every interface, for Prometheus; 0 picks a free one and logs it. Without
    it, no metrics are served."""

    metrics_tls_dir: str = ""
    """Directory with tls.crt and tls.key, as a Secret of type kubernetes.io/tls is mounted:
    /metrics is then served by HTTPS only. A renewed certificate is used without a restart."""

    metrics_token_file: str = ""
    """File with a bearer token that every scrape must carry, read for each."""

    tracing: bool = False
    """Sends [spans](logs.md#traces) of each run's way to an OpenTelemetry collector, which
    OpenTelemetry's own variables name."""

    log_format: Literal["text", "json"] = "text"
    """`json` for log collectors: one object per line."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """INFO logs one line per decision; DEBUG also logs each action on a run."""

    reconcilers: int = Field(default=16, ge=1, le=64)
    """Number of runs of one binding that are handled at the same time. Prefect's client opens at
    most 16 connections, so more gain nothing; fewer reduce the load on a small server."""

    heartbeat_seconds: int = Field(default=30, ge=5, le=300)
    """Seconds between heartbeats; Prefect shows a worker as OFFLINE after it missed three."""

    tls_strict: bool = True
    """False accepts CA certificates without the extensions that RFC 5280 requires (such as
    `keyUsage`), as Python did before 3.13, for both the Prefect API and the Kubernetes API."""

    template_environment: Annotated[frozenset[str], NoDecode] = frozenset()
    """Names of the operator's own environment variables, separated by commas, that a base job
    template may read as `{{ $NAME }}`. None by default, because everyone who may edit a template
    could otherwise read the operator's credentials."""

    selector: str = ""
    """A label selector of Kubernetes: the operator serves only the bindings that it selects. Empty
    selects all."""

    helm_release: str = ""
    """NAMESPACE/NAME of the Helm release that runs the operator; the chart sets it. If it is set,
    messages about missing rights name the chart's values instead of the ClusterRoles of
    manifests/base."""

    helm_watch_namespaces: Annotated[frozenset[str], NoDecode] = frozenset()
    """Names of the namespaces, separated by commas, in which the Helm release grants the rights to
    bindings; the chart sets it, and the next. If a right is missing there, the message says that an
    upgrade with the same values restores it."""

    helm_job_namespaces: Annotated[frozenset[str], NoDecode] = frozenset()
    """Those in which it grants the rights to Jobs."""

    manifests: Literal["base", "namespaced"] = "base"
    """The folder of manifests/ that the operator was installed from; manifests/namespaced sets it.
    Without a Helm release, messages about missing rights name what that folder grants."""

    pod_name: str = ""
    """Name of the operator's pod; the chart sets it, and the next. The pod owns the Lease of its
    replica, so that Kubernetes deletes both together."""

    pod_uid: str = ""
    """UID of the operator's pod."""

    @property
    def pod(self) -> dict[str, str] | None:
        """The owner reference to the operator's pod; None outside of a cluster."""
        if not (self.pod_name and self.pod_uid):
            return None
        return {"apiVersion": "v1", "kind": "Pod", "name": self.pod_name, "uid": self.pod_uid}

    @field_validator(
        "template_environment", "helm_watch_namespaces", "helm_job_namespaces", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return frozenset(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("selector")
    @classmethod
    def _check_selector(cls, value: str) -> str:
        if wrong := invalid_requirement(value):
            raise ValueError(
                "must be a label selector, such as 'shard=a' or 'shard in (a, b), !test'; "
                f"{wrong!r} is not a requirement on a label"
            )
        return value


@cache
def template_environment() -> frozenset[str]:
    """Return the setting, for commands and for Prefect's own worker process, so that they render as
    the operator does."""
    return Settings().template_environment


@cache
def helm_release() -> str:
    """Return the setting, for messages that say how to grant a right."""
    return Settings().helm_release


@cache
def helm_watch_namespaces() -> frozenset[str]:
    """Return the setting, for the same messages."""
    return Settings().helm_watch_namespaces


@cache
def helm_job_namespaces() -> frozenset[str]:
    """Return the setting, for the same messages."""
    return Settings().helm_job_namespaces


@cache
def manifests() -> str:
    """Return the setting, for the same messages."""
    return Settings().manifests


@cache
def tls_strict() -> bool:
    """Return the setting, for the operator, for commands and for Prefect's own worker process."""
    return Settings().tls_strict
