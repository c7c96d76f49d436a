"""Pods of real templates, modelled on Prefect's guides, charts, issues and public code."""

from __future__ import annotations

from typing import Any

from tests.corpus.case import Case, Object, template_with

SIDECAR = {
    "name": "proxy",
    "image": "registry.example/sql-proxy:2",
    "args": ["--port=5432", "{{ database }}"],
    "env": [{"name": "MODE", "value": "{{ proxy_mode }}"}],
}
TOLERATIONS = [{"key": "flows", "operator": "Equal", "value": "true", "effect": "NoSchedule"}]
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["{{ pool }}"]}]}
            ]
        }
    }
}
VOLUMES = [
    {"name": "scratch", "emptyDir": {"sizeLimit": "{{ scratch_gib }}Gi"}},
    {"name": "shared", "persistentVolumeClaim": {"claimName": "{{ claim }}"}},
    {"name": "settings", "configMap": {"name": "etl-settings", "optional": True}},
]
MOUNTS = [{"name": "scratch", "mountPath": "/scratch"}, {"name": "shared", "mountPath": "/data"}]


def minimal(**pod: Any) -> Object:
    """Return a template with only what the stock worker requires, and these fields of the pod."""
    spec = {
        "parallelism": 1,
        "completions": 1,
        "restartPolicy": "Never",
        "containers": [{"name": "prefect-job"}],
    }
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {"template": {"spec": spec | pod}},
    }
    return {"job_configuration": {"job_manifest": manifest}, "variables": {"properties": {}}}


def typed(name: str, *values: Any, pod: Object | None = None, **more: Any) -> list[Case]:
    """Return one case for each value of the template's variable, and one without a value."""
    template = template_with(pod=pod, variables={name: None}, **more)
    cases = [
        Case(f"{name}: {value!r:.60}", template=template, run={name: value}) for value in values
    ]
    return [Case(f"{name}: not set", template=template), *cases]


SCHEDULING = [
    *typed("node_selector", {"disk": "ssd"}, {}, None, pod={"nodeSelector": "{{ node_selector }}"}),
    *typed("tolerations", TOLERATIONS, [], None, pod={"tolerations": "{{ tolerations }}"}),
    *typed("affinity", {"nodeAffinity": {}}, pod={"affinity": "{{ affinity }}"}),
    *typed("pool", "gpu", 7, pod={"affinity": AFFINITY}),
    *typed("priority", "high", "", pod={"priorityClassName": "{{ priority }}"}),
    *typed("zone", "a", pod={"nodeSelector": {"topology.kubernetes.io/zone": "eu-1{{ zone }}"}}),
    *typed("deadline", 3600, 0, "60", job={"activeDeadlineSeconds": "{{ deadline }}"}),
    *typed("suspend", True, False, job={"suspend": "{{ suspend }}"}),
]

STORAGE = [
    *typed("scratch_gib", 20, "5", pod={"volumes": VOLUMES}, container={"volumeMounts": MOUNTS}),
    *typed("claim", "results", "", pod={"volumes": VOLUMES}),
    *typed("volumes", VOLUMES, [], pod={"volumes": "{{ volumes }}"}),
    *typed("pull_secrets", [{"name": "registry"}], pod={"imagePullSecrets": "{{ pull_secrets }}"}),
    *typed("pull_secret", "registry", pod={"imagePullSecrets": [{"name": "{{ pull_secret }}"}]}),
]

CONTAINERS = [
    *typed(
        "memory",
        4,
        512,
        container={
            "resources": {
                "requests": {"memory": "{{ memory }}Mi", "ephemeral-storage": "1Gi"},
                "limits": {"memory": "128Mi", "nvidia.com/gpu": "{{ gpus }}"},
            }
        },
    ),
    *typed("resources", {"limits": {"cpu": 1}}, {}, container={"resources": "{{ resources }}"}),
    *typed("tag", "1.2", 3, "", container={"image": "registry.example/flows:{{ tag }}"}),
    *typed("stage", "prod", container={"image": "registry.example/{{ stage }}/flows:{{ tag }}"}),
    *typed("entry", ["sh", "-c", "run"], None, container={"command": "{{ entry }}"}),
    *typed("words", ["a", 1, True], "a b", {"a": 1}, 3, container={"args": "{{ words }}"}),
    *typed("folder", "/srv", container={"workingDir": "{{ folder }}/flows"}),
    *typed("user", 1000, 0, pod={"securityContext": {"runAsUser": "{{ user }}", "fsGroup": 1000}}),
    Case(
        "a fixed command line",
        template=template_with(container={"args": ["/bin/sh", "-c", "prefect flow-run execute"]}),
    ),
    Case(
        "a fixed command line as text",
        template=template_with(container={"args": "prefect flow-run execute --verbose 'a b'"}),
    ),
    Case(
        "the command as the entry point",
        template=template_with(container={"command": "{{ command }}"}),
        run={"command": "python -m flows"},
    ),
    Case("no command at all", template=template_with(container={"args": None})),
    Case(
        "the image hard-coded",
        template=template_with(container={"image": "flows:1"}),
        run={"image": "other:2"},
    ),
    Case("no image at all", template=template_with(container={"image": None})),
    Case("an empty image", template=template_with(container={"image": ""})),
    Case(
        "lifecycle and probes",
        template=template_with(
            container={"lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}}}
        ),
    ),
]

OTHERS = [
    Case(
        "a sidecar, an init container and volumes",
        template=minimal(
            containers=[{"name": "prefect-job", "volumeMounts": MOUNTS}, SIDECAR],
            initContainers=[{"name": "copy", "image": "busybox:1.36", "command": ["true"]}],
            volumes=VOLUMES,
        ),
        run={"proxy_mode": "fast", "scratch_gib": 1},
    ),
    Case("the least that is accepted", template=minimal()),
    Case(
        "the least, with a run's values that it does not use",
        template=minimal(),
        run={"image": "x", "env": {"A": "1"}},
    ),
    Case("the least, with fields of the configuration", template=minimal() | {"variables": {}}),
    Case(
        "an old template: TTL and misplaced fields in the pod",
        template=template_with(
            job={"ttlSecondsAfterFinished": None},
            pod={"ttlSecondsAfterFinished": "{{ finished_job_ttl }}"},
        ),
        run={"finished_job_ttl": 5},
    ),
    Case("no backoff limit", template=template_with(job={"backoffLimit": None})),
    Case("a fixed backoff limit", template=template_with(job={"backoffLimit": 4})),
    Case("a TTL in the template", template=template_with(job={"ttlSecondsAfterFinished": 172800})),
    Case(
        "a pod failure policy",
        template=template_with(
            job={
                "podFailurePolicy": {
                    "rules": [
                        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
                    ]
                }
            }
        ),
    ),
    Case(
        "parallelism in the Job too",
        template=template_with(job={"parallelism": 1, "completions": 1}),
    ),
    Case(
        "parallelism of the Job's own",
        template=template_with(job={"parallelism": 3, "completions": 3}),
    ),
]

CASES = [*SCHEDULING, *STORAGE, *CONTAINERS, *OTHERS]
