from __future__ import annotations

import shutil
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from testbed.clusters import slots
from testbed.clusters.slots import Slot
from testbed.errors import TestbedError


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(slots, "REGISTRY", tmp_path / "registry")
    monkeypatch.setattr(slots, "_used_networks", lambda: [])
    return tmp_path / "registry"


@pytest.fixture
def owners(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    return folders


def test_each_owner_has_a_slot_of_its_own_and_keeps_it(owners: list[Path]) -> None:
    claimed = [slots.claim(owner) for owner in owners]
    assert len(set(claimed)) == len(owners)
    assert [slots.claim(owner) for owner in owners] == claimed
    assert [slots.held_by(owner) for owner in owners] == claimed


def test_slots_share_no_address_and_no_interface() -> None:
    first, second = Slot(0), Slot(1)
    assert not first.link.overlaps(second.link)
    assert not first.pods.overlaps(second.pods)
    assert first.interface != second.interface


def test_a_released_slot_is_free_and_the_last_release_leaves_no_registry(
    owners: list[Path], registry: Path
) -> None:
    first = slots.claim(owners[0])
    slots.claim(owners[1])
    slots.release(owners[0])
    assert slots.claim(owners[2]) == first
    for owner in owners:
        slots.release(owner)
    assert not registry.exists()


def test_an_owner_keeps_its_slot_when_the_registry_is_lost(
    owners: list[Path], registry: Path
) -> None:
    slots.claim(owners[0])
    second = slots.claim(owners[1])
    shutil.rmtree(registry)
    assert slots.held_by(owners[1]) == second
    assert slots.claim(owners[1]) == second


def test_an_owner_does_not_take_its_slot_back_from_another(
    owners: list[Path], registry: Path
) -> None:
    lost = slots.claim(owners[0])
    shutil.rmtree(registry)
    assert slots.claim(owners[1]) == lost
    assert slots.claim(owners[0]) != lost


def test_a_slot_whose_owner_is_gone_is_free(owners: list[Path]) -> None:
    abandoned = slots.claim(owners[0])
    shutil.rmtree(owners[0])
    assert slots.claim(owners[1]) == abandoned


def test_addresses_that_the_machine_uses_are_passed_over(
    owners: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "_used_networks", lambda: [IPv4Network("10.200.0.0/23")])
    assert slots.claim(owners[0]) == Slot(2)


def test_a_machine_without_a_free_slot_is_told_where_to_look(
    owners: list[Path], registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "_used_networks", lambda: [IPv4Network("10.0.0.0/8")])
    with pytest.raises(TestbedError, match=str(registry)):
        slots.claim(owners[0])
