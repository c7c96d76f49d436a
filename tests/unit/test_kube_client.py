"""Which cluster a process talks to. Case 49."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from kubernetes_asyncio.config import incluster_config

from workpool_operator.errors import OperatorError
from workpool_operator.kube import client
from workpool_operator.kube.client import KubernetesClient


@pytest.fixture
def service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pod's: of namespace `jobs`, on a server of its own."""
    folder = tmp_path / "service-account"
    folder.mkdir()
    for name, text in {"token": "t", "ca.crt": "c", "namespace": "jobs\n"}.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(client, "_SERVICE_ACCOUNT", folder / "token")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    monkeypatch.setattr(incluster_config.InClusterConfigLoader, "_set_config", _host_alone)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return folder


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    context = {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "data"}}
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:6443"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [context],
        "current-context": "here",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


async def place() -> tuple[str, str]:
    """The server and the namespace that a process finds for itself."""
    async with await KubernetesClient.from_environment() as found:
        return found._configuration.host, found.namespace


@pytest.mark.usefixtures("service_account")
async def test_case_49_in_a_pod_it_is_the_pods_own_cluster_and_namespace() -> None:
    assert await place() == ("https://10.0.0.1:443", "jobs")


@pytest.mark.usefixtures("service_account")
async def test_case_49_a_kubeconfig_that_is_named_is_meant_also_in_a_pod(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig)
    )
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    assert await place() == ("http://127.0.0.1:6443", "data")


async def test_case_49_a_kubeconfig_that_is_not_there_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "nothing"
    monkeypatch.setattr(
        "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(missing)
    )
    monkeypatch.setenv("KUBECONFIG", str(missing))
    with pytest.raises(
        OperatorError, match=r"the kubeconfig .*nothing cannot be used: .*Set KUBECONFIG"
    ):
        await place()


def _host_alone(self: incluster_config.InClusterConfigLoader, configuration: object) -> None:
    """Without TLS, whose certificate would have to be a real one."""
    configuration.host = self.host  # type: ignore[attr-defined]
