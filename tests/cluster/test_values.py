"""Values of pool, deployment and run reach the pod as documented, or the run explains why not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.support import times
from tests.support.deployments import Deployer, template_with_flows
from tests.support.kube import Kube, Object
from tests.support.operator import Operator
from tests.support.polling import poll
from tests.support.prefect import PrefectApi

Serve = Callable[..., Awaitable[Operator]]
Launch = Callable[..., Awaitable[Object]]
NAMES = ["STAGE", "GREETING", "DEBUG", "NODE_IP", "POOL"]


def with_lists() -> Object:
    """Return a template whose environment is a list, and whose schema allows any value."""
    base = template_with_flows()
    listed = [
        {"name": "STAGE", "value": "dev"},
        {"name": "POOL", "value": "of {{ image_pull_policy }}"},
    ]
    base["variables"]["properties"]["env"] = {"default": listed}
    return base


async def test_the_innermost_environment_and_the_labels_of_a_run_reach_its_pod(
    api: PrefectApi, kube: Kube, namespace: str, pool: str, serve: Serve, deploy: Deployer
) -> None:
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": with_lists()})
    await serve()
    env = [{"name": "STAGE", "value": "prod"}, {"name": "GREETING", "value": "hello $(STAGE)"}]
    deployment = await deploy(
        "print_environment", env=env, namespace="team-b", fields={"labels": {"tier": 1}}
    )
    of_run = {"DEBUG": True, "NODE_IP": {"valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}}
    run = await api.create_run(
        deployment["id"],
        parameters={"names": NAMES},
        labels={"cost center": "payments"},
        job_variables={"env": of_run, "resources": {"requests": {"cpu": "1"}}},
    )
    await api.wait_for_state(run["id"], "COMPLETED")
    [pod] = await kube.list("pods", namespace)
    labels = pod["metadata"]["labels"]
    assert (labels["cost-center"], labels["tier"]) == ("payments", "1")
    lines = await poll(lambda: api.logs(run["id"]), until=lambda found: "POOL=" in "\n".join(found))
    for line in ("STAGE=prod", "GREETING=hello prod", "DEBUG=true", "POOL=of IfNotPresent"):
        assert line in lines
    assert f"NODE_IP={pod['status']['hostIP']}" in lines
    log = "\n".join(lines)
    assert "Job variable resources has no effect" in log
    assert "set cpu_request instead" in log
    assert (
        f"Job variable namespace 'team-b' has no effect: Jobs are created in {namespace!r}" in log
    )


async def test_a_run_can_set_its_own_pending_time_out_and_too_large_a_value_is_refused(
    api: PrefectApi, kube: Kube, namespace: str, serve: Serve, launch: Launch
) -> None:
    await serve(jobs={"serverURL": api.url, "pendingTimeoutSeconds": 600})
    waiting = await launch(image="localhost/no-such-image:1", pod_watch_timeout_seconds=12)
    long = await launch(env={"ARCHIVE": "A" * 204_800})
    long = await api.wait_for_state(long["id"], "CRASHED")
    assert "argument list too long" in long["state"]["message"]
    assert times.until_state(long) < 20
    waiting = await api.wait_for_state(waiting["id"], "CRASHED")
    assert "12 s" in waiting["state"]["message"]
    assert times.until_state(waiting) < 40
    annotations = [job["metadata"]["annotations"] for job in await kube.list("jobs", namespace)]
    assert long["id"] not in [each["prefect.io/flow-run-id"] for each in annotations]
