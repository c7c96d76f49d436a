"""Runs the stock Kubernetes worker as a process, from its own virtual environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed.daemon import Daemon
from testbed.environments import PEER


@dataclass(frozen=True)
class StockWorker:
    """`prefect worker start --type kubernetes` for one pool; its observer watches one namespace.

    Its log and its Prefect home are in `folder`.
    """

    pool: str
    namespace: str
    url: str
    kubeconfig: Path
    folder: Path

    @contextmanager
    def running(self) -> Iterator[Daemon]:
        program = str(PEER.python.with_name("prefect"))
        worker = Daemon(
            "the stock worker",
            [program, "worker", "start", "--type", "kubernetes", "--pool", self.pool],
            log=self.folder / "stock-worker.log",
            env=self._environment(),
        )
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()

    def _environment(self) -> dict[str, str]:
        """Return the environment, without the user's Prefect settings."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")
        }
        return inherited | {
            "DO_NOT_TRACK": "1",
            "KUBECONFIG": str(self.kubeconfig),
            "PREFECT_API_URL": self.url,
            "PREFECT_HOME": str(self.folder / "stock-worker-home"),
            "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES": self.namespace,
        }
