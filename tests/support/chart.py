"""Renders the chart as Helm does, and the golden files of tests/contract/golden from it.

`python -m tests.support.chart` writes the golden files.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from testbed import builds
from testbed.state import CHECKOUT

Object = dict[str, Any]

CHART = CHECKOUT / "charts" / "workpool-operator"
GOLDEN = CHECKOUT / "tests" / "contract" / "golden"
KUBERNETES = "1.36.3"
VERSION = str(yaml.safe_load((CHART / "Chart.yaml").read_text())["version"])
SPEC = {"workPool": {"name": "etl"}, "server": {"url": "http://prefect.svc:4200/api"}}

#: Values that together use every part of the chart.
VARIANTS: dict[str, Object] = {
    "default": {},
    "cluster-wide": {
        "clusterWide": True,
        "jobNamespaces": ["data", "runs"],
        "writeSecrets": True,
        "bindings": [{"name": "etl", "namespace": "data", "spec": SPEC}],
        "rbac": {"aggregateToUserRoles": True},
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None},
    },
    "everything": {
        "global": {"imageRegistry": "registry.example"},
        "image": {"digest": f"sha256:{'0123456789abcdef' * 4}"},
        "imagePullSecrets": ["registry"],
        "watchNamespaces": ["data", "ml"],
        "jobNamespaces": ["data", "ml", "runs"],
        "writeSecrets": True,
        "selector": "shard=a",
        "bindings": [
            {
                "name": "etl",
                "namespace": "data",
                "labels": {"shard": "a"},
                "annotations": {"team": "data"},
                "spec": SPEC,
            },
            {
                "name": "train",
                "namespace": "ml",
                "spec": {
                    **SPEC,
                    "jobs": {
                        "namespace": "runs",
                        "apiKey": {"secretKeyRef": {"name": "lesser-key", "key": "value"}},
                        "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
                    },
                },
            },
        ],
        "nameOverride": "operator",
        "fullnameOverride": "pools",
        "commonLabels": {"cost": "data"},
        "commonAnnotations": {"owner": "platform"},
        "podLabels": {"mesh": "off"},
        "podAnnotations": {"linkerd.io/inject": "disabled"},
        "serviceAccount": {"name": "identity", "annotations": {"cloud/role": "etl"}},
        "rbac": {
            "aggregateToUserRoles": True,
            "extraRules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["watch"]}],
        },
        "proxy": {"http": "http://proxy:3128", "https": "http://proxy:3128", "noProxy": ".svc"},
        "caBundle": {"configMap": "company-ca"},
        "log": {"level": "DEBUG", "format": "text"},
        "extraEnv": [{"name": "REGION", "value": "eu"}],
        "extraEnvFrom": [{"secretRef": {"name": "more"}}],
        "extraVolumes": [{"name": "tools", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "tools", "mountPath": "/tools"}],
        "extraArgs": ["--health-port=8080"],
        "extraContainers": [{"name": "sidecar", "image": "sidecar:1"}],
        "initContainers": [{"name": "prepare", "image": "prepare:1"}],
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "{{ .Release.Name }}-more", "namespace": "home"},
                "data": {"image": '{{ include "workpool-operator.image" . }}'},
            }
        ],
        "replicas": 3,
        "revisionHistoryLimit": 2,
        "terminationGracePeriodSeconds": 30,
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "nodeSelector": {"pool": "infra"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "pool", "operator": "Exists"}]}
                    ]
                }
            }
        },
        "topologySpreadConstraints": [
            {
                "topologyKey": "topology.kubernetes.io/zone",
                "maxSkew": 1,
                "whenUnsatisfiable": "DoNotSchedule",
            }
        ],
        "priorityClassName": "high",
        "runtimeClassName": "gvisor",
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["10.0.0.1"], "options": [{"name": "ndots", "value": "2"}]},
        "hostAliases": [{"ip": "10.0.0.2", "hostnames": ["prefect.example"]}],
        "startupProbe": {"failureThreshold": 60},
        "livenessProbe": {"timeoutSeconds": 5},
        "readinessProbe": None,
        "podDisruptionBudget": {"maxUnavailable": None, "minAvailable": "50%"},
        "service": {"port": 80, "annotations": {"probed": "yes"}},
        "networkPolicy": {
            "create": True,
            "prefect": {"cidrs": ["10.20.0.0/16"], "ports": [4200]},
            "apiServer": {"cidrs": ["10.0.0.10/32"], "ports": [443, 8443]},
            "dns": {"cidrs": ["10.96.0.10/32"], "ports": [53, 5353]},
            "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.30.0.0/16"}}]}],
            "ingressFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        },
        "tracing": {"enabled": True, "endpoint": "http://otel-collector.monitoring.svc:4318"},
        "metrics": {
            "enabled": True,
            "port": 9100,
            "tlsSecret": "metrics-certificate",
            "token": {"secret": "metrics-token", "key": "value"},
            "serviceMonitor": {
                "create": True,
                "labels": {"release": "monitoring"},
                "interval": "15s",
            },
            "prometheusRule": {"create": True, "labels": {"release": "monitoring"}},
            "dashboard": {
                "create": True,
                "labels": {"grafana": "yes"},
                "annotations": {"grafana_folder": "Prefect"},
            },
        },
        "uninstall": {"patienceSeconds": 60},
    },
}


class Refused(Exception):
    """Helm refused the values; the message is Helm's output."""


def rendered(values: Object, *, kubernetes: str = KUBERNETES) -> str:
    """Return what Helm renders for a release `test` in namespace `home`.

    Raises:
        Refused: Helm refuses the values.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        place = ["test", str(CHART), "--namespace=home", f"--values={file.name}"]
        argv = [str(builds.tool("helm")), "template", *place, f"--kube-version={kubernetes}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def objects(values: Object) -> list[Object]:
    """Return the objects that Helm renders."""
    return [document for document in yaml.safe_load_all(rendered(values)) if document]


def golden(name: str) -> tuple[Path, str]:
    """Return the golden file of a variant, and what it should hold; the version is left out."""
    return GOLDEN / f"{name}.yaml", rendered(VARIANTS[name]).replace(VERSION, "VERSION")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for variant in VARIANTS:
        path, text = golden(variant)
        path.write_text(text)
