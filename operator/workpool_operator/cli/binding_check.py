"""Checks a WorkPoolBinding offline, as the API server would.

The schema and the CEL rules of the CRD decide; only the messages are ours. Values that can be
secrets are never printed.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, get_args

import cel
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from workpool_operator.api import crd, v1alpha1
from workpool_operator.binding import addresses
from workpool_operator.cli.findings import Finding
from workpool_operator.cli.redaction import Redaction
from workpool_operator.jobs import patches, validation
from workpool_operator.jobs.field_errors import get_path
from workpool_operator.suggestions import did_you_mean

POOL_TYPES: tuple[str, ...] = get_args(v1alpha1.WorkPoolSpec.model_fields["type"].annotation)
_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
_SERVER_URL = ("server", "url")
_PATCHES = ("jobs", "patches")
_WELL_FORMED = re.compile(r"https?://[^\s/]")
_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "boolean": "true or false",
}

Schema = Mapping[str, Any]
Errors = Iterator[ValidationError]


def check(binding: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield every error and warning of the manifest."""
    for key in binding:
        if key not in _TOP:
            yield Finding((key,), f"unknown field{did_you_mean(key, _TOP)}")
    yield from _check_kind(binding)
    yield from _check_metadata(binding.get("metadata"))
    if not isinstance(spec := binding.get("spec"), Mapping):
        yield Finding(("spec",), "is required: the work pool to serve, and its Prefect server")
        return
    for error in _validator().iter_errors(_without_nulls(spec)):
        yield Finding(("spec", *error.absolute_path), error.message)
    yield from _check_addresses(spec)
    yield from _check_patches(spec)


