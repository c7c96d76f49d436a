"""`workpool-operator doctor`: what it checks with its caller's rights, and the fix it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.clusters import Cluster
from tests.support.command import Command


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


async def test_an_installation_in_order_passes(command, operator, binding, namespace):
    process = await operator()
    await binding("etl")
    here = (f"--namespace={namespace}", f"--job-namespace={namespace}", "--write-secrets")
    done = await command("doctor", f"{namespace}/etl", *here, f"--operator={process.health}")
    assert done.code == 0, done.everything
    lines = done.out.splitlines()
    assert lines[-1] == "0 failed, 7 ok"
    assert all(line.startswith("ok    ") for line in lines[:-1])


async def test_every_missing_right_is_named_with_its_fix(crd, command_without_rights, namespace):
    here = (f"--namespace={namespace}", f"--job-namespace={namespace}")
    done = await command_without_rights("doctor", *here)
    assert done.code == 1
    assert "workpoolbindings.workpool-operator.dev is forbidden" in done.out
    assert "missing create jobs, get jobs, list jobs" in done.out
    grant = f"fix: kubectl -n {namespace} create rolebinding workpool-operator-jobs"
    assert done.out.count(grant) == 2
    assert done.out.splitlines()[-1] == "4 failed, 0 ok"


async def test_an_operator_that_does_not_answer_and_a_binding_that_none_serves_are_named(
    command, crd, binding, namespace, monkeypatch
):
    await binding("etl", suspend=True)
    done = await command(
        "doctor", f"{namespace}/none", f"--namespace={namespace}", "--operator=http://127.0.0.1:1"
    )
    assert done.code == 1
    assert "an operator is ready at http://127.0.0.1:1: no answer" in done.out
    assert f"binding {namespace}/none is Ready: " in done.out
