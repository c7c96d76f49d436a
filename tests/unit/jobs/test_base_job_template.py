"""Our own template: each variable has its effect, and no value of a deployment makes the pod break
the restricted standard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from tests.support.templates import at, configure, default_template, render
from workpool_operator.jobs.base_job_template import (
    HOME,
    HOME_VOLUME,
    TEMPORARY_VOLUME,
    KubernetesJobVariables,
    default_manifest,
)

Object = dict[str, Any]
SCHEMA = KubernetesJobVariables.model_json_schema()
PROPERTIES: Object = SCHEMA["properties"]

MOUNT = {"name": "data", "mountPath": "/data"}
VOLUME = {"name": "data", "emptyDir": {}}
TOLERATION = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
ANTI_AFFINITY: Object = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
POD = "spec.template.spec"
CONTAINER = f"{POD}.containers.0"

#: A value of each variable, and where it is in the Job.
EFFECTS: dict[str, tuple[Any, str]] = {
    "labels": ({"team": "data"}, "metadata.labels"),
    "annotations": ({"team": "data"}, "spec.template.metadata.annotations"),
    "command": ("sh -c true", f"{CONTAINER}.args"),
    "image": ("registry/image:1", f"{CONTAINER}.image"),
    "image_pull_policy": ("Always", f"{CONTAINER}.imagePullPolicy"),
    "image_pull_secrets": ([{"name": "registry"}], f"{POD}.imagePullSecrets"),
    "service_account_name": ("etl", f"{POD}.serviceAccountName"),
    "env": ({"LEVEL": "high"}, f"{CONTAINER}.env"),
    "cpu_request": ("250m", f"{CONTAINER}.resources.requests.cpu"),
    "cpu_limit": ("2", f"{CONTAINER}.resources.limits.cpu"),
    "memory_request": ("256Mi", f"{CONTAINER}.resources.requests.memory"),
    "memory_limit": ("1.5Gi", f"{CONTAINER}.resources.limits.memory"),
    "node_selector": ({"disk": "ssd"}, f"{POD}.nodeSelector"),
    "tolerations": ([TOLERATION], f"{POD}.tolerations"),
    "affinity": (ANTI_AFFINITY, f"{POD}.affinity"),
    "priority_class_name": ("urgent", f"{POD}.priorityClassName"),
    "volumes": ([VOLUME], f"{POD}.volumes"),
    "volume_mounts": ([MOUNT], f"{CONTAINER}.volumeMounts"),
    "working_directory": ("/srv", f"{CONTAINER}.workingDir"),
    "run_as_user": (2000, f"{POD}.securityContext.runAsUser"),
    "run_as_group": (2000, f"{POD}.securityContext.runAsGroup"),
    "fs_group": (2000, f"{POD}.securityContext.fsGroup"),
    "active_deadline_seconds": (600, "spec.activeDeadlineSeconds"),
    "backoff_limit": (3, "spec.backoffLimit"),
    "finished_job_ttl": (60, "spec.ttlSecondsAfterFinished"),
}
#: Variables of the job configuration's other fields.
OTHER_FIELDS: Object = {"name": "nightly", "namespace": "etl"}
#: Variables with a manifest key of their own and no default.
WITHOUT_DEFAULT = sorted(
    name
    for name in EFFECTS.keys() - {"labels", "annotations", "command", "env", "image"}
    if "default" not in PROPERTIES[name] and not name.startswith("volume")
)
#: How a value changes if it is not inserted as it is.
WRITTEN: dict[str, Callable[[Any], Any]] = {
    "command": str.split,
    "env": lambda env: [{"name": name, "value": value} for name, value in env.items()],
}


def is_within(part: Any, whole: Any) -> bool:
    """Return whether the Job contains the user's value; lists and mappings can have more."""
    if isinstance(part, list):
        return all(item in (whole or ()) for item in part)
    if isinstance(part, dict):
        return part.items() <= (whole or {}).items()
    return bool(part == whole)


def test_every_variable_has_an_effect_that_is_tested_here() -> None:
    assert EFFECTS.keys() | OTHER_FIELDS.keys() == PROPERTIES.keys()


@pytest.mark.parametrize("variable", EFFECTS)
async def test_a_variable_reaches_its_field_if_and_only_if_it_is_set(variable: str) -> None:
    value, path = EFFECTS[variable]
    written = WRITTEN.get(variable, lambda unchanged: unchanged)(value)
    assert is_within(written, at(await render(**{variable: value}), path))
    assert not is_within(written, at(await render(), path))


@pytest.mark.parametrize("variable", WITHOUT_DEFAULT)
async def test_an_unset_variable_leaves_no_key(variable: str) -> None:
    assert at(await render(), EFFECTS[variable][1]) is None


async def test_the_other_variables_name_the_job_and_the_workers_namespace() -> None:
    configuration = await configure(**OTHER_FIELDS)
    assert (configuration.job_name, configuration.namespace) == ("nightly", "etl")


