"""A pool's base job template and a run's values -> the Job's manifest.

Placeholders, merging of `env`, blocks and variables are Prefect's own `BaseJobConfiguration`; what
a Job needs beyond them (environment, labels, image, command, name) is done here as the stock
Kubernetes worker does it, but for the differences that docs/architecture.md lists.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import prefect
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.workers.base import BaseJobConfiguration
from pydantic import Field, ValidationError, field_validator

from workpool_operator.errors import OperatorError, PrefectUnavailable, RenderError
from workpool_operator.jobs import environment, names
from workpool_operator.kube import views

FLOW_RUN_ID_KEY = "prefect.io/flow-run-id"
_ARGS = "job_manifest.spec.template.spec.containers[0].args"
_MISPLACED = ("parallelism", "completions")  # the stock template has them in the pod's spec


@dataclass(frozen=True, slots=True)
class Identity:
    """What ties a Job to its run, claim, binding and server."""

    run_id: UUID
    claim_id: UUID
    pool_id: UUID
    binding: str
    binding_id: str
    server: str
    namespace: str

    @property
    def labels(self) -> dict[str, str]:
        """On the Job and, where nobody can strip them, on its pod template (races.md 14)."""
        return {
            views.BINDING_LABEL: self.binding_id,
            views.RUN_LABEL: str(self.run_id),
            views.CLAIM_LABEL: str(self.claim_id),
            views.POOL_LABEL: str(self.pool_id),
        }

    @property
    def annotations(self) -> dict[str, str]:
        return {
            FLOW_RUN_ID_KEY: str(self.run_id),
            views.BINDING_ANNOTATION: self.binding,
            views.SERVER_ANNOTATION: self.server,
        }


@dataclass(frozen=True, slots=True)
class Subject:
    """The server's documents of one run: `deployment` is None for a run without one."""

    run: Mapping[str, Any]
    flow: Mapping[str, Any]
    deployment: Mapping[str, Any] | None
    pool: Mapping[str, Any]
    worker_name: str
    environment: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def job_variables(self) -> dict[str, Any]:
        """The deployment's, overlaid by the run's; `env` is merged."""
        deployment = copy.deepcopy(dict((self.deployment or {}).get("job_variables") or {}))
        run = copy.deepcopy(dict(self.run.get("job_variables") or {}))
        if isinstance(deployment.get("env"), dict) and isinstance(run.get("env"), dict):
            run["env"] = {**deployment["env"], **run["env"]}
        return {**deployment, **run}


class KubernetesJobConfiguration(BaseJobConfiguration):
    """The `job_configuration` half of a template of type `kubernetes`."""

    env: dict[str, str | None] | list[dict[str, Any]] = Field(default_factory=dict)  # type: ignore[assignment]
    annotations: dict[str, str] = Field(default_factory=dict)
    job_manifest: dict[str, Any]

    @field_validator("env", mode="before")
    @classmethod
    def _coerce_env(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            if any(not (isinstance(e, dict) and e.get("name")) for e in value or ()):
                raise ValueError("each entry needs a name")
            return value
        return {key: None if item is None else str(item) for key, item in value.items()}

    @classmethod
    def _base_environment(cls) -> dict[str, str]:
        """Nothing: the operator's own settings are not the run's (races.md 18)."""
        return {}


def check_template(template: Mapping[str, Any]) -> None:
    """Refuse a base job template from which no Job can come, whatever a run's values are.

    Raises:
        RenderError: with the path in the template and what is expected there.
    """
    manifest = (template.get("job_configuration") or {}).get("job_manifest")
    if not isinstance(manifest, dict):
        raise RenderError("job_configuration.job_manifest", "expected a Job manifest; it has none")
    for path, expected in (("apiVersion", "batch/v1"), ("kind", "Job")):
        if (value := manifest.get(path)) != expected and not _is_placeholder(value):
            raise RenderError(
                f"job_configuration.job_manifest.{path}", f"expected {expected!r}, got {value!r}"
            )
    spec = _at(manifest, "spec.template.spec")
    if not _is_placeholder(spec) and not _is_placeholder(_at(spec, "containers")):
        _container(manifest)


async def render(subject: Subject, identity: Identity, *, client: PrefectClient) -> dict[str, Any]:
    """The manifest of the run's Job, named after its claim.

    Raises:
        RenderError: the run's own values or the template give no Job.
    """
    configuration = await _configure(subject, client=client)
    manifest = configuration.job_manifest
    ttl = _normalise(manifest)
    metadata = manifest["metadata"]
    template_metadata = _mapping(manifest["spec"]["template"], "metadata", where="spec.template.")
    container = _container(manifest)
    container["env"] = environment.merge(
        binding=subject.environment,
        run=configuration.env,
        template=container.get("env"),
        reschedules=manifest["spec"].get("backoffLimit") == 0,
    )
    container["args"] = _arguments(container.get("args"))
    container.setdefault("image", default_image())
    labels = _labels(configuration.labels) | identity.labels
    annotations = _annotations(configuration.annotations)
    for each in (metadata, template_metadata):
        each["labels"] = _labels(_mapping(each, "labels", where="metadata.")) | labels
        _mapping(each, "annotations", where="metadata.")
    metadata["annotations"] = _annotations(metadata["annotations"]) | annotations
    pod_annotations = template_metadata["annotations"] | metadata["annotations"]
    template_metadata["annotations"] = pod_annotations | {FLOW_RUN_ID_KEY: str(identity.run_id)}
    metadata["annotations"] |= identity.annotations
    if ttl is not None:
        metadata["annotations"][views.TTL_ANNOTATION] = str(ttl)
    metadata.pop("generateName", None)
    metadata["namespace"] = identity.namespace
    metadata["name"] = names.job_name(
        run_name=configuration.name or str(subject.run["name"]),
        run_id=identity.run_id,
        claim_id=identity.claim_id,
    )
    return manifest


def default_image() -> str:
    """Prefect's own image of the version that the operator was built with."""
    version = prefect.__version__.split("+")[0]
    return f"prefecthq/prefect:{version}-python3.11"


async def _configure(subject: Subject, *, client: PrefectClient) -> KubernetesJobConfiguration:
    """Prefect's part: values into template, blocks and variables, the run's names and labels."""
    configuration = await _populate(subject, client=client)
    special = configuration.env if isinstance(configuration.env, list) else []
    if special:
        configuration.env = {e["name"]: e["value"] for e in special if "name" in e and "value" in e}
    configuration.prepare_for_flow_run(
        FlowRun.model_validate(subject.run),
        DeploymentResponse.model_validate(subject.deployment) if subject.deployment else None,
        Flow.model_validate(subject.flow),
        WorkPool.model_validate(subject.pool),
        subject.worker_name,
    )
    configuration.env = environment.as_list(configuration.env) + [
        e for e in special if "valueFrom" in e
    ]
    return configuration


async def _populate(subject: Subject, *, client: PrefectClient) -> KubernetesJobConfiguration:
    try:
        populated: KubernetesJobConfiguration = (
            await KubernetesJobConfiguration.from_template_and_values(
                base_job_template=subject.pool["base_job_template"],
                values=subject.job_variables,
                client=client,
            )
        )
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in ("job_configuration", *first["loc"]))
        raise RenderError(path, f"{first['msg']}, got {first.get('input')!r:.80}") from error
    except OperatorError:
        raise
    except httpx.HTTPStatusError as error:
        if error.response.status_code >= 500:
            raise PrefectUnavailable(f"a block or variable cannot be read: {error}") from error
        raise RenderError("job_configuration", f"a block or variable: {error}") from error
    except Exception as error:  # Prefect's templating raises what its blocks and helpers raise
        raise RenderError("job_configuration", f"{type(error).__name__}: {error}") from error
    return populated


