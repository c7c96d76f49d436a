"""What a check reports about a document: path, message and severity. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workpool_operator.jobs.field_errors import FieldError, Path, format_path

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """An error, or a warning about something that is valid and probably not intended."""

    path: Path
    message: str
    severity: Severity = "error"

    @classmethod
    def of(cls, error: FieldError, severity: Severity = "error") -> Finding:
        """Return the finding that reports a field error."""
        return cls(error.path, error.problem, severity)

    @property
    def path_text(self) -> str:
        """The path as text, such as `spec.workQueues[0]`."""
        return format_path(self.path)

    def under(self, prefix: Path) -> Finding:
        """Return the finding for a document that is at `prefix` of another document."""
        return Finding((*prefix, *self.path), self.message, self.severity)
