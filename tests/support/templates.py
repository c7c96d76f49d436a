"""Our own base job template, and what becomes of a template with a deployment's values."""

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
    """As a new pool of type kubernetes-operator has it."""
    return KubernetesJobWorker.get_default_base_job_template()


async def configure(template: Object | None = None, **values: Any) -> KubernetesJobConfiguration:
    """The configuration of some run with these job variables; our own template unless given."""
    # Asked for nothing, because no block and no variable is named: the client may lead nowhere.
    async with PrefectClient("http://127.0.0.1:9/api") as client:
        configuration = await KubernetesJobConfiguration.from_template_and_values(
            base_job_template=template or default_template(), values=values, client=client
        )
    configuration.prepare_for_flow_run(FlowRun(name="brave-lynx", flow_id=uuid4()))
    return configuration


async def render(template: Object | None = None, **values: Any) -> Object:
    """Its manifest."""
    return (await configure(template, **values)).job_manifest


def at(document: Any, path: str) -> Any:
    """What is at the dotted path; None where nothing is."""
    for key in path.split("."):
        document = document[int(key)] if isinstance(document, list) else document.get(key)
        if document is None:
            return None
    return document
