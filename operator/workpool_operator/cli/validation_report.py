"""Collects what `validate` finds in files and directories.

An error in one object does not hide the others; bindings are compared at the end. In a directory,
files without a binding or a template are skipped, also each `prefect.yaml`, whose check can need a
server. A file that the user names must contain something to check.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from workpool_operator.api import v1alpha1
from workpool_operator.cli import binding_check, conflicts, objects, output
from workpool_operator.cli.findings import Finding, Severity
from workpool_operator.cli.objects import KubernetesObject
from workpool_operator.jobs import documents
from workpool_operator.jobs.documents import HelmTemplate, Position, UnreadableFile
from workpool_operator.jobs.field_errors import Path, format_path

if TYPE_CHECKING:
    from workpool_operator.cli.pool_templates import PoolTemplates

_EXPECTED = f"expected a {v1alpha1.KIND}, a base job template or a prefect.yaml"
_NONE = f"contains no {v1alpha1.KIND} and no base job template"
_COLOURS: Mapping[Severity, str] = {"error": "red", "warning": "yellow"}


@dataclass(frozen=True, slots=True, order=True)
class ReportLine:
    """A finding and its position, as it is printed."""

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
    """What was checked, what was skipped, and the findings.

    `template` is the file of the template for all deployments; "" if those of their pools count.
    """

    template: str = ""
    lines: list[ReportLine] = field(default_factory=list)
    checked: list[KubernetesObject] = field(default_factory=list)
    other_objects: int = 0
    helm_templates: int = 0

    def add_path(self, path: str) -> None:
        """Check a file, or all files of a directory."""
        if not os.path.isdir(path):
            return self.add_file(path)
        before = len(self.checked), len(self.lines)
        try:
            for file in documents.find_files(path):
                self.add_file(file, walked=True)
        except UnreadableFile as error:
            self.add(error.file, error.position, Finding((), error.problem))
        if before == (len(self.checked), len(self.lines)):
            self.add(path, Position(), Finding((), _NONE))

    def add_file(self, file: str, *, walked: bool = False) -> None:
        """Check the documents of a file; `walked` if it was found in a directory."""
        try:
            found = objects.read_objects(file)
        except HelmTemplate as error:
            self.helm_templates += walked
            if not walked:
                self.add(file, error.position, Finding((), error.problem))
            return
        except UnreadableFile as error:
            self.add(file, error.position, Finding((), error.problem))
            return
        skipped = ("other", "deployment file") if walked else ("other",)
        ours = [each for each in found if each.kind not in skipped]
        if walked and not any(map(_surely_ours, ours)):
            self.other_objects += len(found)
            return
        if not ours:
            self.add(file, Position(), Finding((), _nothing(found)))
            return
        self._add_repeated(found)
        for each in found:
            self._add_object(each)

    def _add_repeated(self, found: Iterable[KubernetesObject]) -> None:
        for document in {id(each.document): each.document for each in found}.values():
            for path, position in document.repeated:
                finding = Finding(path, "duplicate key: remove one of the two")
                self.add(document.file, position, finding)

    def _add_object(self, found: KubernetesObject) -> None:
        if found.foreign_kind:
            self.other_objects += 1
            return
        self.checked.append(found)
        is_project = found.kind == "deployment file"
        for finding in self._check_project(found) if is_project else _check(found):
            self.add_finding(found, finding)

    def _check_project(self, found: KubernetesObject) -> Iterator[Finding]:
        from workpool_operator.cli import deployment_check  # imports Prefect

        return deployment_check.check(found.value, self._pools.read)

    @cached_property
    def _pools(self) -> PoolTemplates:
        from workpool_operator.cli.pool_templates import PoolTemplates  # imports Prefect

        return PoolTemplates(self.template)

    def compare_bindings(self) -> None:
        """Warn of bindings that conflict with each other."""
        bindings = (each for each in self.checked if each.kind == "binding")
        for found, finding in conflicts.find_conflicts(bindings):
            self.add_finding(found, finding)

    def add_finding(self, found: KubernetesObject, finding: Finding) -> None:
        """Add a finding about an object, at its position in the file."""
        position = found.position(finding.path)
        self.add(found.document.file, position, finding.under(found.prefix))

    def add(self, file: str, position: Position, finding: Finding) -> None:
        """Add a finding at a position of a file."""
        self.lines.append(
            ReportLine(
                file=file,
                line=position.line,
                column=position.column,
                path=format_path(finding.path),
                severity=finding.severity,
                message=finding.message,
            )
        )

    @property
    def sorted_lines(self) -> list[ReportLine]:
        """The lines without duplicates, by file in the order of reading, then by position."""
        order = {line.file: at for at, line in reversed(list(enumerate(self.lines)))}
        return sorted(set(self.lines), key=lambda line: (order[line.file], line))

    def count(self, severity: Severity) -> int:
        """Return the number of different lines of this severity."""
        return sum(line.severity == severity for line in set(self.lines))


def _surely_ours(found: KubernetesObject) -> bool:
    """Return False for a file with `variables` alone, which other programs have, too."""
    return found.kind != "base job template" or "job_configuration" in found.value


def _nothing(found: Sequence[KubernetesObject]) -> str:
    """Return the error for a file that contains nothing that can be checked."""
    if not found:
        return f"is empty; {_EXPECTED}"
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
    """Check a pool as `prefect work-pool inspect -o json` prints it."""
    if (type_ := pool.get("type")) is not None and type_ not in binding_check.POOL_TYPES:
        types = " or ".join(binding_check.POOL_TYPES)
        text = f"{type_!r} is not a type that a binding can serve: use {types}"
        yield Finding(("type",), text)
    template = pool["base_job_template"]
    if not isinstance(template, Mapping):
        text = "must be a mapping with job_configuration and variables"
        yield Finding(("base_job_template",), text)
        return
    prefix: Path = ("base_job_template",)
    yield from (finding.under(prefix) for finding in _check_template(template))


def _check_template(template: Mapping[str, Any]) -> Iterator[Finding]:
    from workpool_operator.cli import template_check  # imports Prefect, which takes a second

    yield from template_check.check(template)
    yield from template_check.check_default_run(template)
