"""Runs a worker of our type as its users do: `prefect worker start`, in its own process.

The CLI is Prefect's: it finds the type because our package is installed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from prefect.settings import temporary_settings

from testbed.daemon import Daemon
from tests.support.deployments import CONFIG_MAP, FOLDER
from tests.support.polling import poll
from workpool_operator.worker import KubernetesJobWorker

TYPE = "kubernetes-operator"
PREFECT = Path(sys.executable).with_name("prefect")


def environment(
    *, url: str, home: Path, kubeconfig: Path | None = None, **more: str
) -> dict[str, str]:
    """Return the environment of a process that knows one server and one cluster, without that of
    its parent."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "KUBECONFIG"))}
    own = {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(home),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    cluster = {"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}
    return kept | own | cluster | more


async def prefect(*arguments: str, env: Mapping[str, str]) -> str:
    """Run a command of Prefect, which must succeed; return its output."""

    def call() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(PREFECT), *arguments],
            env=dict(env),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = await asyncio.to_thread(call)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_flows(namespace: str) -> dict[str, Any]:
    """Return job variables for our default template: the namespace, and tests/flows in its pods."""
    return {
        "namespace": namespace,
        "volumes": [{"name": "flows", "configMap": {"name": CONFIG_MAP, "optional": True}}],
        "volume_mounts": [{"name": "flows", "mountPath": FOLDER}],
    }


@dataclass(frozen=True)
class WorkerProcess:
    """One process of the worker; a restart is another WorkerProcess."""

    daemon: Daemon

    @classmethod
    def start(
        cls, pool: str, *options: str, log: Path, env: Mapping[str, str], name: str = "worker"
    ) -> WorkerProcess:
        command = [str(PREFECT), "worker", "start", "--pool", pool, "--type", TYPE]
        daemon = Daemon("worker", [*command, "--name", name, *options], log=log, env=env)
        daemon.start()
        return cls(daemon)

    @property
    def pid(self) -> int:
        return self.daemon.pid

    @property
    def log(self) -> str:
        return self.daemon.log.read_text(errors="replace")

    async def says(self, text: str, *, seconds: float = 120) -> None:
        """Wait for the text in the worker's output; fail if the process ends."""

        async def read() -> str:
            log = self.log
            assert text in log or self.daemon.exit_code is None, f"the worker ended:\n{log}"
            return log

        await poll(read, until=lambda log: text in log, seconds=seconds)

    def kill(self) -> None:
        """Kill the process without a signal handler, as a node that loses power does."""
        self.daemon.stop(number=signal.SIGKILL)

    async def ended(self, *, seconds: float = 120) -> int:
        """Wait until the process ends; return its exit code."""
        return await asyncio.to_thread(self.daemon.wait, seconds=seconds)


@dataclass(frozen=True)
class WorkerHarness:
    """Runs workers in the test's process, for one pool, one server and one cluster."""

    pool: str
    url: str
    kubeconfig: Path

    @asynccontextmanager
    async def worker(
        self, *, settings: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[KubernetesJobWorker]:
        """Yield a worker whose loops the test runs. At the end it stops as after a signal: it does
        not wait for the runs that it follows.

        It emits no events: a thread of the process would send them, also to servers that have
        ended. Tests with processes cover events.
        """
        options = {"work_pool_name": self.pool, "name": "here"} | options
        updates = {"api.url": self.url, "logging.to_api.enabled": False, **(settings or {})}
        with ExitStack() as stack:
            stack.enter_context(temporary_settings(updates=updates))
            stack.enter_context(patch.dict(os.environ, KUBECONFIG=str(self.kubeconfig)))
            stack.enter_context(patch("prefect.workers.base.emit_event", return_value=None))
            async with KubernetesJobWorker(**options) as worker:
                yield worker
                assert worker._runs_task_group is not None
                worker._runs_task_group.cancel_scope.cancel()
