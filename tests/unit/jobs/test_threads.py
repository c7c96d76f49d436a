"""A binding's templates do not wait for another binding's server, nor for all of its runs."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, cast

from prefect.client.orchestration import PrefectClient

from workpool_operator.jobs.threads import AT_A_TIME, run_in_thread, run_with_client


class Client:
    """Answers once the test says so."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked = asyncio.Event()  # as often as it may be at a time
        self.requests = 0

    async def read(self) -> str:
        self.requests += 1
        if self.requests == AT_A_TIME:
            self.asked.set()
        await self.may_answer.wait()
        return "value"


def started(client: Client, count: int) -> list[asyncio.Task[str]]:
    async def work(proxy: PrefectClient) -> str:
        return cast("str", await cast("Any", proxy).read())

    given = cast("PrefectClient", client)
    return [asyncio.create_task(run_with_client(given, work)) for _ in range(count)]


async def test_a_server_that_does_not_answer_holds_no_turn_of_other_bindings() -> None:
    hung, other = Client(), Client()
    other.may_answer.set()
    waiting = started(hung, 16)
    async with asyncio.timeout(5):
        await hung.asked.wait()
        assert await asyncio.gather(*started(other, 4)) == ["value"] * 4
        assert await run_in_thread(lambda: "computed") == "computed"
        assert hung.requests == AT_A_TIME, "one client has at most two threads"
        hung.may_answer.set()
        assert await asyncio.gather(*waiting) == ["value"] * 16


async def test_a_cancelled_wait_gives_its_turn_back() -> None:
    hung, other = Client(), Client()
    other.may_answer.set()
    waiting = started(hung, AT_A_TIME)
    async with asyncio.timeout(5):
        await hung.asked.wait()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        hung.may_answer.set()
        assert await asyncio.gather(*started(other, 4)) == ["value"] * 4
    assert await most_at_once() == AT_A_TIME


async def test_only_so_many_threads_compute_at_a_time() -> None:
    assert await most_at_once() == AT_A_TIME


async def most_at_once() -> int:
    """Return how many of several computations ran at the same time."""
    running, most, lock = 0, 0, threading.Lock()

    def compute() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    await asyncio.gather(*(run_in_thread(compute) for _ in range(8)))
    return most
