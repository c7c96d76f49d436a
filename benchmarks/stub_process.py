"""Runs the stub of Prefect in a process of its own, queues runs in it and reads its records."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from testbed.daemon import Daemon
from testbed.postgres import free_port
from testbed.state import CHECKOUT
from tests.support.polling import poll

DELAY_SECONDS = 0.005
START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Record:
    """Seconds since the epoch at which runs were claimed and their Jobs recorded; calls by name."""

    claimed: Sequence[float]
    recorded: Sequence[float]
    calls: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Stub:
    """`url` is that of the API."""

    url: str
    pid: int
    _http: httpx.AsyncClient

    async def queue(self, pool: str, count: int) -> list[str]:
        """Queue runs that are due now; return their ids."""
        answer = await self._http.post(f"/stub/{pool}/runs", json={"count": count})
        ids: list[str] = answer.raise_for_status().json()
        return ids

    async def enter(self, state: str, pool: str, ids: Sequence[str]) -> None:
        """Have runs enter the state as their flows do."""
        answer = await self._http.post(f"/stub/{pool}/states", json={"type": state, "ids": ids})
        answer.raise_for_status()

    async def answer_after(self, seconds: float) -> None:
        """Delay each answer by so much from now on."""
        answer = await self._http.post("/stub/delay", json={"seconds": seconds})
        answer.raise_for_status()

    async def record(self) -> Record:
        """Return what the stub recorded since its start."""
        return Record(**(await self._http.get("/stub/record")).raise_for_status().json())


@asynccontextmanager
async def stub(
    logs: Path, *, delay: float = DELAY_SECONDS, job_spec: Mapping[str, Any] | None = None
) -> AsyncIterator[Stub]:
    """Serve the stub inside the context; `job_spec` has fields of the spec of each Job."""
    port = free_port("127.0.0.1")
    options = ["--port", str(port), "--delay", str(delay), "--owner", str(os.getpid())]
    options += ["--job-spec", json.dumps(job_spec or {})]
    process = Daemon(
        "the stub of Prefect",
        [sys.executable, "-m", "benchmarks.prefect_stub", *options],
        log=logs / f"stub-{port}.log",
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT / "operator"), str(CHECKOUT)]),
        },
    )
    process.start()
    address = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as http:

            async def answers() -> bool:
                try:
                    return (await http.get("/stub/record")).is_success
                except httpx.TransportError:
                    return False

            await poll(answers, until=bool, seconds=START_SECONDS)
            yield Stub(f"{address}/api", process.pid, http)
    finally:
        process.stop()
