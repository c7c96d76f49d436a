"""The manifests and overlays of them, as kustomize renders them."""

from __future__ import annotations

import os
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from localnode import commands
from testbed import builds
from testbed.state import CHECKOUT
from workpool_operator.kube import rights
from workpool_operator.kube.rights import Scope

BASE = CHECKOUT / "manifests" / "base"
NAMESPACED = CHECKOUT / "manifests" / "namespaced"
RBAC = "rbac.authorization.k8s.io"


def kustomized(folder: Path) -> dict[str, dict[str, Any]]:
    """The objects by kind, of which only ClusterRoles are many."""
    text = commands.run([builds.tool("kubectl"), "kustomize", folder])
    return {found["kind"]: found for found in yaml.safe_load_all(text)}


def write_overlay(folder: Path, namespace: str, **more: Any) -> None:
    """Write an overlay of manifests/namespaced for that namespace."""
    overlay = {"resources": [os.path.relpath(NAMESPACED, folder)], "namespace": namespace, **more}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))


@pytest.mark.parametrize("namespace", ["", "platform"])
def test_the_operators_account_has_its_rights_in_whatever_namespace_an_overlay_puts_it(
    tmp_path, namespace
):
    overlay = {"resources": [os.path.relpath(BASE, tmp_path)]}
    overlay |= {"namespace": namespace} if namespace else {}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    objects = kustomized(tmp_path)
    home = namespace or "workpool-operator"
    assert objects["Namespace"]["metadata"]["name"] == home
    assert objects["ServiceAccount"]["metadata"]["namespace"] == home
    assert objects["Deployment"]["metadata"]["namespace"] == home
    (subject,) = objects["ClusterRoleBinding"]["subjects"]
    assert (subject["namespace"], subject["name"]) == (home, "workpool-operator")


def test_in_one_namespace_nothing_is_outside_of_it_and_no_right_is_missing(tmp_path):
    write_overlay(tmp_path, "data")
    text = commands.run([builds.tool("kubectl"), "kustomize", tmp_path])
    objects = list(yaml.safe_load_all(text))
    assert {found["metadata"].get("namespace") for found in objects} == {"data"}
    bound = {found["roleRef"]["name"] for found in objects if found["kind"] == "RoleBinding"}
    assert bound == {"workpool-operator", "workpool-operator-replicas"}
    granted = {
        (verb, group, resource)
        for role in objects
        if role["metadata"]["name"] in bound and role["kind"] == "Role"
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    needed = [rule for rule in rights.RULES if rule.scope is not Scope.SECRETS]
    assert granted == {permission for rule in needed for permission in rule.permissions}


async def test_an_administrator_of_a_namespace_may_install_there_once_the_cluster_allows_it(
    kube, namespace, cluster, crd, tmp_path
):
    """A user can grant only rights that the user has. The test makes a Role instead of the
    ClusterRole, which would change those of every user of the cluster."""
    allowed = yaml.safe_load((NAMESPACED / "administrators.yaml").read_text())
    assert allowed["metadata"]["labels"] == {f"{RBAC}/aggregate-to-admin": "true"}
    role = {"metadata": {"name": "allowed"}, "rules": allowed["rules"]}
    await kube.create("roles", namespace, role)
    user = f"administrator-of-{namespace}"
    subject = {"kind": "User", "apiGroup": RBAC, "name": user}
    for kind, name in (("ClusterRole", "admin"), ("Role", "allowed")):
        reference = {"apiGroup": RBAC, "kind": kind, "name": name}
        grant = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
        await kube.create("rolebindings", namespace, grant)
    write_overlay(tmp_path, namespace, replicas=[{"name": "workpool-operator", "count": 0}])
    made = cluster.kubectl.run("apply", f"--as={user}", "--kustomize", str(tmp_path))
    assert made.count("role.rbac.authorization.k8s.io/workpool-operator") == 3
    assert cluster.kubectl.succeeds(
        "auth", "can-i", "create", "wpb", f"--as={user}", "-n", namespace
    )


def test_the_quick_start_runs_the_prefect_that_the_tests_run():
    folder = CHECKOUT / "manifests" / "quickstart"
    images = re.findall(r"image: (\S+)", "".join(f.read_text() for f in folder.rglob("*.yaml")))
    assert set(images) == {f"docker.io/prefecthq/prefect:{metadata.version('prefect')}-python3.11"}
