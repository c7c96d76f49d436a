"""The components of a node, a function each: what runs, and with which flags.

Paths are those inside the node. Configuration files are written by `configuration`.
"""

from __future__ import annotations

from dataclasses import dataclass

from localnode.layout import CONFIGURATION, SERVICES, VOLUME_PLUGINS, Node

ETCD = "http://127.0.0.1:2379"
SERVICE_ACCOUNT_KEY = f"{CONFIGURATION}/service-accounts.key"
# The API server writes its own certificate there, followed by that of its authority.
API_CERTIFICATES = f"{CONFIGURATION}/api"
API_CERTIFICATE = f"{API_CERTIFICATES}/apiserver.crt"


@dataclass(frozen=True)
class Component:
    argv: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.argv[0]


def control_plane(node: Node) -> tuple[Component, ...]:
    """Return what can start before the API serves."""
    return (etcd(), kube_apiserver(node), containerd())


def clients_of_the_api(node: Node) -> tuple[Component, ...]:
    return (
        kube_controller_manager(),
        kube_scheduler(),
        kubelet(node),
        kube_proxy(node),
        coredns(),
    )


def etcd() -> Component:
    return _component(
        "etcd",
        "--data-dir=/var/lib/etcd",
        "--unsafe-no-fsync",  # the cluster need not survive a power cut
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
    )


def kube_apiserver(node: Node) -> Component:
    return _component(
        "kube-apiserver",
        f"--etcd-servers={ETCD}",
        "--bind-address=0.0.0.0",
        f"--advertise-address={node.addresses.node}",
        f"--cert-dir={API_CERTIFICATES}",
        f"--token-auth-file={CONFIGURATION}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--service-account-key-file={SERVICE_ACCOUNT_KEY}",
        f"--service-account-signing-key-file={SERVICE_ACCOUNT_KEY}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={SERVICES}",
        "--kubelet-preferred-address-types=InternalIP",
    )


def containerd() -> Component:
    return _component("containerd", f"--config={CONFIGURATION}/containerd.toml")


def kube_controller_manager() -> Component:
    kubeconfig = f"{CONFIGURATION}/kube-controller-manager.kubeconfig"
    return _component(
        "kube-controller-manager",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--service-account-private-key-file={SERVICE_ACCOUNT_KEY}",
        f"--root-ca-file={API_CERTIFICATE}",
        "--use-service-account-credentials=true",
        f"--flex-volume-plugin-dir={VOLUME_PLUGINS}",  # the default lies below /usr
        "--leader-elect=false",
    )


def kube_scheduler() -> Component:
    kubeconfig = f"{CONFIGURATION}/kube-scheduler.kubeconfig"
    return _component(
        "kube-scheduler",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
    )


def kubelet(node: Node) -> Component:
    return _component(
        "kubelet",
        f"--config={CONFIGURATION}/kubelet.json",
        f"--kubeconfig={CONFIGURATION}/kubelet.kubeconfig",
        f"--hostname-override={node.name}",
        f"--node-ip={node.addresses.node}",
        "--root-dir=/var/lib/kubelet",
        "--cert-dir=/var/lib/kubelet/pki",
    )


def kube_proxy(node: Node) -> Component:
    return _component(
        "kube-proxy",
        f"--kubeconfig={CONFIGURATION}/kube-proxy.kubeconfig",
        "--proxy-mode=iptables",
        f"--cluster-cidr={node.addresses.pods}",
        f"--hostname-override={node.name}",
        "--conntrack-max-per-core=0",  # a limit of the machine, not of this namespace
    )


def coredns() -> Component:
    return _component("coredns", f"-conf={CONFIGURATION}/Corefile")


def _component(*argv: str) -> Component:
    return Component(argv)
