"""What a binding puts over every Job: faults are conditions before a run starts."""

from __future__ import annotations

from tests.support.polling import poll
from tests.support.prefect import stock_template
from tests.support.promises import SOON

POD = "/spec/template/spec"


async def test_a_patch_that_cannot_be_applied_is_reported_and_claims_nothing(
    api, kube, namespace, pool, binding, operator, deploy
):
    template = stock_template()
    template["job_configuration"]["job_manifest"]["spec"]["suspend"] = True
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": template})
    await operator()
    jobs = {"serverURL": api.url}
    image = {"op": "replace", "path": f"{POD}/containers/1/image", "value": "mirror/flow:1"}
    served = await binding(jobs=jobs | {"patches": [image]})
    fault = await served.condition("TemplateValid", "False", reason="InvalidPatch", seconds=SOON)
    text = f"spec.jobs.patches[0]: replace {POD}/containers/1/image: the Job has no {POD}/contain"
    assert fault["message"].startswith(text)
    run = await api.create_run((await deploy("hello"))["id"])
    refused = {"op": "add", "path": f"{POD}/restartPolicy", "value": "Sometimes"}
    await served.patch(jobs={"patches": [refused]})
    status = await served.wait(lambda status: "Sometimes" in str(status), seconds=SOON)
    assert "the value comes from spec.jobs.patches[0] of the binding" in str(status)
    assert (await api.read_run(run["id"]))["state_type"] == "SCHEDULED"
    assert await kube.list("jobs", namespace) == []
    host = {"op": "add", "path": f"{POD}/hostname", "value": "flows"}
    env = [{"name": "STAGE", "value": "prod"}]
    labels, annotations = {"team": "data"}, {"example.com/cost": "42"}
    own = {"env": env, "labels": labels, "annotations": annotations, "patches": [host]}
    await served.patch(jobs=own)
    await served.ready(seconds=SOON)
    await api.wait_for_state(run["id"], "PENDING")

    async def jobs_of_run() -> list:
        return await kube.list("jobs", namespace, selector="team=data")

    [job] = await poll(jobs_of_run, until=bool, seconds=SOON)
    template = job["spec"]["template"]
    assert template["spec"]["hostname"] == "flows"
    assert env[0] in template["spec"]["containers"][0]["env"]
    for metadata in (job["metadata"], template["metadata"]):
        assert metadata["labels"] | labels == metadata["labels"]
        assert metadata["annotations"] | annotations == metadata["annotations"]
