"""Computes names and ids, so that a repeated request has the same ones.

transition id   one per (cluster, binding, pool, run): proves that a claim is ours
job name        one per (run, claim): a repeated claim finds its own Job, a new one does not
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from uuid import UUID, uuid5

from slugify import slugify

JOB_NAME_LENGTH = 57  # beyond it the pod's name loses its separator or its hash (docs/races.md, 13)
LABEL_LENGTH = 63
NAME_LENGTH = 253
# Values that need no repair: a repair is slow, and there can be thousands of labels.
_VALUE = re.compile(r"(?=.{1,63}$)[A-Za-z0-9]((-(?!-)|[A-Za-z0-9_.])*[A-Za-z0-9])?", re.ASCII)
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]((-(?!-)|[a-z0-9.])*[a-z0-9])?", re.ASCII)
KEPT_LABELS = 1024
KEPT_NAMES = 1024  # of runs: each decision about a run needs the same ones; they take 1 MB
_HASH_LENGTH = 12
_NAMESPACE = UUID("6f0a5c5e-8f7b-5d0e-9d1c-1a4b8b1f2c3d")


@lru_cache(KEPT_NAMES)
def transition_id(*, cluster_id: str, binding: str, pool_id: UUID, run_id: UUID) -> UUID:
    """Return the claim's transition id. `binding` is namespace/name, not a uid, so that a binding
    that is deleted and applied again recognises its claims (docs/races.md, 5)."""
    return uuid5(_NAMESPACE, f"claim/{cluster_id}/{binding}/{pool_id}/{run_id}")


def substate_transition_id(*, claim_id: UUID, name: str) -> UUID:
    """Return the transition id of a named sub-state; never the claim's, which proves the claim."""
    return uuid5(_NAMESPACE, f"sub-state/{claim_id}/{name}")


def binding_id(*, cluster_id: str, binding: str) -> str:
    """Return the label value that selects a binding's Jobs and pods."""
    return hashlib.sha256(f"{cluster_id}/{binding}".encode()).hexdigest()[:32]


@lru_cache(KEPT_NAMES)
def job_name(*, run_name: str, run_id: UUID, claim_id: UUID) -> str:
    """Return a DNS label of at most 57 characters: the run's name, then a hash of run and claim."""
    slug = _slug(
        run_name, length=JOB_NAME_LENGTH - _HASH_LENGTH - 1, invalid=r"[^a-z0-9-]+", lowercase=True
    )
    return f"{slug or 'run'}-{_digest(run_id, claim_id)}"


def is_job_name(name: str, *, run_id: UUID, claim_id: UUID) -> bool:
    """Return whether the Job's name belongs to this claim, even if the run was renamed since."""
    return name.endswith(f"-{_digest(run_id, claim_id)}")


def worker_name(*, cluster_id: str, namespace: str, name: str) -> str:
    """Return the name of the binding in Prefect's list of workers; restarts do not change it."""
    return f"{name}.{namespace}@{cluster_id[:8]}"


def lease_name(binding_name: str) -> str:
    """Return the name of the Lease of a binding, in the binding's namespace."""
    name = f"workpoolbinding-{binding_name}"
    if len(name) <= NAME_LENGTH:
        return name
    digest = hashlib.sha256(binding_name.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{name[: NAME_LENGTH - _HASH_LENGTH - 1].rstrip('-.')}-{digest}"


@lru_cache(KEPT_LABELS)
def label_key(key: str) -> str:
    """Return a valid label or annotation key; "" if nothing valid is left."""
    prefix, _, name = key.partition("/") if "/" in key else ("", "", key)
    slug = label_value(name)
    if slug and _DOMAIN.fullmatch(prefix):
        return f"{prefix}/{slug}"
    domain = _slug(prefix, length=253, invalid=r"[^a-z0-9.-]+", lowercase=True).strip("-.")
    return f"{domain}/{slug}" if domain and slug else slug


@lru_cache(KEPT_LABELS)
def label_value(value: str) -> str:
    """Return a valid label value; "" if nothing valid is left."""
    if _VALUE.fullmatch(value):
        return value
    slug = _slug(value, length=LABEL_LENGTH, invalid=r"[^A-Za-z0-9._-]+")
    return slug.strip("-_.")


def _slug(text: str, *, length: int, invalid: str, lowercase: bool = False) -> str:
    """Return the text in ASCII, cut to the length, with a hyphen for everything invalid."""
    # To transliterate, slugify searches the disk for an optional package at every call. Plain text
    # without HTML entities is the same in ASCII.
    is_plain = text.isascii() and "&" not in text
    return slugify(
        text,
        max_length=length,
        regex_pattern=invalid,
        lowercase=lowercase,
        allow_unicode=is_plain,
    )


@lru_cache(KEPT_NAMES)
def _digest(run_id: UUID, claim_id: UUID) -> str:
    return hashlib.sha256(f"{run_id}/{claim_id}".encode()).hexdigest()[:_HASH_LENGTH]
