"""The port of /metrics serves metrics and nothing else, to those who may read them."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.private_ca import PrivateCA
from workpool_operator import exposition
from workpool_operator.errors import OperatorError


async def render(accept: str) -> tuple[bytes, str]:
    return b"up 1\n", "text/plain; version=0.0.4; charset=utf-8"


async def scrape(
    port: int,
    path: str = "/metrics",
    *,
    token: str = "",
    tls: ssl.SSLContext | None = None,
    method: str = "GET",
) -> tuple[int, str, Mapping[str, str]]:
    headers = {"Authorization": token} if token else {}
    scheme = "https" if tls else "http"
    url = f"{scheme}://localhost:{port}{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers, ssl=tls or True) as answer,
    ):
        return answer.status, await answer.text(), answer.headers


async def test_a_scrape_gets_the_metrics_and_any_other_path_does_not_exist() -> None:
    async with exposition.serve(0, render=render) as port:
        status, text, headers = await scrape(port)
        assert (status, text) == (200, "up 1\n")
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert (await scrape(port, "/"))[0] == 404
        assert (await scrape(port, "/healthz"))[0] == 404
        assert (await scrape(port, method="POST"))[0] == 405


async def test_a_scrape_without_the_token_is_refused_and_told_what_it_needs(
    tmp_path: Path,
) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    async with exposition.serve(0, render=render, token_file=str(file)) as port:
        status, text, headers = await scrape(port)
        assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="metrics"')
        assert "bearer token is required" in text
        status, text, headers = await scrape(port, token="Bearer guess")
        assert (status, text) == (401, "the token is not the right one\n")
        assert 'error="invalid_token"' in headers["WWW-Authenticate"]
        assert (await scrape(port, token="Basic s3cret"))[0] == 401
        assert (await scrape(port, token="Bearer s3cret"))[0] == 200
        file.write_text("rotated")
        assert (await scrape(port, token="Bearer s3cret"))[0] == 401
        assert (await scrape(port, token="Bearer rotated"))[0] == 200
        file.unlink()
        status, text, _ = await scrape(port, token="Bearer rotated")
        assert (status, text) == (503, "the token cannot be checked: No such file or directory\n")


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"token_file": "/nonexistent"}, ["METRICS_TOKEN_FILE", "No such file"]),
        ({"tls_dir": "/nonexistent"}, ["METRICS_TLS_DIR", "tls.crt and tls.key", "No such file"]),
    ],
)
async def test_a_token_or_certificate_that_cannot_be_used_ends_the_start(
    settings: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(OperatorError) as error:
        async with exposition.serve(0, render=render, **settings):
            pass
    assert all(part in str(error.value) for part in parts)


async def test_an_empty_token_admits_no_scrape(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    with pytest.raises(OperatorError, match="the file is empty"):
        async with exposition.serve(0, render=render, token_file=str(tmp_path / "token")):
            pass


async def test_a_port_in_use_is_named_with_the_setting_to_change() -> None:
    async with exposition.serve(0, render=render) as port:
        with pytest.raises(OperatorError, match=f"port {port} cannot serve /metrics.*METRICS_PORT"):
            async with exposition.serve(port, render=render):
                pass


async def test_metrics_are_served_by_tls_and_a_renewed_certificate_is_used(
    tmp_path: Path,
) -> None:
    old, new = authority(tmp_path / "old"), authority(tmp_path / "new")
    mount(tmp_path / "old", tmp_path, changed_at=1)
    async with exposition.serve(0, render=render, tls_dir=str(tmp_path)) as port:
        assert (await scrape(port, tls=old))[0] == 200
        with pytest.raises(aiohttp.ClientError):
            await scrape(port)
        mount(tmp_path / "new", tmp_path, changed_at=2)
        assert (await scrape(port, tls=old))[0] == 200  # it notices the new one
        assert (await scrape(port, tls=new))[0] == 200
        (tmp_path / "tls.crt").write_text("broken")
        assert (await scrape(port, tls=new))[0] == 200


async def test_a_certificate_that_nobody_trusts_is_replaced_too(tmp_path: Path) -> None:
    """A client that does not trust it sends no request."""
    authority(tmp_path / "wrong")
    right = authority(tmp_path / "right")
    mount(tmp_path / "wrong", tmp_path, changed_at=1)
    async with exposition.serve(0, render=render, tls_dir=str(tmp_path)) as port:
        mount(tmp_path / "right", tmp_path, changed_at=2)
        with pytest.raises(aiohttp.ClientError):
            await scrape(port, tls=right)
        assert (await scrape(port, tls=right))[0] == 200


def authority(folder: Path) -> ssl.SSLContext:
    """Create a certificate for localhost in the folder; return a context that trusts its CA."""
    folder.mkdir()
    return ssl.create_default_context(cadata=PrivateCA.make(folder, host="localhost").pem)


def mount(made: Path, folder: Path, *, changed_at: float) -> None:
    for name in ("tls.crt", "tls.key"):
        (folder / name).write_bytes((made / "server-True.pem").read_bytes())
        os.utime(folder / name, (changed_at, changed_at))
