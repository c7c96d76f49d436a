"""Traces where each value of a run's manifest comes from. Pure.

It walks the template as Prefect's `apply_values` does, and notes the source of a value instead of
the value. What rendering adds (environment, labels, annotations, name) is recognised by its path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prefect.utilities.templating import apply_values

from workpool_operator.jobs import environment, names, patches, references
from workpool_operator.jobs.field_errors import Path, get_path
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import FLOW_RUN_ID_KEY, flatten_lists, flow_container_index
from workpool_operator.kube import models

TEMPLATE = "template"
POOL = "pool default"
DEPLOYMENT = "deployment"
RUN = "run"
BINDING = "binding"
PREFECT = "Prefect"
OPERATOR = "operator"
_PATCHES = f"{BINDING}: jobs.patches"

_METADATA = (("metadata",), ("spec", "template", "metadata"))
_POD: Path = ("spec", "template", "spec")
_CONTAINERS: Path = (*_POD, "containers")
_PREFECTS_LABELS = ("prefect.io/", "app.kubernetes.io/")
_MISPLACED = ("parallelism", "completions")


def trace_values(
    manifest: Mapping[str, Any],
    render_input: RenderInput,
    *,
    bound: bool = True,
    unpatched: dict[str, Any] | None = None,
) -> dict[Path, str]:
    """Return the source of every innermost value, such as `deployment: image` or `template`.

    `bound` is true if the manifest was rendered for a binding, `unpatched` the manifest before the
    binding's patches.
    """
    operations = render_input.overlay.patches
    if not operations or unpatched is None:
        return _trace(manifest, render_input, bound)
    before = _trace(unpatched, render_input, bound)
    patched = patches.trace(unpatched, before, operations, by=_PATCHES)
    return {path: _nearest(path, patched) for path, _ in _innermost(manifest, ())}


def _trace(manifest: Mapping[str, Any], render_input: RenderInput, bound: bool) -> dict[Path, str]:
    sources = _Tracer(render_input, bound)
    return {path: sources.of(path, manifest) for path, _ in _innermost(manifest, ())}


def _nearest(path: Path, sources: Mapping[Path, str]) -> str:
    """Return the source of the value; if it was replaced by a reference to a Secret, that of the
    environment variable."""
    if path in sources:
        return sources[path]
    entry = path[: path.index("env") + 2] if "env" in path else path
    return next((text for known, text in sources.items() if known[: len(entry)] == entry), OPERATOR)


@dataclass(frozen=True)
class _Tracer:
    render_input: RenderInput
    bound: bool

    def of(self, path: Path, manifest: Mapping[str, Any]) -> str:
        """Return the source of the value at the path."""
        if path[:2] == ("metadata", "name"):
            return f"{OPERATOR}: the run's name and claim"
        flow = (*_CONTAINERS, flow_container_index(manifest))
        if path[: len(flow) + 1] == (*flow, "env") and len(path) > len(flow) + 1:
            return self._of_variable(str(get_path(manifest, path[: len(flow) + 2])["name"]))
        if path[-2:-1] == ("labels",) and path[:-2] in _METADATA:
            return self._of_metadata(path, "labels")
        if path[-2:-1] == ("annotations",) and path[:-2] in _METADATA:
            return self._of_metadata(path, "annotations")
        if path == ("metadata", "namespace"):
            return BINDING if self.bound else self._in_template(path)
        if path[:1] == ("spec",) and len(path) == 2 and path[1] in _MISPLACED:
            return self._in_template((*_POD, path[-1]), without=self._in_template(path))
        if path[: len(args := (*flow, "args"))] == args:
            default = TEMPLATE if args in self._template else f"{PREFECT}: its default command"
            return self._in_template(path, without=default)
        return self._in_template(path)

    def _in_template(self, path: Path, *, without: str = OPERATOR) -> str:
        """Return the source of the innermost field of the template that contains the path."""
        for length in range(len(path), 0, -1):
            if found := self._template.get(path[:length]):
                return without if found == TEMPLATE and length < len(path) else found
        return without

    @cached_property
    def _template(self) -> dict[Path, str]:
        return dict(self._walk(get_path(self.render_input.template, references.MANIFEST), ()))

    def _walk(self, node: Any, path: Path) -> Iterator[tuple[Path, str]]:
        yield path, self._of_text(node) if references.is_placeholder(node) else TEMPLATE
        if isinstance(node, Mapping):
            for key, item in node.items():
                if not self._is_removed(item):
                    yield from self._walk(item, (*path, key))
        elif isinstance(node, list):
            yield from self._walk_list([i for i in node if not self._is_left_out(i)], path)

    def _walk_list(self, items: list[Any], path: Path) -> Iterator[tuple[Path, str]]:
        """Walk the items in their rendered order: those of a placeholder join the list's."""
        nodes: dict[int, Any] = {}  # by the identity of the item's key fields
        joined: list[Any] = []
        for item in items:
            value = apply_values(item, self._values) if references.is_placeholder(item) else item
            parts = [_known_by(part) for part in value] if isinstance(value, list) else []
            joined.append(parts or _known_by(item))
            nodes |= {id(part): item for part in parts or [joined[-1]]}
        flatten_lists({path[-1]: joined})
        for index, part in enumerate(joined):
            yield from self._walk(nodes[id(part)], (*path, index))

    def _is_left_out(self, item: Any) -> bool:
        """Return whether the item has no value, or is a mapping in which all values are null."""
        if not isinstance(item, Mapping):
            return self._is_removed(item)
        rest = [value for value in item.values() if not self._is_removed(value)]
        return bool(rest) and all(map(self._is_null, rest))

    def _is_null(self, node: Any) -> bool:
        is_placeholder = references.is_placeholder(node)
        return (apply_values(node, self._values) if is_placeholder else node) is None

    def _is_removed(self, node: Any) -> bool:
        """Return whether rendering removes the field: a single placeholder without a value."""
        if not isinstance(node, str) or not references.is_placeholder(node):
            return False
        single = node.startswith("{{") and node.endswith("}}") and node.count("{{") == 1
        return single and not any(self._set_by(name) for name in references.names_in(node))

    def _of_text(self, text: str) -> str:
        parts = [self._of_placeholder(name) for name in sorted(references.names_in(text))]
        single = text.startswith("{{") and text.endswith("}}") and len(parts) == 1
        return " + ".join(dict.fromkeys(parts if single else [TEMPLATE, *parts]))

    def _of_placeholder(self, name: str) -> str:
        if name.startswith(references.ELSEWHERE):
            return f"{TEMPLATE}: {{{{ {name} }}}}"
        variable = references.variable(name)
        if variable == "command" and not self._values.get(variable):
            return f"{PREFECT}: its default command"
        sources = self._set_by(name) or ["not set"]
        return " + ".join(f"{source}: {variable}" for source in sources)

    def _set_by(self, name: str) -> list[str]:
        """Return who sets a variable: the run, unless it sets only a part (`resources.cpu`)."""
        variable = references.variable(name)
        sources: list[str] = []
        for source, given in self._layers:
            if variable in given:
                return [*sources, source]
            if any(references.variable(key) == variable for key in given):
                sources.append(source)
        return sources

    @cached_property
    def _layers(self) -> list[tuple[str, Mapping[str, Any]]]:
        """The values of each source, the one that wins first."""
        defaults = {
            name: value
            for name in references.schemas(self.render_input.template)
            if (value := references.default(self.render_input.template, name)) is not None
        }
        deployment = self.render_input.deployment or {}
        return [
            (RUN, self.render_input.run.get("job_variables") or {}),
            (DEPLOYMENT, deployment.get("job_variables") or {}),
            (POOL, defaults),
        ]

    @cached_property
    def _values(self) -> dict[str, Any]:
        return {key: value for _, given in reversed(self._layers) for key, value in given.items()}

    # What rendering adds

    def _of_variable(self, name: str) -> str:
        """Return the source of a variable of the flow's environment."""
        if name in self.render_input.overlay.variables:
            return f"{BINDING}: jobs.env"
        for source, given in self._layers:
            if name in _variables(given):
                return f"{source}: env"
        if name in _variables({"env": self._configured("env")}):
            return TEMPLATE
        if name in _variables({"env": self.render_input.environment}):
            return BINDING
        own = get_path(self.render_input.template, references.MANIFEST)
        if name in _variables(
            {"env": get_path(own, (*_CONTAINERS, flow_container_index(own), "env"))}
        ):
            return TEMPLATE
        return OPERATOR if name == environment.SIGTERM_BEHAVIOR else PREFECT

    def _of_metadata(self, path: Path, field: str) -> str:
        """Return the source of a label or an annotation."""
        key = str(path[-1])
        if key.startswith(models.PREFIX) or key == FLOW_RUN_ID_KEY:
            return OPERATOR
        overlay = self.render_input.overlay
        if key in (overlay.labels if field == "labels" else overlay.annotations):
            return f"{BINDING}: jobs.{field}"
        configured = self._configured(field)
        if isinstance(configured, Mapping) and key in map(names.label_key, configured):
            return TEMPLATE
        for name in sorted(references.names_in(configured)):
            for source, given in self._layers:
                values = given.get(references.variable(name))
                if isinstance(values, Mapping) and key in map(names.label_key, map(str, values)):
                    return f"{source}: {references.variable(name)}"
        return (field == "labels" and self._of_prefects_label(key)) or self._of_own_metadata(path)

    def _of_prefects_label(self, key: str) -> str:
        """Return the source of a label that run or deployment has in Prefect; "" for others."""
        if key.startswith(_PREFECTS_LABELS):
            return ""
        for source, document in (
            (RUN, self.render_input.run),
            (DEPLOYMENT, self.render_input.deployment),
        ):
            if key in map(names.label_key, get_path(document, ("labels",)) or ()):
                return f"{source}: its labels"
        return ""

    def _of_own_metadata(self, path: Path) -> str:
        """Return the source of one in the manifest itself; a pod has the annotations of its Job."""
        for place in (path, ("metadata", *path[-2:])):
            for own in (self._template.get(place), self._template.get(place[:-1])):
                if own and own != TEMPLATE:
                    return own
            if place in self._template:
                return TEMPLATE
        return PREFECT

    def _configured(self, field: str) -> Any:
        return get_path(self.render_input.template, (*references.MANIFEST[:1], field))


def _known_by(item: Any) -> dict[str, Any]:
    """Return the fields that identify an item of a list."""
    if not isinstance(item, Mapping):
        return {}
    return {key: value for key, value in item.items() if isinstance(value, str)}


def _variables(given: Mapping[str, Any]) -> set[str]:
    """Return the names of the environment variables: in `env`, in both forms, and `env.NAME`."""
    dotted = {key.removeprefix("env.") for key in given if key.startswith("env.")}
    env = given.get("env")
    if isinstance(env, Mapping):
        return dotted | set(env)
    entries: Iterable[Any] = env if isinstance(env, list | tuple) else ()
    return dotted | {str(entry.get("name")) for entry in entries if isinstance(entry, Mapping)}


def _innermost(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield the innermost values, empty mappings and lists included."""
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    empty = True
    for key, item in items:
        empty = False
        yield from _innermost(item, (*path, key))
    if empty:
        yield path, value
