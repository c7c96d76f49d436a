"""`kubectl apply -k`: one operator for a whole cluster, with only the rights that the manifests
list until an administrator grants more; or one for one namespace, without any ClusterRole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from testbed.state import CHECKOUT
from tests.support.binding import Binding
from tests.support.pages import typed

pytestmark = pytest.mark.xdist_group("e2e")

BASE = CHECKOUT / "manifests" / "base"
HOME = "--namespace=platform"


@pytest.fixture
def overlay(tmp_path: Path, operator_image: str) -> Path:
    """Return an overlay of manifests/base with this checkout's image and another namespace."""
    shutil.copytree(BASE, tmp_path / "base")
    name, tag = operator_image.rsplit(":", 1)
    kustomization = {
        "resources": ["../base"],
        "namespace": "platform",
        "images": [{"name": "workpool-operator", "newName": name, "newTag": tag}],
    }
    folder = tmp_path / "overlay"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return folder


@pytest.fixture
def installed(overlay: Path, fresh_cluster) -> Iterator[None]:
    fresh_cluster.kubectl.run("apply", "--kustomize", str(overlay))
    yield
    fresh_cluster.kubectl.run("delete", "--kustomize", str(overlay), "--timeout=60s")


@pytest.fixture
def in_one_namespace(operator_image: str, type_commands, fresh_cluster) -> Iterator[str]:
    """Install as docs/install.md says; return the namespace."""
    (script,) = typed("docs/install.md", "One namespace")
    type_commands(script)
    yield "data"
    fresh_cluster.kubectl.run("delete", "namespace", "data", "--timeout=60s")
    fresh_cluster.kubectl.run("delete", "--filename", str(BASE / "crd.yaml"), "--timeout=60s")


async def test_a_flow_completes_once_its_namespace_is_granted(
    installed, fresh_cluster, namespace, bound, spec, deploy, run_deployment
):
    deployment = await deploy("hello")  # SQLite answers 503 to two writers
    kubectl = fresh_cluster.kubectl
    kubectl.run("rollout", "status", "deployment/workpool-operator", HOME, "--timeout=90s")
    await bound.apply(**spec)
    forbidden = await bound.condition("Ready", "False", reason="LeaseForbidden", seconds=60)
    command = forbidden["message"].partition("Grant it: kubectl ")[2]
    assert command.endswith("--serviceaccount=platform:workpool-operator")
    kubectl.run(*command.split())
    await bound.ready(seconds=60)
    run_deployment(f"hello/{deployment['name']}")
    assert "Traceback" not in kubectl.run("logs", "deployment/workpool-operator", HOME)
    await bound.delete()
    await bound.gone()


@pytest.mark.extended
async def test_a_flow_completes_in_an_installation_without_any_clusterrole(
    in_one_namespace, fresh_cluster, kube, spec, deploy, run_deployment
):
    kubectl = fresh_cluster.kubectl.run
    assert "workpool-operator" not in kubectl("get", "clusterroles,clusterrolebindings", "-o=name")
    deployment = await replace(deploy, namespace=in_one_namespace)("hello")
    binding = Binding(kube, in_one_namespace, "etl")
    await binding.apply(**spec)
    await binding.ready(seconds=60)
    run_deployment(f"hello/{deployment['name']}")
    log = kubectl("logs", "deployment/workpool-operator", f"--namespace={in_one_namespace}")
    assert "forbidden" not in log.lower()
    await binding.delete()
    await binding.gone()
