"""The quick starts of docs/quickstart.md, typed word by word: from nothing to a Completed run.

All namespaces enforce the restricted Pod Security Standard, and the operator has only the rights
that manifests or chart give it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from testbed.state import CHECKOUT
from tests.e2e.helm import Helm
from tests.support.pages import typed

pytestmark = pytest.mark.xdist_group("e2e")

PAGE = "docs/quickstart.md"
MANIFESTS = CHECKOUT / "manifests"
JOBS = ("job", "--selector=workpool-operator.dev/binding", "--namespace=prefect")
COMPLETED = "Flow run finished successfully in 'Completed'."


@pytest.fixture
def kubectl(addresses, operator_image, fresh_cluster) -> Iterator[Callable[..., str]]:
    """Yield kubectl; remove the demo, but not its server, which the other tests use."""
    kubectl = fresh_cluster.kubectl.run
    yield kubectl
    kubectl("delete", "--namespace=prefect", "job/demo", "configmap/demo")
    httpx.delete(f"{addresses.host}/work_pools/demo").raise_for_status()


@pytest.fixture
def manifests_removed(kubectl) -> Iterator[None]:
    yield
    kubectl("delete", "wpb", "demo", "--namespace=prefect", "--timeout=60s")
    kubectl("delete", "--filename", str(MANIFESTS / "quickstart" / "rolebinding.yaml"))
    kubectl("delete", "--kustomize", str(MANIFESTS / "base"), "--timeout=60s")


@pytest.fixture
def release_removed(kubectl, fresh_cluster) -> Iterator[None]:
    yield
    Helm(fresh_cluster.kubeconfig, "prefect").uninstall("demo")
    kubectl("delete", "--filename", str(MANIFESTS / "base" / "crd.yaml"), "--timeout=60s")


def test_the_quick_start_runs_a_flow_to_completed(manifests_removed, type_commands, kubectl):
    (after_kind,) = typed(PAGE, "With kind")
    assert COMPLETED in type_commands(after_kind)
    kubectl("wait", "--for=condition=Complete", *JOBS, "--timeout=30s")


def test_the_quick_start_with_helm_runs_a_flow_under_the_rights_that_the_chart_gives(
    release_removed, type_commands, kubectl
):
    (all_of_them,) = typed(PAGE, "With Helm")
    assert COMPLETED in type_commands(all_of_them)
    kubectl("wait", "--for=condition=Complete", *JOBS, "--timeout=30s")
    log = kubectl("logs", "deployment/demo-workpool-operator", "--namespace=prefect")
    assert "forbidden" not in log.lower()
    assert "Traceback" not in log
