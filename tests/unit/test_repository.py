"""What must hold of the tree itself."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted([*ROOT.glob("requirements*.lock"), *ROOT.glob("testbed/**/*.lock")])


def test_the_source_root_does_not_shadow_the_standard_library():
    assert not (ROOT / "operator" / "__init__.py").exists()
    subprocess.run([sys.executable, "-c", "import collections, operator"], cwd=ROOT, check=True)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_every_requirement_with_hashes_and_names_no_index(lock):
    text = lock.read_text()
    assert "://" not in text
    requirements = re.findall(r"^[a-zA-Z0-9].*?(?=^[a-zA-Z0-9]|\Z)", text, re.M | re.S)
    assert requirements
    for requirement in requirements:
        assert "==" in requirement.splitlines()[0]
        assert "--hash=sha256:" in requirement


def test_the_runtime_lock_has_no_stock_worker_and_no_tools():
    names = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.M))
    assert not names & {"prefect-kubernetes", "pytest", "ruff", "mypy", "uv"}


def test_the_wheel_contains_the_package_and_nothing_of_the_testbed(tmp_path):
    build = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    made = subprocess.check_output(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, text=True
    )
    names = zipfile.ZipFile(tmp_path / made.split()[-1]).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"workpool_operator"}
    assert "workpool_operator/py.typed" in names
