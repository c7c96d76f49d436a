"""A test that leaves something behind fails, or its run does; checked in a nested pytest."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import state
from testbed.clusters import Cluster
from tests.support import marks

FAILED = 1


def run_tests(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_inner.py").write_text(textwrap.dedent(source))
    own = ("-p", "tests.conftest", "-o", "anyio_mode=auto", "-q")
    command = [sys.executable, "-m", "pytest", *own, *options, str(folder)]
    with marks.removed():
        return subprocess.run(
            command, cwd=state.CHECKOUT, capture_output=True, text=True, check=False
        )


def test_a_test_that_leaves_a_process_fails_and_the_process_ends(tmp_path: Path) -> None:
    done = run_tests(
        tmp_path,
        """
        import subprocess
        import pytest

        @pytest.mark.filterwarnings("ignore:subprocess")
        def test_leaky():
            print("pid", subprocess.Popen(["sleep", "271828"]).pid)

        def test_tidy():
            subprocess.run(["true"])
        """,
        "-rA",
    )
    assert done.returncode == FAILED
    assert "2 passed, 1 error" in done.stdout
    pid = done.stdout.partition("\npid ")[2].split()[0]
    assert f"left running: {pid} sleep 271828" in done.stdout
    assert not Path("/proc", pid).exists()


def test_parallel_tests_share_what_the_run_creates_once(tmp_path: Path) -> None:
    done = run_tests(
        tmp_path,
        f"""
        import pytest
        from tests.support.run import TestRun

        def make():
            with open("{tmp_path}/made", "a") as made:
                made.write("once ")
            return {{"value": 42}}

        @pytest.mark.parametrize("number", range(8))
        def test_sharing(number):
            assert TestRun.current().once("thing", make) == {{"value": 42}}
        """,
        "--numprocesses=2",
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "made").read_text() == "once "


def test_a_shared_resource_that_cannot_be_created_is_tried_once_and_fails_every_test(
    tmp_path: Path,
) -> None:
    done = run_tests(
        tmp_path,
        """
        import pytest
        from localnode.errors import SetupError
        from tests.support.run import TestRun

        attempts = []

        def make():
            attempts.append(1)
            raise SetupError("the disk is full")

        @pytest.mark.parametrize("number", range(3))
        def test_failing(number):
            with pytest.raises(SetupError, match="the disk is full"):
                TestRun.current().once("thing", make)
            assert attempts == [1]
        """,
    )
    assert done.returncode == 0, done.stdout


def test_a_run_that_leaves_a_namespace_fails_and_names_the_test(
    tmp_path: Path, cluster: Cluster
) -> None:
    done = run_tests(
        tmp_path,
        """
        from tests.support import leaks

        leaks.NAMESPACE_SECONDS = 0

        async def test_untidy(namespace, kube):
            print("made", namespace, "for the test")
            stuck = {"metadata": {"name": "stuck", "finalizers": ["example.com/never"]}}
            await kube.create("configmaps", namespace, stuck)
        """,
        "-rA",
    )
    assert "\nmade " in done.stdout, done.stdout
    name = done.stdout.partition("\nmade ")[2].split()[0]
    cluster.kubectl.run(
        *("patch", "configmap", "stuck", "-n", name, "--type=merge"),
        *("-p", '{"metadata": {"finalizers": null}}'),
    )
    assert done.returncode == FAILED
    assert "1 passed" in done.stdout
    assert f"namespace {name} of " in done.stdout
    assert "test_inner.py::test_untidy" in done.stdout.partition("left behind")[2]


@pytest.fixture
def interface() -> Iterator[str]:
    """The name of an interface as local nodes have them, which no node uses."""
    name = "localnode9001"
    yield name
    subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)


def test_a_run_that_leaves_an_interface_fails(tmp_path: Path, interface: str) -> None:
    done = run_tests(
        tmp_path,
        f"""
        import subprocess

        def test_untidy():
            subprocess.run(["ip", "link", "add", "{interface}", "type", "bridge"], check=True)
        """,
    )
    assert done.returncode == FAILED
    assert f"interface {interface}" in done.stdout.partition("left behind")[2]