def _check_patches(spec: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what a schema cannot say about patches."""
    operations = get_path(spec, _PATCHES)
    for path, text in patches.problems(operations if isinstance(operations, list) else ()):
        yield Finding(("spec", *_PATCHES, *path), text)


def _check_addresses(spec: Mapping[str, Any]) -> Iterator[Finding]:
    """Warn of addresses that are valid and unlikely to work."""
    for path in (_SERVER_URL, ("jobs", "serverURL")):
        url = get_path(spec, path)
        if not isinstance(url, str):
            continue
        if Redaction().redact_text(url) != url:
            text = "contains a user and password, which every Job would show: use server.authString"
            yield Finding(("spec", *path), text, "warning")
        for text in addresses.address_warnings(url) if _WELL_FORMED.match(url) else ():
            yield Finding(("spec", *path), text, "warning")
    url = get_path(spec, _SERVER_URL)
    if (
        isinstance(url, str)
        and addresses.is_cloud(url)
        and not get_path(spec, ("server", "apiKey"))
    ):
        text = "Prefect Cloud needs an API key: set server.apiKey.secretKeyRef"
        yield Finding(("spec", "server"), text, "warning")


def _check_kind(binding: Mapping[str, Any]) -> Iterator[Finding]:
    for key, expected in (("apiVersion", v1alpha1.API_VERSION), ("kind", v1alpha1.KIND)):
        if (value := binding.get(key)) != expected:
            yield Finding((key,), f"must be {expected}, is {_shown(value)}")


def _check_metadata(metadata: Any) -> Iterator[Finding]:
    if not isinstance(metadata, Mapping):
        yield Finding(("metadata",), "is required: at least a name")
        return
    name = metadata.get("name")
    if name is None and not metadata.get("generateName"):
        yield Finding(("metadata", "name"), "is required")
    elif name is not None and not (isinstance(name, str) and validation.is_subdomain(name)):
        yield Finding(("metadata", "name"), f"{_shown(name)} is not {validation.SUBDOMAIN}")
    namespace = metadata.get("namespace")
    if namespace is not None and not validation.is_label_name(str(namespace)):
        text = f"{_shown(namespace)} is not {validation.LABEL_NAME}"
        yield Finding(("metadata", "namespace"), text)
    yield from _check_labels_and_annotations(metadata)


def _check_labels_and_annotations(metadata: Mapping[str, Any]) -> Iterator[Finding]:
    for field in ("labels", "annotations"):
        given = metadata.get(field)
        for key, value in given.items() if isinstance(given, Mapping) else ():
            path = ("metadata", field, key)
            if not validation.is_label_key(key):
                yield Finding(path, f"{_shown(key)} is not {validation.LABEL_KEY}")
            elif not isinstance(value, str):
                yield Finding(path, f"must be a string, is {_shown(value)}: quote it")
            elif field == "labels" and not validation.is_label_value(value):
                yield Finding(path, f"{_shown(value)} is not {validation.LABEL_VALUE}")


def _without_nulls(value: Any) -> Any:
    """Leave nulls in mappings out, as the API server does."""
    if not isinstance(value, Mapping):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}


@cache
def _spec_schema() -> dict[str, Any]:
    schema: dict[str, Any] = crd.schema()["properties"]["spec"]
    return schema


@cache
def _validator() -> Any:
    return extend(Draft202012Validator, _KEYWORDS)(_spec_schema())  # type: ignore[no-untyped-call]


# The keywords of the schema, with a message for each that is violated.


def _properties(validator: Any, properties: Schema, instance: Any, schema: Schema) -> Errors:
    if not isinstance(instance, Mapping):
        return
    for name in instance:
        if name not in properties:
            text = f"unknown field{did_you_mean(name, properties)}"
            yield ValidationError(text, path=[name])
    for name, field in properties.items():
        if name in instance:
            yield from validator.descend(instance[name], field, path=name, schema_path=name)


def _additional(validator: Any, values: Schema, instance: Any, schema: Schema) -> Errors:
    for name, value in instance.items() if isinstance(instance, Mapping) else ():
        yield from validator.descend(value, values, path=name)


def _required(validator: Any, required: list[str], instance: Any, schema: Schema) -> Errors:
    for name in required if isinstance(instance, Mapping) else ():
        if name not in instance:
            about = schema["properties"][name]["description"].partition(". ")[0].rstrip(".")
            yield ValidationError(f"is required: {about[0].lower()}{about[1:]}", path=[name])


def _type(validator: Any, type_: str, instance: Any, schema: Schema) -> Errors:
    if validator.is_type(instance, type_):
        return
    within = f" with {' and '.join(schema['required'])}" if schema.get("required") else ""
    yield ValidationError(f"must be {_TYPES[type_]}{within}, is {_kind(instance)}")


def _enum(validator: Any, options: list[Any], instance: Any, schema: Schema) -> Errors:
    if instance not in options:
        text = f"must be {' or '.join(map(str, options))}, is {_shown(instance)}"
        yield ValidationError(text + did_you_mean(str(instance), options))


def _limit(
    words: str, breaks: Callable[[Any, Any], bool], measure: Callable[[Any], Any], *types: type
) -> Callable[..., Errors]:
    def check(validator: Any, limit: Any, instance: Any, schema: Schema) -> Errors:
        if isinstance(instance, types) and not isinstance(instance, bool):
            size = measure(instance)
            if breaks(size, limit):
                yield ValidationError(words.format(limit=limit, size=size))

    return check


def _list_type(validator: Any, kind: str, instance: Any, schema: Schema) -> Errors:
    """Yield the items of a set, or of a map by its keys, that are there twice."""
    if not isinstance(instance, list):
        return
    keys = schema.get("x-kubernetes-list-map-keys", ())
    items = [[item.get(key) for key in keys] for item in instance if isinstance(item, Mapping)]
    known = items if kind == "map" and len(items) == len(instance) else instance
    for index, item in enumerate(known):
        if item in known[:index]:
            shown = ", ".join(map(_shown, item)) if isinstance(item, list) else _shown(item)
            yield ValidationError(f"duplicate item {shown}: remove one of the two", path=[index])


def _rules(validator: Any, rules: list[Schema], instance: Any, schema: Schema) -> Errors:
    if not validator.is_type(instance, schema["type"]):
        return  # `type` reports it
    for rule in rules:
        if not _holds(rule["rule"], instance):
            path = [part for part in rule.get("fieldPath", "").split(".") if part]
            shown = f"{_shown(instance)} " if isinstance(instance, str) else ""
            yield ValidationError(f"{shown}{_message(rule, instance)}", path=path)


def _message(rule: Schema, instance: Any) -> str:
    """Return the rule's message; an expression names what is wrong in the instance."""
    try:
        return str(cel.evaluate(rule["messageExpression"], {"self": instance}))
    except (KeyError, RuntimeError, TypeError):
        return str(rule["message"])


def _holds(rule: str, instance: Any) -> bool:
    """Return whether the object obeys the rule; True if the rule cannot be evaluated.

    A missing part or a wrong type is reported by its own keyword. A rule about changes (`oldSelf`)
    does not apply to a new object.
    """
    try:
        return "oldSelf" in rule or bool(cel.evaluate(rule, {"self": instance}))
    except (KeyError, RuntimeError, TypeError):
        return True


_KEYWORDS: Mapping[str, Callable[..., Errors]] = {
    "properties": _properties,
    "additionalProperties": _additional,
    "required": _required,
    "type": _type,
    "enum": _enum,
    "minimum": _limit("must be at least {limit}, is {size}", operator.lt, lambda n: n, int, float),
    "maximum": _limit("must be at most {limit}, is {size}", operator.gt, lambda n: n, int, float),
    "maxLength": _limit("must have at most {limit} characters, has {size}", operator.gt, len, str),
    "maxProperties": _limit(
        "must have at most {limit} entries, has {size}", operator.gt, len, dict
    ),
    "maxItems": _limit("must have at most {limit} items, has {size}", operator.gt, len, list),
    "x-kubernetes-list-type": _list_type,
    "x-kubernetes-validations": _rules,
}


def _kind(value: Any) -> str:
    """Return the kind of a value, which can itself be a secret."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names = {
        Mapping: "a mapping",
        list: "a list",
        str: "a string",
        int: "a number",
        float: "a number",
    }
    return next(
        (name for type_, name in names.items() if isinstance(value, type_)), "of an unknown type"
    )


def _shown(value: Any) -> str:
    """Return the value as text, shortened, and an address without user and password."""
    text = repr(value) if isinstance(value, str | int | float) else _kind(value)
    return Redaction().redact_text(text if len(text) <= 80 else f"{text[:77]}...")
