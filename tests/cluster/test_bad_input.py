"""The worst input in a pool, a deployment or a run gives a valid Job or a clear error, and the
operator continues.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.binding import Binding
from tests.support.deployments import FOLDER, QUICK, Deployer, template_with_flows
from tests.support.kube import Kube, Object
from tests.support.operator import Operator
from tests.support.prefect import PrefectApi

Serve = Callable[..., Awaitable[Operator]]
Launch = Callable[..., Awaitable[Object]]

DEEP = 100  # Prefect's server takes no more than a few hundred
UNICODE = "流れ🦊 ünï\u202ecode'\"$@*"
UNUSUAL: Object = {
    "labels": {
        "junk": "$@*",
        "l" * 300 + "/" + "n" * 300: "v" * 300,
        "$@*": "no key is left of this",
        UNICODE: UNICODE,
    },
    "env": {
        "A NAME WITH BLANKS": "kept",
        "PLACEHOLDER": "{{ image }} {{ absent }} {{ $HOME }}",
        "CONTROL": "\x01\x1b[31m\r\n",
        "NUMBER": 10**30,
        "NOTHING": None,
        "UNICODE": UNICODE,
    },
    "name": UNICODE,
}


def loose() -> Object:
    """Return a template whose schema, which Prefect's server checks, allows any environment."""
    base = template_with_flows()
    base["variables"]["properties"]["env"] = {"type": "object"}
    return base


async def test_a_run_with_unusual_names_labels_and_variables_completes(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    deploy: Deployer,
    operator: Callable[..., Awaitable[Operator]],
    binding: Callable[..., Awaitable[Binding]],
) -> None:
    pool = f"プール {UNICODE} {uuid.uuid4().hex[:8]}"
    await api.create_pool(pool, template=loose())
    try:
        await operator()
        await (await binding(workPool={"name": pool})).ready()
        await deploy("hello")  # for the flows' ConfigMap
        deployment = await api.create_deployment(
            flow=UNICODE,
            name=UNICODE,
            pool=pool,
            entrypoint="hello.py:hello",
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": FOLDER}}],
            job_variables={"image": deploy.image, "image_pull_policy": "IfNotPresent", **UNUSUAL},
        )
        run = await api.create_run(deployment["id"], name=UNICODE * 5)
        await api.wait_for_state(run["id"], "COMPLETED")
        [job] = await kube.list("jobs", namespace)
    finally:
        await api.delete_pool(pool)
    assert_repaired(job)


def assert_repaired(job: Object) -> None:
    labels = job["metadata"]["labels"]
    assert "$@*" not in "".join([*labels, *labels.values()])
    assert all(len(value) <= 63 for value in labels.values())
    env = job["spec"]["template"]["spec"]["containers"][0]["env"]
    values = {entry["name"]: entry.get("value") for entry in env}
    for name, value in UNUSUAL["env"].items():
        assert values.get(name) == (None if value is None else str(value))


REFUSED: dict[str, tuple[Object, str]] = {
    "an image with a control character": ({"image": "busy\x1bbox"}, "containers[0].image"),
    "an image of a megabyte": ({"image": "x" * 1_000_000}, "containers[0].image"),
    "a quantity of a thousand digits": ({"cpu_limit": "9" * 1000 + "x"}, "limits.cpu"),
    "a name of a variable with =": ({"env": {"A=B": ""}}, "].name"),
    "quotes that do not end": ({"command": "sh -c 'x"}, "containers[0].args"),
    "a service account of unicode": ({"service_account_name": UNICODE}, "serviceAccountName"),
    "an environment nested deeply": ({"env": {"A=": {"a": [[[[[[["x"]]]]]]]}}}, "env.A="),
}


async def test_invalid_values_end_their_own_run_and_nothing_else(
    api: PrefectApi, kube: Kube, namespace: str, pool: str, serve: Serve, launch: Launch
) -> None:
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": loose()})
    process = await serve()
    runs = {why: await launch(**own) for why, (own, _) in REFUSED.items()}
    for why, run in runs.items():
        ended = await api.wait_for_state(run["id"], "CRASHED")
        message = ended["state"]["message"]
        assert REFUSED[why][1] in message, f"{why}: {message}"
        assert len(message) < 3000
        assert "Traceback" not in message
    assert await kube.list("jobs", namespace) == []
    good = await launch(command=QUICK)
    await api.wait_for_state(good["id"], "COMPLETED")
    assert "a bug in the operator" not in process.log


async def test_deeply_nested_variables_give_a_job_or_an_error(
    api: PrefectApi, serve: Serve, launch: Launch
) -> None:
    nested: Any = "x"
    for _ in range(DEEP):
        nested = {"a": nested}
    process = await serve()
    run = await launch(command=QUICK, absent=nested, labels={"a": "b"})
    await api.wait(
        run["id"], until=lambda run: run["state_type"] in ("RUNNING", "COMPLETED", "CRASHED")
    )
    assert "a bug in the operator" not in process.log


async def test_a_template_of_a_megabyte_is_served(
    api: PrefectApi, kube: Kube, namespace: str, pool: str, serve: Serve, launch: Launch
) -> None:
    base = template_with_flows()
    base["variables"]["properties"] |= {
        f"unused_{number}": {"type": "string", "description": "x" * 1000} for number in range(1000)
    }
    job = base["job_configuration"]["job_manifest"]["metadata"]
    job["annotations"] = {f"note-{number}": "x" * 1000 for number in range(200)}
    assert len(json.dumps(base)) > 1_000_000
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": base})
    await serve()
    run = await launch(command=QUICK)
    await api.wait_for_state(run["id"], "COMPLETED")
    [created] = await kube.list("jobs", namespace)
    assert len(created["metadata"]["annotations"]) > 200


@pytest.mark.parametrize("base", [{}, None], ids=["empty", "null"])
async def test_a_pool_without_a_template_claims_no_runs_and_reports_it(
    base: Any,
    api: PrefectApi,
    operator: Callable[..., Awaitable[Operator]],
    binding: Callable[..., Awaitable[Binding]],
) -> None:
    name = f"pool-{uuid.uuid4().hex[:8]}"
    body = {"name": name, "type": "kubernetes"} | (
        {} if base is None else {"base_job_template": base}
    )
    await api.one("POST", "/work_pools/", body)
    try:
        await operator()
        served = await binding(workPool={"name": name})
        fault = await served.condition("TemplateValid", "False")
        assert "job_configuration" in fault["message"]
        assert name in fault["message"]
    finally:
        await api.delete_pool(name)
