"""Plans the Secrets that run pods refer to: no Job has a credential in plain text. Pure.

One Secret serves all Jobs of an owner, with the credentials for their server: the API key, the auth
string, the headers for a proxy in front of the server, and a private CA. Each comes from a Secret
that the user named, in the namespace of the Jobs, or from the managed Secret of the operator.
Bindings and workers do the same:

    credentials = plan_credentials(values, named=named, owner=f"worker {name}")
    if credentials.managed_secret:  # before the first Job
        await kube.secrets.apply(client, namespace, credentials.managed_secret)
    configuration.inherit(credentials.entries)

The other kind serves one Job, with the plain values of its environment (`extract_environment`).
Every variable keeps its position in the list and refers to its value by key. So order, precedence
and `$(NAME)` in commands and other variables do not change, as they would with `envFrom`.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slugify import slugify

from workpool_operator.errors import RenderError
from workpool_operator.jobs import certificates
from workpool_operator.jobs import manifest as manifests
from workpool_operator.jobs.certificates import CASource
from workpool_operator.jobs.field_errors import Size
from workpool_operator.kube import models

API_KEY = "PREFECT_API_KEY"
AUTH_STRING = "PREFECT_API_AUTH_STRING"
CUSTOM_HEADERS = "PREFECT_CLIENT_CUSTOM_HEADERS"
VARIABLES = (API_KEY, AUTH_STRING, CUSTOM_HEADERS)
CA = "ca.crt"  # its key in a managed Secret, next to the variables
CREDENTIALS = "credentials"  # the kinds of Secrets, in their label
ENVIRONMENT = "environment"
ENVIRONMENT_SUFFIX = "-env"
MAX_SECRET_BYTES = 1024 * 1024
# `$$` or `$(NAME)`, as the kubelet reads a value, from left to right.
_DOLLARS = re.compile(r"\$(?:\$|\(([^)]*)\))")
_NO_KEY = re.compile(r"^\.+|[^-._a-zA-Z0-9]")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key of a Secret in the namespace of the Jobs."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """What run pods get: `entries` are Kubernetes' EnvVars, `ca` is mounted.

    `managed_secret` is the Secret to apply for them, if one is needed. It is also a merge patch: a
    null in it removes a key that an earlier one had.
    """

    entries: tuple[Object, ...]
    ca: CASource | None = None
    managed_secret: Object | None = field(default=None, repr=False)


def plan_credentials(
    values: Mapping[str, str],
    *,
    named: Mapping[str, SecretKey],
    owner: str,
    annotations: Mapping[str, str] | None = None,
    ca: CASource | str | None = None,
) -> Credentials:
    """Plan the credentials, by environment variable.

    Those in `named` refer to the user's Secrets. Other `values`, and a `ca` that is PEM text, go
    into a managed Secret, whose name depends on `owner` alone.
    """
    managed = {name: value for name, value in values.items() if name not in named}
    sources = dict(named) | {name: SecretKey(managed_secret_name(owner), name) for name in managed}
    entries = [_entry(name, sources[name]) for name in VARIABLES if name in sources]
    if isinstance(ca, str):
        managed[CA], ca = ca, CASource("Secret", managed_secret_name(owner), CA)
    if ca:
        entries.append(dict(certificates.ENTRY))
    secret = _managed_secret(managed, owner, annotations or {}) if managed else None
    return Credentials(tuple(entries), ca, secret)


def custom_headers(headers: Iterable[tuple[str, str]]) -> str | None:
    """Return the headers as the value of `CUSTOM_HEADERS`; None if there are none."""
    found = dict(headers)
    return json.dumps(found) if found else None


def managed_secret_name(owner: str) -> str:
    """Return the name of the managed Secret of `owner`."""
    digest = hashlib.sha256(owner.encode()).hexdigest()[:12]
    return f"{slugify(owner, max_length=38) or 'prefect'}-credentials-{digest}"


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
    name = environment_secret_name(changed["metadata"]["name"])
    data: dict[str, str] = {}
    container["env"] = [_moved(entry, name, data) for entry in container.get("env") or ()]
    if (size := Size.of(*data.values())) > MAX_SECRET_BYTES:
        raise RenderError(
            f"{manifests.CONTAINERS}[{manifests.flow_container_index(job)}].env",
            f"expected at most {MAX_SECRET_BYTES:,} bytes of plain values, the limit of a Secret "
            f"(spec.jobs.environmentSecret), got {size!r}",
        )
    return JobWithSecret(
        changed, _environment_secret(name, data, changed["metadata"]) if data else None
    )


def environment_secret_name(job_name: str) -> str:
    """Return the name of the Secret of a Job's environment."""
    return job_name + ENVIRONMENT_SUFFIX


def _entry(variable: str, source: SecretKey) -> Object:
    reference = {"name": source.name, "key": source.key}
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def _managed_secret(
    values: Mapping[str, str], owner: str, annotations: Mapping[str, str]
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": managed_secret_name(owner),
            "labels": models.MANAGED | {models.SECRET_LABEL: CREDENTIALS},
            "annotations": dict(annotations),
            "ownerReferences": None,  # removes those that kube.secrets.release set
        },
        "data": {name: _encoded(values.get(name)) for name in (*VARIABLES, CA)},
    }


def _encoded(value: str | None) -> str | None:
    return None if value is None else base64.b64encode(value.encode()).decode()


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


def _environment_secret(name: str, data: dict[str, str], of_job: Mapping[str, Any]) -> Object:
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
