"""The metrics of an operator that a test starts, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from testbed.postgres import free_port
from tests.support.polling import poll

PREFIX = "workpool_operator_"


class Exposition:
    """What an operator serves on its metrics port."""

    def __init__(self) -> None:
        self.port = free_port("0.0.0.0")

    @property
    def settings(self) -> dict[str, str]:
        return {"WORKPOOL_OPERATOR_METRICS_PORT": str(self.port)}

    async def get(self, *, token: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(trust_env=False, verify=False) as http:
            return await http.get(f"http://127.0.0.1:{self.port}/metrics", headers=headers)

    async def samples(self) -> dict[str, float]:
        """Return the value of each series, by its line without the prefix."""
        lines = (await self.get()).text.splitlines()
        own = (line.removeprefix(PREFIX).rpartition(" ") for line in lines if line[:1] != "#")
        return {series: float(value) for series, _, value in own}

    async def shows(self, expected: Mapping[str, float | None], *, seconds: float = 30) -> None:
        """Wait until these series have these values."""

        async def read() -> dict[str, float | None]:
            found = await self.samples()
            return {series: found.get(series) for series in expected}

        await poll(read, until=lambda found: found == expected, seconds=seconds)
