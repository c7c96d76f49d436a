"""A real ServiceAccount for an operator, with single ClusterRoles of manifests/base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from testbed.clusters import Cluster
from testbed.state import CHECKOUT
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object

NAME = "operator"
API = "rbac.authorization.k8s.io/v1"
SEES_BINDINGS = "workpool-operator"
MAKES_JOBS = "workpool-operator-jobs"
WRITES_SECRETS = "workpool-operator-secrets"


@dataclass(frozen=True)
class Account:
    """The ServiceAccount of one namespace. `grant(role, namespace)` grants the ClusterRole's rights
    in the namespace, as a RoleBinding to it would."""

    kube: Kube
    cluster: Cluster
    proxy: FaultProxy
    home: str
    file: Path

    async def kubeconfig(self) -> Path:
        """Create the ServiceAccount; return a kubeconfig that uses it through the proxy."""
        await self.kube.create("serviceaccounts", self.home, {"metadata": {"name": NAME}})
        token = self.cluster.kubectl.run("create", "token", NAME, f"--namespace={self.home}")
        return self.proxy.write_kubeconfig(self.file, token=token.strip())

    async def grant(self, role: str, namespace: str, *, without: str = "") -> None:
        """Grant the role's rules, except for those about the resource `without`."""
        rules = [rule for rule in _rules(role) if without not in rule["resources"]]
        manifest = {"metadata": {"name": role}, "rules": rules}
        await self.kube.apply("roles", namespace, _typed("Role", manifest))
        subject = {"kind": "ServiceAccount", "name": NAME, "namespace": self.home}
        reference = {"apiGroup": API.partition("/")[0], "kind": "Role", "name": role}
        manifest = {"metadata": {"name": role}, "roleRef": reference, "subjects": [subject]}
        await self.kube.apply("rolebindings", namespace, _typed("RoleBinding", manifest))

    async def revoke(self, role: str, namespace: str) -> None:
        await self.kube.delete("rolebindings", namespace, role)


def _rules(role: str) -> list[Object]:
    documents = yaml.safe_load_all((CHECKOUT / "manifests/base/rbac.yaml").read_text())
    return next(
        list(found["rules"])
        for found in documents
        if (found["kind"], found["metadata"]["name"]) == ("ClusterRole", role)
    )


def _typed(kind: str, manifest: Object) -> Object:
    return {"apiVersion": API, "kind": kind, **manifest}
