"""The Service of the node's CoreDNS, and the objects that CoreDNS may read."""

from __future__ import annotations

import json
import urllib.request

from localnode.layout import DNS_ADDRESS, Node

SERVICE = {"name": "kube-dns", "namespace": "kube-system"}
APPLY = ("apply", "--server-side", "--force-conflicts", "--filename=-")
PROTOCOLS = (("dns", "UDP"), ("dns-tcp", "TCP"))
READABLE = (
    ("", ("endpoints", "services", "pods", "namespaces")),
    ("discovery.k8s.io", ("endpointslices",)),
)


def manifests(node: Node) -> str:
    """For `kubectl apply`; without a selector: CoreDNS is a process of the node, not a pod."""
    objects = [_service(), _endpoints(node), _role(), _role_binding()]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def serves(node: Node) -> bool:
    """Return whether CoreDNS answers and has read the cluster's Services."""
    try:
        with urllib.request.urlopen(
            f"http://{node.addresses.node}:8181/ready", timeout=2
        ) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _service() -> dict[str, object]:
    ports = [{"name": name, "protocol": protocol, "port": 53} for name, protocol in PROTOCOLS]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": SERVICE,
        "spec": {"clusterIP": DNS_ADDRESS, "ports": ports},
    }


def _endpoints(node: Node) -> dict[str, object]:
    labels = {"kubernetes.io/service-name": SERVICE["name"]}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": SERVICE | {"labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [node.addresses.node]}],
        "ports": [{"name": name, "protocol": protocol, "port": 53} for name, protocol in PROTOCOLS],
    }


def _role() -> dict[str, object]:
    rules = [
        {"apiGroups": [group], "resources": list(resources), "verbs": ["list", "watch"]}
        for group, resources in READABLE
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": rules,
    }


def _role_binding() -> dict[str, object]:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "system:coredns"}],
    }
