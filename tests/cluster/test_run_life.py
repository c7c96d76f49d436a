"""On a real cluster runs become Jobs, and every end is explained."""

from __future__ import annotations


async def test_a_run_of_a_deployment_ends_completed(api, deploy, binding, operator):
    await operator()
    served = await binding()
    await served.ready()
    deployment = await deploy("hello")
    run = await api.create_run(deployment["id"])
    await api.wait_for_state(run["id"], "COMPLETED")
