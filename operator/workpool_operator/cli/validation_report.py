"""What `validate` finds in files and directories.

Every object of every file is checked, whatever is wrong with another; then bindings are compared.
In a directory, files without a binding or a template are skipped; a file that is named must have
one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workpool_operator.api import v1alpha1
from workpool_operator.cli import binding_check, conflicts, documents, objects, output
from workpool_operator.cli.documents import HelmTemplate, Position, UnreadableFile
from workpool_operator.cli.findings import Finding, Severity
from workpool_operator.cli.objects import KubernetesObject
from workpool_operator.jobs.field_errors import Path, format_path

_EXPECTED = f"expected a {v1alpha1.KIND} or a base job template"
_NONE = f"holds no {v1alpha1.KIND} and no base job template"
_COLOURS: Mapping[Severity, str] = {"error": "red", "warning": "yellow"}


@dataclass(frozen=True, slots=True, order=True)
class ReportLine:
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


@dataclass
class ValidationReport:
    """What was checked, what was skipped, and what is wrong."""

    lines: list[ReportLine] = field(default_factory=list)
    checked: list[KubernetesObject] = field(default_factory=list)
    others: int = 0
    helm_templates: int = 0

    def add_path(self, path: str) -> None:
        """A file, or all files of a directory."""
        if not os.path.isdir(path):
            return self.add_file(path)
        before = len(self.checked), len(self.lines)
        try:
            for file in documents.find_files(path):
                self.add_file(file, walked=True)
        except UnreadableFile as error:
            self.add(error.file, error.spot, Finding((), error.problem))
        if before == (len(self.checked), len(self.lines)):
            self.add(path, Position(), Finding((), _NONE))

    def add_file(self, file: str, *, walked: bool = False) -> None:
        """Check the documents of a file; `walked` if it was found in a directory."""
        try:
            found = objects.read_objects(file)
        except HelmTemplate as error:
            self.helm_templates += walked
            if not walked:
                self.add(file, error.spot, Finding((), error.problem))
            return
        except UnreadableFile as error:
            self.add(file, error.spot, Finding((), error.problem))
            return
        ours = [each for each in found if each.kind != "other"]
        if walked and not any(map(_surely_ours, ours)):
            self.others += len(found)
            return
        if not ours:
            self.add(file, Position(), Finding((), _nothing(found)))
            return
        self._add_repeated(found)
        for each in found:
            self._add_object(each)

    def _add_repeated(self, found: Iterable[KubernetesObject]) -> None:
        for document in {id(each.document): each.document for each in found}.values():
            for path, spot in document.repeated:
                self.add(document.file, spot, Finding(path, "duplicate key: remove one of the two"))

    def _add_object(self, found: KubernetesObject) -> None:
        if found.foreign_kind:
            self.others += 1
            return
        self.checked.append(found)
        for finding in _check(found):
            self.add_finding(found, finding)

    def compare(self) -> None:
        """The bindings with each other."""
        bindings = (each for each in self.checked if each.kind == "binding")
        for found, finding in conflicts.conflicts(bindings):
            self.add_finding(found, finding)

    def add_finding(self, found: KubernetesObject, finding: Finding) -> None:
        """Add a finding about an object, at its position in the file."""
        spot = found.position(finding.path)
        self.add(found.document.file, spot, finding.under(found.prefix))

    def add(self, file: str, spot: Position, finding: Finding) -> None:
        """Add a finding at a position of a file."""
        path = format_path(finding.path)
        line = ReportLine(file, spot.line, spot.column, path, finding.severity, finding.message)
        self.lines.append(line)

    @property
    def sorted(self) -> list[ReportLine]:
        """Each once; the files in the order in which they were read."""
        order = {line.file: at for at, line in reversed(list(enumerate(self.lines)))}
        return sorted(set(self.lines), key=lambda line: (order[line.file], line))

    def count(self, severity: Severity) -> int:
        """Return the number of different lines of this severity."""
        return sum(line.severity == severity for line in set(self.lines))


def _surely_ours(found: KubernetesObject) -> bool:
    """Other programs' files have `variables`, too."""
    return found.kind != "base job template" or "job_configuration" in found.value


def _nothing(found: Sequence[KubernetesObject]) -> str:
    """Why a file that holds nothing of ours cannot be what its user meant."""
    if not found:
        return f"holds nothing; {_EXPECTED}"
    if len(found) > 1:
        return _NONE
    return f"is a {found[0].foreign_kind}; {_EXPECTED}" if found[0].foreign_kind else _EXPECTED


def _check(found: KubernetesObject) -> Iterator[Finding]:
    if found.kind == "binding":
        yield from binding_check.check(found.value)
    elif found.kind == "work pool":
        yield from _check_pool(found.value)
    elif found.kind == "base job template":
        yield from _check_template(found.value)
    else:
        yield Finding((), _EXPECTED)


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
    yield from (finding.under(prefix) for finding in _check_template(template))


def _check_template(template: Mapping[str, Any]) -> Iterator[Finding]:
    from workpool_operator.cli import template_check  # with Prefect, which bindings do not need

    yield from template_check.check(template)
    yield from template_check.check_default_run(template)
