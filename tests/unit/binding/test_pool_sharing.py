"""The condition PoolShared: which consumers of a work pool it names."""

from __future__ import annotations

from uuid import UUID

import pytest

from workpool_operator.binding.pool_sharing import PoolConsumer, PoolConsumers, pool_shared

POOL, OTHER_POOL = UUID(int=1), UUID(int=2)


def share(binding: str, *queues: str, pool_id: UUID = POOL) -> PoolConsumer:
    return PoolConsumer(f"data/{binding}", f"{binding}.data@1234", pool_id, queues or None)


OWN = share("a", "high", "default")


@pytest.mark.parametrize(
    "other",
    [share("b"), share("b", "default"), share("b", "low", "high")],
)
def test_a_binding_that_can_claim_the_same_runs_is_named(other: PoolConsumer) -> None:
    for first, second in ((OWN, other), (other, OWN)):
        state = pool_shared(first, [first, second], [])
        assert (state.status, state.reason) == ("True", "OtherBinding")
        assert second.binding in state.message
        assert "Each run is claimed by one of them" in state.message
        assert "different work queues" in state.message


@pytest.mark.parametrize("other", [share("b", "low"), share("b", pool_id=OTHER_POOL)])
def test_bindings_that_share_no_runs_are_alone(other: PoolConsumer) -> None:
    state = pool_shared(OWN, [OWN, other], [OWN.worker, other.worker])
    assert (state.status, state.reason) == ("False", "Alone")


def test_an_online_worker_of_another_process_is_named() -> None:
    state = pool_shared(OWN, [OWN], [OWN.worker, "KubernetesWorker 7"])
    assert (state.status, state.reason) == ("True", "OtherWorker")
    assert "KubernetesWorker 7" in state.message


def test_bindings_and_workers_are_named_and_long_lists_are_shortened() -> None:
    others = [share(name) for name in "bcdef"]
    message = pool_shared(OWN, others, ["other-worker"]).message
    assert "data/b, data/c, data/d (and 2 more)" in message
    assert "online worker other-worker" in message


def test_alone_is_not_reported_while_the_workers_are_unknown() -> None:
    assert pool_shared(OWN, [OWN], None).status == "Unknown"
    assert pool_shared(OWN, [OWN, share("b")], None).reason == "OtherBinding"


def test_the_known_consumers_have_a_new_version_exactly_if_one_changed() -> None:
    known = PoolConsumers()
    versions = [known.version]
    for change, is_new in (
        (lambda: known.put(share("b")), True),
        (lambda: known.put(share("b")), False),
        (lambda: known.put(share("b", "low")), True),
        (lambda: known.remove("data/b"), True),
        (lambda: known.remove("data/b"), False),
    ):
        change()
        versions.append(known.version)
        assert (versions[-1] != versions[-2]) is is_new
    assert list(known) == []
