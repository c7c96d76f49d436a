from __future__ import annotations

import shutil
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from localnode import addresses
from localnode.addresses import Addresses
from localnode.errors import SetupError


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(addresses, "REGISTRY", tmp_path / "registry")
    monkeypatch.setattr(addresses, "_used_networks", list)
    return tmp_path / "registry"


@pytest.fixture
def owners(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    return folders


def test_each_owner_has_addresses_of_its_own_and_keeps_them(owners: list[Path]) -> None:
    claimed = [addresses.claim(owner) for owner in owners]
    assert len(set(claimed)) == len(owners)
    assert [addresses.claim(owner) for owner in owners] == claimed
    assert [addresses.held_by(owner) for owner in owners] == claimed


def test_two_nodes_share_no_address_and_no_interface() -> None:
    first, second = Addresses(0), Addresses(1)
    assert not first.link.overlaps(second.link)
    assert not first.pods.overlaps(second.pods)
    assert first.interface != second.interface


def test_released_addresses_are_free_and_the_last_release_removes_the_registry(
    owners: list[Path], registry: Path
) -> None:
    first = addresses.claim(owners[0])
    addresses.claim(owners[1])
    addresses.release(owners[0])
    assert addresses.claim(owners[2]) == first
    for owner in owners:
        addresses.release(owner)
    assert not registry.exists()


def test_an_owner_keeps_its_addresses_when_the_registry_is_lost(
    owners: list[Path], registry: Path
) -> None:
    addresses.claim(owners[0])
    second = addresses.claim(owners[1])
    shutil.rmtree(registry)
    assert addresses.held_by(owners[1]) == second
    assert addresses.claim(owners[1]) == second


def test_an_owner_does_not_take_its_addresses_back_from_another(
    owners: list[Path], registry: Path
) -> None:
    lost = addresses.claim(owners[0])
    shutil.rmtree(registry)
    assert addresses.claim(owners[1]) == lost
    assert addresses.claim(owners[0]) != lost


def test_addresses_whose_owner_is_gone_are_free(owners: list[Path]) -> None:
    abandoned = addresses.claim(owners[0])
    shutil.rmtree(owners[0])
    assert addresses.claim(owners[1]) == abandoned


def test_addresses_that_the_machine_uses_are_skipped(
    owners: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "_used_networks", lambda: [IPv4Network("10.200.0.0/23")])
    assert addresses.claim(owners[0]) == Addresses(2)


def test_the_error_without_free_addresses_names_the_registry(
    owners: list[Path], registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "_used_networks", lambda: [IPv4Network("10.0.0.0/8")])
    with pytest.raises(SetupError, match=str(registry)):
        addresses.claim(owners[0])
