"""Reports job variables that have no effect, or another one than with the stock worker. Pure.

The stock worker's two time-outs limit how long it watches a Job, and the operator never stops
watching. People set `pod_watch_timeout_seconds` because of pods that do not start: here it is the
pending time-out (`RenderInput.pending_timeout`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from workpool_operator.jobs import references
from workpool_operator.jobs.field_errors import FieldWarning, Path, format_path, get_path
from workpool_operator.jobs.inputs import (
    LONGEST_PENDING,
    NAMESPACE,
    POD_WATCH,
    STOCK_NAMESPACE,
    STOCK_POD_WATCH,
    RenderInput,
    parse_pending_timeout,
    pool_value,
)
from workpool_operator.jobs.overlay import JobOverlay
from workpool_operator.jobs.placeholders import single_placeholder
from workpool_operator.suggestions import did_you_mean

JOB_WATCH = "job_watch_timeout_seconds"
STREAM_OUTPUT = "stream_output"
#: Variables of the stock template that need no placeholder to be recognised.
OF_THE_STOCK_WORKER = frozenset({JOB_WATCH, POD_WATCH, STREAM_OUTPUT, NAMESPACE})
_MAX_LISTED = 10
_NO_EFFECT = {
    JOB_WATCH: "the operator watches a Job until it ends. To limit how long it may run, set "
    "activeDeadlineSeconds in the Job's spec in the pool's template",
    STREAM_OUTPUT: "`kubectl logs` shows the output of a pod; Prefect has the flow's log lines",
}
_ONE_NAMESPACE = (
    "Jobs are created in {} (spec.jobs.namespace of the binding). To let runs choose another "
    "namespace, list it in spec.jobs.allowedNamespaces"
)
_OVERRIDES = "it overrides spec.jobs.pendingTimeoutSeconds of the binding"
_NO_SECONDS = f"expected a number of seconds from 1 to {LONGEST_PENDING}"


def ineffective(render_input: RenderInput, *, namespace: str = "") -> list[str]:
    """Return a sentence for each of the same, at most a few."""
    found = islice(ineffective_variables(render_input, namespace=namespace), _MAX_LISTED + 1)
    notes = [f"Job variable {each.path_text} {each.message}." for each in found]
    if len(notes) <= _MAX_LISTED:
        return notes
    return [*notes[:_MAX_LISTED], "More job variables have no effect."]


def ineffective_variables(
    render_input: RenderInput, *, namespace: str = ""
) -> Iterator[FieldWarning]:
    """Yield each variable of the deployment or run that has no effect, or another one than with the
    stock worker; the message names the replacement. `namespace` is the binding's, "" if the
    variable `namespace` counts."""
    given, template = render_input.job_variables, render_input.template
    yield from _unused(given, template)
    if given.get(JOB_WATCH) is not None:
        yield FieldWarning((JOB_WATCH,), f"has no effect: {_NO_EFFECT[JOB_WATCH]}")
    if given.get(STREAM_OUTPUT):
        yield FieldWarning((STREAM_OUTPUT,), f"has no effect: {_NO_EFFECT[STREAM_OUTPUT]}")
    if (seconds := given.get(POD_WATCH)) is not None:
        yield FieldWarning((POD_WATCH,), _pod_watch(seconds))
    if namespace and given.get(NAMESPACE) not in (None, "", namespace):
        where = _ONE_NAMESPACE.format(repr(namespace))
        yield FieldWarning((NAMESPACE,), f"{given[NAMESPACE]!r} has no effect: {where}")
    yield from _overridden(given, render_input.overlay)


def ineffective_in_template(
    template: Mapping[str, Any], *, has_allowed_namespaces: bool = False
) -> Iterator[FieldWarning]:
    """Yield the same for values that a template fixes or has as a default, under a binding, which
    may have namespaces that runs can choose."""
    if pool_value(template, JOB_WATCH) is not None:
        yield FieldWarning(_place(template, JOB_WATCH), f"has no effect: {_NO_EFFECT[JOB_WATCH]}")
    seconds = pool_value(template, POD_WATCH)
    if seconds not in (None, STOCK_POD_WATCH):
        is_valid = parse_pending_timeout(seconds) is not None
        text = (
            f"is the pending time-out: {_OVERRIDES}"
            if is_valid
            else f"has no effect: {_NO_SECONDS}"
        )
        yield FieldWarning(_place(template, POD_WATCH), text)
    if not has_allowed_namespaces and pool_value(template, NAMESPACE) not in (
        None,
        "",
        STOCK_NAMESPACE,
    ):
        where = _ONE_NAMESPACE.format("one namespace")
        yield FieldWarning(_place(template, NAMESPACE), f"has no effect: {where}")


def _overridden(given: Mapping[str, Any], overlay: JobOverlay) -> Iterator[FieldWarning]:
    """Yield each value that the binding overrides."""
    own: dict[str, Mapping[str, Any]] = {
        "env": {str(entry["name"]): entry.get("value") for entry in overlay.env},
        "labels": overlay.labels,
        "annotations": overlay.annotations,
    }
    for field, values in own.items():
        found = given.get(field)
        for name, value in found.items() if isinstance(found, Mapping) else ():
            if name in values and values[name] != value:
                why = f"spec.jobs.{field} of the binding sets it"
                yield FieldWarning((field, name), f"has no effect: {why}")


def _pod_watch(seconds: Any) -> str:
    if timeout := parse_pending_timeout(seconds):
        return f"({timeout} s) is this run's pending time-out: {_OVERRIDES}"
    return f"{seconds!r:.40} has no effect: {_NO_SECONDS}"


def _place(template: Mapping[str, Any], field: str) -> Path:
    """Return the path of that value in the template."""
    path = (*references.MANIFEST[:1], field)
    name = single_placeholder(get_path(template, path))
    return ("variables", "properties", name, "default") if name else path


# Variables that no placeholder uses


def _unused(given: Mapping[str, Any], template: Mapping[str, Any]) -> Iterator[FieldWarning]:
    """Yield whole variables, each once, and unused parts of those that are used in part."""
    used = {_parts(name) for name in references.used_names(template) | OF_THE_STOCK_WORKER}
    around = {name[:length] for name in used for length in range(1, len(name) + 1)}
    unused: dict[Path, list[Path]] = {}
    for path in _leaves(given):
        if path not in around and not any(path[:length] in used for length in range(len(path))):
            whole = path[:1] not in around
            unused.setdefault(path[:1] if whole else path, []).append(path)
    known = {name[0] for name in used}
    for name, leaves in unused.items():
        hint = _hint(template, leaves[:_MAX_LISTED]) or did_you_mean(format_path(name), known)
        text = f"has no effect: no placeholder of the pool's template uses it{hint}"
        yield FieldWarning(name, text)


def _leaves(given: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the innermost values; a dotted key is a path, too."""
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
    """Return a hint at the variables behind the manifest's fields of that name."""
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
