"""Decides whether a work pool gets the base job template that its binding names. Pure.

Three templates are compared, by their digests: the one that the binding names (*wanted*), the one
that the pool has (*actual*), and the last one that both had (*base*). What differs from the base
was changed since: in the ConfigMap, in Prefect, or in both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import islice
from typing import Any

from workpool_operator.api.v1alpha1 import GROUP
from workpool_operator.binding.conditions import ConditionState
from workpool_operator.jobs import documents
from workpool_operator.jobs.documents import UnreadableFile
from workpool_operator.jobs.field_errors import Path, format_path
from workpool_operator.jobs.template_validation import refused_by_prefect, template_errors

#: Its value is the digest of the pool's template that may be overwritten, once.
OVERWRITE = f"{GROUP}/overwrite-template"
_MOST_LISTED = 3  # conditions are read in a terminal
_DIGEST_CHARACTERS = 16


@dataclass(frozen=True)
class Template:
    """A base job template, as Prefect stores it. `source` says where it comes from; `errors` say
    why no pool may have it."""

    document: Mapping[str, Any]
    source: str
    errors: Sequence[str] = field(default=())

    @cached_property
    def digest(self) -> str:
        """The digest of its content, whatever the order of keys is."""
        text = json.dumps(self.document, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]


class Verdict(Enum):
    """What the comparison of the three templates means. The value is the condition's reason."""

    SYNCED = "Synced"  # the pool has the wanted template
    UPDATE = "Updating"  # it gets it
    OUT_OF_SYNC = "OutOfSync"  # it has another one, which is not known to be somebody's change
    DRIFTED = "Drifted"  # its template was changed in Prefect


@dataclass(frozen=True, slots=True)
class Comparison:
    """The digests of the three templates; `base` is "" if wanted and actual were never the same.

    `syncs`: the spec lets the operator update the template. `overwrite`: the digest of the one that
    somebody allowed to overwrite, whatever was changed in it. `unequal`: where wanted and actual
    differ.
    """

    wanted: str
    actual: str
    base: str
    syncs: bool
    overwrite: str = ""
    unequal: tuple[str, ...] = ()


def decide(found: Comparison) -> Verdict:
    """Return what the comparison means. A change that was made in Prefect is never overwritten
    unless somebody allowed it."""
    if found.actual == found.wanted:
        return Verdict.SYNCED
    if found.syncs and found.actual in (found.base, found.overwrite):
        return Verdict.UPDATE
    if found.base in ("", found.actual):
        return Verdict.OUT_OF_SYNC
    return Verdict.DRIFTED


def template_synced(found: Comparison, *, pool: str, source: str, binding: str) -> ConditionState:
    """Return the condition TemplateSynced. `binding` is NAMESPACE/NAME."""
    verdict = decide(found)
    if verdict is Verdict.SYNCED:
        return ConditionState("True", verdict.value, f"Work pool {pool!r} has {source}.")
    where = ", ".join(found.unequal)
    if verdict is Verdict.DRIFTED:
        text = (
            f"The template of work pool {pool!r} was changed in Prefect: it differs from {source}"
        )
    else:
        text = f"The template of work pool {pool!r} is not {source}: it differs"
    return ConditionState("False", verdict.value, f"{text} at {where}. {_fix(found, binding)}")


def _fix(found: Comparison, binding: str) -> str:
    if not found.syncs:
        return (
            "Copy one to the other, or set spec.workPool.syncPolicy to IfUnchanged, so that the "
            "pool follows the ConfigMap."
        )
    namespace, _, name = binding.partition("/")
    return (
        "The operator does not overwrite it. To keep it, copy it into the ConfigMap. To discard "
        f"it: kubectl -n {namespace} annotate wpb {name} --overwrite {OVERWRITE}={found.actual}"
    )


def compare(
    wanted: Template, actual: Mapping[str, Any], *, base: str, syncs: bool, overwrite: str
) -> Comparison:
    """Return the comparison of the wanted template with the pool's."""
    paths = [format_path(path) for path in islice(unequal(wanted.document, actual), _MOST_LISTED)]
    return Comparison(
        wanted=wanted.digest,
        actual=Template(actual, "").digest,
        base=base,
        syncs=syncs,
        overwrite=overwrite,
        unequal=tuple(paths),
    )


def unequal(one: Any, other: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the paths of the innermost fields in which two documents differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys((*one, *other)):
            if key in one and key in other:
                yield from unequal(one[key], other[key], (*path, key))
            else:
                yield (*path, key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from unequal(mine, theirs, (*path, index))
    elif one != other or type(one) is not type(other):
        yield path


def parse(text: str, *, source: str) -> Template:
    """Return the template in the text.

    Raises:
        ValueError: the text is no template; it continues "the key ...".
    """
    try:
        found = documents.parse(text, source)
    except UnreadableFile as error:
        line, column = error.position.line, error.position.column
        raise ValueError(f"{error.problem} (line {line}, column {column})") from error
    if len(found) != 1 or not isinstance(found[0].value, dict):
        raise ValueError("is not one mapping with job_configuration and variables")
    document = _as_stored(found[0].value)
    errors = template_errors(document) or refused_by_prefect(document)
    more = [f"and {len(errors) - _MOST_LISTED} more"] if len(errors) > _MOST_LISTED else []
    return Template(document, source, [*map(str, errors[:_MOST_LISTED]), *more])


def _as_stored(value: dict[str, Any]) -> dict[str, Any]:
    """Return the value as JSON has it: YAML also has other keys than strings, and NaN."""
    try:
        stored: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot be stored as JSON: {error}") from error
    return stored
