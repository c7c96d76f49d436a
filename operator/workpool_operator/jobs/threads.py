"""Runs work on templates in threads: a template of 1 MiB would block the event loop, and with it
every binding, for seconds.

Two threads compute at a time, so that the event loop gets CPU time. One client has at most two of
them, and a thread that waits for an answer lets another one compute: neither many runs of one
binding nor a server that does not answer delay the templates of other bindings. The threads are
separate from asyncio's default executor, which resolves host names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

P = ParamSpec("P")
T = TypeVar("T")

AT_A_TIME = 2
_THREADS = ThreadPoolExecutor(max_workers=256, thread_name_prefix="templates")
_slots: WeakKeyDictionary[object, asyncio.Semaphore] = WeakKeyDictionary()


async def run_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run the function in a thread and return its result."""
    loop = asyncio.get_running_loop()
    async with _slots_of(loop):
        return await loop.run_in_executor(_THREADS, partial(function, *args, **kwargs))


async def run_with_client(
    client: PrefectClient, work: Callable[[PrefectClient], Coroutine[Any, Any, T]]
) -> T:
    """Run the coroutine in a thread and return its result; the client's requests stay in this
    loop."""
    proxy = cast("PrefectClient", _LoopBoundClient(client, asyncio.get_running_loop()))
    async with _slots_of(client):
        return await run_in_thread(lambda: asyncio.run(work(proxy)))


def _slots_of(owner: object) -> asyncio.Semaphore:
    """Return the slots that a client, or all of a loop, compute in."""
    return _slots.setdefault(owner, asyncio.Semaphore(AT_A_TIME))


class _LoopBoundClient:
    """Wraps a client so that its methods can be awaited in another loop than its own."""

    def __init__(self, client: PrefectClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        request = partial(self._request, getattr(self._client, name))

        async def call(*args: Any, **kwargs: Any) -> Any:
            future = asyncio.run_coroutine_threadsafe(request(*args, **kwargs), self._loop)
            return await asyncio.wrap_future(future)

        return call

    async def _request(
        self, method: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
    ) -> Any:
        """Call the method; another thread computes meanwhile."""
        slots = _slots_of(self._loop)
        slots.release()
        try:
            return await method(*args, **kwargs)
        finally:
            await slots.acquire()
