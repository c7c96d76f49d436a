"""An error of a pool stops claims within half a minute; an error of a run ends the run.

An error is the pool's if no value of a run can fix it: the field depends on no placeholder.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.binding import Binding
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object
from tests.support.operator import Operator
from tests.support.polling import poll
from tests.support.prefect import PrefectApi, stock_template
from tests.support.promises import IN_HALF_A_MINUTE

Bind = Callable[..., Awaitable[Binding]]
Operate = Callable[..., Awaitable[Operator]]

CREATE = r"/apis/batch/v1/namespaces/[^/]+/jobs"


def template(pod: Object | None = None, spec: Object | None = None, **container: Any) -> Object:
    """Return the stock template with these literal values in its manifest."""
    base = stock_template(**(pod or {}))
    manifest = base["job_configuration"]["job_manifest"]
    manifest["spec"].update(spec or {})
    manifest["spec"]["template"]["spec"]["containers"][0].update(container)
    return base


def with_default(**defaults: Any) -> Object:
    """Return the stock template with these defaults of its variables."""
    base = stock_template()
    for name, value in defaults.items():
        base["variables"]["properties"][name]["default"] = value
    return base


def with_hostname() -> Object:
    """Return the stock template with a variable for a field that only the API server checks."""
    base = template({"hostname": "{{ hostname }}"})
    base["variables"]["properties"]["hostname"] = {"type": "string"}
    return base


async def put(api: PrefectApi, pool: str, base: Object) -> None:
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": base})


POOL_ERRORS: dict[str, tuple[Object, list[str]]] = {
    "an invalid image, which the dry run does not check": (
        template(image="Bad Image"),
        ["spec.template.spec.containers[0].image", "'Bad Image'", "image reference"],
    ),
    "an invalid quantity, which the API server refuses without a path": (
        template(resources={"limits": {"memory": "1 GB"}}),
        ["containers[0].resources.limits.memory", "'1 GB'", "1Gi"],
    ),
    "a wrong type": (
        template(spec={"backoffLimit": "3"}),
        ["job_manifest.spec.backoffLimit", "'3'", "32-bit integer"],
    ),
    "a value that only the API server can check": (
        template({"tolerations": [{"key": "a", "operator": "Is"}]}),
        ["spec.template.spec.tolerations[0].operator", '"Is"', '"Equal", "Exists"'],
    ),
    "a mount of a missing volume": (
        template(volumeMounts=[{"name": "data", "mountPath": "/data"}]),
        ["containers[0].volumeMounts[0].name", "one of the pod's volumes", "'data'"],
    ),
}


async def test_an_error_of_a_pool_is_reported_in_time_and_clears_without_a_restart(
    api: PrefectApi, binding: Bind, operator: Operate, pool: str
) -> None:
    await operator()
    served = await binding()
    await served.ready()
    for case, (broken, facts) in POOL_ERRORS.items():
        await put(api, pool, broken)
        condition = await served.condition("TemplateValid", "False", seconds=IN_HALF_A_MINUTE)
        for fact in (*facts, pool, "Correct it in Prefect"):
            assert fact in condition["message"], f"{case}: {condition['message']}"
        await put(api, pool, stock_template())
        await served.ready(seconds=IN_HALF_A_MINUTE)


async def test_runs_of_a_faulty_pool_stay_scheduled_until_it_is_corrected(
    api: PrefectApi, kube: Kube, namespace: str, binding: Bind, operator: Operate, pool: str
) -> None:
    await operator()
    served = await binding()
    await put(api, pool, template({"restartPolicy": "Sometimes"}))
    await served.condition("TemplateValid", "False", seconds=IN_HALF_A_MINUTE)
    run = await make_run(api, pool)
    await served.wait(lambda status: status["conditions"] != [], seconds=5)
    assert await api.state_names(run["id"]) == ["Scheduled"]
    await put(api, pool, template(spec={"suspend": True}))
    await served.ready(seconds=IN_HALF_A_MINUTE)
    await api.wait(run["id"], until=lambda run: bool(run["infrastructure_pid"]))
    assert len(await jobs_of(kube, namespace, run)) == 1


RUN_ERRORS: dict[str, tuple[Object, list[str]]] = {
    "image": (
        {"image": "Bad Image"},
        [
            "job_manifest.spec.template.spec.containers[0].image",
            "'Bad Image'",
            "image reference",
            "job variable image of the flow run",
        ],
    ),
    "quantity": (
        {"memory_limit": "lots"},
        ["resources.limits.memory", "'lots'", "1Gi", "job variable memory_limit of the flow run"],
    ),
    "two at once": (
        {"cpu_limit": "many", "image": ""},
        ["resources.limits.cpu", "'many'", "containers[0].image", "job variable image"],
    ),
    "name of a variable": (
        {"env": {"A=B": "1"}},
        ["env[", "].name", "'A=B'", "printable ASCII", "job variable env of the flow run"],
    ),
    "what only the API server knows": (
        {"hostname": "Bad Name"},
        [
            "The API server refused",
            "job_manifest.spec.template.spec.hostname",
            '"Bad Name"',
            "RFC 1123",
            "job variable hostname of the flow run",
        ],
    ),
    "block that is not there": (
        {"env": {"TOKEN": "{{ prefect.blocks.secret.no-such-block }}"}},
        ["job variable env.TOKEN", "{{ prefect.blocks.secret.no-such-block }}", "not found"],
    ),
    "block without a name": (
        {"env": {"TOKEN": "{{ prefect.blocks.foo }}"}},
        ["job variable env.TOKEN", "prefect.blocks.foo"],
    ),
}


async def test_an_error_of_a_run_ends_it_with_path_value_and_variable(
    api: PrefectApi, kube: Kube, namespace: str, binding: Bind, operator: Operate, pool: str
) -> None:
    await put(api, pool, with_hostname())
    await operator()
    served = await binding()
    await served.ready()
    runs = {why: await make_run(api, pool, own) for why, (own, _) in RUN_ERRORS.items()}
    for why, run in runs.items():
        ended = await api.wait_for_state(run["id"], "CRASHED")
        message = ended["state"]["message"]
        for fact in RUN_ERRORS[why][1]:
            assert fact in message, f"{why}: {message}"
        assert "Traceback" not in message
    assert await kube.list("jobs", namespace) == []
    await served.condition("TemplateValid", "True", seconds=1)


async def test_an_error_of_a_deployment_is_attributed_to_it(
    api: PrefectApi, binding: Bind, operator: Operate, pool: str
) -> None:
    await operator()
    await (await binding()).ready()
    deployment = await api.create_deployment(
        flow="hello", name="faulty", pool=pool, job_variables={"cpu_request": "?"}
    )
    run = await api.create_run(deployment["id"])
    ended = await api.wait_for_state(run["id"], "CRASHED")
    assert "job variable cpu_request of the deployment" in ended["state"]["message"]


async def test_an_invalid_default_is_a_warning_because_a_deployment_can_override_it(
    api: PrefectApi, binding: Bind, operator: Operate, pool: str
) -> None:
    await put(api, pool, with_default(image="Bad Image"))
    await operator()
    served = await binding()
    await served.ready()
    condition = await served.condition("TemplateValid", "True")
    assert "'Bad Image'" in condition["message"]
    assert "the pool's default of job variable image" in condition["message"]
    plain, overriding = await make_run(api, pool), await make_run(api, pool, {"image": "busybox"})
    crashed = await api.wait_for_state(plain["id"], "CRASHED")
    assert "the pool's default of job variable image" in crashed["state"]["message"]
    await api.wait(overriding["id"], until=lambda run: bool(run["infrastructure_pid"]))


async def test_an_unused_variable_is_one_line_in_the_runs_log(
    api: PrefectApi, binding: Bind, operator: Operate, pool: str
) -> None:
    await put(api, pool, template(spec={"suspend": True}))
    await operator()
    await (await binding()).ready()
    run = await make_run(api, pool, {"memory_limits": "1Gi", "image": "busybox"})
    await api.wait(run["id"], until=lambda run: bool(run["infrastructure_pid"]))

    async def warnings() -> list[str]:
        return [line for line in await api.logs(run["id"]) if "memory_limits" in line]

    [line] = await poll(warnings, until=lambda lines: lines != [])
    assert "did you mean memory_limit?" in line


@pytest.mark.parametrize("status", [403, 404, 500, 503])
async def test_a_dry_run_without_a_result_is_not_an_error_of_the_template(
    status: int,
    api: PrefectApi,
    binding: Bind,
    operator: Operate,
    pool: str,
    kube_proxy: FaultProxy,
    tmp_path: Any,
) -> None:
    kube_proxy.on("POST", CREATE, query="dryRun=All").answer(status)
    await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    served = await binding()
    await served.ready()
    condition = await served.condition("TemplateValid", "True")
    assert "the operator tries again" in condition["message"]


async def test_a_full_quota_is_not_an_error_of_the_template(
    kube: Kube, namespace: str, binding: Bind, operator: Operate
) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    await kube.create("resourcequotas", namespace, quota)
    await kube.wait("resourcequotas", namespace, "none", until=lambda q: "hard" in q["status"])
    await operator()
    served = await binding()
    await served.ready()
    assert "exceeded quota" in (await served.condition("TemplateValid", "True"))["message"]


async def test_the_api_server_checks_each_template_once(
    api: PrefectApi,
    binding: Bind,
    operator: Operate,
    pool: str,
    kube_proxy: FaultProxy,
    tmp_path: Any,
) -> None:
    await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    served = await binding()
    await served.ready()
    for seconds in (1, 2):  # two looks, at least
        await served.patch(concurrencyLimit=seconds)
        await served.wait(lambda status: status["observedGeneration"] > 1, seconds=20)
    dry_runs = [call for call in kube_proxy.calls("/jobs", method="POST") if "dryRun" in call.query]
    assert len(dry_runs) == 1


async def make_run(api: PrefectApi, pool: str, job_variables: Object | None = None) -> Object:
    name = f"d{time.monotonic_ns()}"
    deployment = await api.create_deployment(flow="hello", name=name, pool=pool)
    return await api.create_run(deployment["id"], job_variables=copy.deepcopy(job_variables or {}))


async def jobs_of(kube: Kube, namespace: str, run: Object) -> list[Object]:
    return await kube.list(
        "jobs", namespace, selector=f"workpool-operator.dev/flow-run-id={run['id']}"
    )
