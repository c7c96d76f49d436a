"""Writes what the components of a node read: credentials, kubeconfigs and their configuration.

Most of it is JSON, which is YAML too. All of it is new at each start but the key of the service
accounts: it stays, so that tokens survive a restart.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
from pathlib import Path

from localnode import cgroups, commands
from localnode.components import API_CERTIFICATE, API_CERTIFICATES, SERVICE_ACCOUNT_KEY
from localnode.layout import (
    CLUSTER_DOMAIN,
    CONFIGURATION,
    CONTAINERD_SOCKET,
    DNS_ADDRESS,
    RESOLV_CONF,
    VOLUME_PLUGINS,
    Node,
)
from localnode.pause import PAUSE_IMAGE

TOKENS = "tokens.csv"


def write(node: Node) -> None:
    """Write all but the host's kubeconfig, for which the API server has to start first."""
    node.configuration.mkdir(parents=True, exist_ok=True)
    node.log.mkdir(exist_ok=True)
    shutil.rmtree(_outside(node, API_CERTIFICATES), ignore_errors=True)
    _make_service_account_key(_outside(node, SERVICE_ACCOUNT_KEY))
    _write_credentials(node)
    for name, content in {
        "kubelet.json": json.dumps(kubelet(node), indent=1),
        "containerd.toml": CONTAINERD,
        "cni/10-pods.conflist": json.dumps(pod_network(node), indent=1),
        "Corefile": corefile(node),
    }.items():
        path = node.configuration / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)


def written_at(node: Node) -> float:
    """Return when the node was last started, in seconds since the epoch."""
    return (node.configuration / TOKENS).stat().st_mtime


def write_kubeconfig(node: Node) -> bool:
    """Write the administrator's, self-contained; False while there is no authority yet."""
    authority = _outside(node, API_CERTIFICATE)
    if not authority.exists():
        return False
    data = base64.b64encode(authority.read_bytes()).decode()
    admin = json.loads((node.configuration / "admin.kubeconfig").read_text())
    admin["clusters"][0]["cluster"] = {
        "server": node.server,
        "certificate-authority-data": data,
    }
    _write_private(node.kubeconfig, json.dumps(admin, indent=1))
    return True


def kubeconfig(node: Node, *, token: str) -> str:
    cluster = {"server": node.server, "certificate-authority": API_CERTIFICATE}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": node.name, "cluster": cluster}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": node.name, "context": {"cluster": node.name, "user": "user"}}],
        "current-context": node.name,
    }
    return json.dumps(content, indent=1)


def kubelet(node: Node) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        # Only the host and the pods reach the kubelet.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        # Kubelets that share one kill each other's pods.
        "cgroupRoot": cgroups.root(cgroups.name_of(node.addresses, node.name)),
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": RESOLV_CONF,
        "volumePluginDir": VOLUME_PLUGINS,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,  # loaded images cannot be pulled again
        "serializeImagePulls": False,
        "maxPods": 250,
        "nodeStatusUpdateFrequency": "5s",
    }


def pod_network(node: Node) -> dict[str, object]:
    """Routed pairs, no bridge: replies of a Service then pass kube-proxy's rules on any kernel."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": str(node.addresses.pods)}]]}
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipMasq": True, "ipam": addresses | {"routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def corefile(node: Node) -> str:
    """Serve the names of the cluster; no other name exists, as nothing outside can be reached."""
    address = node.addresses.node
    return f"""\
{CLUSTER_DOMAIN} {{
    bind {address}
    errors
    ready {address}:8181
    kubernetes {{
        kubeconfig {CONFIGURATION}/coredns.kubeconfig
    }}
}}
. {{
    bind {address}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


# A sandbox without CAP_SYS_RESOURCE refuses lower OOM scores.
CONTAINERD = f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{CONFIGURATION}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def _write_credentials(node: Node) -> None:
    users = {
        "admin": ("admin", "system:masters"),
        "kube-controller-manager": ("system:kube-controller-manager", ""),
        "kube-scheduler": ("system:kube-scheduler", ""),
        "kubelet": (f"system:node:{node.name}", "system:nodes"),
        "kube-proxy": ("system:kube-proxy", ""),
        "coredns": ("system:coredns", ""),
    }
    lines = []
    for component, (user, group) in users.items():
        token = secrets.token_hex(16)
        lines.append(f"{token},{user},{component},{group}".rstrip(","))
        content = kubeconfig(node, token=token)
        _write_private(node.configuration / f"{component}.kubeconfig", content)
    _write_private(node.configuration / TOKENS, "\n".join(lines) + "\n")


def _make_service_account_key(path: Path) -> None:
    if not path.exists():
        aside = path.with_suffix(".new")  # an interruption must not leave half a key
        commands.run(["openssl", "genrsa", "-out", aside, "2048"])
        aside.rename(path)


def _write_private(path: Path, content: str) -> None:
    aside = path.with_suffix(".new")
    aside.touch(mode=0o600)
    aside.write_text(content)
    aside.rename(path)  # a reader that waits for the file must find all of it


def _outside(node: Node, inside: str) -> Path:
    return node.configuration / Path(inside).relative_to(CONFIGURATION)
