"""Runs work on templates in threads: a template of 1 MiB would block the event loop, and with it
every binding, for seconds.

There are only two threads, so that the event loop gets CPU time. They are separate from asyncio's
default executor, which resolves host names.
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
    """Run the function in a thread and return its result."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_THREADS, partial(function, *args, **kwargs))


async def run_with_client(
    client: PrefectClient, work: Callable[[PrefectClient], Coroutine[Any, Any, T]]
) -> T:
    """Run the coroutine in a thread and return its result; the client's requests stay in this
    loop."""
    proxy = cast("PrefectClient", _LoopBoundClient(client, asyncio.get_running_loop()))
    return await run_in_thread(lambda: asyncio.run(work(proxy)))


class _LoopBoundClient:
    """Wraps a client so that its methods can be awaited in another loop than its own."""

    def __init__(self, client: PrefectClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            future = asyncio.run_coroutine_threadsafe(method(*args, **kwargs), self._loop)
            return await asyncio.wrap_future(future)

        return call
