"""Who else takes runs from a work pool, and what a person reads about it."""

from __future__ import annotations

from uuid import UUID

import pytest

from workpool_operator.binding.pool_sharing import PoolConsumer, pool_shared

POOL, OTHER_POOL = UUID(int=1), UUID(int=2)


def share(binding: str, *queues: str, pool_id: UUID = POOL) -> PoolConsumer:
    return PoolConsumer(f"data/{binding}", f"{binding}.data@1234", pool_id, queues or None)


OWN = share("a", "high", "default")


@pytest.mark.parametrize(
    "other",
    [share("b"), share("b", "default"), share("b", "low", "high")],
)
def test_a_binding_that_may_take_the_same_runs_is_named(other: PoolConsumer) -> None:
    for first, second in ((OWN, other), (other, OWN)):
        verdict = pool_shared(first, [first, second], [])
        assert (verdict.status, verdict.reason) == ("True", "OtherBinding")
        assert second.binding in verdict.message
        assert "each run is claimed by one of them" in verdict.message
        assert "different work queues" in verdict.message


@pytest.mark.parametrize("other", [share("b", "low"), share("b", pool_id=OTHER_POOL)])
def test_bindings_that_share_no_run_are_alone(other: PoolConsumer) -> None:
    verdict = pool_shared(OWN, [OWN, other], [OWN.worker, other.worker])
    assert (verdict.status, verdict.reason) == ("False", "Alone")


def test_an_online_worker_of_another_process_is_named() -> None:
    verdict = pool_shared(OWN, [OWN], [OWN.worker, "KubernetesWorker 7"])
    assert (verdict.status, verdict.reason) == ("True", "OtherWorker")
    assert "KubernetesWorker 7" in verdict.message


def test_both_are_named_and_of_many_a_few() -> None:
    others = [share(name) for name in "bcdef"]
    message = pool_shared(OWN, others, ["stranger"]).message
    assert "data/b, data/c, data/d (and 2 more)" in message
    assert "online worker stranger" in message


def test_without_a_list_of_workers_nobody_is_said_to_be_alone() -> None:
    assert pool_shared(OWN, [OWN], None).status == "Unknown"
    assert pool_shared(OWN, [OWN, share("b")], None).reason == "OtherBinding"
