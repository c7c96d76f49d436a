"""Who holds a Lease, and until when, by the clock of each process alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clock import FakeClock
from tests.support.lease_api import LeaseApi
from workpool_operator.errors import KubernetesUnavailable
from workpool_operator.kube.leases import LEASE_SECONDS, LeaseLock

NAME = ("data", "workpoolbinding-etl")


@pytest.fixture
def api() -> LeaseApi:
    return LeaseApi()


class Process:
    """A replica with a clock of its own."""

    def __init__(self, api: LeaseApi, identity: str) -> None:
        self.api, self.identity, self.clock = api, identity, FakeClock()
        self.lock = LeaseLock(
            api.client,
            namespace=NAME[0],
            name=NAME[1],
            identity=identity,
            metadata={"labels": {}},
            clock=self.clock,
        )

    def watches(self) -> None:
        """Let a watch show the Lease as it is."""
        self.lock.observe(self.api.read(*NAME))


@pytest.fixture
def mine(api: LeaseApi) -> Process:
    return Process(api, "mine")


@pytest.fixture
def other(api: LeaseApi) -> Process:
    return Process(api, "other")


def pass_time(seconds: float, *processes: Process) -> None:
    for process in processes:
        process.clock.advance(seconds)


async def test_a_lease_that_does_not_exist_is_created_and_held_at_once(
    mine: Process, api: LeaseApi
) -> None:
    assert not mine.lock.is_held()
    assert await mine.lock.acquire()
    assert mine.lock.is_held()
    assert api.read(*NAME).holder == "mine"
    assert api.read(*NAME).spec.lease_transitions == 0


async def test_a_lease_is_held_for_ten_seconds_after_its_last_renewal(mine: Process) -> None:
    await mine.lock.acquire()
    pass_time(LEASE_SECONDS - 1, mine)
    assert await mine.lock.renew()
    pass_time(LEASE_SECONDS - 1, mine)
    assert mine.lock.is_held()
    pass_time(1, mine)
    assert not mine.lock.is_held()


async def test_a_renewal_counts_from_when_it_was_sent(mine: Process, api: LeaseApi) -> None:
    await mine.lock.acquire()
    answered = api.patch

    async def slow(*call):
        pass_time(2, mine)
        return await answered(*call)

    api.patch = slow  # type: ignore[method-assign]
    assert await mine.lock.renew()
    pass_time(LEASE_SECONDS - 2, mine)
    assert not mine.lock.is_held()


async def test_the_lease_of_another_is_taken_ten_seconds_after_its_last_change(
    mine: Process, other: Process, api: LeaseApi
) -> None:
    await other.lock.acquire()
    assert not await mine.lock.acquire()
    pass_time(6, mine, other)
    await other.lock.renew()
    mine.watches()
    pass_time(6, mine)
    assert mine.lock.seconds_left() == 4
    assert not await mine.lock.acquire()
    pass_time(4, mine)
    assert await mine.lock.acquire()
    assert api.read(*NAME).spec.lease_transitions == 1


async def test_times_in_the_lease_do_not_matter_because_clocks_differ(
    mine: Process, other: Process, api: LeaseApi
) -> None:
    await other.lock.acquire()
    api.edit(*NAME, renewTime="2026-01-01T11:00:00.000000Z")
    assert not await mine.lock.acquire()
    api.edit(*NAME, renewTime="2027-01-01T00:00:00.000000Z")
    mine.watches()
    pass_time(LEASE_SECONDS, mine)
    assert await mine.lock.acquire()


@pytest.mark.parametrize(("named", "lasts"), [(30, 30), (1, 10), (None, 10), (10**9, 60)])
async def test_the_lease_of_a_version_that_renews_less_often_is_taken_after_its_own_duration(
    named: int | None, lasts: float, mine: Process, other: Process, api: LeaseApi
) -> None:
    await other.lock.acquire()
    api.edit(*NAME, leaseDurationSeconds=named)
    mine.watches()
    pass_time(lasts - 1, mine)
    assert not await mine.lock.acquire()
    pass_time(1, mine)
    assert await mine.lock.acquire()
    assert api.read(*NAME).spec.lease_duration_seconds == LEASE_SECONDS


async def test_of_two_that_take_an_expired_lease_one_gets_it(
    api: LeaseApi, mine: Process, other: Process
) -> None:
    dead = Process(api, "dead")
    await dead.lock.acquire()
    for process in (mine, other):
        process.watches()
        process.clock.advance(LEASE_SECONDS)
    assert await mine.lock.acquire()
    assert not await other.lock.acquire()
    assert other.lock.holder == "mine"


async def test_a_renewal_that_the_watch_missed_is_found_before_the_lease_is_taken(
    mine: Process, other: Process
) -> None:
    await other.lock.acquire()
    mine.watches()
    pass_time(3, other)
    await other.lock.renew()
    pass_time(LEASE_SECONDS, mine)
    assert not await mine.lock.acquire()
    assert mine.lock.seconds_left() == LEASE_SECONDS


async def test_a_process_that_was_stopped_for_a_minute_does_not_hold_and_cannot_renew(
    mine: Process, other: Process
) -> None:
    await mine.lock.acquire()
    other.watches()
    pass_time(60, mine, other)
    assert not mine.lock.is_held()
    assert await other.lock.acquire()
    assert not await mine.lock.renew()
    assert not mine.lock.is_held()


async def test_an_expired_lease_that_no_other_process_took_is_renewed(mine: Process) -> None:
    await mine.lock.acquire()
    pass_time(60, mine)
    assert await mine.lock.renew()
    assert mine.lock.is_held()


async def test_a_released_lease_is_taken_at_once(mine: Process, other: Process) -> None:
    await mine.lock.acquire()
    await mine.lock.release()
    assert not mine.lock.is_held()
    assert await other.lock.acquire()


async def test_a_lease_is_released_although_the_answer_to_its_last_renewal_was_lost(
    mine: Process, api: LeaseApi
) -> None:
    await mine.lock.acquire()
    api.lost = True
    with pytest.raises(KubernetesUnavailable):
        await mine.lock.renew()
    api.lost = False
    await mine.lock.release()
    assert api.read(*NAME).holder == ""


async def test_the_lease_of_another_is_not_released(mine: Process, other: Process) -> None:
    await other.lock.acquire()
    mine.watches()
    await mine.lock.release()
    assert await other.lock.renew()


@pytest.mark.parametrize("edit", [{"holderIdentity": "someone"}, {"holderIdentity": None}])
async def test_a_lease_whose_holder_was_edited_is_lost(
    mine: Process, api: LeaseApi, edit: dict[str, Any]
) -> None:
    await mine.lock.acquire()
    api.edit(*NAME, **edit)
    assert not await mine.lock.renew()
    assert not mine.lock.is_held()


async def test_a_watch_that_shows_another_holder_ends_the_hold_before_the_next_renewal(
    mine: Process, api: LeaseApi
) -> None:
    await mine.lock.acquire()
    api.edit(*NAME, holderIdentity="someone")
    mine.watches()
    assert not mine.lock.is_held()


async def test_an_edit_of_other_fields_does_not_end_the_hold_and_does_not_last(
    mine: Process, api: LeaseApi
) -> None:
    await mine.lock.acquire()
    api.edit(*NAME, leaseDurationSeconds=3600, leaseTransitions=None)
    assert await mine.lock.renew()
    assert mine.lock.is_held()
    assert api.read(*NAME).spec.lease_duration_seconds == LEASE_SECONDS


async def test_a_deleted_lease_is_lost_and_can_be_created_again(
    mine: Process, api: LeaseApi
) -> None:
    await mine.lock.acquire()
    uid = api.leases.pop(NAME)["metadata"]["uid"]
    mine.lock.deleted(uid)
    assert not mine.lock.is_held()
    assert not await mine.lock.renew()
    assert await mine.lock.acquire()


async def test_a_deletion_that_no_watch_showed_is_found_by_the_renewal(
    mine: Process, api: LeaseApi
) -> None:
    await mine.lock.acquire()
    del api.leases[NAME]
    assert not await mine.lock.renew()
    assert not mine.lock.is_held()


async def test_the_late_deletion_of_an_earlier_lease_does_not_end_the_hold(
    mine: Process, api: LeaseApi
) -> None:
    await mine.lock.acquire()
    earlier = api.leases.pop(NAME)["metadata"]["uid"]
    await mine.lock.renew()
    await mine.lock.acquire()
    mine.lock.deleted(earlier)
    assert mine.lock.is_held()


async def test_a_late_event_does_not_end_the_hold(mine: Process, api: LeaseApi) -> None:
    await mine.lock.acquire()
    await mine.lock.release()
    released = api.read(*NAME)
    await mine.lock.acquire()
    mine.lock.observe(released)
    assert mine.lock.is_held()


@pytest.mark.parametrize("step", ["acquire", "renew"])
async def test_a_write_whose_answer_was_lost_is_repeated(
    mine: Process, api: LeaseApi, step: str
) -> None:
    if step == "renew":
        await mine.lock.acquire()
    api.lost = True
    with pytest.raises(KubernetesUnavailable):
        await getattr(mine.lock, step)()
    api.lost = False
    assert await getattr(mine.lock, step)()
    assert mine.lock.is_held()
    assert api.read(*NAME).spec.lease_transitions == 0
