"""Finds the placeholders of a base job template, and which fields of a Job depend on them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from prefect.utilities.templating import PLACEHOLDER_CAPTURE_REGEX, find_placeholders

from workpool_operator.jobs.field_errors import MISSING, Path, get_path

MANIFEST: Path = ("job_configuration", "job_manifest")
# Prefixes that are not job variables: blocks and Prefect's variables, the run, the environment.
ELSEWHERE = ("prefect.", "ctx.", "$")
# Fields of the job configuration that rendering copies into the manifest.
_FILLED = ("annotations", "env", "labels")
# All of its fields that have an effect.
_EFFECTIVE = (*_FILLED, "cluster_config", "job_manifest", "name", "namespace")


def is_placeholder(value: Any) -> bool:
    """Return whether the value is a string that contains a placeholder."""
    return isinstance(value, str) and PLACEHOLDER_CAPTURE_REGEX.search(value) is not None


def placeholders(document: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield every string of a document that contains placeholders, with its path."""
    return ((where, value) for where, value in _nodes(document, path) if is_placeholder(value))


def links(document: Any) -> Iterator[tuple[Path, str]]:
    """Yield every reference to a block or variable of Prefect, with its path: a placeholder's name,
    or the id of a `$ref`, "" if that has none."""
    for path, value in _nodes(document, ()):
        if is_placeholder(value):
            names = (placeholder.name for placeholder in find_placeholders(value))
            yield from ((path, name) for name in names if name.startswith("prefect."))
        elif isinstance(value, Mapping) and "$ref" in value:
            yield path, str(get_path(value, ("$ref", "block_document_id")) or "")


def _nodes(document: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield every value of a document, however deep it is, without recursion."""
    waiting: list[tuple[Path, Any]] = [(path, document)]
    while waiting:
        where, value = waiting.pop()
        yield where, value
        if isinstance(value, Mapping):
            waiting += (((*where, key), item) for key, item in value.items())
        elif isinstance(value, list):
            waiting += (((*where, index), item) for index, item in enumerate(value))


def names_in(document: Any) -> set[str]:
    """Return the names of a document's placeholders."""
    return {
        placeholder.name
        for _, text in placeholders(document)
        for placeholder in find_placeholders(text)
    }


def names_at(template: Mapping[str, Any], path: Path) -> frozenset[str]:
    """Return the placeholders on which the value at a path below the manifest depends; none if the
    template fixes it."""
    configuration = get_path(template, MANIFEST[:1])
    found = set(_along(get_path(template, MANIFEST), path))
    for field in _FILLED:
        if field in path:
            found |= names_in(get_path(configuration, (field,)))
    return frozenset(found)


def names_behind(template: Mapping[str, Any], path: Path) -> frozenset[str]:
    """Return the same for any path of the template; none for a path that is not a field's."""
    if path[:2] == MANIFEST:
        return names_at(template, path[2:])
    return frozenset(names_in(get_path(template, path[:2]))) if len(path) > 1 else frozenset()


def used_names(template: Mapping[str, Any]) -> frozenset[str]:
    """Return the placeholders of variables that affect a Job: `image`, `build.tags[0]`."""
    configuration = get_path(template, MANIFEST[:1])
    names = names_in([get_path(configuration, (field,)) for field in _EFFECTIVE])
    if isinstance(get_path(configuration, ("env",)), Mapping | list) or default(template, "env"):
        names.add("env")
    return frozenset(name for name in names if not name.startswith(ELSEWHERE))


def used_variables(template: Mapping[str, Any]) -> frozenset[str]:
    """Return the variables that affect a Job."""
    return frozenset(map(variable, used_names(template)))


def variable(name: str) -> str:
    """Return the variable of a placeholder or of a dotted key of job variables."""
    return name.partition(".")[0].partition("[")[0]


def why_empty(name: str, template_environment: Collection[str]) -> str:
    """Explain why a placeholder of the operator's environment is empty; "" for any other."""
    variable = name.lstrip("$")
    if variable == name or variable in template_environment:
        return ""
    return (
        f"is empty: the operator reads {variable} only if WORKPOOL_OPERATOR_TEMPLATE_ENVIRONMENT "
        "lists it"
    )


def schemas(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of each variable that the template declares."""
    found = get_path(template, ("variables", "properties"))
    return found if isinstance(found, Mapping) else {}


def default(template: Mapping[str, Any], name: str) -> Any:
    """Return the default of a variable; None if there is none."""
    return get_path(schemas(template), (name, "default"))


def _along(node: Any, path: Path) -> Iterator[str]:
    """Yield the placeholders that decide what is at the path: around it, within it, and in lists
    along the path, where one can be any number of items and so shift those after it."""
    for part in path:
        if isinstance(node, list):
            yield from (name for item in node if is_placeholder(item) for name in names_in(item))
            node = node[part] if isinstance(part, int) and part < len(node) else MISSING
        elif isinstance(node, Mapping):
            node = node.get(part, MISSING)
        else:
            break
    yield from names_in(node)
