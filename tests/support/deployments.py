"""Deploys the flows in tests/flows, which pods read from a ConfigMap: no image must be built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.kube import Kube, Object
from tests.support.prefect import PrefectApi, stock_template

FLOWS = Path(__file__).parent.parent / "flows"
FOLDER = "/flows"
CONFIG_MAP = "flows"
#: A command that reports its run as a flow does, but without imports that take 6 s of CPU time.
QUICK = f"python {FOLDER}/report_only.py"


def template_with_flows() -> Object:
    """Return the stock template with the flows' ConfigMap as an optional volume."""
    template = stock_template(
        volumes=[{"name": "flows", "configMap": {"name": CONFIG_MAP, "optional": True}}],
        terminationGracePeriodSeconds=5,
    )
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["containers"][0]["volumeMounts"] = [{"name": "flows", "mountPath": FOLDER}]
    return template


@dataclass(frozen=True)
class Deployer:
    """`await deploy("sleep", memory_limit="64Mi")`; the keywords are job variables."""

    api: PrefectApi
    kube: Kube
    namespace: str
    pool: str
    image: str

    async def __call__(
        self, flow: str = "hello", *, fields: Object | None = None, **job_variables: Any
    ) -> Object:
        """Create the deployment; `fields` are further fields of it, with the names of the API."""
        await self.kube.apply("configmaps", self.namespace, _config_map())
        variables = {"image": self.image, "image_pull_policy": "IfNotPresent", **job_variables}
        pull = {"prefect.deployments.steps.set_working_directory": {"directory": FOLDER}}
        return await self.api.create_deployment(
            flow=flow,
            name=f"{flow}-{self.pool}",
            pool=self.pool,
            entrypoint=f"{flow}.py:{flow}",
            pull_steps=[pull],
            job_variables=variables,
            **(fields or {}),
        )


def _config_map() -> Object:
    files = {path.name: path.read_text() for path in FLOWS.glob("*.py")}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP},
        "data": files,
    }
