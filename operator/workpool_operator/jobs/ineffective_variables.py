"""What job variables ask for in vain, and what `pod_watch_timeout_seconds` means here. Pure.

The stock worker's two time-outs are those of a process that watches a Job, and here nothing stops
watching. What people set `pod_watch_timeout_seconds` for, a pod that does not start, is the pending
time-out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from workpool_operator.jobs import references
from workpool_operator.jobs.field_errors import FieldWarning, Path, get_path
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.placeholders import single_placeholder
from workpool_operator.kube import models
from workpool_operator.suggestions import did_you_mean

JOB_WATCH = "job_watch_timeout_seconds"
POD_WATCH = "pod_watch_timeout_seconds"
STREAM_OUTPUT = "stream_output"
NAMESPACE = "namespace"
#: Variables that the stock template has; whether they have an effect is not a placeholder's matter.
OF_THE_STOCK_WORKER = frozenset({JOB_WATCH, POD_WATCH, STREAM_OUTPUT, NAMESPACE})
_STOCK_POD_WATCH = 60  # every stock pool has it, and nobody meant it
_STOCK_NAMESPACE = "default"
_LONGEST_PENDING = 86_400  # as for a binding
_MAX_LISTED = 10
_NO_EFFECT = {
    JOB_WATCH: "the operator follows a Job however long it takes. To limit that, set "
    "activeDeadlineSeconds in the Job of the pool's template",
    STREAM_OUTPUT: "what a pod prints stays in its log (`kubectl logs`); the flow's own log lines "
    "are in Prefect",
}
_ONE_NAMESPACE = (
    "Jobs are created in {} (spec.jobs.namespace of the binding). For another namespace, apply a "
    "binding of another work pool there"
)
_WAITS = "it is the pending time-out, which a binding has in spec.jobs.pendingTimeoutSeconds"
_NO_SECONDS = f"it is no number of seconds from 1 to {_LONGEST_PENDING}"


def pending_timeout(render_input: RenderInput) -> int | None:
    """The run's own pending time-out in seconds; None where the binding's counts.

    A deployment or run that sets `pod_watch_timeout_seconds` means it. The pool's counts where it
    is another one than the stock template's.
    """
    given = render_input.job_variables.get(POD_WATCH)
    if given is None:
        given = _fixed(_template(render_input), POD_WATCH)
        given = None if given == _STOCK_POD_WATCH else given
    return _seconds(given)


def annotate_pending_timeout(manifest: dict[str, Any], render_input: RenderInput) -> None:
    """Record on the Job what decides about it after a restart of the operator."""
    if (seconds := pending_timeout(render_input)) is not None:
        annotations = manifest["metadata"].setdefault("annotations", {})
        annotations[models.PENDING_TIMEOUT_ANNOTATION] = str(seconds)


def ineffective(render_input: RenderInput, *, namespace: str = "") -> list[str]:
    """What the deployment's and the run's variables ask for without effect, or with another one
    than the stock worker's: each as a sentence that names the replacement. `namespace` is the one
    that a binding names, "" where the variable counts."""
    given, template = render_input.job_variables, _template(render_input)
    told = [f"Job variable {text}." for text in _unused(given, template)]
    if given.get(JOB_WATCH) is not None:
        told.append(f"Job variable {JOB_WATCH} has no effect: {_NO_EFFECT[JOB_WATCH]}.")
    if given.get(STREAM_OUTPUT):
        told.append(f"Job variable {STREAM_OUTPUT} has no effect: {_NO_EFFECT[STREAM_OUTPUT]}.")
    if (seconds := given.get(POD_WATCH)) is not None:
        told.append(_pod_watch(seconds))
    if namespace and given.get(NAMESPACE) not in (None, "", namespace):
        where = _ONE_NAMESPACE.format(repr(namespace))
        told.append(f"Job variable {NAMESPACE} {given[NAMESPACE]!r} has no effect: {where}.")
    return told if len(told) <= _MAX_LISTED else [*told[:_MAX_LISTED], "And more job variables."]


def ineffective_in_template(template: Mapping[str, Any]) -> Iterator[FieldWarning]:
    """The same of what a template fixes, or has as a default, where a binding serves it."""
    if _fixed(template, JOB_WATCH) is not None:
        yield FieldWarning(_place(template, JOB_WATCH), f"has no effect: {_NO_EFFECT[JOB_WATCH]}")
    seconds = _fixed(template, POD_WATCH)
    if seconds not in (None, _STOCK_POD_WATCH):
        text = _WAITS if _seconds(seconds) else f"has no effect: {_NO_SECONDS}"
        yield FieldWarning(_place(template, POD_WATCH), text)
    if _fixed(template, NAMESPACE) not in (None, "", _STOCK_NAMESPACE):
        where = _ONE_NAMESPACE.format("one namespace")
        yield FieldWarning(_place(template, NAMESPACE), f"has no effect: {where}")


def _pod_watch(seconds: Any) -> str:
    if _seconds(seconds):
        return f"Job variable {POD_WATCH}, {_seconds(seconds)} s, is taken as this run's: {_WAITS}."
    return f"Job variable {POD_WATCH} {seconds!r:.40} has no effect: {_NO_SECONDS}."


def _seconds(value: Any) -> int | None:
    """A number that may be text, as the stock worker takes it."""
    if isinstance(value, bool) or not str(value).isdecimal():
        return None
    return int(value) if 1 <= int(value) <= _LONGEST_PENDING else None


def _fixed(template: Mapping[str, Any], field: str) -> Any:
    """What the pool has for a field of the job configuration, as a default or for good."""
    value = get_path(template, (*references.MANIFEST[:1], field))
    name = single_placeholder(value)
    return references.default(template, name) if name else value


def _place(template: Mapping[str, Any], field: str) -> Path:
    """Where the template has it."""
    path = (*references.MANIFEST[:1], field)
    name = single_placeholder(get_path(template, path))
    return ("variables", "properties", name, "default") if name else path


# Variables that no placeholder uses


def _unused(given: Mapping[str, Any], template: Mapping[str, Any]) -> Iterator[str]:
    """Whole ones, each once, and the parts of those that are used in part."""
    used = {_parts(name) for name in references.used_names(template) | OF_THE_STOCK_WORKER}
    around = {name[:length] for name in used for length in range(1, len(name) + 1)}
    told: dict[str, list[Path]] = {}
    for path in _leaves(given):
        if path not in around and not any(path[:length] in used for length in range(len(path))):
            whole = path[:1] not in around
            told.setdefault(path[0] if whole else ".".join(path), []).append(path)
    known = {name[0] for name in used}
    for name, leaves in islice(told.items(), _MAX_LISTED + 1):
        hint = _hint(template, leaves[:_MAX_LISTED]) or did_you_mean(name, known)
        yield f"{name} has no effect: no placeholder of the pool's template uses it{hint}"


def _leaves(given: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The paths of the innermost values; dotted keys are paths, too."""
    waiting = [(_parts(name), value) for name, value in reversed([*given.items()])]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Mapping) and value:
            waiting += [((*path, str(key)), item) for key, item in reversed([*value.items()])]
        else:
            yield path


def _parts(name: str) -> tuple[str, ...]:
    return tuple(name.replace("[", ".").replace("]", "").split("."))


def _hint(template: Mapping[str, Any], leaves: list[Path]) -> str:
    """The variables behind the fields of the manifest that are called so."""
    found = sorted({name for path in leaves for name in _behind_field(template, path)})
    return f"; set {', '.join(found)} instead" if found else ""


def _behind_field(template: Mapping[str, Any], path: Path) -> set[str]:
    manifest = get_path(template, references.MANIFEST)
    for length in range(len(path), 0, -1):
        names = {
            references.variable(name)
            for place, text in references.placeholders(manifest)
            if place[-length:] == path[:length]
            for name in references.names_in(text)
            if not name.startswith(references.ELSEWHERE)
        }
        if names:
            return names
    return set()


def _template(render_input: RenderInput) -> Mapping[str, Any]:
    template = render_input.pool.get("base_job_template")
    return template if isinstance(template, Mapping) else {}
