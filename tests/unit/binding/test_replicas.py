"""Which replicas share bindings, and which of them live."""

from __future__ import annotations

from pydantic import TypeAdapter

from tests.support.clock import FakeClock
from tests.support.lease_api import LeaseApi
from workpool_operator.binding.replicas import Replicas, group_of, new_identity
from workpool_operator.kube.leases import LEASE_SECONDS
from workpool_operator.kube.models import Lease

_lease = TypeAdapter(Lease)


def lease(holder: str | None, *, version: int = 1, uid: str = "other") -> Lease:
    metadata = {"name": uid, "uid": uid, "namespace": "operator", "resourceVersion": str(version)}
    spec = {"holderIdentity": holder, "renewTime": str(version)}
    return _lease.validate_python({"metadata": metadata, "spec": spec})


class Watched(Replicas):
    """Replicas that a test reports, as a watch does."""

    def __init__(self) -> None:
        self.clock, self.changes = FakeClock(), 0
        super().__init__(
            LeaseApi().client,
            identity="mine",
            group="group",
            pod=None,
            changed=self._count,
            clock=self.clock,
        )

    def _count(self) -> None:
        self.changes += 1


def test_a_replica_lives_until_its_lease_has_not_changed_for_ten_seconds() -> None:
    replicas = Watched()
    assert replicas.live() == {"mine"}
    replicas.put(lease("other"))
    assert replicas.live() == {"mine", "other"}
    replicas.clock.advance(LEASE_SECONDS - 1)
    assert replicas.seconds_to_expiry() == 1
    replicas.put(lease("other", version=2))
    replicas.clock.advance(LEASE_SECONDS - 1)
    assert replicas.live() == {"mine", "other"}
    replicas.clock.advance(1)
    assert replicas.live() == {"mine"}
    assert replicas.seconds_to_expiry() is None


def test_a_renewal_is_no_change_and_a_release_or_a_deletion_is() -> None:
    replicas = Watched()
    replicas.put(lease("other"))
    replicas.put(lease("other", version=2))
    assert replicas.changes == 1
    replicas.put(lease(None, version=3))
    assert replicas.live() == {"mine"}
    assert replicas.changes == 2
    replicas.put(lease("third", uid="third"))
    replicas.remove("third")
    assert replicas.live() == {"mine"}
    assert replicas.changes == 4


def test_every_known_lease_is_compared_with_a_list() -> None:
    replicas = Watched()
    replicas.put(lease("other", uid="other"))
    replicas.put(lease("third", uid="third"))
    assert replicas.uids("operator") == {"other", "third"}
    replicas.remove("other")
    assert replicas.live() == {"mine", "third"}


async def test_a_replica_that_leaves_does_not_count_itself() -> None:
    replicas = Watched()
    replicas.put(lease("other"))
    await replicas.leave()
    assert replicas.live() == {"other"}


def test_only_replicas_that_serve_the_same_bindings_are_a_group() -> None:
    assert group_of(["a", "b"], "") == group_of(["b", "a"], "")
    groups = {group_of([], ""), group_of(["a"], ""), group_of(["a"], "team=x")}
    assert len(groups) == 3


def test_two_processes_of_one_pod_have_different_identities() -> None:
    assert new_identity() != new_identity()
