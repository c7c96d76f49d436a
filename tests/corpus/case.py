"""One case of the corpus, and the documents that both renderers get."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.support.prefect import stock_template
from workpool_operator.jobs import certificates
from workpool_operator.jobs.certificates import CASource
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import Identity

Object = dict[str, Any]

RUN = UUID("11111111-1111-4111-8111-111111111111")
FLOW = UUID("22222222-2222-4222-8222-222222222222")
DEPLOYMENT = UUID("33333333-3333-4333-8333-333333333333")
POOL = UUID("44444444-4444-4444-8444-444444444444")
CLAIM = UUID("55555555-5555-4555-8555-555555555555")
NOW = "2026-01-01T00:00:00Z"

#: What the stock worker's process has; `{{ $NAME }}` reads it, and its settings reach every run.
WORKER_ENVIRONMENT = {
    "PREFECT_API_URL": "http://prefect:4200/api",
    "PREFECT_API_KEY": "a-key-that-no-manifest-may-show",
    "PREFECT_LOGGING_LEVEL": "DEBUG",
    "CLUSTER_REGION": "of-the-worker-alone",
}
#: What a binding gives its runs instead.
INHERITED = (
    {"name": "PREFECT_API_URL", "value": "http://prefect:4200/api"},
    {
        "name": "PREFECT_API_KEY",
        "valueFrom": {"secretKeyRef": {"name": "prefect", "key": "api-key"}},
    },
)
IDENTITY = Identity(
    run_id=RUN,
    claim_id=CLAIM,
    pool_id=POOL,
    binding="data/etl",
    binding_id="b" * 32,
    server="http://prefect:4200/api",
    namespace="data",
)


def worker_template() -> Object:
    """Return the template of a pool that prefect-kubernetes 0.8.0 creates. The one that Prefect's
    server offers is older and has fewer variables."""
    template = stock_template()
    configuration, variables = template["job_configuration"], template["variables"]["properties"]
    configuration["annotations"] = "{{ annotations }}"
    configuration["job_manifest"]["metadata"]["annotations"] = "{{ annotations }}"
    configuration["job_manifest"]["spec"]["backoffLimit"] = "{{ backoff_limit }}"
    variables["annotations"] = {"title": "Annotations", "type": "object"}
    variables["backoff_limit"] = {"title": "Backoff Limit", "type": "integer", "default": 0}
    return template


@dataclass(frozen=True)
class Case:
    """`deployment` and `run` are job variables; without a deployment the run is an ad-hoc one.
    `labels` are Prefect's own of the run, `ca` is the binding's."""

    name: str
    template: Object = field(default_factory=worker_template)
    deployment: Object | None = field(default_factory=dict)
    run: Object = field(default_factory=dict)
    run_name: str = "brave-lynx"
    flow_name: str = "hello"
    labels: Object = field(default_factory=dict)
    deployments_labels: Object = field(default_factory=dict)
    ca: CASource | None = None

    @property
    def subject(self) -> RenderInput:
        """The input of our renderer, with its own copies of the documents."""
        trusted = (certificates.ENTRY,) if self.ca else ()
        return RenderInput(environment=(*INHERITED, *trusted), ca=self.ca, **self._documents())

    @property
    def document(self) -> Object:
        """The input of the stock worker's script."""
        return self._documents() | {"environment": WORKER_ENVIRONMENT}

    def _documents(self) -> Object:
        dates = {"created": NOW, "updated": NOW}
        has_deployment = self.deployment is not None
        run = {
            "id": str(RUN),
            "name": self.run_name,
            "flow_id": str(FLOW),
            "deployment_id": str(DEPLOYMENT) if has_deployment else None,
            "job_variables": self.run,
            "labels": self.labels,
        }
        deployment = {
            "id": str(DEPLOYMENT),
            "name": "nightly",
            "flow_id": str(FLOW),
            "job_variables": self.deployment,
            "labels": self.deployments_labels,
        }
        pool = {
            "id": str(POOL),
            "name": "etl",
            "type": "kubernetes",
            "base_job_template": self.template,
        }
        return copy.deepcopy(
            {
                "run": run,
                "flow": {"id": str(FLOW), "name": self.flow_name, **dates},
                "deployment": deployment | dates if has_deployment else None,
                "pool": pool,
                "worker_name": "etl.data@cluster",
            }
        )


def template_with(
    *,
    job: Object | None = None,
    metadata: Object | None = None,
    pod: Object | None = None,
    pod_metadata: Object | None = None,
    container: Object | None = None,
    configuration: Object | None = None,
    variables: Object | None = None,
) -> Object:
    """Return the stock worker's template with these fields; None removes a field."""
    template = worker_template()
    manifest = template["job_configuration"]["job_manifest"]
    pods = manifest["spec"]["template"]
    _put(manifest["spec"], job)
    _put(manifest["metadata"], metadata)
    _put(pods.setdefault("metadata", {}), pod_metadata)
    _put(pods["spec"]["containers"][0], container)
    _put(pods["spec"], pod)
    _put(template["job_configuration"], configuration)
    for name, default in (variables or {}).items():
        template["variables"]["properties"][name] = {"title": name, "default": default}
    if not pods["metadata"]:
        del pods["metadata"]
    return template


def _put(place: Object, fields: Object | None) -> None:
    for key, value in (fields or {}).items():
        if value is None:
            place.pop(key, None)
        else:
            place[key] = value
