"""Flows that are submitted to a pool without a deployment, on the real cluster."""

from __future__ import annotations

import shlex

from tests.support.deployments import QUICK


async def test_a_flow_that_is_submitted_without_a_deployment_becomes_one_job_once_it_is_uploaded(
    api, kube, namespace, deploy, pool, binding, operator, run_image
):
    """As `flow.submit_to_work_pool()` does: the run is PENDING while its bundle is uploaded."""
    await deploy("hello")  # for its ConfigMap, not for the run
    flow = await api.one("POST", "/flows/", {"name": "bundled"})
    words = ["sh", "-c", "echo 'ran the bundle' prefect-aws>=0.5.5 3.12"]
    run = await api.one(
        "POST",
        "/flow_runs/",
        {
            "flow_id": flow["id"],
            "work_pool_name": pool,
            "state": {"type": "PENDING", "name": "Pending"},
            "job_variables": {"command": shlex.join(words), "image": run_image},
        },
    )
    await operator()
    served = await binding()
    await served.ready()
    other = await api.create_run((await deploy("hello", command=QUICK))["id"])
    await api.wait_for_state(other["id"], "COMPLETED")  # by then the operator has seen the run, too
    assert (await api.read_run(run["id"]))["state_name"] == "Pending"
    assert not await jobs_of(kube, namespace, run)
    await api.set_state(run["id"], "SCHEDULED")
    run = await api.wait_for_state(run["id"], "CRASHED")  # the command reports nothing
    assert "without reporting the run's end" in run["state"]["message"]
    (job,) = await jobs_of(kube, namespace, run)
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == words
    labels = job["metadata"]["labels"]
    assert not [key for key in labels if key.startswith("prefect.io/deployment")]


async def jobs_of(kube, namespace, run):
    return await kube.list(
        "jobs", namespace, selector=f"workpool-operator.dev/flow-run-id={run['id']}"
    )
