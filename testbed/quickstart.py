"""The Prefect server of manifests/quickstart, run from the run image."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import yaml

from localnode.errors import SetupError
from localnode.kubectl import Kubectl
from testbed.state import CHECKOUT

MANIFEST = CHECKOUT / "manifests" / "quickstart" / "prefect" / "server.yaml"
IN_CLUSTER = "http://prefect-server.prefect.svc:4200/api"
NODE_PORT = "--output=jsonpath={.spec.ports[0].nodePort}"


@dataclass(frozen=True)
class Addresses:
    """The URL of the API, as this machine and as pods reach it."""

    host: str
    pods: str


def start(kubectl: Kubectl, *, image: str, node_address: str) -> Addresses:
    """Start the server, and return when it answers this machine."""
    kubectl.run("apply", "--filename=-", stdin=_manifest(image))
    _wait_for_rollout(kubectl)
    port = kubectl.run("get", "service/prefect-server", "--namespace=prefect", NODE_PORT)
    url = f"http://{node_address}:{port}/api"
    _require_answer(f"{url}/health")
    return Addresses(host=url, pods=IN_CLUSTER)


def _manifest(image: str) -> str:
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(MANIFEST.read_text()))
    for document in documents:
        if document["kind"] == "Deployment":
            document["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return yaml.safe_dump_all(documents)


def _wait_for_rollout(kubectl: Kubectl) -> None:
    rollout = ["rollout", "status", "deployment/prefect-server", "--namespace=prefect"]
    try:
        kubectl.run(*rollout, "--timeout=180s")
    except SetupError as failed:
        logs = "logs deployment/prefect-server --namespace=prefect"
        raise SetupError(
            f"the Prefect server did not start: {failed}\n  log: {kubectl} {logs}"
        ) from None


def _require_answer(url: str) -> None:
    try:
        urllib.request.urlopen(url, timeout=10).close()
    except (urllib.error.URLError, TimeoutError) as failed:
        raise SetupError(
            f"the Prefect server runs, but this machine cannot reach {url}: {failed}"
        ) from None
