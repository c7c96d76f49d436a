"""Which replica serves which binding."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workpool_operator.binding.assignment import assign

NAMES = st.sets(st.text("abcdefgh/-0123456789", min_size=1, max_size=8), max_size=30)


def named(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


@given(bindings=NAMES, replicas=NAMES)
@settings(max_examples=60)
def test_every_binding_has_one_replica_and_replicas_differ_by_at_most_one_binding(
    bindings: set[str], replicas: set[str]
) -> None:
    assigned = assign(bindings, replicas)
    assert assigned.keys() == (bindings if replicas else set())
    load = Counter(dict.fromkeys(replicas, 0)) + Counter(assigned.values())
    loads = [load[replica] for replica in replicas]
    assert max(loads, default=0) - min(loads, default=0) <= 1


def test_the_order_of_the_names_does_not_matter() -> None:
    bindings, replicas = named("data/etl", 20), named("operator", 3)
    assert assign(bindings, replicas) == assign(bindings[::-1], replicas[::-1])


@pytest.mark.parametrize("replicas", [1, 2, 3, 5])
def test_a_replica_that_joins_moves_little_more_than_its_own_share(replicas: int) -> None:
    bindings, before = named("data/etl", 300), named("operator", replicas)
    moved = changes(assign(bindings, before), assign(bindings, [*before, "another"]))
    share = len(bindings) / (replicas + 1)
    assert share <= moved <= 1.5 * share


@pytest.mark.parametrize("replicas", [2, 3, 5])
def test_a_replica_that_leaves_moves_little_more_than_its_own_share(replicas: int) -> None:
    bindings, before = named("data/etl", 300), named("operator", replicas)
    moved = changes(assign(bindings, before), assign(bindings, before[1:]))
    share = len(bindings) / replicas
    assert share <= moved <= 1.5 * share


def test_two_replicas_keep_what_they_have_when_a_binding_is_added() -> None:
    bindings, replicas = named("data/etl", 100), named("operator", 2)
    before = assign(bindings, replicas)
    after = assign([*bindings, "data/new"], replicas)
    assert changes(before, after) <= 2


def changes(before: dict[str, str], after: dict[str, str]) -> int:
    return sum(before[binding] != after[binding] for binding in before)
