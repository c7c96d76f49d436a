"""The quick start of docs/install.md, typed word by word: from nothing to a Completed run.

Both namespaces enforce the restricted Pod Security Standard, and the operator has only the rights
that the manifests give it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.state import CHECKOUT
from tests.support.pages import typed

pytestmark = pytest.mark.xdist_group("e2e")

PAGE = "docs/install.md"


@pytest.fixture
def removed(fresh_cluster) -> Iterator[None]:
    """Remove what the commands install, except the server, which the other tests use."""
    yield
    kubectl = fresh_cluster.kubectl.run
    kubectl("delete", "wpb", "--all", "--namespace=prefect", "--timeout=60s")
    kubectl("delete", "--kustomize", str(CHECKOUT / "manifests" / "base"), "--timeout=60s")
    ours = ("job/demo", "configmap/demo", "rolebinding/workpool-operator-jobs")
    kubectl("delete", "--namespace=prefect", *ours)


def test_the_quick_start_runs_a_flow_to_completed(
    addresses, operator_image, removed, type_commands, fresh_cluster
):
    _, after_kind, _ = typed(PAGE, "Quick start")
    output = type_commands(after_kind)
    assert "Flow run finished successfully in 'Completed'." in output
    jobs = ("job", "--selector=workpool-operator.dev/binding", "--namespace=prefect")
    fresh_cluster.kubectl.run("wait", "--for=condition=Complete", *jobs, "--timeout=30s")
