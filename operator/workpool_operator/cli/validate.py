"""`workpool-operator validate`: bindings and base job templates, without server and cluster.

Every document of every file is looked at, whatever is wrong with another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import typer

from workpool_operator.binding import model
from workpool_operator.cli import binding_check, documents, output
from workpool_operator.cli.documents import Spot, Unreadable
from workpool_operator.cli.findings import Finding, Severity
from workpool_operator.jobs.fault import Path, written

Format = Literal["text", "json"]
Check = Callable[[Mapping[str, Any]], Iterator[Finding]]

_EXPECTED = f"expected a {model.KIND} or a base job template"
_COLOURS: Mapping[Severity, str] = {"error": "red", "warning": "yellow"}


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """A finding and its place, as it is printed."""

    file: str
    line: int
    column: int
    path: str
    severity: Severity
    message: str

    def __str__(self) -> str:
        severity = output.styled(self.severity, _COLOURS[self.severity])
        path = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {severity}: {path}{self.message}"


def main(files: Sequence[str], *, output_format: Format) -> None:
    """Print what is found; exit code 1 if anything of it is an error."""
    lines = [line for file in dict.fromkeys(files) for line in sorted(set(_check_file(file)))]
    errors = sum(line.severity == "error" for line in lines)
    if output_format == "json":
        found = [asdict(line) for line in lines]
        output.say(output.as_json({"findings": found, "errors": errors}))
    else:
        output.say("\n".join([*map(str, lines), _summary(files, errors, len(lines) - errors)]))
    if errors:
        raise typer.Exit(1)


def _summary(files: Sequence[str], errors: int, warnings: int) -> str:
    if not errors:
        doubts = f", {_count(warnings, 'warning')}" if warnings else ""
        return f"{_count(len(files), 'file')} {output.styled('valid', 'green')}{doubts}"
    return f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _check_file(file: str) -> Iterator[Line]:
    try:
        found = documents.read(file)
    except Unreadable as error:
        yield _line(error.file, error.spot, Finding((), error.problem))
        return
    if not found:
        yield _line(file, Spot(), Finding((), f"holds nothing; {_EXPECTED}"))
    alone = len(found) == 1
    for document in found:
        for path, spot in document.repeated:
            text = "is there twice: only one of them can count"
            yield _line(document.file, spot, Finding(path, text))
        for finding in _check_document(document.value, alone=alone):
            yield _line(document.file, document.spot(finding.path), finding)


def _line(file: str, spot: Spot, finding: Finding) -> Line:
    path = written(finding.path)
    return Line(file, spot.line, spot.column, path, finding.severity, finding.message)


def _check_document(value: Any, *, alone: bool) -> Iterable[Finding]:
    """By what the document is; `alone`: the file has no other."""
    if not isinstance(value, Mapping):
        return [Finding((), _EXPECTED)]
    if isinstance(value.get("items"), list) and str(value.get("kind")).endswith("List"):
        return _check_list(value["items"])
    if value.get("kind") == model.KIND or str(value.get("apiVersion")).startswith(model.GROUP):
        return binding_check.check(value)
    if "base_job_template" in value:
        return _check_pool(value)
    if "job_configuration" in value or "variables" in value:
        return _check_template(value)
    return [_stranger(value, alone=alone)]


def _check_list(items: list[Any]) -> Iterator[Finding]:
    """As `kubectl get -o yaml` prints it."""
    for index, item in enumerate(items):
        for finding in _check_document(item, alone=len(items) == 1):
            yield finding.below(("items", index))


def _check_pool(pool: Mapping[str, Any]) -> Iterator[Finding]:
    """As `prefect work-pool inspect -o json` prints it."""
    if (type_ := pool.get("type")) is not None and type_ not in binding_check.POOL_TYPES:
        types = " or ".join(binding_check.POOL_TYPES)
        yield Finding(("type",), f"must be {types} for a binding to serve it, is {type_!r}")
    template = pool["base_job_template"]
    if not isinstance(template, Mapping):
        yield Finding(("base_job_template",), "must be a base job template")
        return
    prefix: Path = ("base_job_template",)
    yield from (finding.below(prefix) for finding in _check_template(template))


def _check_template(template: Mapping[str, Any]) -> Iterator[Finding]:
    from workpool_operator.cli import template_check  # with Prefect, which bindings do not need

    yield from template_check.check(template)


def _stranger(value: Mapping[str, Any], *, alone: bool) -> Finding:
    """What is neither; other objects beside a binding are nothing to worry about."""
    kind = value.get("kind")
    if kind and value.get("apiVersion"):
        text = f"is a {kind}: not looked at" if not alone else f"is a {kind}; {_EXPECTED}"
        return Finding((), text, "error" if alone else "warning")
    return Finding((), _EXPECTED)
