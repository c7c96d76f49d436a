"""manifests/base and overlays of it, as kustomize renders them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from localnode import commands
from testbed import builds
from testbed.state import CHECKOUT

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
