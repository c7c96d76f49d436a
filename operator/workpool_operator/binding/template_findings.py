"""Sorts the errors in the Job of a run that sets no job variable: faults of the pool's template, or
problems of such runs only. Pure.

A fault is an error that no run's values can correct: it is at a place that no placeholder reaches.
A wrong default only crashes the runs that use it, because a deployment can override it.
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
    patch_behind,
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

MAX_LISTED = 10  # errors of one manifest that are attributed
_SPEC: Path = (*MANIFEST, "spec")
_VOLUMES: Path = (*_SPEC, "template", "spec", "volumes")
# An error of one field can be caused by another one, which may have placeholders.
_OTHER_CAUSES = {
    re.compile(r"Not found"): _VOLUMES,  # the volume that a mount names
    re.compile(r"Duplicate|\b(unique|limit of|when|if|unless|in the pod)\b"): _SPEC,
}


@dataclass(frozen=True, slots=True)
class TemplateFindings:
    """What is wrong with a pool's template.

    `faults` make every run's Job invalid, and so do `patch_faults`, which are the binding's;
    `crashes` only that of a run that sets no job variable; `warnings` are about a valid template
    that probably does not do what its author intended. `not_checked` says why the API server did
    not check the Job, "" if it did.
    """

    faults: tuple[str, ...] = ()
    patch_faults: tuple[str, ...] = ()
    crashes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    not_checked: str = ""

    def __add__(self, other: TemplateFindings) -> TemplateFindings:
        return TemplateFindings(
            faults=tuple(dict.fromkeys(self.faults + other.faults)),
            patch_faults=tuple(dict.fromkeys(self.patch_faults + other.patch_faults)),
            crashes=tuple(dict.fromkeys(self.crashes + other.crashes)),
            warnings=self.warnings + other.warnings,
            not_checked=self.not_checked or other.not_checked,
        )


def from_error(error: RenderError, render_input: RenderInput) -> TemplateFindings:
    """Attribute an error that prevents rendering."""
    return _attribute(
        render_error_message(error, render_input),
        template_path(parse_path(error.path)),
        render_input=render_input,
    )


def from_errors(errors: Iterable[FieldError], render_input: RenderInput) -> TemplateFindings:
    """Attribute the errors of the rendered manifest."""
    return sum(
        (_from_error(error, render_input) for error in islice(errors, MAX_LISTED)),
        TemplateFindings(),
    )


def from_rejection(refused: KubernetesRefused, render_input: RenderInput) -> TemplateFindings:
    """Attribute the API server's rejection of the manifest."""
    text = str(refused).rstrip(".")
    if isinstance(refused, KubernetesConflict):
        return TemplateFindings()  # the name exists: the API server validates all else before that
    if isinstance(refused, KubernetesInvalid) and refused.causes:
        causes = islice(refused.causes, MAX_LISTED)
        return sum((_from_cause(cause, render_input) for cause in causes), TemplateFindings())
    if isinstance(refused, KubernetesBadRequest) and "admission webhook" not in text:
        return TemplateFindings(crashes=(text,))
    return TemplateFindings(not_checked=text)


def _from_error(error: FieldError, render_input: RenderInput) -> TemplateFindings:
    places = template_path(error.against), template_path(error.path)
    return _attribute(
        invalid_manifest_message([error], render_input), *places, render_input=render_input
    )


def _from_cause(cause: Cause, render_input: RenderInput) -> TemplateFindings:
    text = rejected_fields_message([cause], render_input)
    template = render_input.pool["base_job_template"]
    for message, place in _OTHER_CAUSES.items():
        if message.search(cause.message) and names_in(get_path(template, place)):
            return TemplateFindings(crashes=(text,))
    return _attribute(text, (*MANIFEST, *parse_path(cause.field)), render_input=render_input)


def _attribute(text: str, *places: Path, render_input: RenderInput) -> TemplateFindings:
    """Return the error as a finding, by the job variables behind the places that cause it."""
    if len(places[-1]) < 2:  # a block or a Prefect variable, which can be created later
        return TemplateFindings(crashes=(text,))
    if any(patch_behind(place, render_input) for place in places):
        return TemplateFindings(patch_faults=(text,))
    template = render_input.pool["base_job_template"]
    names = {name for place in places for name in names_behind(template, place)}
    if not names:
        return TemplateFindings(faults=(text,))
    if _all_have_values(names, template):
        return TemplateFindings(crashes=(text,))
    return TemplateFindings()  # the template requires runs to set these variables


def _all_have_values(names: Iterable[str], template: Mapping[str, Any]) -> bool:
    """Return whether a run has values for these variables without setting them."""
    return all(
        name.startswith(ELSEWHERE) or default(template, variable(name)) is not None
        for name in names
    )
