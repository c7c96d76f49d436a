"""Secrets of a server that requires credentials: missing, wrong, changed, and never shown."""

from __future__ import annotations

import json

import pytest

from tests.support.polling import poll
from tests.support.prefect import GUARDED_AUTH as AUTH
from tests.support.promises import AT_ONCE, SOON


@pytest.fixture
def secret(kube, namespace):
    async def write(**values: str) -> None:
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "prefect"}}
        await kube.delete("secrets", namespace, "prefect")
        await kube.create("secrets", namespace, manifest | {"stringData": values})

    return write


def server(url: str) -> dict:
    return {"url": url, "authString": {"secretKeyRef": {"name": "prefect", "key": "auth"}}}


async def test_each_fault_of_a_secret_is_reported_and_corrected_without_a_restart(
    binding, operator, auth_server, auth_pool, auth_api, secret
):
    await operator()
    served = await binding(server=server(auth_server))
    fault = await served.condition(
        "CredentialsValid", "False", reason="SecretNotFound", seconds=AT_ONCE
    )
    assert "Secret 'prefect' does not exist" in fault["message"]
    await secret(password=AUTH)
    fault = await served.condition(
        "CredentialsValid", "False", reason="SecretKeyMissing", seconds=SOON
    )
    assert "no key 'auth' (its keys: password)" in fault["message"]
    await secret(auth="admin:wrong")
    fault = await served.condition("CredentialsValid", "False", reason="Unauthorized", seconds=SOON)
    assert "answered 401 to a request with an auth string" in fault["message"]
    await secret(auth=AUTH)
    await served.ready(seconds=SOON)
    assert [worker["status"] for worker in await auth_api.workers(auth_pool)] == ["ONLINE"]


async def test_missing_credentials_of_a_server_that_requires_them_are_reported(
    binding, operator, auth_server, auth_pool
):
    await operator()
    served = await binding(server={"url": auth_server})
    fault = await served.condition(
        "CredentialsValid", "False", reason="Unauthorized", seconds=AT_ONCE
    )
    assert "a request without credentials" in fault["message"]


async def test_a_changed_secret_is_used_within_15_s_and_no_secret_is_ever_shown(
    kube, namespace, binding, operator, auth_server, auth_pool, secret
):
    process = await operator(WORKPOOL_OPERATOR_LOG_LEVEL="DEBUG")
    await secret(auth=AUTH)
    served = await binding(server=server(auth_server))
    await served.ready()
    await secret(auth="admin:wrong-4711")
    await served.condition("CredentialsValid", "False", reason="Unauthorized", seconds=SOON)
    await secret(auth=AUTH)
    await served.ready(seconds=SOON)
    shown = json.dumps([await served.read(), await kube.list("events", namespace)]) + process.log
    assert "4711" not in shown


async def test_the_worker_record_is_deleted_even_if_the_secret_was_deleted_first(
    kube, namespace, binding, operator, auth_server, auth_api, auth_pool, secret
):
    await operator()
    await secret(auth=AUTH)
    served = await binding(server=server(auth_server))
    await served.ready()
    await kube.delete("secrets", namespace, "prefect")
    await served.delete()
    await served.gone(seconds=AT_ONCE)
    await poll(lambda: auth_api.workers(auth_pool), until=lambda workers: workers == [])
