"""Names and identities that are computed, never chosen, so that every replay gives the same.

transition id   one per (cluster, binding, pool, run): proves that a claim is ours
job name        one per (run, claim): a replayed claim meets its own Job, a new one does not
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from uuid import UUID, uuid5

from slugify import slugify

JOB_NAME_LENGTH = 57  # beyond it the pod's name loses its separator or its hash (docs/races.md, 13)
LABEL_LENGTH = 63
# What a repair leaves as it is, told without one, which takes long: there may be thousands.
_VALUE = re.compile(r"(?=.{1,63}$)[A-Za-z0-9]((-(?!-)|[A-Za-z0-9_.])*[A-Za-z0-9])?", re.ASCII)
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]((-(?!-)|[a-z0-9.])*[a-z0-9])?", re.ASCII)
# slugify looks on the disk for a package that it may use, at every call: most of a render's time.
KEPT_LABELS = 1024
_HASH_LENGTH = 12
_NAMESPACE = UUID("6f0a5c5e-8f7b-5d0e-9d1c-1a4b8b1f2c3d")


def transition_id(*, cluster_id: str, binding: str, pool_id: UUID, run_id: UUID) -> UUID:
    """The claim's id. `binding` is namespace/name, not a uid, so that a binding that is deleted and
    applied again still knows its claims (docs/races.md, 5)."""
    return uuid5(_NAMESPACE, f"claim/{cluster_id}/{binding}/{pool_id}/{run_id}")


def substate_transition_id(*, claim_id: UUID, name: str) -> UUID:
    """A named sub-state's own id: never the claim's, which must stay provable."""
    return uuid5(_NAMESPACE, f"sub-state/{claim_id}/{name}")


def binding_id(*, cluster_id: str, binding: str) -> str:
    """The label value that selects a binding's Jobs and pods."""
    return hashlib.sha256(f"{cluster_id}/{binding}".encode()).hexdigest()[:32]


def job_name(*, run_name: str, run_id: UUID, claim_id: UUID) -> str:
    """A DNS label of at most 57 characters: the run's name, then what makes it unique."""
    slug = slugify(run_name, max_length=JOB_NAME_LENGTH - _HASH_LENGTH - 1)
    return f"{slug or 'run'}-{_digest(run_id, claim_id)}"


def is_job_name(name: str, *, run_id: UUID, claim_id: UUID) -> bool:
    """The Job's name was made for this claim, whatever the run was called then."""
    return name.endswith(f"-{_digest(run_id, claim_id)}")


def worker_name(*, cluster_id: str, namespace: str, name: str) -> str:
    """The name under which Prefect lists the binding as a worker: the same after every restart."""
    return f"{name}.{namespace}@{cluster_id[:8]}"


@lru_cache(KEPT_LABELS)
def label_key(key: str) -> str:
    """A valid label or annotation key; "" where nothing valid is left."""
    prefix, _, name = key.partition("/") if "/" in key else ("", "", key)
    slug = label_value(name)
    if slug and _DOMAIN.fullmatch(prefix):
        return f"{prefix}/{slug}"
    domain = slugify(prefix, max_length=253, regex_pattern=r"[^a-z0-9.-]+").strip("-.")
    return f"{domain}/{slug}" if domain and slug else slug


@lru_cache(KEPT_LABELS)
def label_value(value: str) -> str:
    """A valid label value; "" where nothing valid is left."""
    if _VALUE.fullmatch(value):
        return value
    slug = slugify(
        value, lowercase=False, max_length=LABEL_LENGTH, regex_pattern=r"[^A-Za-z0-9._-]+"
    )
    return str(slug).strip("-_.")


def _digest(run_id: UUID, claim_id: UUID) -> str:
    return hashlib.sha256(f"{run_id}/{claim_id}".encode()).hexdigest()[:_HASH_LENGTH]
