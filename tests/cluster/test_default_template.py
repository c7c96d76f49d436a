"""Our own template on the real cluster: unprivileged whatever the image, and every variable of the
pod arrives in it."""

from __future__ import annotations

import json
import uuid

import httpx
import pytest

from testbed import images
from tests.support.deployments import CONFIG_MAP, FLOWS, FOLDER
from tests.support.git import served_repository
from tests.support.polling import poll
from tests.support.run import TestRun
from tests.support.templates import TYPE, default_template
from workpool_operator.jobs.base_job_template import HOME, TEMPORARY

FLOWS_VOLUME = {
    "volumes": [{"name": "flows", "configMap": {"name": CONFIG_MAP}}],
    "volume_mounts": [{"name": "flows", "mountPath": FOLDER}],
}
COPIED = {
    "prefect.deployments.steps.run_shell_script": {"script": f"cp {FOLDER}/print_identity.py ."}
}
UNPRIVILEGED = {
    "user": 1000,
    "group": 1000,
    "file_groups": [1000],
    "home": HOME,
    "volume_of_home": HOME,
    "prefect_home": f"{HOME}/.prefect",
    "volume_of_prefect_home": HOME,
    "volume_of_working_directory": TEMPORARY,
}


@pytest.fixture
async def pool(api):
    """Create a pool of our own type with our own template; its name."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    body = {"name": name, "type": TYPE, "base_job_template": default_template()}
    await api.one("POST", "/work_pools/", body)
    yield name
    await api.delete_pool(name)


@pytest.fixture
async def restricted(kube, namespace):
    """The test's namespace, which admits only pods of the restricted standard."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    await kube.patch("namespaces", "", namespace, {"metadata": {"labels": labels}})
    return namespace


@pytest.fixture
async def served(serve, pool):
    return await serve(workPool={"name": pool, "type": TYPE})


@pytest.fixture(scope="session")
def rootful_image(cluster):
    """Return an image that runs as root, as Prefect's own does."""

    def make():
        return {"name": images.rootful_image(cluster)}

    return TestRun.current().once("rootful image", make)["name"]


@pytest.fixture
def repository(cluster, tmp_path):
    files = [FLOWS / "print_identity.py"]
    with served_repository(*files, folder=tmp_path / "git", host=cluster.host_address) as address:
        yield address


@pytest.fixture
def priority_class(cluster):
    name = f"test-{uuid.uuid4().hex[:8]}"
    manifest = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": 7,
    }
    cluster.kubectl.run("apply", "-f-", stdin=json.dumps(manifest))
    yield name
    cluster.kubectl.run("delete", "priorityclass", name)


@pytest.fixture
def print_identity(api, deploy, pool):
    """`await print_identity(pull_step, image=...)` returns what the flow of that name printed."""

    async def print_identity(pull_step, **job_variables):
        await deploy("hello")  # which brings the ConfigMap with the flows
        deployment = await api.create_deployment(
            flow="print_identity",
            name=f"print-identity-{pool}",
            pool=pool,
            entrypoint="print_identity.py:print_identity",
            pull_steps=[pull_step],
            job_variables=job_variables,
        )
        run = await api.create_run(deployment["id"])
        await api.wait_for_state(run["id"], "COMPLETED", "FAILED", "CRASHED")
        lines = await poll(
            lambda: api.logs(run["id"]), until=lambda logs: _report(logs) is not None
        )
        return _report(lines)

    return print_identity


def _report(lines):
    return next((json.loads(line) for line in lines if line.startswith('{"user"')), None)


@pytest.mark.parametrize("image", ["run_image", "rootful_image"])
async def test_a_flow_runs_unprivileged_with_a_writable_home_in_a_restricted_namespace(
    print_identity, restricted, served, request, image
):
    found = await print_identity(COPIED, image=request.getfixturevalue(image), **FLOWS_VOLUME)
    assert found.pop("working_directory").startswith(f"{TEMPORARY}/prefect-flow-run-")
    assert found == UNPRIVILEGED


async def test_a_restricted_namespace_refuses_other_pods(kube, restricted):
    pod = {"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    with pytest.raises(httpx.HTTPStatusError, match=r"violates PodSecurity .*restricted:latest"):
        await kube.create("pods", restricted, pod)


async def test_git_pulls_a_flow_into_its_home_even_if_the_image_runs_as_root(
    print_identity, restricted, served, rootful_image, repository
):
    cloned = {"prefect.deployments.steps.git_clone": {"repository": repository, "branch": "main"}}
    found = await print_identity(cloned, image=rootful_image)
    assert found.pop("working_directory").endswith("/flows-main")
    assert found == UNPRIVILEGED


async def test_the_pod_settings_of_a_deployment_are_in_its_job(
    api, kube, launch, namespace, served, run_image, priority_class
):
    toleration = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
    node = {"kubernetes.io/os": "linux"}
    terms = [{"matchExpressions": [{"key": "kubernetes.io/os", "operator": "Exists"}]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    run = await launch(
        "hello",
        image=run_image,
        node_selector=node,
        tolerations=[toleration],
        affinity={"nodeAffinity": required},
        priority_class_name=priority_class,
        active_deadline_seconds=600,
        memory_limit="512Mi",
        cpu_request="50m",
        run_as_user=1234,
        **FLOWS_VOLUME,
    )
    await api.wait_for_state(run["id"], "COMPLETED")
    [job] = await kube.list("jobs", namespace)
    [pod] = await kube.list("pods", namespace)
    assert job["spec"]["activeDeadlineSeconds"] == 600
    for spec in (job["spec"]["template"]["spec"], pod["spec"]):
        assert spec["nodeSelector"] == node
        assert toleration in spec["tolerations"]
        assert spec["affinity"] == {"nodeAffinity": required}
        assert spec["priorityClassName"] == priority_class
        assert spec["securityContext"]["runAsUser"] == 1234
        names = [volume["name"] for volume in spec["volumes"]]
        assert "flows" in names
        [container] = spec["containers"]
        assert container["resources"]["limits"] == {"memory": "512Mi"}
        assert container["resources"]["requests"]["cpu"] == "50m"
    assert pod["spec"]["priority"] == 7
