"""The files of templates and variables that options name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workpool_operator.cli import documents, output


def read_mapping(file: str) -> Mapping[str, Any]:
    """The one document of a file of templates or variables."""
    with output.errors_in_one_line():
        found = documents.read_documents(file)
        if len(found) != 1 or not isinstance(found[0].value, Mapping):
            raise documents.UnreadableFile(file, "must hold one mapping, and nothing else")
        value: Mapping[str, Any] = found[0].value
        return value


def read_template(file: str) -> Mapping[str, Any]:
    """A base job template, or the one of a whole work pool as Prefect prints it."""
    found = read_mapping(file)
    inner = found.get("base_job_template", found)
    with output.errors_in_one_line():
        if not isinstance(inner, Mapping) or "job_configuration" not in inner:
            problem = "is no base job template: it has no job_configuration"
            raise documents.UnreadableFile(file, problem)
    template: Mapping[str, Any] = inner
    return template
