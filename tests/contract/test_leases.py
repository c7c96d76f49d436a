"""Which replica holds the Lease of which binding, on a real API server."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from tests.support.polling import poll
from workpool_operator.kube.models import LEASE_LABEL

LEASE = "workpoolbinding-pool"
EXPIRY = 10 + 4  # seconds, with a margin for a machine that tests load
HAND_OVER = 2 + 2


@pytest.fixture
def holders(kube, namespace):
    """`await holders()`: the holder of each binding's Lease."""

    async def read() -> dict[str, str]:
        leases = await kube.list("leases", namespace, selector=f"{LEASE_LABEL}=binding")
        return {
            lease["metadata"]["name"]: lease["spec"].get("holderIdentity", "") for lease in leases
        }

    return read


async def test_an_only_replica_serves_at_once_and_lease_and_status_name_it(
    kube, namespace, binding, operator
):
    await operator()
    served = await binding()
    await served.ready(seconds=15)
    lease = await kube.get("leases", namespace, LEASE)
    assert lease["spec"]["leaseDurationSeconds"] == 10
    [owner] = lease["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("WorkPoolBinding", "pool")
    assert (await served.read())["status"]["holderIdentity"] == lease["spec"]["holderIdentity"]
    before = lease["spec"]["renewTime"]
    await kube.wait(
        "leases", namespace, LEASE, until=lambda it: it["spec"]["renewTime"] != before, seconds=8
    )


async def test_a_replica_that_restarts_serves_at_once_because_its_predecessor_released(
    kube, namespace, binding, operator
):
    process = await operator()
    served = await binding()
    await served.ready()
    await process.terminate()
    lease = await kube.get("leases", namespace, LEASE)
    assert "holderIdentity" not in lease["spec"]
    await operator()
    began = time.monotonic()
    await kube.wait(
        "leases", namespace, LEASE, until=lambda it: it["spec"].get("holderIdentity"), seconds=8
    )
    await served.ready(seconds=8)
    assert time.monotonic() - began < 8


async def test_two_replicas_share_the_bindings_and_one_takes_over_what_the_other_releases(
    binding, operator, holders
):
    first = await operator()
    bindings = [await binding(name=f"pool-{number}") for number in range(4)]
    for each in bindings:
        await each.ready()
    second = await operator()
    shared = await poll(
        holders, until=lambda found: all(found.values()) and is_even(found), seconds=20
    )
    ends, stays = (first, second) if shared["workpoolbinding-pool-0"] else (second, first)
    ending = asyncio.create_task(ends.terminate())
    began = time.monotonic()
    left = await poll(
        holders, until=lambda found: len(set(found.values()) - {""}) == 1 and all(found.values())
    )
    assert time.monotonic() - began < HAND_OVER
    assert set(left.values()) <= set(shared.values())
    await ending
    for each in bindings:
        await each.ready()
        assert "OperatorStopped" not in str(await each.read())
    assert "Traceback" not in first.log + second.log
    assert stays.daemon.exit_code is None


def is_even(found: dict[str, str]) -> bool:
    return sorted(Counter(found.values()).values()) == [2, 2]


async def test_an_edited_lease_ends_the_session_and_is_taken_when_its_new_holder_stays_silent(
    kube, namespace, binding, operator, holders
):
    process = await operator()
    served = await binding()
    await served.ready()
    own = (await holders())[LEASE]
    await kube.patch("leases", namespace, LEASE, {"spec": {"holderIdentity": "a-person"}})
    await process.says(f"{namespace}/pool: lost its Lease {namespace}/{LEASE}: a-person holds it")
    await process.says(f"{namespace}/pool: took its Lease", seconds=EXPIRY)
    assert (await holders())[LEASE] == own
    await served.ready()


LATER = "2099-01-01T00:00:00.000000Z"
EDITS = [
    {"spec": {"holderIdentity": None}},
    {"spec": None},
    {"metadata": {"labels": None}},
    {"spec": {"leaseDurationSeconds": 3600, "renewTime": LATER}},
]


async def test_no_edit_of_a_lease_lasts(kube, namespace, binding, operator):
    """An only replica takes it again at once, or renews it."""
    process = await operator()
    served = await binding()
    await served.ready()
    before = await kube.get("leases", namespace, LEASE)

    def is_restored(lease) -> bool:
        spec, labels = lease.get("spec") or {}, lease["metadata"].get("labels")
        return (
            spec.get("holderIdentity") == before["spec"]["holderIdentity"]
            and spec.get("leaseDurationSeconds") == 10
            and before["spec"]["renewTime"] < spec["renewTime"] < LATER
            and labels == before["metadata"]["labels"]
        )

    for change in EDITS:
        await kube.patch("leases", namespace, LEASE, change)
        await kube.wait("leases", namespace, LEASE, until=is_restored, seconds=EXPIRY)
        await served.ready()
    assert "Traceback" not in process.log


async def test_a_deleted_lease_is_created_again(kube, namespace, binding, operator, holders):
    process = await operator()
    served = await binding()
    await served.ready()
    own = (await holders())[LEASE]
    await kube.delete("leases", namespace, LEASE)
    await process.says("it was deleted, or edited by hand")
    await poll(holders, until=lambda found: found.get(LEASE) == own, seconds=HAND_OVER)
    await served.ready()


async def test_the_finalizer_is_set_by_the_holder_and_outlives_other_replicas(
    kube, namespace, binding, operator
):
    """docs/races.md, 28: kopf in a passive replica removed the finalizer that kopf had set."""
    first = await operator()
    served = await binding()
    await served.ready()
    passive = await operator()
    await asyncio.sleep(2)
    finalizers = (await served.read())["metadata"]["finalizers"]
    assert finalizers == ["workpool-operator.dev/serving"]
    await served.delete()
    await served.gone()
    assert "Traceback" not in first.log + passive.log


async def test_a_binding_that_was_deleted_without_an_operator_is_released_by_the_next_one(
    binding, operator
):
    process = await operator()
    served = await binding()
    await served.ready()
    await process.terminate()
    await served.delete()
    assert await served.read() is not None
    await operator()
    await served.gone()


async def test_a_binding_whose_namespace_is_deleted_is_released_although_no_lease_can_be_created(
    kube, namespace, binding, operator
):
    process = await operator()
    served = await binding()
    await served.ready()
    process.kill()
    await kube.delete("namespaces", "", namespace)
    await poll(
        lambda: kube.get("leases", namespace, LEASE), until=lambda lease: lease is None, seconds=30
    )
    await operator(ready=False)
    await served.gone()
