"""A run in a pod that its binding changed and in which an admission policy put a container."""

from __future__ import annotations

from typing import Any

from tests.support.pods import shell

RUN_LABEL = "workpool-operator.dev/flow-run-id"
POD = "/spec/template/spec"


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": f"{POD}{path}", "value": value}


async def test_a_run_completes_with_everything_that_its_binding_puts_over_the_job(
    api, kube, namespace, injected, run_image, serve, launch
):
    """A native sidecar and an init container of patches, a first container of a webhook."""
    shared = {"name": "shared", "mountPath": "/shared"}
    prepare = shell("prepare", run_image, "echo ready > /shared/file", volumeMounts=[shared])
    proxy = shell("proxy", run_image, "exec sleep 3600", restartPolicy="Always")
    await serve(
        jobs={
            "serverURL": api.url,
            "env": [
                {"name": "STAGE", "value": "prod"},
                {"name": "FILE", "value": "/shared/$(STAGE)"},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            ],
            "labels": {"team": "data"},
            "annotations": {"example.com/cost": "42"},
            "patches": [
                add("/volumes/-", {"name": "shared", "emptyDir": {}}),
                add("/containers/0/volumeMounts/-", shared),
                add("/initContainers", [prepare, proxy]),
                {"op": "test", "path": f"{POD}/restartPolicy", "value": "Never"},
            ],
        }
    )
    check = 'test -s /shared/file && test "$FILE" = /shared/prod && test -n "$NODE"'
    run = await launch(command=f"sh -c '{check} && python /flows/report_only.py'")
    await api.wait_for_state(run["id"], "COMPLETED")
    [pod] = await kube.list("pods", namespace, selector=f"team=data,{RUN_LABEL}={run['id']}")
    assert pod["metadata"]["annotations"]["example.com/cost"] == "42"
    assert [each["name"] for each in pod["spec"]["containers"]] == ["mesh", "prefect-job"]
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["prepare", "proxy"]
