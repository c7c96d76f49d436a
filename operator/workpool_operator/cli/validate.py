"""`workpool-operator validate`: bindings and base job templates, without server and cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import typer

from workpool_operator.cli import output
from workpool_operator.cli.validation_report import ValidationReport

Format = Literal["text", "json"]


def main(paths: Sequence[str], *, output_format: Format) -> None:
    """Print what is found; exit code 1 if anything of it is an error."""
    report = ValidationReport()
    for path in dict.fromkeys(paths):
        report.add_path(path)
    report.compare()
    if output_format == "json":
        output.echo(output.as_json(_document(report)))
    else:
        output.echo("\n".join([*map(str, report.sorted), _summary(report)]))
        for text in _skipped(report):
            output.echo_note(text)
    if report.count("error"):
        raise typer.Exit(1)


def _document(report: ValidationReport) -> Mapping[str, Any]:
    checked = Counter(each.kind for each in report.checked)
    return {
        "findings": [asdict(line) for line in report.sorted],
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "checked": {
            "bindings": checked["binding"],
            "workPools": checked["work pool"],
            "baseJobTemplates": checked["base job template"],
        },
        "skipped": report.others + report.helm_templates,
    }


def _summary(report: ValidationReport) -> str:
    errors, warnings = report.count("error"), report.count("warning")
    if errors:
        return f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"
    checked = Counter(each.kind for each in report.checked)
    what = ", ".join(_count(number, kind) for kind, number in checked.items())
    doubts = f", {_count(warnings, 'warning')}" if warnings else ""
    return f"{what} {output.styled('valid', 'green')}{doubts}"


def _skipped(report: ValidationReport) -> Iterator[str]:
    if report.others:
        yield f"skipped {_count(report.others, 'object')} of other kinds"
    if report.helm_templates:
        yield f"skipped {_count(report.helm_templates, 'Helm template')}: render them first"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
