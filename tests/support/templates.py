"""Our base job template, and the configuration that a template and values resolve to."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

from tests.support.kube import Object
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.worker import KubernetesJobWorker

TYPE = KubernetesJobWorker.type


def default_template() -> Object:
    """Return the template of a new pool of type kubernetes-operator."""
    return KubernetesJobWorker.get_default_base_job_template()


async def configure(template: Object | None = None, **values: Any) -> KubernetesJobConfiguration:
    """Return the configuration of a run with these job variables, by default with our template."""
    # The client sends no request, because the template names no block and no variable.
    async with PrefectClient("http://127.0.0.1:9/api") as client:
        configuration = await KubernetesJobConfiguration.from_template_and_values(
            base_job_template=template or default_template(), values=values, client=client
        )
    configuration.prepare_for_flow_run(FlowRun(name="brave-lynx", flow_id=uuid4()))
    return configuration


async def render(template: Object | None = None, **values: Any) -> Object:
    """Return the manifest of the configuration."""
    return (await configure(template, **values)).job_manifest


def at(document: Any, path: str) -> Any:
    """Return the value at the dotted path; None if there is none."""
    for key in path.split("."):
        document = document[int(key)] if isinstance(document, list) else document.get(key)
        if document is None:
            return None
    return document
