"""Whose a fault is that the Job of a run without job variables would have: the pool's, or that of
the runs which do not set them. Pure.

The pool's is only what no run's values can mend: a fault at places that no placeholder reaches. A
faulty default is a doubt, because a deployment may override it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from workpool_operator.errors import (
    Cause,
    KubernetesBadRequest,
    KubernetesConflict,
    KubernetesInvalid,
    KubernetesRefused,
    RenderError,
)
from workpool_operator.jobs.attribution import (
    invalid_manifest_message,
    rejected_fields_message,
    render_error_message,
    template_path,
)
from workpool_operator.jobs.field_errors import FieldError, Path, get_path, parse_path
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.references import (
    ELSEWHERE,
    MANIFEST,
    default,
    names_behind,
    names_in,
    variable,
)

MAX_LISTED = 10  # faults of one manifest that are traced to their origin
_SPEC: Path = (*MANIFEST, "spec")
_VOLUMES: Path = (*_SPEC, "template", "spec", "volumes")
# A refusal that speaks of another place may be that place's fault, where placeholders may be.
_SPEAKS_OF_ANOTHER = {
    re.compile(r"Not found"): _VOLUMES,  # what a mount names
    re.compile(r"Duplicate|\b(unique|limit of|when|if|unless|in the pod)\b"): _SPEC,
}


@dataclass(frozen=True, slots=True)
class TemplateFindings:
    """`faults` are the pool's; `warnings` are of a run that leaves every variable at its default;
    `remarks` are on what makes Jobs and is hardly meant so."""

    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    not_checked: str = ""  # why the API server gave no answer

    def __add__(self, other: TemplateFindings) -> TemplateFindings:
        return TemplateFindings(
            faults=tuple(dict.fromkeys(self.faults + other.faults)),
            warnings=tuple(dict.fromkeys(self.warnings + other.warnings)),
            remarks=self.remarks + other.remarks,
            not_checked=self.not_checked or other.not_checked,
        )


def from_error(error: RenderError, render_input: RenderInput) -> TemplateFindings:
    """Nothing could be rendered."""
    return _attribute(
        render_error_message(error, render_input),
        template_path(parse_path(error.path)),
        render_input=render_input,
    )


def from_errors(found: Iterable[FieldError], render_input: RenderInput) -> TemplateFindings:
    """The rendered manifest has these."""
    return sum(
        (_from_error(fault, render_input) for fault in islice(found, MAX_LISTED)),
        TemplateFindings(),
    )


def from_rejection(refused: KubernetesRefused, render_input: RenderInput) -> TemplateFindings:
    """The API server does not take the manifest."""
    text = str(refused).rstrip(".")
    if isinstance(refused, KubernetesConflict):
        return (
            TemplateFindings()
        )  # the name is taken: the API server validated everything else before
    if isinstance(refused, KubernetesInvalid) and refused.causes:
        causes = islice(refused.causes, MAX_LISTED)
        return sum((_from_cause(cause, render_input) for cause in causes), TemplateFindings())
    if isinstance(refused, KubernetesBadRequest) and "admission webhook" not in text:
        return TemplateFindings(warnings=(text,))
    return TemplateFindings(not_checked=text)


def _from_error(fault: FieldError, render_input: RenderInput) -> TemplateFindings:
    places = template_path(fault.against), template_path(fault.path)
    return _attribute(
        invalid_manifest_message([fault], render_input), *places, render_input=render_input
    )


def _from_cause(cause: Cause, render_input: RenderInput) -> TemplateFindings:
    text = rejected_fields_message([cause], render_input)
    for speaks, place in _SPEAKS_OF_ANOTHER.items():
        if speaks.search(cause.message) and names_in(
            get_path(render_input.pool["base_job_template"], place)
        ):
            return TemplateFindings(warnings=(text,))
    return _attribute(text, (*MANIFEST, *parse_path(cause.field)), render_input=render_input)


def _attribute(text: str, *places: Path, render_input: RenderInput) -> TemplateFindings:
    """Whose a fault is that some places of the template make together."""
    if len(places[-1]) < 2:  # a block or variable, which may be there tomorrow
        return TemplateFindings(warnings=(text,))
    pool = render_input.pool["base_job_template"]
    names = {name for place in places for name in names_behind(pool, place)}
    if not names:
        return TemplateFindings(faults=(text,))
    return (
        TemplateFindings(warnings=(text,)) if _all_have_values(names, pool) else TemplateFindings()
    )


def _all_have_values(names: Iterable[str], pool: Mapping[str, Any]) -> bool:
    """Whether a run that sets nothing is what the template's author meant to work."""
    return all(
        name.startswith(ELSEWHERE) or default(pool, variable(name)) is not None for name in names
    )
