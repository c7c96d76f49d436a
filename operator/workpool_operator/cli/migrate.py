"""`workpool-operator migrate`: prints the binding, or the values of this project's chart, for the
values of a prefect-worker release. It needs no server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import typer

from workpool_operator.cli import binding_check, output
from workpool_operator.cli.findings import Finding
from workpool_operator.cli.migration import Migration, migrate
from workpool_operator.cli.validation_report import ReportLine
from workpool_operator.jobs import documents
from workpool_operator.jobs.documents import Document, UnreadableFile

Format = Literal["bindings", "values", "json"]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command."""

    file: str
    namespace: str
    name: str
    output_format: Format


def main(options: Options) -> None:
    """Print the result, and what it leaves out on standard error; exit with 1 without a result."""
    with output.errors_in_one_line():
        document = _read(options.file)
        found = migrate(document.value, namespace=options.namespace, name=options.name)
    lines = sorted(_line(document, finding) for finding in _findings(found))
    if options.output_format == "json":
        output.echo(output.as_json(_as_document(found, lines)))
    else:
        for line in lines:
            output.echo(str(line), err=True)
    if any(line.severity == "error" for line in lines):
        raise typer.Exit(1)
    if options.output_format == "bindings":
        output.echo("---\n".join(map(output.as_yaml, found.manifests)).rstrip("\n"))
    elif options.output_format == "values":
        output.echo(output.as_yaml(found.all_values).rstrip("\n"))


def _read(file: str) -> Document:
    """Return the one mapping of the file, also if it is empty."""
    found = documents.read_documents(file)
    if len(found) > 1 or not all(isinstance(each.value, Mapping) for each in found):
        raise UnreadableFile(file, "must contain the values of one release, as one mapping")
    return found[0] if found else Document(file, {})


def _findings(found: Migration) -> list[Finding]:
    """Return what was found, and what is wrong with the binding, at the value behind it."""
    own = [*found.findings]
    if any(finding.severity == "error" for finding in own):
        return own
    for finding in binding_check.check(found.binding):
        text = f"{finding.path_text} of the binding: {finding.message}"
        own.append(replace(finding, path=found.source_of(finding.path), message=text))
    return own


def _line(document: Document, finding: Finding) -> ReportLine:
    position = document.position(finding.path)
    return ReportLine(
        document.file,
        position.line,
        position.column,
        finding.path_text,
        finding.severity,
        finding.message,
    )


def _as_document(found: Migration, lines: list[ReportLine]) -> dict[str, Any]:
    is_valid = all(line.severity == "warning" for line in lines)
    return {
        "manifests": found.manifests if is_valid else [],
        "values": found.all_values if is_valid else {},
        "findings": [asdict(line) for line in lines],
    }
