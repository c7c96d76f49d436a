"""Invalid input, and input that only the stock worker refuses."""

from __future__ import annotations

from typing import Any

from tests.corpus.case import Case, Object, template_with
from tests.corpus.published import minimal


def manifest(**fields: Any) -> Object:
    """Return the smallest template, with these fields of its manifest; None removes a field."""
    template = minimal()
    found = template["job_configuration"]["job_manifest"]
    for key, value in fields.items():
        found.pop(key, None) if value is None else found.update({key: value})
    return template


def minimal_pod() -> Object:
    found: Object = minimal()["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    return found


def null_metadata() -> Object:
    template = minimal()
    template["job_configuration"]["job_manifest"]["metadata"] = None
    return template


def pod_without(*keys: str) -> Object:
    return template_with(pod=dict.fromkeys(keys))


NO_JOB = [
    Case("an empty manifest", template=manifest(apiVersion=None, kind=None, spec=None)),
    Case("no kind", template=manifest(kind=None)),
    Case("another kind", template=manifest(kind="Pod")),
    Case("another version", template=manifest(apiVersion="v1")),
    Case("a kind that is not set", template=manifest(kind="{{ kind }}")),
    Case("no spec", template=manifest(spec=None)),
    Case("a spec without a pod", template=manifest(spec={"backoffLimit": 1})),
    Case(
        "no containers", template=manifest(spec={"template": {"spec": {"restartPolicy": "Never"}}})
    ),
    Case("an empty list of containers", template=template_with(pod={"containers": []})),
    Case("containers as a text", template=template_with(pod={"containers": "x"})),
    Case("containers that are not set", template=template_with(pod={"containers": "{{ c }}"})),
    Case("a container that is a text", template=template_with(pod={"containers": ["x"]})),
    Case("a spec that is a text", template=manifest(spec="x")),
    Case("no manifest", template={"job_configuration": {}, "variables": {}}),
    Case(
        "a manifest that is a text",
        template={"job_configuration": {"job_manifest": "x"}, "variables": {}},
    ),
    Case(
        "a manifest that is a list",
        template={"job_configuration": {"job_manifest": []}, "variables": {}},
    ),
    Case("labels as a text", run={"labels": "a=b"}),
    Case("labels as a list", run={"labels": ["a"]}),
    Case("a label that is a number", run={"labels": {"a": 1}}),
    Case("a label that is null", run={"labels": {"a": None}}),
    Case("annotations as a text", run={"annotations": "a"}),
    Case("an annotation that is a number", run={"annotations": {"a": 1}}),
    Case("an environment that is a text", run={"env": "A=1"}),
    Case("an environment that is a number", run={"env": 3}),
    Case("a command that is a number", run={"command": 3}),
    Case("a command that is a list", run={"command": ["prefect", "flow-run", "execute"]}),
    Case("a command that cannot be split", run={"command": "sh -c 'a"}),
    Case("arguments that are a number", template=template_with(container={"args": 3})),
    Case("arguments that are a mapping", template=template_with(container={"args": {"a": 1}})),
    Case("a name that is a number", run={"name": 3}),
    Case("a namespace that is a number", run={"namespace": 3}),
    Case("metadata that is a text", template=manifest(metadata="x")),
    Case(
        "labels of the template that are a text", template=template_with(metadata={"labels": "x"})
    ),
    Case(
        "labels of the template that are a list", template=template_with(metadata={"labels": ["x"]})
    ),
    Case(
        "annotations of the template that are a text",
        template=template_with(metadata={"annotations": "x"}),
    ),
    Case(
        "metadata of the pods that is a text",
        template=manifest(spec={"template": {"metadata": "x", "spec": minimal_pod()}}),
    ),
]

NO_STOCK_JOB = [
    Case("no restart policy", template=pod_without("restartPolicy")),
    Case("another restart policy", template=template_with(pod={"restartPolicy": "OnFailure"})),
    Case("no parallelism in the pod", template=pod_without("parallelism", "completions")),
    Case("another parallelism in the pod", template=template_with(pod={"parallelism": 2})),
    Case(
        "parallelism where it belongs",
        template=template_with(
            pod={"parallelism": None, "completions": None}, job={"parallelism": 1, "completions": 1}
        ),
    ),
    Case("a container without a name", template=template_with(container={"name": None})),
    Case("a container with another name", template=template_with(container={"name": "flow"})),
    Case("no variables", template={"job_configuration": minimal()["job_configuration"]}),
    Case(
        "a label of the template that is a number",
        template=template_with(metadata={"labels": {"a": 1}}),
    ),
    Case("labels of the template that are null", template=manifest(metadata={"labels": None})),
    Case(
        "annotations of the template that are null",
        template=manifest(metadata={"annotations": None}),
    ),
    Case("metadata that is null", template=null_metadata()),
]

NO_JOB_HERE = [
    Case("a TTL that is not a number", run={"finished_job_ttl": "soon"}),
    Case("a negative TTL", run={"finished_job_ttl": -1}),
    Case(
        "another cluster", run={"cluster_config": {"config": {"clusters": []}, "context_name": "x"}}
    ),
]

CASES = [*NO_JOB, *NO_STOCK_JOB, *NO_JOB_HERE]
