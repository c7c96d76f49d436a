"""Waits in place of the person who runs a command, if a server limits the rate of requests.

Such an answer (429) names the time after which to ask again. The clients of the operator itself
leave the wait to their callers, which have other things to do meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import KubernetesThrottled, PrefectThrottled
from workpool_operator.kube.client import KubernetesClient, Resource

PATIENCE_SECONDS = 5.0

T = TypeVar("T")


class Patience:
    """Repeats requests that a server did not accept yet, at most for `PATIENCE_SECONDS` after the
    first of them."""

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._ends: float | None = None

    async def outlast(self, request: Callable[[], Awaitable[T]]) -> T:
        """Return the answer.

        Raises:
            KubernetesThrottled, PrefectThrottled: the server named no time, or one that is too far.
        """
        while True:
            try:
                return await request()
            except (KubernetesThrottled, PrefectThrottled) as error:
                now, wait = self._clock.monotonic(), error.retry_after
                self._ends = now + PATIENCE_SECONDS if self._ends is None else self._ends
                if wait is None or now + wait > self._ends:
                    raise
            await asyncio.sleep(wait)


class PatientKubernetesClient(KubernetesClient):
    """A client that repeats a request which the API server did not accept yet."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._patience = Patience()

    async def request(self, method: str, path: str, **options: Any) -> bytes:
        """See `KubernetesClient.request`."""
        return await self._patience.outlast(partial(super().request, method, path, **options))

    async def dry_run(
        self, resource: Resource[Any], namespace: str, manifest: Mapping[str, Any]
    ) -> tuple[str, ...]:
        """See `KubernetesClient.dry_run`."""
        send = partial(super().dry_run, resource, namespace, manifest)
        return await self._patience.outlast(send)
