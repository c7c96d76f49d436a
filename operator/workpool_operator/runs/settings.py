"""Settings of a RunController, from a binding's spec or a worker's settings. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from workpool_operator.runs.timeouts import Timeouts


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How runs and their Jobs are treated.

    `job_ttl` is the number of seconds for which a Job is kept after its run's end was reported,
    unless its template sets a TTL. With `environment_secret` the plain environment of a Job goes
    into a Secret.
    """

    timeouts: Timeouts = field(default_factory=Timeouts)
    job_ttl: int = 3600
    environment_secret: bool = False


@dataclass(frozen=True, slots=True)
class PollSettings:
    """How a work pool is polled: every `interval` seconds, for runs that are due within `prefetch`
    seconds, until `concurrency_limit` (None: any number) are in flight."""

    interval: float = 10.0
    prefetch: float = 10.0
    concurrency_limit: int | None = None
