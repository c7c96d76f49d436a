"""Fills in the `job_configuration` of a template for one run.

Prefect's own `BaseJobConfiguration` resolves placeholders, blocks and variables. What a Job needs
beyond that (environment, labels, annotations, image, command) is set as the stock worker sets it,
except for the differences that docs/migration.md lists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import httpx
from prefect.workers.base import BaseJobConfiguration
from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from workpool_operator.errors import OperatorError, PrefectUnavailable, RenderError
from workpool_operator.jobs import environment, manifest, placeholders, scalars
from workpool_operator.jobs.base_job_template import KubernetesJobVariables, default_manifest
from workpool_operator.prefect_version import prefect_version

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse
    from pydantic_core import ErrorDetails

Object = dict[str, Any]
_LEVELS = "levels of env"  # cannot be the name of a field
_COMMAND = "command"


class KubernetesJobConfiguration(BaseJobConfiguration):
    """The resolved configuration of one run's Job.

    `jobs/ineffective_variables.py` has the fields of the stock worker that have no effect here, or
    another one.
    """

    env: dict[str, Any] = Field(
        default_factory=dict,
        title="Environment Variables",
        description="Environment variables of the flow's container: text, or a mapping with "
        "valueFrom.",
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

    _unset_env: frozenset[str] = PrivateAttr(default=frozenset())
    _template_env: Any = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _values_as_they_were_given(cls, fields: Any) -> Any:
        given = placeholders.unescape(fields)
        if isinstance(given, dict) and _LEVELS in given:
            given["env"] = _environment(given.pop(_LEVELS))
        return given

    @model_validator(mode="before")
    @classmethod
    def _no_other_cluster(cls, fields: Any) -> Any:
        """Refuse another cluster: the Job would silently run in this one."""
        if isinstance(fields, Mapping) and fields.get("cluster_config"):
            raise RenderError(
                "job_configuration.cluster_config",
                "names another cluster; the operator creates Jobs only in its own cluster. Leave "
                "this empty, and serve the pool from the cluster that it names",
            )
        return fields

    @field_validator("namespace", mode="before")
    @classmethod
    def _default_namespace(cls, value: Any) -> Any:
        """Use the default for null, which an emptied form sends."""
        return cls.model_fields["namespace"].default if value is None else value

    @field_validator("env", mode="before")
    @classmethod
    def _coerce_env(cls, value: Any) -> Any:
        return _environment([value])

    @field_validator("labels", "annotations", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Convert numbers and booleans to strings, which Kubernetes requires."""
        if not isinstance(value, Mapping):
            return value
        return {
            key: item if isinstance(item, Mapping | list) else scalars.text(item)
            for key, item in value.items()
        }

    @classmethod
    async def from_template_and_values(
        cls,
        base_job_template: Mapping[str, Any],
        values: Mapping[str, Any],
        client: PrefectClient | None = None,
        *,
        template_environment: Collection[str] = (),
    ) -> Self:
        """Fill a run's values into a copy of the template.

        Of the process's own environment, the template reads the variables that
        `template_environment` names.

        Raises:
            RenderError: the values do not fit; with the path.
            PrefectUnavailable: a block or variable cannot be read at the moment.
        """
        template, given = _prepared(base_job_template, values, template_environment)
        placeholders.check_growth(template["job_configuration"], given)
        try:
            configuration: Self = await super().from_template_and_values(
                base_job_template=template, values=given, client=client
            )
        except OperatorError:
            raise
        except Exception as error:  # Prefect's templating raises what its blocks and helpers raise
            raise _translated(error) from error
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
        """Complete `job_manifest` for the run, except for its name and its claim.

        Raises:
            RenderError: the manifest is invalid; with its path.
        """
        self._unset_env = frozenset(name for name, value in self.env.items() if value is None)
        try:
            super().prepare_for_flow_run(
                flow_run, deployment, flow, work_pool, worker_name, worker_id=worker_id
            )
        except UnicodeEncodeError as error:  # Prefect serialises the run for `{{ ctx }}`
            text = f"{error.object!r:.80} contains half a character (a lone surrogate): correct it"
            raise RenderError("job_variables", text) from error
        self.labels = _labels_of(deployment) | _labels_of(flow_run) | self.labels
        manifest.normalise(self.job_manifest)
        container = manifest.get_flow_container(self.job_manifest)
        self._template_env = container.get("env")
        self.inherit(())
        manifest.set_arguments(self.job_manifest)
        manifest.set_image(container)
        manifest.label(self.job_manifest, self.labels)
        manifest.annotate(self.job_manifest, self.annotations)

    def inherit(
        self, entries: Iterable[Mapping[str, Any]], *, fixed: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        """Add EnvVars below the run's own environment, without those that the user set to null, and
        `fixed` ones, which override it."""
        manifest.get_flow_container(self.job_manifest)["env"] = environment.merge_run_environment(
            inherited=entries,
            fixed=fixed,
            run=environment.to_env_vars(self.env),
            unset=self._unset_env,
            template=self._template_env,
            reschedules=self.job_manifest["spec"].get("backoffLimit") == 0,
        )

    @property
    def job_name(self) -> str:
        """The name that the user gave the Job: in the manifest, else in the configuration."""
        metadata = self.job_manifest["metadata"]
        given = str(metadata.get("generateName") or metadata.get("name") or "").rstrip("-")
        return given if given not in ("", "None") and "{{" not in given else str(self.name)

    @classmethod
    def _base_environment(cls) -> dict[str, str]:
        """Return nothing: runs do not inherit the operator's own settings (docs/races.md, 18)."""
        return {}

    @staticmethod
    def _base_flow_run_labels(flow_run: FlowRun) -> dict[str, str]:
        version = prefect_version()
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


def default_base_job_template() -> Object:
    """Return our own base job template, as a pool of type kubernetes-operator gets it."""
    variables = KubernetesJobVariables.model_json_schema()
    variables.pop("title", None)
    return {
        "job_configuration": KubernetesJobConfiguration.json_template(),
        "variables": variables,
    }


def _prepared(
    base_job_template: Mapping[str, Any],
    values: Mapping[str, Any],
    template_environment: Collection[str],
) -> tuple[Object, Object]:
    """Prepare template and values for Prefect's own function.

    That function merges only mappings, so the levels of the environment are passed side by side and
    merged after it has filled in the values. Placeholders of the template's author are expanded,
    also in a default; those in a run's values are not.
    """
    configuration = dict(
        placeholders.without_environment(
            _half(base_job_template, "job_configuration"), but=template_environment
        )
    )
    defaults = placeholders.defaults(_half(base_job_template, "variables"))
    given = placeholders.escape(_folded(values))
    if not given.get(_COMMAND, defaults.get(_COMMAND)):
        configuration = placeholders.with_value_in_texts(configuration, _COMMAND, manifest.COMMAND)
    own, default = configuration.get("env"), defaults.get("env")
    if default or _is_merged(own):
        authors = [own if isinstance(own, Mapping | list) else None, default]
        allowed = placeholders.without_environment(authors, but=template_environment)
        configuration[_LEVELS] = [*allowed, given.get("env")]
        configuration.pop("env", None)
    known = placeholders.escape(defaults) | given
    return {"job_configuration": configuration, "variables": {}}, known


def _is_merged(own: Any) -> bool:
    """Return whether the configuration's `env` is merged with the variable of that name."""
    alone = placeholders.single_placeholder(own)
    return isinstance(own, Mapping | list) or alone == "env"


def _folded(values: Mapping[str, Any]) -> Object:
    try:
        return environment.collect_env(values)
    except environment.InvalidVariable as error:
        raise _invalid_env(error) from error


def _environment(levels: Iterable[Any]) -> Object:
    """Merge the levels; the innermost one, which is the last, wins."""
    try:
        return environment.validated(environment.merge_levels(levels))
    except environment.InvalidVariable as error:
        raise _invalid_env(error) from error


def _invalid_env(error: environment.InvalidVariable) -> RenderError:
    path = f"job_configuration.env.{error.name}" if error.name else "job_configuration.env"
    return RenderError(path, str(error))


def _labels_of(document: FlowRun | DeploymentResponse | None) -> dict[str, str]:
    """Return the labels that users set; Prefect's own are on the Job under other keys."""
    given = document.labels if document else {}
    return {
        key: scalars.text(value) for key, value in given.items() if not key.startswith("prefect.")
    }


def _half(template: Any, key: str) -> Mapping[str, Any]:
    """Return one of the two halves of a base job template."""
    found = template.get(key) if isinstance(template, Mapping) else None
    if found is not None and not isinstance(found, Mapping):
        raise RenderError(key, f"expected a mapping, got {found!r:.80}")
    return found or {}


_EXPECTED = {
    "dict_type": "a mapping",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_type": "an integer",
    "list_type": "a list",
    "string_type": "a string",
}


def _expected(error: ErrorDetails) -> str:
    """Return Pydantic's error in the words of all other errors."""
    if error["type"] == "missing":
        return "expected a value, got nothing"
    message = error["msg"].removeprefix("Value error, ")
    expected = _EXPECTED.get(error["type"])
    return f"{f'expected {expected}' if expected else message}, got {error['input']!r:.80}"


def _translated(error: Exception) -> OperatorError:
    """Translate an error of Prefect's templating: the path, and what is expected there."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        path = ".".join(str(part) for part in ("job_configuration", *first["loc"]))
        return RenderError(path, _expected(first))
    if isinstance(error, httpx.HTTPStatusError):
        if error.response.status_code >= 500:
            return PrefectUnavailable(f"cannot read a block or variable: {error}")
        return RenderError("job_configuration", f"cannot read a block or variable: {error}")
    return RenderError("job_configuration", f"{type(error).__name__}: {error}")
