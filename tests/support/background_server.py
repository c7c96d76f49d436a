"""A server with its own thread and event loop, so that tests of any kind can use it."""

from __future__ import annotations

import asyncio
import socket
import threading
from asyncio.trsock import TransportSocket
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

TRANSPORT_STEPS = 3  # of the event loop, from an accepted connection to `connection_made`


class BackgroundServer:
    """`with Server() as server: server.url`; a subclass implements `_start` and `_stop`."""

    def __init__(self) -> None:
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._stop())
        self._run(_cancel_other_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        """Listen, and set `url`."""
        raise NotImplementedError

    async def _stop(self) -> None:
        """Close every connection; remaining tasks are cancelled afterwards."""
        raise NotImplementedError

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def stop_accepting(*listening: socket.socket | TransportSocket) -> None:
    """Accept no more connections, before the server is closed. Each one that was accepted gets its
    transport first: asyncio forgets it if its server is closed in between, and it stays open."""
    for each in listening:
        asyncio.get_running_loop().remove_reader(each)
    for _ in range(TRANSPORT_STEPS):
        await asyncio.sleep(0)


async def run_until_first(*works: Coroutine[Any, Any, None]) -> None:
    """Run all of them until one ends, then cancel the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _cancel_other_tasks() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.sleep(0.01)  # callbacks close the transports
