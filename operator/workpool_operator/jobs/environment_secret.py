"""Moves the plain values of a run's environment from its Job into a Secret. Pure.

Every variable keeps its position in the list and refers to its value by key. So order, precedence
and `$(NAME)` in commands and other variables do not change, as they would with `envFrom`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from workpool_operator.errors import RenderError
from workpool_operator.jobs import manifest as manifests
from workpool_operator.jobs.field_errors import Size
from workpool_operator.kube import models

ENVIRONMENT = "environment"  # the kind of Secret, in its label
SUFFIX = "-env"
MAX_SECRET_BYTES = 1024 * 1024
# `$$` or `$(NAME)`, as the kubelet reads a value, from left to right.
_DOLLARS = re.compile(r"\$(?:\$|\(([^)]*)\))")
_NO_KEY = re.compile(r"^\.+|[^-._a-zA-Z0-9]")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobWithSecret:
    """A Job that refers to `secret`, which is None if the Job had no plain values."""

    job: Object
    secret: Object | None = field(repr=False)


def extract_environment(job: Mapping[str, Any]) -> JobWithSecret:
    """Return the Job without plain values in the environment of its flow's container.

    A value that refers to other variables by `$(NAME)` stays in the Job: the kubelet expands only
    plain values. `kube.secrets.adopt` makes the Job the owner of the Secret afterwards.

    Raises:
        RenderError: the values are larger than a Secret can be.
    """
    changed = copy.deepcopy(dict(job))
    container = manifests.get_flow_container(changed)
    name = secret_name(changed["metadata"]["name"])
    data: dict[str, str] = {}
    container["env"] = [_moved(entry, name, data) for entry in container.get("env") or ()]
    if (size := Size.of(*data.values())) > MAX_SECRET_BYTES:
        raise RenderError(
            f"{manifests.CONTAINERS}[{manifests.flow_container_index(job)}].env",
            f"expected at most {MAX_SECRET_BYTES:,} bytes of plain values, the limit of a Secret "
            f"(spec.jobs.environmentSecret), got {size!r}",
        )
    return JobWithSecret(changed, _secret(name, data, changed["metadata"]) if data else None)


def secret_name(job_name: str) -> str:
    """Return the name of the Secret of a Job's environment."""
    return job_name + SUFFIX


def _moved(entry: Any, secret: str, data: dict[str, str]) -> Any:
    """Move a plain value into `data`; return the entry, which then refers to it."""
    value = entry.get("value") if isinstance(entry, Mapping) else None
    if not isinstance(value, str) or not value or _refers(value):
        return entry
    key = _free_key(str(entry["name"]), data)
    data[key] = _DOLLARS.sub("$", value)  # only `$$` is left, which the kubelet would make `$`
    return {"name": entry["name"], "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _refers(value: str) -> bool:
    return any(match[1] is not None for match in _DOLLARS.finditer(value))


def _free_key(variable: str, taken: Collection[str]) -> str:
    """Return an unused key for the variable: its name, with invalid characters replaced."""
    key = _NO_KEY.sub("_", variable)[:200]
    while key in taken:
        key += "_"
    return key


def _secret(name: str, data: dict[str, str], of_job: Mapping[str, Any]) -> Object:
    owner = {k: v for k, v in of_job["labels"].items() if k.startswith(models.PREFIX)}
    kind = {models.SECRET_LABEL: ENVIRONMENT, models.WAITS_FOR_JOB_LABEL: "true"}
    run = of_job.get("annotations", {}).get(manifests.FLOW_RUN_ID_KEY)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": owner | models.MANAGED | kind,
            "annotations": {manifests.FLOW_RUN_ID_KEY: run} if run else {},
        },
        "stringData": data,
        "immutable": True,  # so kubelets do not watch it
    }
