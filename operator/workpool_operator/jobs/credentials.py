"""How run pods get what opens their server: by reference to Secrets, never as values. Pure.

That are the credentials, the headers for a proxy in front of it, and a private CA. Each comes from
what somebody named, in the namespace of the Jobs, or from a Secret that is kept there. Who has no
binding, as the worker type, does the same:

    given = credentials.provide(values, named=named, owner=f"worker {name}")
    if given.kept:
        await kube.secrets.keep(client, namespace, given.kept)  # before the first Job
    configuration.inherit(given.entries)
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
CA = "ca.crt"  # its key in a kept Secret, beside the variables
MANAGED_SECRET_SUFFIX = "credentials"  # the kind of Secret, as its label tells

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key of a Secret in the namespace of the Jobs."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """`entries` are Kubernetes' EnvVars, `ca` is what is mounted; `managed_secret` is the Secret to
    keep for them, if there is one.

    A null in `managed_secret` takes away what an earlier one had: it is a merge patch, too.
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
    """Credentials by environment variable: `named` by reference, other `values`, and a `ca` that is
    given as text, through a Secret that is kept for `owner`, whose name depends on nothing else."""
    kept = {name: value for name, value in values.items() if name not in named}
    sources = dict(named) | {name: SecretKey(managed_secret_name(owner), name) for name in kept}
    entries = [_entry(name, sources[name]) for name in VARIABLES if name in sources]
    if isinstance(ca, str):
        kept[CA], ca = ca, CASource("Secret", managed_secret_name(owner), CA)
    if ca:
        entries.append(dict(certificates.ENTRY))
    secret = _managed_secret(kept, owner, annotations or {}) if kept else None
    return Credentials(tuple(entries), ca, secret)


def custom_headers(headers: Iterable[tuple[str, str]]) -> str | None:
    """The value of that variable, as Prefect's client reads it; None without any."""
    found = dict(headers)
    return json.dumps(found) if found else None


def managed_secret_name(owner: str) -> str:
    """The name of the Secret that is kept for `owner`."""
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
            "ownerReferences": None,  # those of Jobs that outlived a binding before (kube.secrets)
        },
        "data": {name: _encoded(values.get(name)) for name in (*VARIABLES, CA)},
    }


def _encoded(value: str | None) -> str | None:
    return None if value is None else base64.b64encode(value.encode()).decode()
