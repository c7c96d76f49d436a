"""Plans how run pods get credentials for their server: by reference to Secrets. Pure.

Credentials are the API key, the auth string, the headers for a proxy in front of the server, and a
private CA. Each comes from a Secret that the user named, in the namespace of the Jobs, or from a
Secret that the operator manages there. Bindings and workers do the same:

    credentials = plan_credentials(values, named=named, owner=f"worker {name}")
    if credentials.managed_secret:  # before the first Job
        await kube.secrets.apply(client, namespace, credentials.managed_secret)
    configuration.inherit(credentials.entries)
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slugify import slugify

from workpool_operator.jobs import certificates
from workpool_operator.jobs.certificates import CASource
from workpool_operator.kube import models

API_KEY = "PREFECT_API_KEY"
AUTH_STRING = "PREFECT_API_AUTH_STRING"
CUSTOM_HEADERS = "PREFECT_CLIENT_CUSTOM_HEADERS"
VARIABLES = (API_KEY, AUTH_STRING, CUSTOM_HEADERS)
CA = "ca.crt"  # its key in a managed Secret, next to the variables
MANAGED_SECRET_SUFFIX = "credentials"  # the kind of Secret, in its label

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
            "labels": models.MANAGED | {models.SECRET_LABEL: MANAGED_SECRET_SUFFIX},
            "annotations": dict(annotations),
            "ownerReferences": None,  # removes those that kube.secrets.release set
        },
        "data": {name: _encoded(values.get(name)) for name in (*VARIABLES, CA)},
    }


def _encoded(value: str | None) -> str | None:
    return None if value is None else base64.b64encode(value.encode()).decode()