def _normalise(manifest: dict[str, Any]) -> int | None:
    """Give the manifest the parts that every Job has, and take its TTL out: it counts from the
    reported end, so it is patched in then (races.md 15)."""
    _mapping(manifest, "metadata")
    for path, expected in (("apiVersion", "batch/v1"), ("kind", "Job")):
        if manifest.get(path) != expected:
            raise RenderError(
                f"job_manifest.{path}", f"expected {expected!r}, got {manifest.get(path)!r}"
            )
    _container(manifest)
    spec = manifest["spec"]
    pod = spec["template"]["spec"]
    for key in _MISPLACED:
        if key in pod:
            spec.setdefault(key, pod.pop(key))
    ttl = spec.pop("ttlSecondsAfterFinished", None)
    if ttl is not None and not str(ttl).isdigit():
        path = "job_manifest.spec.ttlSecondsAfterFinished"
        raise RenderError(path, f"expected a number of seconds, got {ttl!r}")
    return None if ttl is None else int(ttl)


def _mapping(parent: dict[str, Any], key: str, *, where: str = "") -> dict[str, Any]:
    """The mapping at `key`, made where there is none."""
    found = parent.get(key)
    if found is None:
        found = parent[key] = {}
    if not isinstance(found, dict):
        raise RenderError(f"job_manifest.{where}{key}", f"expected a mapping, got {found!r}")
    return found


def _container(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The first container, which runs the flow; the others are the user's."""
    containers = _at(manifest, "spec.template.spec.containers")
    if not isinstance(containers, list) or not containers or not isinstance(containers[0], dict):
        raise RenderError(
            "job_manifest.spec.template.spec.containers",
            "expected a list with the flow's container",
        )
    return containers[0]


def _at(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def _is_placeholder(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


def _arguments(args: Any) -> list[str]:
    if args is None:
        return ["prefect", "flow-run", "execute"]
    if isinstance(args, str):
        try:
            return shlex.split(args)
        except ValueError as error:
            raise RenderError(_ARGS, f"{error} in {args!r}") from error
    if isinstance(args, list):
        return [str(item) for item in args]
    raise RenderError(_ARGS, f"expected a list, got {args!r}")


def _labels(labels: Mapping[str, Any]) -> dict[str, str]:
    """Repaired rather than sent broken; `prefect.io/flow-run-id` is an annotation, because the
    stock worker's observer acts on every Job that has it as a label (races.md 17)."""
    repaired = {
        names.label_key(str(key)): names.label_value(str(value))
        for key, value in labels.items()
        if key != FLOW_RUN_ID_KEY
    }
    return {key: value for key, value in repaired.items() if key}


def _annotations(annotations: Mapping[str, Any]) -> dict[str, str]:
    repaired = {names.label_key(str(key)): str(value) for key, value in annotations.items()}
    return {key: value for key, value in repaired.items() if key}
