"""`workpool-operator validate`: checks bindings, base job templates, and a `prefect.yaml`.

Only a `prefect.yaml` can need a server: it has the templates of the pools.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import typer

from workpool_operator.cli import output
from workpool_operator.cli.validation_report import ValidationReport

Format = Literal["text", "json"]


def main(paths: Sequence[str], *, output_format: Format, template: str = "") -> None:
    """Print the findings; exit with 1 if one of them is an error."""
    report = ValidationReport(template)
    with output.errors_in_one_line(), output.silence_logs():
        for path in dict.fromkeys(paths):
            report.add_path(path)
    report.compare_bindings()
    if output_format == "json":
        output.echo(output.as_json(_document(report)))
    else:
        output.echo("\n".join([*map(str, report.sorted_lines), _summary(report)]))
        for text in _skipped(report):
            output.echo_note(text)
    if report.count("error"):
        raise typer.Exit(1)


def _document(report: ValidationReport) -> Mapping[str, Any]:
    checked = Counter(each.kind for each in report.checked)
    return {
        "findings": [asdict(line) for line in report.sorted_lines],
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "checked": {
            "bindings": checked["binding"],
            "workPools": checked["work pool"],
            "baseJobTemplates": checked["base job template"],
            "deploymentFiles": checked["deployment file"],
        },
        "skipped": report.other_objects + report.helm_templates,
    }


def _summary(report: ValidationReport) -> str:
    errors, warnings = report.count("error"), report.count("warning")
    if errors:
        return f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"
    checked = Counter(each.kind for each in report.checked)
    what = ", ".join(_count(number, kind) for kind, number in checked.items())
    suffix = f", {_count(warnings, 'warning')}" if warnings else ""
    return f"{what} {output.styled('valid', 'green')}{suffix}"


def _skipped(report: ValidationReport) -> Iterator[str]:
    if report.other_objects:
        yield f"skipped {_count(report.other_objects, 'object')} of other kinds"
    if report.helm_templates:
        yield f"skipped {_count(report.helm_templates, 'Helm template')}: render them first"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
