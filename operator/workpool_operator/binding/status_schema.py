"""The status of a `WorkPoolBinding`, field by field, as `status.py` fills it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from workpool_operator.binding.schema import Part


class Condition(Part):
    """metav1.Condition."""

    type: str = Field(description="What the condition is about, in CamelCase.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(description="Why, as one CamelCase word; stable, for programs.")
    message: str = Field(description="Why, and what to do, for people.")
    last_transition_time: str = Field(
        description="When `status` last changed.", json_schema_extra={"format": "date-time"}
    )
    observed_generation: int = Field(description="The metadata.generation that it speaks of.")


class WorkPoolStatus(Part):
    """What Prefect says of the pool."""

    id: str | None = Field(default=None, description="The pool's id.")
    type: str | None = Field(default=None, description="The pool's type.")
    paused: bool | None = Field(default=None, description="Whether the pool is paused in Prefect.")


class ServerStatus(Part):
    """The server that answers."""

    url: str | None = Field(default=None, description="The address in use.")
    version: str | None = Field(default=None, description="The Prefect version of the server.")


class RunsStatus(Part):
    """How many runs are where."""

    running: int = Field(default=0, description="Jobs whose pod has started the flow's container.")
    pending: int = Field(default=0, description="Claimed runs whose pod has not started yet.")
    queued: int = Field(
        default=0,
        description="Due runs of the pool that are not claimed, as of the last poll; at most 200.",
    )


class Status(Part):
    """What the operator sees."""

    observed_generation: int | None = Field(
        default=None, description="The metadata.generation that the status speaks of."
    )
    worker_name: str | None = Field(
        default=None, description="The name under which Prefect lists this binding as a worker."
    )
    work_pool: WorkPoolStatus = Field(
        default_factory=WorkPoolStatus, description="What Prefect says of the pool."
    )
    server: ServerStatus = Field(
        default_factory=ServerStatus, description="The server that answers."
    )
    runs: RunsStatus = Field(default_factory=RunsStatus, description="How many runs are where.")
    last_poll_time: str | None = Field(
        default=None,
        description="The last successful poll; written at most every 30 seconds.",
        json_schema_extra={"format": "date-time"},
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description=(
            "What holds and what does not. Ready: a due run would be picked up; Claiming: due runs "
            "are claimed now."
        ),
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
