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

    def __init__(self, identity: str = "mine", *, pod: dict[str, str] | None = None) -> None:
        self.clock, self.changes = FakeClock(), 0
        super().__init__(
            LeaseApi().client,
            identity=identity,
            group="group",
            pod=pod,
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


def test_another_installation_that_serves_the_same_bindings_is_logged_once(caplog) -> None:
    caplog.set_level("INFO")
    replicas = Watched("etl-operator-65d8d56b58-k9q7p_1", pod={"kind": "Pod"})
    replicas.put(lease("etl-operator-65d8d56b58-slp2r_2", uid="same"))
    replicas.put(lease("etl-operator-7c9f7b6f5d-x2x2x_3", uid="next version"))
    assert caplog.messages == []
    replicas.put(lease("etl-again-operator-5bcfcf698f-9996r_4", uid="a"))
    replicas.put(lease("etl-again-operator-5bcfcf698f-scrtc_5", uid="b"))
    [found] = caplog.messages
    assert "another installation: Deployment etl-again-operator in namespace operator" in found
    assert "uninstall one of them, or set its namespaces or selector" in found
    replicas.remove("a")
    replicas.remove("b")
    assert "resolved" in caplog.messages[1]


def test_only_replicas_that_serve_the_same_bindings_are_a_group() -> None:
    assert group_of(["a", "b"], "") == group_of(["b", "a"], "")
    groups = {group_of([], ""), group_of(["a"], ""), group_of(["a"], "team=x")}
    assert len(groups) == 3


def test_two_processes_of_one_pod_have_different_identities() -> None:
    assert new_identity() != new_identity()
