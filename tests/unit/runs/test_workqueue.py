"""Each guarantee of the work queue."""

from __future__ import annotations

import asyncio

import pytest

from workpool_operator.runs.workqueue import LONGEST_DELAY_SECONDS, WorkQueue

SOON = 0.02


def fixed(low: float, high: float) -> float:
    return (low + high) / 2


@pytest.fixture
def queue() -> WorkQueue[str]:
    return WorkQueue(jitter=fixed)


async def next_of(queue: WorkQueue[str]) -> str:
    async with asyncio.timeout(2):
        return await queue.get()


async def test_a_key_that_is_added_twice_is_returned_once(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert [await next_of(queue), await next_of(queue)] == ["a", "b"]
    assert len(queue) == 2


async def test_keys_are_returned_in_the_order_of_their_arrival(queue: WorkQueue[str]) -> None:
    for key in "cab":
        queue.add(key)
    assert [await next_of(queue) for _ in range(3)] == ["c", "a", "b"]


async def test_a_held_key_is_returned_again_only_after_done(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await next_of(queue)
    queue.add("a")
    queue.add("b")
    assert await next_of(queue) == "b"
    queue.done("a")
    assert await next_of(queue) == "a"
    queue.done("a")
    queue.done("b")
    assert len(queue) == 0


async def test_every_waiting_consumer_gets_a_key(queue: WorkQueue[str]) -> None:
    hands = [asyncio.create_task(next_of(queue)) for _ in range(3)]
    await asyncio.sleep(0)
    for key in "abc":
        queue.add(key)
    assert sorted(await asyncio.gather(*hands)) == ["a", "b", "c"]


async def test_a_key_wakes_only_the_consumer_that_gets_it(
    queue: WorkQueue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = [asyncio.create_task(queue.get()) for _ in range(16)]
    await asyncio.sleep(0)
    steps, run = 0, asyncio.Handle._run

    def counted(handle: asyncio.Handle) -> None:
        nonlocal steps
        steps += 1
        run(handle)

    monkeypatch.setattr(asyncio.Handle, "_run", counted)
    queue.add("a")
    done, waiting = await asyncio.wait(hands, return_when=asyncio.FIRST_COMPLETED)
    assert (len(done), len(waiting)) == (1, 15)
    assert steps < len(hands)
    for hand in waiting:
        hand.cancel()


async def test_the_earliest_requested_time_counts(queue: WorkQueue[str]) -> None:
    queue.add_after("a", SOON)
    queue.add_after("a", 60)
    assert await next_of(queue) == "a"
    queue.done("a")
    queue.add_after("a", 60)
    queue.add_after("a", SOON)
    assert await next_of(queue) == "a"


async def test_adding_a_key_overrides_its_timer(queue: WorkQueue[str]) -> None:
    queue.add_after("a", SOON)
    queue.add("a")
    assert await next_of(queue) == "a"
    queue.done("a")
    await asyncio.sleep(SOON * 3)
    assert len(queue) == 0


async def test_failures_double_the_delay_up_to_five_minutes(queue: WorkQueue[str]) -> None:
    delays = [queue.add_rate_limited("a") for _ in range(10)]
    assert delays[:4] == [1, 2, 4, 8]
    assert delays[-1] == LONGEST_DELAY_SECONDS == 300
    queue.close()


async def test_a_success_resets_the_delays(queue: WorkQueue[str]) -> None:
    queue.add_rate_limited("a")
    queue.add_rate_limited("a")
    queue.forget("a")
    assert queue.add_rate_limited("a") == 1
    queue.close()


async def test_a_longer_delay_that_the_server_requests_is_honoured(queue: WorkQueue[str]) -> None:
    assert queue.add_rate_limited("a", at_least=30) == 30
    queue.add("a")
    assert len(queue) == 0
    queue.close()


async def test_a_failure_does_not_delay_a_key_that_is_added_again(queue: WorkQueue[str]) -> None:
    queue.add_rate_limited("a")
    queue.add("a")
    assert await next_of(queue) == "a"


async def test_delays_are_jittered() -> None:
    queue: WorkQueue[str] = WorkQueue()
    delays = {queue.add_rate_limited(str(key)) for key in range(20)}
    assert len(delays) > 1
    assert all(0.8 <= delay <= 1.2 for delay in delays)
    queue.close()


async def test_the_queue_reports_how_long_a_key_is_held(queue: WorkQueue[str]) -> None:
    assert queue.longest_held_seconds() == 0
    queue.add("a")
    await next_of(queue)
    await asyncio.sleep(SOON)
    assert queue.longest_held_seconds() >= SOON
    queue.done("a")
    assert queue.longest_held_seconds() == 0


async def test_a_closed_queue_hands_out_nothing_and_waits_for_held_keys(
    queue: WorkQueue[str],
) -> None:
    queue.add("held")
    await next_of(queue)
    queue.add("ready")
    queue.add_after("later", SOON)
    queue.close()
    drained = asyncio.create_task(queue.wait_idle())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON * 3):
            await queue.get()
    assert not drained.done()
    queue.done("held")
    async with asyncio.timeout(2):
        await drained
