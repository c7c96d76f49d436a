"""A cluster in which nothing of ours was ever installed, as a new user has it.

The operator of manifests/base serves every namespace, so it cannot run where other tests do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from localnode import commands
from localnode.errors import SetupError
from testbed import builds, clusters, images, quickstart
from testbed.clusters import Cluster
from testbed.quickstart import Addresses
from testbed.state import CHECKOUT
from tests.e2e.helm import CRD, RELEASE, Helm
from tests.support import marks
from tests.support.binding import Binding
from tests.support.endpoint import Endpoint
from tests.support.kube import Kube
from tests.support.operator import PROGRAM

PREFECT = Path(sys.executable).with_name("prefect")
RUN_SECONDS = 120


@pytest.fixture(scope="session")
def fresh_cluster() -> Iterator[Cluster]:
    """Create a cluster of the same kind as the shared one, without anything of the other tests."""
    name = f"wpo-e2e-{uuid.uuid4().hex[:6]}"
    selection = clusters.select(os.environ | {"CLUSTER_NAME": name})
    if selection.cluster.name != name:
        raise SetupError(f"{selection.reason}, but these tests install into a cluster of their own")
    cluster = selection.cluster
    with marks.removed():
        cluster.up()
    yield cluster
    cluster.down()


@pytest.fixture(scope="session")
def run_image(fresh_cluster: Cluster) -> str:
    """Return the name of Prefect's own image, as which the cluster has ours."""
    return images.run_image(fresh_cluster, name="docker.io/prefecthq/prefect:3.8.8-python3.11")


@pytest.fixture(scope="session")
def operator_image(fresh_cluster: Cluster) -> str:
    """Return the name that chart and manifests use unless they are changed."""
    version = metadata.version("workpool-operator")
    name = f"docker.io/library/workpool-operator:{version}"
    return images.operator_image(fresh_cluster, name=name)


@pytest.fixture(scope="session")
def addresses(fresh_cluster: Cluster, run_image: str) -> Addresses:
    """Return the addresses of the Prefect server of manifests/quickstart."""
    node_address = fresh_cluster.node_address
    return quickstart.start(fresh_cluster.kubectl, image=run_image, node_address=node_address)


@pytest.fixture(scope="session")
def prefect_server(addresses: Addresses) -> Endpoint:
    """Return the server's address as this machine reaches it."""
    return Endpoint(addresses.host)


@pytest.fixture
def spec(pool: str, addresses: Addresses) -> dict[str, Any]:
    """The shortest spec of a binding."""
    return {"workPool": {"name": pool}, "server": {"url": addresses.pods}}


@pytest.fixture
async def kube(fresh_cluster: Cluster) -> AsyncIterator[Kube]:
    async with Kube(Endpoint.of_kubeconfig(fresh_cluster.kubeconfig)) as client:
        yield client


@pytest.fixture
def helm(fresh_cluster, namespace) -> Iterator[Helm]:
    """Yield Helm; at the end, delete the release and what Helm leaves: bindings and the CRD."""
    helm = Helm(fresh_cluster.kubeconfig, namespace)
    yield helm
    if helm.has(RELEASE):
        helm.uninstall(RELEASE)
    environment = os.environ | {"KUBECONFIG": str(fresh_cluster.kubeconfig)}
    unbind = [str(PROGRAM), "unbind", "--all-namespaces", "--yes", "--patience-seconds=0"]
    subprocess.run(unbind, env=environment, check=True)
    fresh_cluster.kubectl.run("delete", "crd", CRD, "--timeout=30s")


@pytest.fixture
def type_commands(fresh_cluster: Cluster, tmp_path: Path) -> Callable[[str], str]:
    """`type_commands(script)` is a user with kubectl, Helm and Prefect in a clone; it returns the
    output.

    What the script leaves running ends with it.
    """
    clone = tmp_path / "clone"
    for folder in ("charts", "manifests"):
        shutil.copytree(CHECKOUT / folder, clone / folder)
    programs = (PREFECT.parent, fresh_cluster.kubectl.program.parent, builds.tool("helm").parent)
    environment = {name: value for name, value in os.environ.items() if "PREFECT" not in name} | {
        "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
        "KUBECONFIG": str(fresh_cluster.kubeconfig),
        "PREFECT_HOME": str(tmp_path / "prefect-home"),
    }

    def run(script: str) -> str:
        log = tmp_path / "typed.log"
        careful = f"set -euo pipefail\ntrap 'jobs -p | xargs --no-run-if-empty kill' EXIT\n{script}"
        commands.run_logged(["bash", "-c", careful], log=log, env=environment, cwd=clone)
        return log.read_text()

    return run


@pytest.fixture
def run_deployment(prefect_server: Endpoint, tmp_path: Path) -> Callable[[str], None]:
    """`run_deployment("flow/deployment")` runs the user's command until the run ends Completed."""
    inherited = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    own = {"PREFECT_API_URL": prefect_server.url, "PREFECT_HOME": str(tmp_path / "prefect-home")}

    def run(name: str) -> None:
        watch = ["--watch", "--watch-timeout", str(RUN_SECONDS)]
        commands.run_logged(
            [PREFECT, "deployment", "run", name, *watch],
            log=tmp_path / "prefect.log",
            env=inherited | own,
        )

    return run


@pytest.fixture
def bound(kube: Kube, namespace: str) -> Binding:
    """Return the binding `etl` of the test's namespace, which the test applies."""
    return Binding(kube, namespace, "etl")
