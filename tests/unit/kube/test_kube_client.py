"""Which cluster a process uses (docs/conformance.md, 49), and what failed requests raise."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import incluster_config

from workpool_operator import settings
from workpool_operator.errors import (
    KubernetesBadRequest,
    KubernetesConflict,
    KubernetesForbidden,
    KubernetesGone,
    KubernetesInvalid,
    KubernetesNotFound,
    KubernetesRefused,
    KubernetesThrottled,
    KubernetesUnavailable,
    OperatorError,
)
from workpool_operator.kube import client
from workpool_operator.kube import kubeconfig as kubeconfigs
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig
from workpool_operator.kube.models import Rights


@pytest.fixture
def service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files and variables of a pod in the namespace `jobs`."""
    folder = tmp_path / "service-account"
    folder.mkdir()
    for name, text in {"token": "t", "ca.crt": "c", "namespace": "jobs\n"}.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(client, "_SERVICE_ACCOUNT", folder / "token")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    monkeypatch.setattr(incluster_config.InClusterConfigLoader, "_set_config", _host_alone)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return folder


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    context = {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "data"}}
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:6443"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [context],
        "current-context": "here",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


async def target() -> tuple[str, str]:
    """Return the server and the namespace that a process uses by default."""
    async with await KubernetesClient.from_environment() as found:
        return found._configuration.host, found.namespace


@pytest.mark.usefixtures("service_account")
async def test_case_49_in_a_pod_the_client_uses_the_pods_own_cluster_and_namespace() -> None:
    assert await target() == ("https://10.0.0.1:443", "jobs")


