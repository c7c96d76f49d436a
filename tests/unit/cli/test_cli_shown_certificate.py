"""doctor shows the certificate of a server that is not trusted."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.support.private_ca import PrivateCA
from workpool_operator.cli import shown_certificate


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


async def test_subject_issuer_and_end_of_an_untrusted_certificate_are_read(tmp_path):
    tls = PrivateCA.make(tmp_path, host="127.0.0.1").server
    async with await asyncio.start_server(
        lambda _, w: w.close(), "127.0.0.1", 0, ssl=tls
    ) as server:
        port = server.sockets[0].getsockname()[1]
        found = await shown_certificate.describe(f"https://127.0.0.1:{port}/api")
    assert found.startswith("CN=127.0.0.1, issued by CN=a private CA, valid until 20")
    assert found.endswith(" UTC")


async def test_a_server_that_shows_none_is_not_described(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{free.getsockname()[1]}/api"
        assert await shown_certificate.describe(url) == ""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert await shown_certificate.describe("https://prefect.example/api") == ""
