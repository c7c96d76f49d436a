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


def kustomized(folder: Path) -> dict[str, dict[str, Any]]:
    """The objects by kind, of which only ClusterRoles are many."""
    text = commands.run([builds.tool("kubectl"), "kustomize", folder])
    return {found["kind"]: found for found in yaml.safe_load_all(text)}


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
    folder = CHECKOUT / "manifests" / "namespaced"
    overlay = {"resources": [os.path.relpath(folder, tmp_path)], "namespace": "data"}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
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


def test_the_quick_start_runs_the_prefect_that_the_tests_run():
    folder = CHECKOUT / "manifests" / "quickstart"
    images = re.findall(r"image: (\S+)", "".join(f.read_text() for f in folder.rglob("*.yaml")))
    assert set(images) == {f"docker.io/prefecthq/prefect:{metadata.version('prefect')}-python3.11"}
