"""Settings of the worker type: what a binding has in its spec.

Each is read from the environment variable `WORKPOOL_OPERATOR_WORKER_<NAME>`; settings of Secrets
and pod events also from the variables of the stock Kubernetes worker, so that its Deployment can be
reused.
"""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from workpool_operator.runs.settings import RunSettings, Timeouts

PREFIX = "WORKPOOL_OPERATOR_WORKER_"
STOCK_PREFIX = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_"
STOCK_OBSERVER_PREFIX = "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_"


def _names(name: str) -> AliasChoices:
    return AliasChoices(PREFIX + name, STOCK_PREFIX + name)


def _as_stock(name: str) -> Any:
    return Field(default=None, validation_alias=_names(name))


class WorkerSettings(BaseSettings):
    """The settings, read when the worker starts."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    job_ttl_seconds: int = Field(default=3600, ge=0, le=2_592_000)
    """Seconds that a Job is kept after its run's end was reported; a TTL in the template wins."""

    failed_job_ttl_seconds: int | None = Field(default=None, ge=0, le=2_592_000)
    """The same if the run ended Failed or Crashed, or the Job failed and the run is not
    Completed."""

    pending_timeout_seconds: int = Field(default=600, ge=0, le=604_800)
    """Seconds that a run may wait for its flow's container to start before it ends Crashed; 0: no
    time-out."""

    finished_grace_seconds: int = Field(default=3600, ge=0, le=86_400)
    """Seconds that the flow's container may go on, for hooks and uploads, after its run reported
    that it completed or failed."""

    store_env_as_secret: bool = Field(default=False, validation_alias=_names("STORE_ENV_AS_SECRET"))
    """Whether the plain environment of a Job goes into a Secret that belongs to the Job."""

    replicate_pod_events: bool = Field(
        default=True,
        validation_alias=AliasChoices(
            f"{PREFIX}REPLICATE_POD_EVENTS", f"{STOCK_OBSERVER_PREFIX}REPLICATE_POD_EVENTS"
        ),
    )
    """Whether the phases of the runs' pods are sent to Prefect as events."""

    api_key_secret_name: str | None = _as_stock("API_KEY_SECRET_NAME")
    """A Secret of the Jobs' namespace that holds the API key; without one the worker keeps it."""

    api_key_secret_key: str | None = _as_stock("API_KEY_SECRET_KEY")

    api_auth_string_secret_name: str | None = _as_stock("API_AUTH_STRING_SECRET_NAME")
    """The same for the `user:password` of a server with basic authentication."""

    api_auth_string_secret_key: str | None = _as_stock("API_AUTH_STRING_SECRET_KEY")

    def run_settings(self) -> RunSettings:
        """Return the settings of runs and their Jobs."""
        timeouts = Timeouts(
            pending_timeout=self.pending_timeout_seconds,
            finished_grace=self.finished_grace_seconds,
        )
        return RunSettings(
            timeouts,
            job_ttl=self.job_ttl_seconds,
            failed_job_ttl=self.failed_job_ttl_seconds,
            environment_secret=self.store_env_as_secret,
            replicate_pod_events=self.replicate_pod_events,
        )
