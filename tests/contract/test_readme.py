"""The commands of the README do what the README says."""

from __future__ import annotations

import re
import shlex
from typing import Any

import yaml

from localnode import commands
from testbed import builds, version
from testbed.state import CHECKOUT
from workpool_operator.api.v1alpha1 import Spec

README = (CHECKOUT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)


def block(word: str) -> str:
    return next(found for found in BLOCKS if word in found).replace("\\\n", "")


def here_document(word: str) -> Any:
    (text,) = re.findall(r"<<EOF\n(.*?)^EOF$", block(word), re.M | re.S)
    return yaml.safe_load(text)


def test_the_helm_line_serves_the_namespace_of_the_binding():
    line = next(ln for ln in block("helm install").splitlines() if ln.startswith("helm install"))
    _, _, release, chart, *rest = shlex.split(line)
    argv = [str(builds.tool("helm")), "template", release, str(CHECKOUT / chart), *rest]
    argv.remove("--create-namespace")
    text = commands.run([*argv, "--kube-version=1.36.3"])
    objects = [found for found in yaml.safe_load_all(text) if found]
    namespace = here_document("WorkPoolBinding")["metadata"]["namespace"]
    (deployment,) = (found for found in objects if found["kind"] == "Deployment")
    (operator,) = deployment["spec"]["template"]["spec"]["containers"]
    assert operator["args"] == ["run", f"--namespace={namespace}"]
    assert operator["image"] == f"REGISTRY/workpool-operator:{version.current()}"
    roles = {
        (r["metadata"]["namespace"], r["metadata"]["name"]) for r in objects if r["kind"] == "Role"
    }
    names = ("workpool-operator-bindings", "workpool-operator-jobs")
    home = ("workpool-operator", "workpool-operator-replicas")  # Leases of the replicas
    assert roles == {home, *((namespace, name) for name in names)}
    assert f"kubectl create namespace {namespace}" in README


def test_the_kustomize_lines_grant_the_namespace_of_the_binding(tmp_path):
    overlay = here_document("overlay/kustomization.yaml")
    (tmp_path / "manifests").symlink_to(CHECKOUT / "manifests")
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    text = commands.run([builds.tool("kubectl"), "kustomize", tmp_path / "overlay"])
    objects = list(yaml.safe_load_all(text))
    (deployment,) = (found for found in objects if found["kind"] == "Deployment")
    (operator,) = deployment["spec"]["template"]["spec"]["containers"]
    assert operator["image"] == f"REGISTRY/workpool-operator:{version.current()}"
    grant = next(ln for ln in block("rolebinding").splitlines() if "create rolebinding" in ln)
    _, _, namespace, *_, role, account = shlex.split(grant)
    names = {found["metadata"]["name"] for found in objects if found["kind"] == "ClusterRole"}
    assert role.removeprefix("--clusterrole=") in names
    home = deployment["metadata"]["namespace"]
    assert account == f"--serviceaccount={home}:workpool-operator"
    assert namespace == here_document("WorkPoolBinding")["metadata"]["namespace"]


def test_the_binding_of_the_readme_is_valid_and_its_pool_is_created_first():
    spec = here_document("WorkPoolBinding")["spec"]
    assert Spec.model_validate(spec).model_dump(by_alias=True, exclude_unset=True) == spec
    assert f"prefect work-pool create {spec['workPool']['name']} --type kubernetes" in README


def test_every_link_of_the_readme_and_the_docs_has_a_target():
    dead = []
    for page in (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:*]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                dead.append(f"{page.name}: {target}")
    assert dead == []
