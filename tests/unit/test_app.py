"""What the bindings of a process share does not let one of them delay another, and its metrics say
where it cannot watch bindings."""

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


@pytest.fixture(autouse=True)
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name an API server that does not answer."""
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}]}
    kubeconfig.write_text(yaml.safe_dump({**config, "current-context": "c"}))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))


async def test_a_namespace_whose_bindings_cannot_be_watched_is_in_the_metrics() -> None:
    async with App(Settings(health_port=0, metrics_port=0), namespaces=("data", "ml")) as app:
        assert await app.watchable_namespaces() == []
        assert app._metrics
        text, _ = await app._metrics.render("text/plain")
    for namespace in ("data", "ml"):
        line = f'workpool_operator_namespace_watched{{binding_namespace="{namespace}"}} 0.0\n'
        assert line in text.decode()


async def test_names_that_are_not_resolved_do_not_delay_other_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
