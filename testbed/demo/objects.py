"""The demo's objects in the cluster: the CRD, the namespace of the Jobs, the binding."""

from __future__ import annotations

from pathlib import Path

import yaml

from localnode.errors import SetupError
from localnode.kubectl import Kubectl
from testbed.demo.server import Addresses
from testbed.state import CHECKOUT

CRD = CHECKOUT / "manifests" / "base" / "crd.yaml"
BINDING = CHECKOUT / "examples" / "binding.yaml"
NAMESPACE = "data"
POOL = "demo"


def apply(kubectl: Kubectl, *, api: Addresses, folder: Path) -> Path:
    """Applies all; the file of the binding, as it was applied."""
    binding = folder / "binding.yaml"
    binding.write_text(_for_an_operator_on_this_machine(api))
    kubectl.run("apply", f"--filename={CRD}")
    kubectl.run("wait", "--for=condition=Established", f"--filename={CRD}", "--timeout=30s")
    namespace = kubectl.run("create", "namespace", NAMESPACE, "--dry-run=client", "--output=yaml")
    kubectl.run("apply", "--filename=-", stdin=namespace)
    kubectl.run("apply", f"--filename={binding}")
    return binding


def wait_until_ready(kubectl: Kubectl, *, operator_log: Path) -> None:
    """Returns when the binding is Ready, or says what its status says."""
    wait = ["wait", "--for=condition=Ready", f"--namespace={NAMESPACE}", "workpoolbinding/demo"]
    if not kubectl.succeeds(*wait, "--timeout=60s"):
        shown = kubectl.run("get", "workpoolbindings", f"--namespace={NAMESPACE}")
        raise SetupError(f"the binding is not Ready:\n{shown}  log: {operator_log}")


def _for_an_operator_on_this_machine(api: Addresses) -> str:
    """The example, but for the server's URL: here it differs between the operator and the pods."""
    binding = yaml.safe_load(BINDING.read_text())
    binding["spec"]["server"]["url"] = api.host
    binding["spec"]["jobs"] = {"serverURL": api.pods}
    return yaml.safe_dump(binding, sort_keys=False)
