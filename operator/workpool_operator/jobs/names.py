"""Names and identities that are computed, never chosen, so that every replay gives the same.

transition id   one per (cluster, binding, pool, run): proves that a claim is ours
job name        one per (run, claim): a replayed claim meets its own Job, a new one does not
"""

from __future__ import annotations

import hashlib
import re
from uuid import UUID, uuid5

from slugify import slugify

JOB_NAME_LENGTH = 57  # beyond it the pod's name loses its separator or its hash (races.md 13)
LABEL_LENGTH = 63
_HASH_LENGTH = 12
_NAMESPACE = UUID("6f0a5c5e-8f7b-5d0e-9d1c-1a4b8b1f2c3d")


def transition_id(*, cluster_id: str, binding: str, pool_id: UUID, run_id: UUID) -> UUID:
    """The claim's id. `binding` is namespace/name, not a uid, so that a binding that is deleted and
    applied again still knows its claims (races.md 5)."""
    return uuid5(_NAMESPACE, f"claim/{cluster_id}/{binding}/{pool_id}/{run_id}")


def substate_transition_id(*, claim_id: UUID, name: str) -> UUID:
    """A named sub-state's own id: never the claim's, which must stay provable."""
    return uuid5(_NAMESPACE, f"sub-state/{claim_id}/{name}")


def binding_id(*, cluster_id: str, binding: str) -> str:
    """The label value that selects a binding's Jobs and pods."""
    return hashlib.sha256(f"{cluster_id}/{binding}".encode()).hexdigest()[:32]


def job_name(*, run_name: str, run_id: UUID, claim_id: UUID) -> str:
    """A DNS label of at most 57 characters: the run's name, then what makes it unique."""
    digest = hashlib.sha256(f"{run_id}/{claim_id}".encode()).hexdigest()[:_HASH_LENGTH]
    slug = slugify(run_name, max_length=JOB_NAME_LENGTH - _HASH_LENGTH - 1)
    return f"{slug}-{digest}" if slug else f"run-{digest}"


def worker_name(*, cluster_id: str, namespace: str, name: str) -> str:
    """The name under which Prefect lists the binding as a worker: the same after every restart."""
    return f"{name}.{namespace}@{cluster_id[:8]}"


def label_key(key: str) -> str:
    """A valid label or annotation key; "" where nothing valid is left."""
    prefix, _, name = key.rpartition("/")
    slug = _trimmed(name, LABEL_LENGTH)
    if not prefix:
        return slug
    domain = slugify(prefix, max_length=253, regex_pattern=r"[^a-z0-9.-]+").strip("-.")
    return f"{domain}/{slug}" if domain and slug else slug


def label_value(value: str) -> str:
    """A valid label value; "" where nothing valid is left."""
    return _trimmed(value, LABEL_LENGTH)


def _trimmed(text: str, length: int) -> str:
    ascii_text = re.sub(r"[^A-Za-z0-9._-]+", "-", _ascii(text))
    return ascii_text.strip("-_.")[:length].strip("-_.")


def _ascii(text: str) -> str:
    """Transliterate to ASCII, case and punctuation kept."""
    return str(slugify(text, lowercase=False, regex_pattern=r"[^\x00-\x7f]+", separator="-"))
