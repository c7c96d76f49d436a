"""A binding creates its work pool, and keeps its template as a ConfigMap says."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.support.binding import Binding
from tests.support.polling import poll
from tests.support.prefect import PrefectApi, suspended_template
from tests.support.promises import AT_ONCE, SOON
from workpool_operator.jobs.configuration import default_base_job_template

SOURCE = {"configMapKeyRef": {"name": "etl", "key": "template"}}


@pytest.fixture
async def absent(api: PrefectApi) -> AsyncIterator[str]:
    """The name of a pool that the server does not have yet."""
    name = f"made-{uuid.uuid4().hex[:8]}"
    yield name
    answer = await api.http.delete(f"/work_pools/{name}")
    assert answer.status_code in (204, 404)


@pytest.fixture
def write(kube, namespace) -> Callable[..., Awaitable[None]]:
    """`await write(text)`: what the ConfigMap has from now on; None: no such key."""

    async def write(text: str | None) -> None:
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "etl"}}
        data = {"other": ""} if text is None else {"template": text}
        await kube.apply("configmaps", namespace, manifest | {"data": data})

    return write


def creating(pool: str, **fields: Any) -> dict[str, Any]:
    return {"name": pool, "creationPolicy": "IfNotPresent", **fields}


async def fault_of(served: Binding, reason: str, *, seconds: float = SOON) -> str:
    fault = await served.condition("WorkPoolFound", "False", reason=reason, seconds=seconds)
    return str(fault["message"])


async def test_a_missing_pool_is_created_with_our_template_and_again_when_it_was_deleted(
    api, binding, operator, absent
):
    await operator()
    two = [
        await binding(name, workPool=creating(absent, type="kubernetes-operator"))
        for name in ("one", "two")
    ]
    await asyncio.gather(*(each.ready(seconds=SOON) for each in two))
    made = await api.read_pool(absent)
    assert made["type"] == "kubernetes-operator"
    assert made["base_job_template"] == default_base_job_template()
    await two[1].patch(workPool={"creationPolicy": "Never"})
    await api.delete_pool(absent)
    again = await two[0].wait(
        lambda status: status["workPool"]["id"] not in (None, made["id"]), seconds=SOON
    )
    assert (await api.read_pool(absent))["id"] == again["workPool"]["id"]


async def test_a_pool_of_another_type_stays_as_it_is(api, binding, operator, absent):
    await api.one("POST", "/work_pools/", {"name": absent, "type": "process"})
    await operator()
    served = await binding(workPool=creating(absent))
    assert "has type 'process'" in await fault_of(served, "WorkPoolTypeUnsupported")
    assert (await api.read_pool(absent))["base_job_template"] == {}


async def test_nothing_is_created_until_the_template_of_the_configmap_can_be_used(
    api, binding, operator, write, absent
):
    await operator()
    served = await binding(workPool=creating(absent, baseJobTemplate=SOURCE))
    said = await fault_of(served, "ConfigMapNotFound", seconds=AT_ONCE)
    assert said.startswith("spec.workPool.baseJobTemplate.configMapKeyRef: ConfigMap 'etl' does")
    await write(None)
    assert "has no key 'template' (its keys: other)" in await fault_of(
        served, "ConfigMapKeyMissing"
    )
    await write("{")
    assert "is not valid" in await fault_of(served, "ConfigMapValueInvalid")
    template = suspended_template()
    spec = template["job_configuration"]["job_manifest"]["spec"]
    spec["template"]["spec"]["restartPolicy"] = "Sometimes"
    await write(json.dumps(template))
    said = await fault_of(served, "InvalidTemplate")
    assert "spec.template.spec.restartPolicy: expected " in said
    assert "'Sometimes'" in said
    spec["template"]["spec"]["restartPolicy"] = "Never"
    template["variables"]["properties"]["image"]["default"] = 7
    await write(json.dumps(template))
    said = await fault_of(served, "CreationRefused")  # by Prefect, which checks the defaults
    assert "7 is not" in said
    assert (await api.http.get(f"/work_pools/{absent}")).status_code == 404
    del template["variables"]["properties"]["image"]["default"]
    await write(json.dumps(template))
    await served.ready(seconds=SOON)
    assert (await api.read_pool(absent))["base_job_template"] == template


async def test_what_the_server_answers_to_a_creation_is_reported(
    api, binding, operator, prefect_proxy, absent
):
    create = prefect_proxy.on("POST", "/work_pools/$")
    create.answer(403, json={"detail": "Forbidden"})
    await operator()
    served = await binding(workPool=creating(absent), server={"url": prefect_proxy.url})
    said = await fault_of(served, "CreationForbidden", seconds=AT_ONCE)
    assert f"prefect work-pool create '{absent}' --type kubernetes" in said
    prefect_proxy.forget()
    prefect_proxy.on("POST", "/work_pools/$").answer(503)
    fault = await served.condition("ServerReachable", "False", seconds=SOON)
    assert "/work_pools/: HTTP 503" in fault["message"]
    prefect_proxy.forget()
    await api.create_pool(absent)  # a person is faster than the next check
    await served.ready(seconds=AT_ONCE)


def template(image: str) -> dict[str, Any]:
    made = suspended_template()
    made["variables"]["properties"]["image"]["default"] = image
    return made


async def synced(served: Binding, status: str, reason: str, *, seconds: float = SOON) -> str:
    found = await served.condition("TemplateSynced", status, reason=reason, seconds=seconds)
    return str(found["message"])


async def test_a_pool_follows_the_configmap_until_it_is_changed_in_prefect(
    api, binding, operator, kube, namespace, write, absent
):
    async def image() -> str:
        pool = await api.read_pool(absent)
        return str(pool["base_job_template"]["variables"]["properties"]["image"]["default"])

    await write(json.dumps(template("a:1")))
    process = await operator()
    served = await binding(
        workPool=creating(absent, baseJobTemplate=SOURCE, syncPolicy="IfUnchanged")
    )
    await synced(served, "True", "Synced")
    await process.terminate()  # the status remembers the template that both had
    await write(json.dumps(template("a:2")))
    await operator()
    await poll(image, until=lambda found: found == "a:2", seconds=SOON)
    await synced(served, "True", "Synced")
    edited = {"base_job_template": template("edited:1")}
    await api.request("PATCH", f"/work_pools/{absent}", edited)
    await write(json.dumps(template("a:3")))
    said = await synced(served, "False", "Drifted")
    assert "at variables.properties.image.default. The operator does not overwrite it." in said
    await served.ready()
    assert await image() == "edited:1"
    command = said.rpartition("--overwrite ")[2]
    annotation = dict([command.split("=")])
    change = {"metadata": {"annotations": annotation}}
    await kube.patch("workpoolbindings", namespace, served.name, change)
    await synced(served, "True", "Synced")
    assert await image() == "a:3"


async def test_a_difference_is_shown_and_an_update_that_fails_stops_no_claims(
    api, binding, operator, write, prefect_proxy, absent
):
    await api.create_pool(absent, template=template("a:1"))
    await operator()
    pool = {"name": absent, "baseJobTemplate": SOURCE}
    served = await binding(workPool=pool, server={"url": prefect_proxy.url})
    await synced(served, "False", "ConfigMapNotFound", seconds=AT_ONCE)
    await served.ready()
    await write(json.dumps(template("a:1")))
    await synced(served, "True", "Synced")
    await write(json.dumps(template("a:2")))
    said = await synced(served, "False", "OutOfSync")
    assert "set spec.workPool.syncPolicy to IfUnchanged" in said
    prefect_proxy.on("PATCH", "/work_pools/").answer(403, json={"detail": "read only"})
    await served.patch(workPool={"syncPolicy": "IfUnchanged"})
    said = await synced(served, "False", "UpdateFailed")
    assert "HTTP 403 read only" in said
    await served.ready()
    prefect_proxy.forget()
    await synced(served, "True", "Synced")
    found = (await api.read_pool(absent))["base_job_template"]
    assert found == template("a:2")
