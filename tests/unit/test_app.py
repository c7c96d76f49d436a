"""What the bindings of a process share does not let one of them delay another."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from workpool_operator.app import App
from workpool_operator.settings import Settings

HUNG = "hung.invalid"
AT_ONCE = 40  # lookups of three bindings that try again and again


async def test_names_that_are_not_resolved_do_not_delay_other_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}]}
    kubeconfig.write_text(yaml.safe_dump({**config, "current-context": "c"}))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    resolve, answered = socket.getaddrinfo, threading.Event()

    def lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == HUNG:
            answered.wait()
        return resolve("127.0.0.1" if host == HUNG else host, *args, **kwargs)

    async with App(Settings(health_port=0), namespaces=()):
        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        loop = asyncio.get_running_loop()
        hung = [asyncio.ensure_future(loop.getaddrinfo(HUNG, 80)) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)  # they begin
        try:
            async with asyncio.timeout(5):
                assert await loop.getaddrinfo("127.0.0.1", 80)
            assert not any(each.done() for each in hung)
        finally:
            answered.set()
            await asyncio.gather(*hung)
