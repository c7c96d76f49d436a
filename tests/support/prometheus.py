"""Prometheus itself, as a process of this machine that scrapes an operator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from testbed import builds
from testbed.daemon import Daemon
from testbed.postgres import free_port
from tests.support.polling import poll

SCRAPE_SECONDS = 2
Object = dict[str, Any]


@dataclass(frozen=True)
class Prometheus:
    """Its HTTP API."""

    url: str
    http: httpx.AsyncClient

    @classmethod
    @asynccontextmanager
    async def running(
        cls, folder: Path, *, scrapes: Sequence[Object], rules: Sequence[Path] = ()
    ) -> AsyncIterator[Prometheus]:
        """Run it with these entries of `scrape_configs`."""
        config = folder / "prometheus.yaml"
        every = f"{SCRAPE_SECONDS}s"
        intervals = {"scrape_interval": every, "evaluation_interval": every}
        document = {"global": intervals, "scrape_configs": [*scrapes]}
        config.write_text(yaml.safe_dump({**document, "rule_files": [str(each) for each in rules]}))
        port, program = free_port("127.0.0.1"), builds.tool("prometheus")
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        daemon = Daemon("prometheus", [str(program), *arguments], log=folder / "prometheus.log")
        daemon.start()
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=30
            ) as http:
                made = cls(f"http://127.0.0.1:{port}", http)
                await made._ready(daemon)
                yield made
        finally:
            await asyncio.to_thread(daemon.stop)

    async def _ready(self, daemon: Daemon) -> None:
        async def status() -> int:
            assert daemon.exit_code is None, daemon.log.read_text()
            try:
                return (await self.http.get(f"{self.url}/-/ready")).status_code
            except httpx.TransportError:
                return 0

        await poll(status, until=lambda found: found == 200, seconds=60)

    async def query(self, expression: str) -> list[Object]:
        """Return the present series of an expression, each with `metric` and `value`."""
        return list((await self._get("query", query=expression))["result"])

    async def query_range(self, expression: str, *, seconds: float, step: float) -> list[Object]:
        """Return its series over the last seconds, each with `metric` and `values`."""
        now = time.time()
        span = {"start": now - seconds, "end": now, "step": step}
        return list((await self._get("query_range", query=expression, **span))["result"])

    async def targets(self) -> dict[str, Object]:
        """Return the targets by the name of their job."""
        found = (await self._get("targets"))["activeTargets"]
        return {target["labels"]["job"]: target for target in found}

    async def alerts(self) -> dict[str, Object]:
        """Return the alerting rules by name, with `health`, `state` and `alerts`."""
        groups = (await self._get("rules"))["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    async def wait(
        self, expression: str, *, until: Callable[[list[Object]], bool] = bool, seconds: float = 60
    ) -> list[Object]:
        """Wait until the expression has such series; by default, any."""
        return await poll(lambda: self.query(expression), until=until, seconds=seconds)

    async def _get(self, what: str, **query: Any) -> Any:
        answer = await self.http.get(f"/{what}", params=query)
        body: Mapping[str, Any] = answer.json()
        assert body["status"] == "success", f"{query}: {body}"
        return body["data"]
