"""The finalizer is set and removed without touching those of others."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import pytest

from workpool_operator.api.v1alpha1 import FINALIZER
from workpool_operator.binding import finalizers
from workpool_operator.errors import KubernetesConflict, KubernetesNotFound, LeaseNotHeld
from workpool_operator.kube.client import KubernetesClient

THEIRS = "example.com/theirs"


def check() -> None:
    """The Lease is held."""


class Bindings:
    """An API server with at most one binding; `conflicts` writes are refused first."""

    def __init__(self, *present: str, deleting: bool = False, conflicts: int = 0) -> None:
        self.found: dict[str, Any] | None = {
            "metadata": {"uid": "u", "resourceVersion": "1", "finalizers": list(present)}
        }
        if deleting:
            self.found["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
        self.conflicts = conflicts
        self.writes = 0

    @property
    def client(self) -> KubernetesClient:
        return cast("KubernetesClient", self)

    async def get(self, *_: object) -> dict[str, Any]:
        if self.found is None:
            raise KubernetesNotFound("not found")
        return copy.deepcopy(self.found)

    async def patch(
        self, _: object, namespace: str, name: str, patch: Mapping[str, Any]
    ) -> dict[str, Any]:
        if self.conflicts:
            self.conflicts -= 1
            raise KubernetesConflict("changed")
        self.writes += 1
        assert self.found
        self.found["metadata"]["finalizers"] = patch["metadata"]["finalizers"] or []
        return await self.get()

    @property
    def finalizers(self) -> list[str]:
        assert self.found
        return list(self.found["metadata"]["finalizers"])


async def test_it_is_added_once_and_the_others_are_kept() -> None:
    api = Bindings(THEIRS, conflicts=2)
    for _ in range(2):
        found = await finalizers.add(api.client, "data", "etl", uid="u", check=check)
        assert found
        assert found["metadata"]["finalizers"] == [THEIRS, FINALIZER]
    assert api.writes == 1


async def test_it_is_removed_once_and_the_others_are_kept() -> None:
    api = Bindings(FINALIZER, THEIRS, deleting=True, conflicts=2)
    for _ in range(2):
        await finalizers.remove(api.client, "data", "etl", uid="u", check=check)
        assert api.finalizers == [THEIRS]
    assert api.writes == 1


async def test_it_is_not_added_to_a_binding_that_is_being_deleted() -> None:
    api = Bindings(THEIRS, deleting=True)
    assert await finalizers.add(api.client, "data", "etl", uid="u", check=check) == api.found
    assert api.writes == 0


@pytest.mark.parametrize("uid", ["u", "another"])
async def test_a_binding_that_was_deleted_or_created_again_is_left_alone(uid: str) -> None:
    api = Bindings()
    if uid == "u":
        api.found = None
    assert await finalizers.add(api.client, "data", "etl", uid=uid, check=check) is None
    await finalizers.remove(api.client, "data", "etl", uid=uid, check=check)
    assert api.writes == 0


async def test_a_process_whose_lease_is_lost_between_read_and_write_does_not_write() -> None:
    def lost() -> None:
        raise LeaseNotHeld

    added, removed = Bindings(THEIRS), Bindings(FINALIZER, deleting=True)
    with pytest.raises(LeaseNotHeld):
        await finalizers.add(added.client, "data", "etl", uid="u", check=lost)
    with pytest.raises(LeaseNotHeld):
        await finalizers.remove(removed.client, "data", "etl", uid="u", check=lost)
    assert added.writes == removed.writes == 0
