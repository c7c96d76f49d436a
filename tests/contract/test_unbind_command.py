"""`workpool-operator unbind`: what it lists, asks for, deletes and keeps."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.operator import PROGRAM
from workpool_operator.api.v1alpha1 import FINALIZER

LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
SPEC = {"workPool": {"name": "etl"}, "server": {"url": "http://prefect.invalid/api"}}


@pytest.fixture
def command(tmp_path: Path, cluster) -> Command:
    return Command(tmp_path, {"KUBECONFIG": str(cluster.kubeconfig)})


@pytest.fixture
async def unserved(crd, kube, namespace):
    """`await unserved("name", "other/finalizer")` creates a binding that no operator serves."""
    path = f"/apis/workpool-operator.dev/v1alpha1/namespaces/{namespace}/workpoolbindings"
    created: list[str] = []

    async def make(name: str, *finalizers: str, **spec: str) -> None:
        created.append(name)
        metadata = {"name": name, "finalizers": [FINALIZER, *finalizers]}
        body = {"apiVersion": "workpool-operator.dev/v1alpha1", "kind": "WorkPoolBinding"}
        answer = await kube.http.post(
            path, json={**body, "metadata": metadata, "spec": SPEC | spec}
        )
        answer.raise_for_status()

    yield make
    for name in created:
        merge = {"Content-Type": "application/merge-patch+json"}
        free = {"metadata": {"finalizers": None}}
        await kube.http.patch(f"{path}/{name}", json=free, headers=merge)
        await kube.http.delete(f"{path}/{name}")


@pytest.fixture
def there(cluster, namespace):
    def names() -> list[str]:
        query = ("get", "wpb", f"--namespace={namespace}", "--output=name")
        return [line.partition("/")[2] for line in cluster.kubectl.run(*query).split()]

    return names


def answered(answer: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command on a terminal, and type the answer."""
    primary, secondary = pty.openpty()
    os.write(primary, f"{answer}\n".encode())
    done = subprocess.run(
        [PROGRAM, "unbind", *arguments],
        stdin=secondary,
        capture_output=True,
        text=True,
        env=os.environ | env,
        check=False,
    )
    os.close(primary)
    os.close(secondary)
    return done


async def test_bindings_are_listed_and_deleted_only_after_confirmation(
    command, unserved, there, namespace
):
    await unserved("etl")
    await unserved("train")
    scope = (f"--namespace={namespace}", "--patience-seconds=0")

    result = command.run("unbind", *scope, "--dry-run")
    assert result.code == 0
    assert result.out.startswith("2 bindings in https://")
    assert f"  {namespace}/etl  work pool " in result.out
    assert result.out.endswith("nothing deleted (dry run)\n")

    declined = answered("n", *scope, env=dict(command.env))
    assert (declined.returncode, declined.stdout.split("\n")[-2].strip()) == (1, "nothing deleted")
    assert "Delete these 2 bindings? [y/N]" in declined.stderr
    assert there() == ["etl", "train"]

    agreed = answered("y", *scope, env=dict(command.env))
    assert agreed.returncode == 0, agreed.stderr
    for name in ("etl", "train"):
        why = "because no operator did so within 0 s"
        assert f"{namespace}/{name}: removing the finalizer, {why}\n" in agreed.stdout
        assert f"{namespace}/{name}: deleted\n" in agreed.stdout
    assert there() == []
    assert "no bindings to delete in https://" in command.run("unbind", *scope, "--yes").out


async def test_finalizers_of_others_are_not_removed(command, unserved, there, namespace):
    await unserved("held", "example.com/theirs")
    result = command.run("unbind", "-n", namespace, "--yes", "--patience-seconds=0")
    assert result.code == 1
    assert f"{namespace}/held was not deleted; its finalizers: example.com/theirs" in result.err
    assert there() == ["held"]


async def test_a_binding_that_waits_for_its_runs_keeps_its_finalizer_while_an_operator_holds_it(
    command, unserved, there, kube, namespace
):
    await unserved("drains", deletionPolicy="Drain")
    lease = {"metadata": {"name": "workpoolbinding-drains"}, "spec": {"holderIdentity": "replica"}}
    await kube.apply("leases", namespace, {**LEASE, **lease})
    scope = ("--namespace", namespace, "--yes", "--patience-seconds=0")
    unbind = asyncio.create_task(asyncio.to_thread(command.run, "unbind", *scope))
    await kube.wait(
        "workpoolbindings",
        namespace,
        "drains",
        until=lambda found: "deletionTimestamp" in found["metadata"],
    )
    await asyncio.sleep(2)
    assert there() == ["drains"]
    await kube.patch("workpoolbindings", namespace, "drains", {"metadata": {"finalizers": None}})
    result = await unbind
    assert result.code == 0
    waits = f"{namespace}/drains: waits for its runs (deletionPolicy Drain)\n"
    assert result.out.endswith(f"{waits}{namespace}/drains: deleted\n")


async def test_an_unknown_context_is_an_error_and_nothing_is_deleted(
    command, unserved, there, namespace
):
    await unserved("etl")
    result = command.run("unbind", "-n", namespace, "--yes", "--context", "nowhere")
    assert "has no context 'nowhere'; it has " in result.error
    assert there() == ["etl"]
