"""The commands of Prefect's command line that a user of the demo would type, typed for them.

Must not read or write the user's own Prefect profile: the settings are an environment of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from localnode import commands
from localnode.errors import SetupError
from testbed.demo.prefect_api import PrefectApi
from testbed.state import CHECKOUT

PROGRAM = Path(sys.executable).with_name("prefect")
DEPLOYMENT = "hello/demo"
RUN_SECONDS = 300


@dataclass(frozen=True)
class PrefectCli:
    url: str
    state: Path

    @property
    def api(self) -> PrefectApi:
        return PrefectApi(self.url)

    def create_pool(self, name: str) -> None:
        """Of the type and with the template that the stock worker has, unless it is there."""
        if not self.api.exists(f"/work_pools/{name}"):
            self._run("work-pool", "create", name, "--type", "kubernetes")

    def deploy(self, image: str) -> None:
        """Deploys the example flow to run in `image`."""
        self._run("--no-prompt", "deploy", "--name", "demo", RUN_IMAGE=image)

    def run_deployment(self, *, operator_log: Path) -> str:
        """Runs the example to its end before the user's eyes; the id of its run."""
        name = f"demo-{time.strftime('%H%M%S')}"
        argv = ["deployment", "run", DEPLOYMENT, "--watch", "--flow-run-name", name]
        environment = self._environment()
        try:
            done = subprocess.run([PROGRAM, *argv], env=environment, timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            raise SetupError(
                f"run {name} has not ended after {RUN_SECONDS} s\n  log: {operator_log}"
            ) from None
        if done.returncode:
            raise SetupError(f"run {name} did not complete\n  log: {operator_log}")
        return self.api.flow_run_named(name)

    def _run(self, *arguments: str, **environment: str) -> None:
        commands.run_logged(
            [PROGRAM, *arguments],
            log=self.state / "log" / "prefect.log",
            cwd=CHECKOUT / "examples",
            env=self._environment() | environment,
        )

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return own | {"PREFECT_API_URL": self.url, "PREFECT_HOME": str(self.state / "prefect-home")}
