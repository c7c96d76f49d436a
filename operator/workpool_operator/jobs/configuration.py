"""The `job_configuration` half of a template, filled in for one run.

Placeholders, merging of `env`, blocks and variables are Prefect's own `BaseJobConfiguration`; what
a Job needs beyond them (environment, labels, annotations, image, command) is set as the stock
Kubernetes worker sets it, but for the differences that docs/architecture.md lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import httpx
import prefect
from prefect.client.orchestration import PrefectClient
from prefect.workers.base import BaseJobConfiguration
from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from workpool_operator.errors import OperatorError, PrefectUnavailable, RenderError
from workpool_operator.jobs import environment, manifest, placeholders
from workpool_operator.jobs.variables import default_manifest
from workpool_operator.settings import template_environment

if TYPE_CHECKING:
    from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

Object = dict[str, Any]


class KubernetesJobConfiguration(BaseJobConfiguration):
    """What the Job of one run is made from.

    Of the stock worker's fields those without an effect there are ignored here, too
    (`job_watch_timeout_seconds`, `pod_watch_timeout_seconds`, `stream_output`).
    """

    env: dict[str, str | None] | list[Object] = Field(  # type: ignore[assignment]
        default_factory=dict,
        title="Environment Variables",
        description="Environment variables of the flow's container.",
    )
    annotations: dict[str, str] = Field(
        default_factory=dict, description="Annotations of the Job and its pods."
    )
    namespace: str = Field(
        default="default", description="The namespace of the Job, where no binding names it."
    )
    job_manifest: Object = Field(
        description="The Job's manifest.", json_schema_extra={"template": default_manifest()}
    )

    _run_env: list[Object] = PrivateAttr(default_factory=list)
    _unset_env: frozenset[str] = PrivateAttr(default=frozenset())
    _template_env: Any = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _values_as_they_were_given(cls, fields: Any) -> Any:
        return placeholders.alive(fields)

    @model_validator(mode="before")
    @classmethod
    def _no_other_cluster(cls, fields: Any) -> Any:
        """A Job that somebody wants in another cluster must not silently run in this one."""
        if isinstance(fields, Mapping) and fields.get("cluster_config"):
            raise RenderError(
                "job_configuration.cluster_config",
                "names another cluster; Jobs run in the cluster of the worker that makes them. "
                "Leave it empty, and serve the pool in the cluster that it names",
            )
        return fields

    @field_validator("namespace", mode="before")
    @classmethod
    def _default_namespace(cls, value: Any) -> Any:
        """A form that is emptied sends null."""
        return cls.model_fields["namespace"].default if value is None else value

    @field_validator("env", mode="before")
    @classmethod
    def _coerce_env(cls, value: Any) -> Any:
        """Values are text, also in the list form of Kubernetes."""
        if isinstance(value, Mapping):
            return {key: _text(item) for key, item in value.items()}
        if not isinstance(value, list):
            raise ValueError("expected a mapping or a list")
        if any(not (isinstance(e, Mapping) and isinstance(e.get("name"), str)) for e in value):
            raise ValueError("each entry needs a name")
        return [e | {"value": _text(e["value"])} if "value" in e else e for e in value]

    @classmethod
    async def from_template_and_values(
        cls,
        base_job_template: Mapping[str, Any],
        values: Mapping[str, Any],
        client: PrefectClient | None = None,
    ) -> Self:
        """Put a run's values into a template, which is not changed.

        Raises:
            RenderError: they do not fit; with the path.
            PrefectUnavailable: a block or variable cannot be read now.
        """
        template = {
            "job_configuration": placeholders.without_environment(
                _half(base_job_template, "job_configuration"), but=template_environment()
            ),
            "variables": placeholders.defaults(_half(base_job_template, "variables")),
        }
        _check_form_of_env(template, values)
        try:
            configuration: Self = await super().from_template_and_values(
                base_job_template=template, values=placeholders.inert(values), client=client
            )
        except OperatorError:
            raise
        except Exception as error:  # Prefect's templating raises what its blocks and helpers raise
            raise _fault(error) from error
        return configuration

    def prepare_for_flow_run(
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        flow: Flow | None = None,
        work_pool: WorkPool | None = None,
        worker_name: str | None = None,
        worker_id: UUID | None = None,
    ) -> None:
        """Make `job_manifest` the run's, but for its name and what ties it to a claim.

        Raises:
            RenderError: no Job can be made; with the path in the manifest.
        """
        references = self._take_references()
        super().prepare_for_flow_run(
            flow_run, deployment, flow, work_pool, worker_name, worker_id=worker_id
        )
        self._run_env = environment.as_list(self.env) + references
        manifest.normalise(self.job_manifest)
        container = manifest.container(self.job_manifest)
        self._template_env = container.get("env")
        self.inherit(())
        manifest.set_arguments(self.job_manifest)
        manifest.set_image(container)
        manifest.label(self.job_manifest, self.labels)
        manifest.annotate(self.job_manifest, self.annotations)

    def inherit(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Put the entries (Kubernetes' EnvVar) below the run's own environment; what the user set
        to null stays away."""
        manifest.container(self.job_manifest)["env"] = environment.merge(
            inherited=entries,
            run=self._run_env,
            unset=self._unset_env,
            template=self._template_env,
            reschedules=self.job_manifest["spec"].get("backoffLimit") == 0,
        )

    def _take_references(self) -> list[Object]:
        """Leave in `env` what Prefect understands, plain values by name; the rest is returned."""
        given = environment.as_list(self.env)
        self.env = {e["name"]: e["value"] for e in given if "value" in e}
        self._unset_env = frozenset(name for name, value in self.env.items() if value is None)
        return [e for e in given if "valueFrom" in e]

    @property
    def job_name(self) -> str:
        """What the Job is to be called, as far as the user has a say: the manifest's own name if it
        has one, else the configuration's."""
        metadata = self.job_manifest["metadata"]
        given = str(metadata.get("generateName") or metadata.get("name") or "").rstrip("-")
        return given if given not in ("", "None") and "{{" not in given else str(self.name)

    @classmethod
    def _base_environment(cls) -> dict[str, str]:
        """Nothing: the operator's own settings are not the run's (races.md 18)."""
        return {}

    @staticmethod
    def _base_flow_run_labels(flow_run: FlowRun) -> dict[str, str]:
        version = prefect.__version__.split("+")[0]
        return {
            **BaseJobConfiguration._base_flow_run_labels(flow_run),
            "prefect.io/version": version,
            "app.kubernetes.io/managed-by": "prefect",
            "app.kubernetes.io/part-of": "prefect",
            "app.kubernetes.io/version": version,
        }

    @staticmethod
    def _base_flow_labels(flow: Flow | None) -> dict[str, str]:
        labels = BaseJobConfiguration._base_flow_labels(flow)
        return labels | ({"app.kubernetes.io/name": flow.name} if flow else {})

    @staticmethod
    def _base_deployment_labels(deployment: DeploymentResponse | None) -> dict[str, str]:
        labels = BaseJobConfiguration._base_deployment_labels(deployment)
        return labels | ({"app.kubernetes.io/name": deployment.name} if deployment else {})


