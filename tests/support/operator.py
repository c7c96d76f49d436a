"""Runs the operator for tests: `workpool-operator run` in its own process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from testbed.daemon import Daemon
from testbed.postgres import free_port
from tests.support.polling import poll
from tests.support.preloaded import Preloaded

#: The logs of a test's operators, in the stash of its item.
LOGS = pytest.StashKey[list[Path]]()
PROGRAM = Path(sys.executable).with_name("workpool-operator")


@dataclass(frozen=True)
class Operator:
    """One process of the operator; a restart is another Operator."""

    daemon: Daemon | Preloaded
    health: str

    @classmethod
    def start(
        cls,
        *,
        namespaces: Sequence[str],
        kubeconfig: Path,
        log: Path,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = (str(PROGRAM),),
        preloaded: bool = False,
    ) -> Operator:
        """Start one that serves only these namespaces, if any, and is at home in the first of them.
        `env` is added to its environment.

        A preloaded one is forked off a process that has imported the program already.
        """
        if namespaces:
            kubeconfig = _in_namespace(namespaces[0], kubeconfig, copy=log.with_suffix(".yaml"))
        port = free_port("0.0.0.0")
        arguments = ["run", "--health-port", str(port)]
        arguments += [f"--namespace={namespace}" for namespace in namespaces]
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")
        }
        environment = inherited | {"KUBECONFIG": str(kubeconfig)} | dict(env or {})
        daemon: Daemon | Preloaded
        if preloaded:
            daemon = Preloaded(arguments, log=log, env=environment)
        else:
            daemon = Daemon("operator", [*program, *arguments], log=log, env=environment)
        daemon.start()
        return cls(daemon, f"http://127.0.0.1:{port}")

    @property
    def pid(self) -> int:
        return self.daemon.pid

    @property
    def log(self) -> str:
        return self.daemon.log.read_text(errors="replace")

    async def probe(self, name: str) -> int:
        """Return the status of `healthz` or `readyz`; 0 if nothing listens."""
        return (await self._probe(name))[0]

    async def complaint(self, name: str) -> str:
        """Return the text of the failing probe; it must fail."""
        status, text = await self._probe(name)
        assert status == 503, f"{name} answers {status}: {text}"
        return text

    async def _probe(self, name: str) -> tuple[int, str]:
        # Loading certificates, which plain HTTP does not need, takes 20 ms of CPU time.
        async with httpx.AsyncClient(trust_env=False, verify=False) as http:
            try:
                answer = await http.get(f"{self.health}/{name}")
            except httpx.TransportError:
                return 0, ""
            return answer.status_code, answer.text

    async def ready(self, *, seconds: float = 60) -> None:
        """Wait until the operator is ready; fail if the process ends."""
        await poll(lambda: self._live_probe("readyz"), until=lambda it: it == 200, seconds=seconds)

    async def _live_probe(self, name: str) -> int:
        assert self.daemon.exit_code is None, "the operator ended; see its log"
        return await self.probe(name)

    async def says(self, text: str, *, seconds: float = 30) -> None:
        """Wait for the text in the operator's log."""

        async def read() -> str:
            return self.log

        await poll(read, until=lambda log: text in log, seconds=seconds)

    def kill(self) -> None:
        """Kill the process without a signal handler, as a node that loses power does."""
        self.daemon.stop(number=signal.SIGKILL)

    async def terminate(self, *, seconds: float = 10) -> int:
        """Send SIGTERM, as a kubelet does; return the exit code."""
        self.daemon.send(signal.SIGTERM)
        return await asyncio.to_thread(self.daemon.wait, seconds=seconds)

    async def ended(self, *, seconds: float = 30) -> int:
        """Wait until the process ends by itself; return its exit code."""
        return await asyncio.to_thread(self.daemon.wait, seconds=seconds)


def _in_namespace(namespace: str, kubeconfig: Path, *, copy: Path) -> Path:
    """Write a copy of the kubeconfig whose contexts are in the namespace, as a pod is: the operator
    keeps its own Lease there."""
    config = yaml.safe_load(kubeconfig.read_text())
    for each in config["contexts"]:
        each["context"]["namespace"] = namespace
    copy.write_text(yaml.safe_dump(config))
    return copy