@pytest.mark.usefixtures("service_account")
async def test_case_49_a_named_kubeconfig_is_used_in_a_pod_too(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    assert await target() == ("http://127.0.0.1:6443", "data")


async def test_case_49_a_missing_kubeconfig_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    with pytest.raises(OperatorError, match=r"^the kubeconfig .*a:.*b does not exist\. Set KUBE"):
        await target()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("change", "context", "problem"),
    [
        ({}, "there", "has no context 'there'; it has here"),
        ({"current-context": ""}, "", "has no current context; it has here. Choose one: kubectl"),
        ({"current-context": "gone"}, "", "has no context 'gone'; it has here"),
        ({"contexts": None}, "", "cannot be used: "),
        ({"clusters": 1}, "", "cannot be used: "),
    ],
)
def test_a_problem_of_a_kubeconfig_is_reported_in_one_line(
    kubeconfig: Path, change: dict[str, Any], context: str, problem: str
) -> None:
    kubeconfig.write_text(yaml.safe_dump(yaml.safe_load(kubeconfig.read_text()) | change))
    with pytest.raises(OperatorError) as refusal:
        asyncio.run(KubernetesClient.from_environment(Kubeconfig(str(kubeconfig), context)))
    assert problem in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [("a text", "it is not a kubeconfig"), (None, "Is a directory"), ("a: [", "while parsing")],
)
def test_a_file_that_is_not_a_kubeconfig_is_reported_in_one_line(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    path = tmp_path / "kubeconfig" if content else tmp_path
    if content:
        path.write_text(content)
    with pytest.raises(OperatorError, match=f"kubeconfig .* cannot be used: {problem}") as refusal:
        asyncio.run(KubernetesClient.from_environment(Kubeconfig(str(path))))
    assert "\n" not in str(refusal.value)


def replace_part(kubeconfig: Path, **parts: Any) -> None:
    document = yaml.safe_load(kubeconfig.read_text())
    kubeconfig.write_text(yaml.safe_dump(document | parts))


def log_in(kubeconfig: Path, user: dict[str, Any]) -> None:
    replace_part(kubeconfig, users=[{"name": "u", "user": user}])


def plugin(folder: Path, *, expires: str) -> dict[str, Any]:
    """A user with an exec plugin that returns a new token each time, and fails without `count`."""
    (folder / "count").write_text("0")
    script = folder / "plugin"
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    status = {"token": "token-%s", "expirationTimestamp": expires}
    answer = json.dumps({**credential, "status": status})
    script.write_text(
        f"#!/bin/sh\nset -e\nn=$(cat {folder}/count)\necho $((n + 1)) > {folder}/count\n"
        f"printf '{answer}' $n\n"
    )
    script.chmod(0o755)
    return {"exec": {"apiVersion": credential["apiVersion"], "command": str(script)}}


async def test_the_token_of_an_exec_plugin_is_replaced_before_it_expires(
    kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeconfigs, "TOKEN_SECONDS", 0.0)
    log_in(kubeconfig, plugin(tmp_path, expires="2020-01-01T00:00:00Z"))
    async with await KubernetesClient.from_environment(Kubeconfig(str(kubeconfig))) as kube:
        sent = [(await kube._authorization())["authorization"] for _ in range(2)]
        assert sent == ["Bearer token-1", "Bearer token-2"]
        (tmp_path / "count").unlink()
        with pytest.raises(KubernetesUnavailable, match="no token from the kubeconfig"):
            await kube.get(client.JOBS, "data", "a")
    log_in(kubeconfig, plugin(tmp_path, expires="2999-01-01T00:00:00Z"))
    async with await KubernetesClient.from_environment(Kubeconfig(str(kubeconfig))) as kube:
        sent = [(await kube._authorization())["authorization"] for _ in range(2)]
        assert sent == ["Bearer token-0", "Bearer token-0"]


async def test_the_token_in_a_file_of_a_kubeconfig_is_read_again(
    kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeconfigs, "TOKEN_SECONDS", 0.0)
    (tmp_path / "token").write_text("old\n")
    log_in(kubeconfig, {"tokenFile": str(tmp_path / "token")})
    async with await KubernetesClient.from_environment(Kubeconfig(str(kubeconfig))) as kube:
        assert (await kube._authorization())["authorization"] == "Bearer old"
        (tmp_path / "token").write_text("new\n")
        assert (await kube._authorization())["authorization"] == "Bearer new"


async def test_the_proxy_of_a_kubeconfig_is_used(kubeconfig: Path) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        replace_part(
            kubeconfig,
            clusters=[
                {
                    "name": "c",
                    "cluster": {
                        "server": "http://cluster.invalid:6443",
                        "proxy-url": f"http://127.0.0.1:{port}",
                    },
                }
            ],
        )
        async with await KubernetesClient.from_environment(Kubeconfig(str(kubeconfig))) as kube:
            with pytest.raises(KubernetesUnavailable):
                await kube.get(client.JOBS, "data", "a")
    assert asked[0].startswith(b"GET http://cluster.invalid:6443/apis/batch/v1/")


def test_a_named_context_has_precedence_over_the_current_one(kubeconfig: Path) -> None:
    document = yaml.safe_load(kubeconfig.read_text())
    other = {"name": "there", "context": {"cluster": "c", "user": "u", "namespace": "other"}}
    kubeconfig.write_text(yaml.safe_dump(document | {"contexts": [*document["contexts"], other]}))
    asyncio.run(_is_there(Kubeconfig(str(kubeconfig), "there")))


async def _is_there(named: Kubeconfig) -> None:
    async with await KubernetesClient.from_environment(named) as found:
        assert found.namespace == "other"
        assert found.address == "http://127.0.0.1:6443 (context there)"


HEADERS = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def answered(
    answer: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[KubernetesClient]:
    """A client of a server that answers the first request of each connection with `answer`."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await answer(await reader.readuntil(b"\r\n\r\n"), writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=300)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with server, KubernetesClient(Configuration(host=url)) as kube:
            yield kube
    finally:
        for writer in writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def test_a_watch_without_an_answer_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "REQUEST_TIMEOUT_SECONDS", 0.2)

    async def nothing(head: bytes, writer: asyncio.StreamWriter) -> None:
        pass

    async with answered(nothing) as kube:
        with pytest.raises(KubernetesUnavailable, match="timed out"):
            async with kube.watch("/api/v1/pods", {}):
                pass


async def test_an_open_watch_can_be_silent_for_longer_than_the_request_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "REQUEST_TIMEOUT_SECONDS", 0.2)

    async def slow(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(HEADERS + b"\r\n")
        await asyncio.sleep(0.6)
        writer.write(b"{}\n")

    async with answered(slow) as kube, kube.watch("/api/v1/pods", {}) as lines:
        assert await anext(lines) == b"{}"


async def test_requests_are_answered_while_any_number_of_watches_is_open() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        watch = b"watch=true" in head
        writer.write(HEADERS + (b"\r\n" if watch else b"Content-Length: 2\r\n\r\n{}"))

    async with answered(answer) as kube, AsyncExitStack() as watches:
        for _ in range(150):  # the client library's own limit is 100
            await watches.enter_async_context(kube.watch("/api/v1/pods", {}))
        assert await kube.request("GET", "/api/v1/pods") == b"{}"


async def test_concurrent_reviews_of_a_namespaces_rights_share_one_request() -> None:
    requests: list[bytes] = []

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        requests.append(head)
        body = b'{"status": {"resourceRules": null, "incomplete": true, "allowed": true}}'
        writer.write(
            HEADERS + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        writer.close()

    async with answered(answer) as kube:
        found = await asyncio.gather(*(kube.rights("data") for _ in range(50)))
        assert found == [Rights(incomplete=True)] * 50
        assert len(requests) == 1
        await kube.rights("elsewhere")
        assert len(requests) == 2
        assert await kube.allowed("data", verb="list", group="batch", resource="jobs")
        assert await kube.allowed("data", verb="list", group="batch", resource="jobs")
        assert len(requests) == 3


def _host_alone(self: incluster_config.InClusterConfigLoader, configuration: object) -> None:
    """Set only the host: TLS would need a real certificate."""
    configuration.host = self.host  # type: ignore[attr-defined]


@pytest.mark.parametrize("setting", ["true", "false"])
async def test_certificates_are_checked_strictly_on_newer_pythons_unless_the_setting_is_false(
    setting, kubeconfig, monkeypatch
):
    create = ssl.create_default_context

    def strict(*args: Any, **options: Any) -> ssl.SSLContext:
        context = create(*args, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # as from Python 3.13 on
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    monkeypatch.setenv("WORKPOOL_OPERATOR_TLS_STRICT", setting)
    settings.tls_strict.cache_clear()
    try:
        async with await KubernetesClient.from_environment(Kubeconfig(str(kubeconfig))) as kube:
            used = kube._session.connector._ssl  # type: ignore[union-attr]
            assert bool(used.verify_flags & ssl.VERIFY_X509_STRICT) is (setting == "true")
    finally:
        settings.tls_strict.cache_clear()


@asynccontextmanager
async def api_server(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[KubernetesClient]:
    """A client of an API server that answers every request with `answer`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        async with KubernetesClient(configuration) as kube:
            yield kube
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {"kind": "Status", "reason": "Invalid", "message": "data: 'pnu_4711'"},
            "HTTP 422 Invalid",
        ),
        ("<html>Authorization: Bearer pnu_4711</html>", "HTTP 422"),
    ],
)
async def test_answers_about_secrets_and_pages_of_gateways_are_not_quoted(body, text):
    async def answer(request: web.Request) -> web.StreamResponse:
        if isinstance(body, str):
            return web.Response(text=body, status=422)
        return web.json_response(body, status=422)

    async with api_server(answer) as kube:
        with pytest.raises(KubernetesRefused) as refused:
            await kube.request("PATCH", client.SECRETS.path("data", "prefect"), body={})
    assert text in str(refused.value)
    assert "4711" not in str(refused.value)


async def test_a_404_that_is_a_page_of_a_gateway_is_no_answer_of_the_api_server():
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<h1>no such tunnel</h1>", status=404)

    async with api_server(answer) as kube:
        with pytest.raises(KubernetesUnavailable, match="HTTP 404 of a gateway"):
            await kube.request("GET", client.JOBS.path("data", "a"))
        with pytest.raises(KubernetesNotFound):  # as an API server answers for an unknown group
            await kube.request("GET", "/apis/kueue.x-k8s.io/v1beta1/workloads")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, KubernetesBadRequest),
        (401, KubernetesUnavailable),
        (403, KubernetesForbidden),
        (404, KubernetesNotFound),
        (405, KubernetesRefused),
        (408, KubernetesUnavailable),
        (409, KubernetesConflict),
        (410, KubernetesGone),
        (422, KubernetesInvalid),
        (429, KubernetesThrottled),
        (500, KubernetesUnavailable),
    ],
)
async def test_a_failed_request_raises_the_type_of_its_http_code(status, kind):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "Status", "message": "no"}, status=status)

    async with api_server(answer) as kube:
        with pytest.raises(OperatorError, match="no") as raised:
            await kube.request("GET", client.JOBS.path("data", "a"))
    assert type(raised.value) is kind