def _check_form_of_env(template: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """A mapping of the pool is merged with the run's, so that a list cannot take its place."""
    own = template["job_configuration"].get("env")
    default = template["variables"]["properties"].get("env", {}).get("default")
    pools, given = own if isinstance(own, Mapping) else default or None, values.get("env")
    if isinstance(pools, Mapping) and given and isinstance(given, list):
        raise RenderError("env", "expected a mapping, as the pool has one, got a list")


def _half(template: Any, key: str) -> Mapping[str, Any]:
    """One of the two of a base job template."""
    found = template.get(key) if isinstance(template, Mapping) else None
    if found is not None and not isinstance(found, Mapping):
        raise RenderError(key, f"expected a mapping, got {found!r:.80}")
    return found or {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _fault(error: Exception) -> OperatorError:
    """What Prefect's templating says, as the place and what is expected there."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        path = ".".join(str(part) for part in ("job_configuration", *first["loc"]))
        return RenderError(path, f"{first['msg']}, got {first.get('input')!r:.80}")
    if isinstance(error, httpx.HTTPStatusError):
        if error.response.status_code >= 500:
            return PrefectUnavailable(f"a block or variable cannot be read: {error}")
        return RenderError("job_configuration", f"a block or variable: {error}")
    return RenderError("job_configuration", f"{type(error).__name__}: {error}")