async def test_no_placeholder_is_left_in_the_job_of_a_deployment_that_sets_nothing() -> None:
    assert "{{" not in str(await render())


# The form, and what the server checks


@pytest.mark.parametrize("variable", PROPERTIES)
def test_a_variable_has_a_title_a_description_and_one_type(variable: str) -> None:
    schema = PROPERTIES[variable]
    assert schema["title"][0].isupper()
    assert schema["description"].endswith(".")
    assert isinstance(schema["type"], str)


@pytest.mark.parametrize("definition", SCHEMA["definitions"])
def test_a_field_of_a_list_has_a_title_and_a_description(definition: str) -> None:
    for field in SCHEMA["definitions"][definition]["properties"].values():
        assert field["title"][0].isupper()
        assert field["description"].endswith(".")
        assert isinstance(field["type"], str)


def test_the_schema_is_valid_and_so_are_its_defaults() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    defaults = {
        name: schema["default"] for name, schema in PROPERTIES.items() if "default" in schema
    }
    assert defaults.keys() >= {"backoff_limit", "run_as_user", "working_directory"}
    jsonschema.validate(defaults, SCHEMA)


def test_the_schema_accepts_every_value_that_is_used_here() -> None:
    jsonschema.validate(
        OTHER_FIELDS | {name: value for name, (value, _) in EFFECTS.items()}, SCHEMA
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("run_as_user", 0),
        ("run_as_group", -1),
        ("fs_group", -1),
        ("memory_limit", "1 GB"),
        ("cpu_request", "half"),
        ("image_pull_policy", "Sometimes"),
        ("backoff_limit", -1),
        ("active_deadline_seconds", 0),
        ("tolerations", [{"operator": "Like"}]),
        ("volumes", [{"name": "node", "hostPath": {"path": "/"}}]),
        ("volume_mounts", [{"name": "data"}]),
        ("image_pull_secrets", ["registry"]),
    ],
)
def test_the_schema_refuses(variable: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({variable: value}, SCHEMA)


@pytest.mark.parametrize("value", ["1", "500m", "0.5", "1e3", ".5", "64Mi", "2G"])
def test_the_schema_accepts_kubernetes_quantities(value: str) -> None:
    jsonschema.validate({"cpu_limit": value, "memory_limit": value}, SCHEMA)


def test_the_schema_accepts_a_quantity_from_a_prefect_variable() -> None:
    jsonschema.validate({"memory_limit": "{{ prefect.variables.memory }}"}, SCHEMA)


# Unprivileged, and at home


async def test_the_pod_is_restricted_whatever_a_deployment_sets() -> None:
    everything = OTHER_FIELDS | {name: value for name, (value, _) in EFFECTS.items()}
    for values in ({}, everything):
        manifest = await render(**values)
        pod = at(manifest, f"{POD}.securityContext")
        assert pod["runAsNonRoot"] is True
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert at(manifest, f"{CONTAINER}.securityContext") == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


async def test_the_cluster_chooses_the_ids_if_a_deployment_unsets_them() -> None:
    ids = dict.fromkeys(("run_as_user", "run_as_group", "fs_group"))
    context = at(await render(**ids), f"{POD}.securityContext")
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()
    assert context["runAsNonRoot"] is True


async def test_home_and_the_temporary_folder_are_volumes_next_to_the_users() -> None:
    manifest = await render(volumes=[VOLUME], volume_mounts=[MOUNT])
    volumes = [volume["name"] for volume in at(manifest, f"{POD}.volumes")]
    mounts = [mount["mountPath"] for mount in at(manifest, f"{CONTAINER}.volumeMounts")]
    assert volumes == [HOME_VOLUME, TEMPORARY_VOLUME, "data"]
    assert mounts == [HOME, "/tmp", "/data"]


async def test_a_volume_claim_of_the_user_replaces_the_home_volume() -> None:
    claim = {"name": HOME_VOLUME, "persistentVolumeClaim": {"claimName": "home"}}
    manifest = await render(volumes=[claim])
    assert at(manifest, f"{POD}.volumes") == [{"name": TEMPORARY_VOLUME, "emptyDir": {}}, claim]


async def test_the_users_home_variable_wins_and_is_set_once() -> None:
    env = at(await render(env={"HOME": "/srv"}), f"{CONTAINER}.env")
    assert [entry["value"] for entry in env if entry["name"] == "HOME"] == ["/srv"]
    assert {"name": "PREFECT_HOME", "value": f"{HOME}/.prefect"} in env


async def test_a_sidecar_that_a_pool_adds_is_left_as_it_is() -> None:
    sidecar = {"name": "proxy", "image": "proxy:1", "env": [{"name": "HOME", "value": "/"}]}
    template = default_template()
    manifest = default_manifest()
    manifest["spec"]["template"]["spec"]["containers"].append(dict(sidecar))
    template["job_configuration"]["job_manifest"] = manifest
    everything = {name: value for name, (value, _) in EFFECTS.items()}
    assert at(await render(template, **everything), f"{POD}.containers.1") == sidecar
