"""What a session is given: the binding that it serves, and what all sessions of a process share."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding.pool_sharing import PoolConsumer
from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.health import Watchdog
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.runs.settings import PollSettings, RunSettings
from workpool_operator.runs.timeouts import Timeouts
from workpool_operator.ttl_cache import TTLCache

CONCURRENT_CHECKS = 8
RECENT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Binding:
    """The object that is served; `spec` and `generation` are live, `status` is what it had."""

    namespace: str
    name: str
    spec: Callable[[], Spec]
    generation: Callable[[], int]
    status: dict[str, Any]

    @property
    def key(self) -> str:
        """The binding as `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def run_settings(self) -> RunSettings:
        """What the spec says now about runs and their Jobs."""
        jobs = self.spec().jobs
        timeouts = Timeouts(
            pending_timeout=jobs.pending_timeout_seconds,
            infrastructure_retries=jobs.infrastructure_retries,
            finished_grace=jobs.finished_grace_seconds,
        )
        return RunSettings(
            timeouts,
            job_ttl=jobs.ttl_seconds_after_finished,
            environment_secret=jobs.environment_secret,
        )

    def poll_settings(self) -> PollSettings:
        """What the spec says now about polls."""
        spec = self.spec()
        return PollSettings(
            interval=spec.poll.interval_seconds,
            prefetch=spec.poll.prefetch_seconds,
            concurrency_limit=spec.concurrency_limit,
        )


@dataclass(frozen=True, slots=True)
class OperatorContext:
    """What all sessions of a process share.

    `template_environment` names the variables of the operator's own environment that templates may
    read. `consumers` says what each takes runs from, by binding. `check_slots` bounds how many ask
    a server at once, by its URL: a hundred that start together would all wait in vain for a small
    one. `versions` are the servers' (empty: not told), `workers` the names of those online on a
    pool (None: not told).
    """

    kube: KubernetesClient
    watchdog: Watchdog
    reconcilers: int
    heartbeat_seconds: int
    template_environment: frozenset[str] = frozenset()
    clock: Clock = SYSTEM_CLOCK
    consumers: dict[str, PoolConsumer] = field(default_factory=dict)
    check_slots: dict[str, asyncio.Semaphore] = field(default_factory=lambda: defaultdict(_a_few))
    versions: TTLCache[str] = field(default_factory=lambda: TTLCache(seconds=RECENT_SECONDS))
    workers: TTLCache[Sequence[str] | None] = field(
        default_factory=lambda: TTLCache(seconds=RECENT_SECONDS)
    )


def _a_few() -> asyncio.Semaphore:
    return asyncio.Semaphore(CONCURRENT_CHECKS)
