"""Work on templates beside the event loop: one of 1 MiB would hold it, and so every binding, for
seconds.

The threads are few, so that the loop gets its turn, and for nothing else: names are looked up in
asyncio's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="templates")


async def run_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function returns, from a thread."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_THREADS, partial(function, *args, **kwargs))


async def run_with_client(
    client: PrefectClient, work: Callable[[PrefectClient], Coroutine[Any, Any, T]]
) -> T:
    """What the coroutine returns, from a thread; what it asks the client goes through this loop."""
    lent = cast("PrefectClient", _LoopBoundClient(client, asyncio.get_running_loop()))
    return await run_in_thread(lambda: asyncio.run(work(lent)))


class _LoopBoundClient:
    """A client whose methods may be awaited in another loop than its own."""

    def __init__(self, client: PrefectClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            asked = asyncio.run_coroutine_threadsafe(method(*args, **kwargs), self._loop)
            return await asyncio.wrap_future(asked)

        return call
