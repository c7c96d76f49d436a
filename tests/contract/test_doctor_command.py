"""`workpool-operator doctor`: what it checks with its caller's rights, and the fix it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from testbed.clusters import Cluster
from tests.support.command import Command
from tests.support.fault_proxy import FaultProxy
from tests.support.prefect import stock_template
from tests.support.private_ca import PrivateCA
from workpool_operator.kube import rights
from workpool_operator.kube.rights import Scope


@pytest.fixture
def command(tmp_path: Path, cluster: Cluster) -> Command:
    return Command(tmp_path, {"KUBECONFIG": str(cluster.kubeconfig)})


@pytest.fixture
def command_without_rights(kube, namespace, cluster, kube_proxy, tmp_path):
    """Return the command with an account that has no rights."""
    here = f"--namespace={namespace}"
    cluster.kubectl.run("create", "serviceaccount", "no-rights", here)
    token = cluster.kubectl.run("create", "token", "no-rights", here).strip()
    file = kube_proxy.write_kubeconfig(tmp_path / "no-rights", token=token)
    return Command(tmp_path, {"KUBECONFIG": str(file)})


def subjects(done, key: str) -> dict[str, dict]:
    """The checks of a binding in the JSON output, by the first words of their subjects."""
    checks = json.loads(done.out)["checks"]
    own = [each for each in checks if each["subject"].startswith(f"{key}: ")]
    return {each["subject"].removeprefix(f"{key}: ").partition(":")[0]: each for each in own}


async def test_an_installation_in_order_passes(command, operator, binding, namespace):
    process = await operator()
    await binding("etl")
    here = (f"--namespace={namespace}", f"--job-namespace={namespace}", "--write-secrets")
    done = await command("doctor", f"{namespace}/etl", *here, f"--operator={process.health}")
    assert done.code == 0, done.everything
    lines = done.out.splitlines()
    assert lines[-1] == "0 failed, 16 ok"
    assert all(line.startswith("ok    ") for line in lines[:-1])
    assert [line.partition(f"{namespace}/etl: ")[2].partition(" ")[0] for line in lines[7:-1]] == [
        *("DNS:", "API:", "credentials:", "work", "events:", "clocks"),
        *("template:", "pod:", "image"),
    ]


async def test_without_a_namespace_the_current_one_and_all_its_bindings_are_checked(
    command, crd, binding, namespace, cluster, tmp_path
):
    await binding("etl")
    named = await command("doctor", f"{namespace}/etl", "--patience-seconds=0")
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    kubeconfig["contexts"][0]["context"]["namespace"] = namespace
    file = tmp_path / "current"
    file.write_text(yaml.safe_dump(kubeconfig))
    current = await command("doctor", "--patience-seconds=0", KUBECONFIG=str(file))
    for done in (named, current):
        assert f"rights in namespace {namespace} (bindings)" in done.out
        assert f"binding {namespace}/etl is Ready: it has no status" in done.out
        assert f"{namespace}/etl: template" in done.out


async def test_every_missing_right_is_named_with_its_fix(crd, command_without_rights, namespace):
    here = (f"--namespace={namespace}", f"--job-namespace={namespace}")
    done = await command_without_rights("doctor", *here)
    assert done.code == 1
    assert "workpoolbindings.workpool-operator.dev is forbidden" in done.out
    for scope in (Scope.BINDINGS, Scope.JOBS, Scope.REPLICAS):
        for rule in rights.rules(scope):
            for verb, _, resource in rule.permissions:
                assert f" {verb} {resource}" in done.out
    grant = f"fix: kubectl -n {namespace} create rolebinding workpool-operator-jobs"
    assert done.out.count(grant) == 4
    assert done.out.splitlines()[-1] == "4 failed, 2 warning, 0 ok"
    assert "note: the rights are those of your own account; --as system:serviceaccount:" in done.err


async def test_an_administrator_sees_the_rights_of_the_operators_account(command, crd, namespace):
    account = f"--as=system:serviceaccount:{namespace}:default"
    done = await command("doctor", "-n", namespace, "--job-namespace", namespace, account)
    assert done.code == 1
    assert f"rights in namespace {namespace} (jobs): missing create jobs" in done.out
    assert f"--serviceaccount={namespace}:default" in done.out
    assert f"rights in namespace {namespace} (replicas)" in done.out  # those of its account
    assert "your own account" not in done.err


async def test_an_operator_that_does_not_answer_and_a_binding_that_does_not_exist_are_named(
    command, crd, namespace
):
    here = (f"--namespace={namespace}", "--operator=http://127.0.0.1:1", "--patience-seconds=0")
    done = await command("doctor", f"{namespace}/none", *here)
    assert done.code == 1
    assert "an operator is ready at http://127.0.0.1:1: no answer" in done.out
    assert f"binding {namespace}/none is Ready: " in done.out
    assert f"{namespace}/none: address and credentials: " in done.out


async def test_each_fault_of_a_server_is_found_by_the_check_of_its_own(
    command, crd, binding, namespace, auth_server, prefect_server, kube
):
    await kube.create(
        "secrets", namespace, {"metadata": {"name": "a"}, "stringData": {"k": "admin:wrong"}}
    )
    wrong = {"secretKeyRef": {"name": "a", "key": "k"}}
    port = prefect_server.url.rpartition(":")[2]
    faults = {
        "name": ({"url": "http://prefect.invalid/api"}, "DNS", "spec.server.url"),
        "port": ({"url": "http://127.0.0.1:1/api"}, "API", "connection refused"),
        "tls": ({"url": f"https://127.0.0.1:{port}"}, "API", "spec.server.url"),
        "key": ({"url": auth_server, "authString": wrong}, "credentials", "answered 401"),
        "secret": (
            {"url": auth_server, "authString": {"secretKeyRef": {"name": "b", "key": "k"}}},
            "address and credentials",
            "Secret 'b'",
        ),
        "pool": ({"url": prefect_server.url}, "work pool 'absent'", "prefect work-pool create"),
    }
    for name, (server, _, _) in faults.items():
        await binding(name, workPool={"name": "absent"}, server=server)
    keys = [f"{namespace}/{name}" for name in faults]
    done = await command("doctor", *keys, "-n", namespace, "-o", "json", "--patience-seconds=0")
    assert done.code == 1
    for name, (_, subject, message) in faults.items():
        found = subjects(done, f"{namespace}/{name}")
        assert found[subject]["status"] == "failed", found
        assert message in found[subject]["message"] + found[subject]["fix"]


async def test_what_delays_runs_is_a_warning_and_fails_no_installation(
    api, pool, command, crd, binding, namespace, prefect_proxy
):
    prefect_proxy.on("*", "/events/out").answer(403)
    await api.one("PATCH", f"/work_pools/{pool}", {"is_paused": True})
    await binding("etl", server={"url": prefect_proxy.url})
    key, options = f"{namespace}/etl", ("-n", namespace, "-o", "json", "--patience-seconds=0")
    found = subjects(await command("doctor", key, *options), key)
    paused = found[f"work pool {pool!r} exists and has type 'kubernetes'"]
    assert (paused["status"], paused["fix"]) == ("warning", f"prefect work-pool resume {pool!r}")
    assert found["events"]["status"] == "warning"
    assert "HTTP 403. Runs are found by polling every 10 s only" in found["events"]["message"]


async def test_a_certificate_that_is_not_trusted_is_found(
    command, crd, binding, namespace, prefect_server, tmp_path
):
    ca = PrivateCA.make(tmp_path, host="127.0.0.1")
    with FaultProxy(prefect_server, tls=ca.server) as proxy:
        await binding("etl", server={"url": proxy.url})
        key, options = f"{namespace}/etl", ("-n", namespace, "-o", "json", "--patience-seconds=0")
        found = subjects(await command("doctor", key, *options), key)
    assert found["TLS"]["status"] == "failed"
    assert "spec.server.caBundle" in found["TLS"]["message"]
    assert "It shows: CN=127.0.0.1, issued by CN=a private CA, valid" in found["TLS"]["message"]


async def test_a_viewer_is_told_which_checks_need_a_right_to_create(
    command, crd, binding, suspended_pool, namespace, cluster
):
    await binding("etl", workPool={"name": suspended_pool["name"]})
    who = f"system:serviceaccount:{namespace}:default"
    read = ("--verb=get,list,watch", "--resource=workpoolbindings,namespaces")
    here = f"--namespace={namespace}"
    cluster.kubectl.run("create", "role", "viewer", *read, here)
    account = f"--serviceaccount={namespace}:default"
    cluster.kubectl.run("create", "rolebinding", "viewer", "--role=viewer", account, here)
    key, options = f"{namespace}/etl", ("-o", "json", "--patience-seconds=0", f"--as={who}")
    found = subjects(await command("doctor", key, *options), key)
    for check, resource in (("template", "jobs"), ("pod", "pods")):
        assert found[check]["status"] == "skipped"
        assert f"needs the right to create {resource}" in found[check]["message"]
        assert "with an account that has it" in found[check]["fix"]


async def test_what_the_cluster_would_refuse_of_a_pod_is_found_by_a_dry_run(
    api, command, crd, binding, namespace, kube
):
    template = stock_template(imagePullSecrets=[{"name": "absent"}])
    pool = await api.create_pool(f"dry-{namespace}", template=template)
    await binding("etl", workPool={"name": pool["name"]})

    async def found() -> dict:
        arguments = ("-n", namespace, "-o", "json", "--patience-seconds=0")
        return subjects(await command("doctor", f"{namespace}/etl", *arguments), f"{namespace}/etl")

    image = (await found())["image prefecthq/prefect"]
    assert "Secret 'absent' of imagePullSecrets does not exist" in image["message"]
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    await kube.patch("namespaces", "", namespace, {"metadata": {"labels": restricted}})
    security = (await found())["pod"]
    assert "violates PodSecurity" in security["message"]
    assert "securityContext" in security["fix"]
    await kube.patch(
        "namespaces", "", namespace, {"metadata": {"labels": dict.fromkeys(restricted)}}
    )
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    await kube.apply("resourcequotas", namespace, quota | {"spec": {"hard": {"pods": "0"}}})
    await kube.wait(
        "resourcequotas", namespace, "none", until=lambda it: it.get("status", {}).get("hard")
    )
    full = (await found())[f"quota of namespace {namespace}"]
    assert "exceeded quota: none" in full["message"]
    assert "describe resourcequota" in full["fix"]
    await api.delete_pool(pool["name"])
