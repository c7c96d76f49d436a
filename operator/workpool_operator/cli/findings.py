"""What a check has to say about a document: where, how bad, and in which words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workpool_operator.jobs.field_errors import FieldError, Path, format_path

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or that hardly is what its author meant."""

    path: Path
    message: str
    severity: Severity = "error"

    @classmethod
    def of(cls, fault: FieldError, severity: Severity = "error") -> Finding:
        """Return the finding that reports a field error."""
        return cls(fault.path, fault.problem, severity)

    @property
    def path_text(self) -> str:
        """The path as one writes it."""
        return format_path(self.path)

    def under(self, prefix: Path) -> Finding:
        """The same, of a document that is part of another."""
        return Finding((*prefix, *self.path), self.message, self.severity)
