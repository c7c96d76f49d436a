"""The testbed's Prefect server: it is the real one, and nothing of it outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from localnode.errors import SetupError
from testbed.prefect_server import PrefectServer
from tests.support import marks
from tests.support.polling import poll
from tests.support.prefect import PrefectApi


async def test_the_server_lists_runs_with_a_null_limit(api: PrefectApi) -> None:
    """Prefect's own client sends one; fastapi from 0.152 on refuses it."""
    assert isinstance(await api.many("POST", "/flow_runs/filter", {"limit": None}), list)


async def test_a_deployment_with_an_interval_gets_its_runs(api: PrefectApi, pool: str) -> None:
    """With SQLAlchemy 2.1 the server's scheduler inserts none."""
    schedule = {"interval": 3600, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC"}
    deployment = await api.create_deployment(
        flow="hello", name=pool, pool=pool, schedules=[{"schedule": schedule, "active": True}]
    )
    runs = await poll(
        lambda: api.runs(deployment_id=deployment["id"]), until=lambda runs: runs != [], seconds=90
    )
    assert {run["state_type"] for run in runs} == {"SCHEDULED"}


def test_a_server_with_an_auth_string_answers_only_clients_that_send_it(tmp_path: Path) -> None:
    with PrefectServer(tmp_path, auth_string="admin:secret") as server:

        def status(auth: tuple[str, str] | None) -> int:
            url = f"{server.url}/flow_runs/filter"
            return httpx.post(url, json={}, auth=auth, trust_env=False).status_code

        assert status(None) == 401
        assert status(("admin", "wrong")) == 401
        assert status(("admin", "secret")) == 200
    assert left_behind(tmp_path) == []


def test_a_server_that_cannot_start_names_its_log_and_leaves_nothing(tmp_path: Path) -> None:
    wrong = {"PREFECT_SERVER_API_KEEPALIVE_TIMEOUT": "soon"}
    server = PrefectServer(tmp_path, settings=wrong)
    with pytest.raises(SetupError, match=rf"prefect server ended .*\n  log: {server.log}"):
        server.__enter__()
    assert left_behind(tmp_path) == []


def test_an_address_of_another_machine_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"192\.0\.2\.1 is not an address of this machine"):
        PrefectServer(tmp_path, host="192.0.2.1")


def test_a_shared_server_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(["sleep", "infinity"])
    shared = serve(tmp_path, owner=owner.pid)
    owner.kill()
    owner.wait()
    assert shared.wait(timeout=10) == 0
    assert left_behind(tmp_path) == []


def test_no_process_outlives_a_shared_server_that_is_killed(tmp_path: Path) -> None:
    shared = serve(tmp_path, owner=os.getpid())
    mark = os.environ[marks.VARIABLE]
    assert any("postgres" in process.command for process in marks.processes(mark))
    shared.send_signal(signal.SIGKILL)
    shared.wait()
    deadline = time.monotonic() + 5
    while marks.processes(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marks.processes(mark) == []


def serve(folder: Path, *, owner: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "testbed.prefect_server", str(folder), "--owner", str(owner)]
    shared = subprocess.Popen(command)
    while not (folder / "url").exists():
        assert shared.poll() is None
        time.sleep(0.05)
    return shared


def left_behind(folder: Path) -> list[str]:
    """Marked processes, and what is in the folder but logs and the address."""
    processes = [process.command for process in marks.processes(os.environ[marks.VARIABLE])]
    files = [path.name for path in folder.iterdir() if path.suffix != ".log"]
    return [*processes, *sorted({*files} - {"url"})]
