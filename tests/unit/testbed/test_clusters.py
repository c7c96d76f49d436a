from __future__ import annotations

from pathlib import Path

import pytest

from localnode import builds
from localnode.errors import SetupError
from localnode.node import LocalNode
from testbed import clusters
from testbed.clusters.kind import KindCluster


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_kind_is_selected_if_docker_answers(programs: Path) -> None:
    install(programs, "docker", "exit 0")
    selection = clusters.select({})
    assert isinstance(selection.cluster, KindCluster)
    assert selection.reason == "'docker info' answers"


@pytest.mark.usefixtures("programs")
def test_the_local_node_is_selected_without_docker() -> None:
    selection = clusters.select({})
    assert isinstance(selection.cluster, LocalNode)
    assert "'docker info' does not answer" in selection.reason


def test_the_local_node_is_selected_if_docker_does_not_answer(programs: Path) -> None:
    install(programs, "docker", "exit 1")
    assert isinstance(clusters.select({}).cluster, LocalNode)


def test_the_variable_cluster_overrides_docker(programs: Path) -> None:
    install(programs, "docker", "exit 0")
    assert isinstance(clusters.select({"CLUSTER": "local"}).cluster, LocalNode)


def test_an_unknown_cluster_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SetupError, match="'minikube' is unknown: use local, kind or existing"):
        clusters.select({"CLUSTER": "minikube"})


def test_another_version_of_kubernetes_is_a_local_node_of_its_own() -> None:
    environ = {"CLUSTER": "local", "CLUSTER_NAME": "mine"}
    other = clusters.select(environ | {"KUBERNETES": builds.DEFAULT_KUBERNETES}).cluster
    assert clusters.select(environ).cluster.name == "mine"
    assert other.name == f"mine-{builds.DEFAULT_KUBERNETES.replace('.', '-')}"
    assert (
        clusters.select({"KUBERNETES": "1.36", "CLUSTER_NAME": "mine"}).cluster.name == other.name
    )
    with pytest.raises(SetupError, match=r"KUBERNETES=1\.36 needs a node .*: unset CLUSTER"):
        clusters.select({"CLUSTER": "kind", "KUBERNETES": "1.36"})


@pytest.mark.parametrize("given", ["RUN_IMAGE", "PREFECT_API_URL"])
def test_an_existing_cluster_needs_what_cannot_be_created_in_it(given: str) -> None:
    missing = ({"RUN_IMAGE", "PREFECT_API_URL"} - {given}).pop()
    with pytest.raises(SetupError, match=f"CLUSTER=existing needs {missing}"):
        clusters.select({"CLUSTER": "existing", given: "something"})


def test_an_existing_cluster_is_the_current_context_of_kubeconfig(
    tmp_path: Path, programs: Path
) -> None:
    install(programs, "kubectl", 'echo "$@"')
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.touch()
    environ = {
        "CLUSTER": "existing",
        "KUBECONFIG": str(kubeconfig),
        "RUN_IMAGE": "registry/run:1",
        "PREFECT_API_URL": "http://prefect.example:4200/api",
        "WORKPOOL_OPERATOR_STATE": str(tmp_path / "state"),
    }
    cluster = clusters.select(environ).cluster
    # A copy of that context alone, so that a later change of the current one has no effect.
    assert cluster.kubeconfig != kubeconfig
    assert f"--kubeconfig={kubeconfig} config view --minify" in cluster.kubeconfig.read_text()
    assert cluster.kubeconfig.stat().st_mode & 0o077 == 0
    assert cluster.host_address == "prefect.example"


def test_the_message_of_a_node_that_is_not_up_names_the_command(tmp_path: Path) -> None:
    environ = {"CLUSTER_NAME": "absent", "WORKPOOL_OPERATOR_STATE": str(tmp_path)}
    with pytest.raises(SetupError, match="node absent is not up: run 'make cluster'"):
        _ = clusters.local(environ).host_address


def test_the_users_kubeconfig_is_not_read(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/users/own")
    install(programs, "docker", "exit 0")
    install(programs, "kubectl", 'echo "$@"')
    environ = {"CLUSTER_NAME": "mine", "WORKPOOL_OPERATOR_STATE": str(tmp_path)}
    printed = clusters.select(environ).cluster.kubectl.run("get", "pods")
    assert printed == f"--kubeconfig={tmp_path}/mine/kubeconfig get pods\n"
