"""The commands of localnode, as far as they need no node."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from localnode import __main__ as localnode
from localnode import debian


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return [f"--state={tmp_path / 'state'}", f"--cache={tmp_path / 'cache'}"]


def test_the_commands_run_on_the_standard_library_alone(tmp_path: Path) -> None:
    alone = [sys.executable, "-S", "-m", "localnode", "down", "absent", f"--state={tmp_path}"]
    subprocess.run(alone, cwd=Path(localnode.__file__).parent.parent, check=True)


def test_down_of_a_node_that_is_not_there_does_nothing(folders: list[str]) -> None:
    assert localnode.main(["down", "absent", *folders]) == 0


def test_up_without_root_fails_with_the_fix(
    folders: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(debian, "missing", lambda packages: [])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert localnode.main(["up", "dev", *folders]) == 1
    assert (
        "up dev failed: a node in namespaces of this machine needs root" in capsys.readouterr().err
    )


def test_up_without_its_debian_packages_names_them(
    folders: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(debian, "missing", lambda packages: ["runc"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert localnode.main(["up", "dev", *folders]) == 1
    assert "run this as root, or 'apt-get install runc'" in capsys.readouterr().err


def test_a_name_that_no_node_could_have_is_refused_with_the_rule(
    folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        localnode.main(["up", "Dev_1", *folders])
    assert "'Dev_1' is not a valid name: use up to 40 lower-case" in capsys.readouterr().err
