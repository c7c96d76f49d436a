from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from localnode import debian
from localnode.cache import Cache
from localnode.debian import Package
from localnode.errors import SetupError
from localnode.node import LocalNode
from testbed import bootstrap, environments, state
from testbed.clusters.kind import KindCluster

ABSENT = Package("absent", "no-such-program")


def test_a_python_that_is_too_old_gets_a_message_with_the_fix() -> None:
    pretend = "import sys; sys.version_info = (3, 9, 2); import testbed"
    done = subprocess.run(
        [sys.executable, "-c", pretend],
        cwd=state.CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("workpool-operator needs Python 3.11 or newer")
    assert "Traceback" not in done.stderr


def test_bootstrap_runs_on_the_standard_library_alone() -> None:
    alone = [sys.executable, "-S", "-c", "import testbed.bootstrap"]
    subprocess.run(alone, cwd=state.CHECKOUT, check=True)


def test_every_target_that_bootstrap_knows_is_in_the_makefile() -> None:
    makefile = (state.CHECKOUT / "Makefile").read_text()
    targets = set(
        re.findall(r"[a-z][a-z0-9-]*", " ".join(re.findall(r"^(.*?):.*##", makefile, re.M)))
    )
    assert (
        targets
        >= bootstrap.NEEDS_CLUSTER | bootstrap.NEEDS_POSTGRESQL | bootstrap.NEEDS_STOCK_WORKER
    )


def test_only_missing_packages_are_installed() -> None:
    present = Package("sh", "sh")
    assert debian.missing([present, ABSENT]) == ["absent"]


def test_a_program_in_the_place_of_another_system_counts_as_installed() -> None:
    assert debian.missing([Package("sh", "/no/such/*/sh", "sh")]) == []


def test_the_message_on_another_system_names_the_packages_and_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=fedora\nID_LIKE="rhel centos"\n')
    monkeypatch.setattr(debian, "RELEASE", release)
    with pytest.raises(SetupError, match=r"^absent .* missing, and only on Debian"):
        debian.install(["absent"], Cache(tmp_path))


def test_the_message_without_root_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "os-release"
    release.write_text("ID=debian\n")
    monkeypatch.setattr(debian, "RELEASE", release)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SetupError, match="run this as root, or 'apt-get install absent'"):
        debian.install(["absent"], Cache(tmp_path))


def test_kind_needs_no_debian_package(tmp_path: Path) -> None:
    assert bootstrap.packages_of(KindCluster(tmp_path), "demo") == ()
    assert bootstrap.packages_of(LocalNode(tmp_path, Cache(tmp_path)), "demo")


def test_uv_is_taken_from_the_lock_with_its_hashes() -> None:
    lock = "a==1 \\\n    --hash=sha256:0\nuv==2 \\\n    --hash=sha256:1\n    # via x\nz==3\n"
    expected = "uv==2 \\\n    --hash=sha256:1\n    # via x\n"
    assert environments.requirement("uv", lock) == expected


def test_an_environment_is_made_again_when_its_lock_changes(tmp_path: Path) -> None:
    environment = environments.Environment(tmp_path, tmp_path / "lock")
    environment.lock.write_text("a==1\n")
    assert not environment.is_current()
    environment.stamp.write_text(environment.origin)
    assert environment.is_current()
    environment.lock.write_text("a==2\n")
    assert not environment.is_current()
