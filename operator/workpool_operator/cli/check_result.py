"""What a check of `doctor` finds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was checked, what was found, and how to correct it. `status` is failed if an
    installation does not work like this, skipped if the caller lacks a right to check it."""

    subject: str
    message: str = ""
    fix: str = ""
    status: Status = "failed"

    @classmethod
    def of(cls, subject: str, fault: str, fix: str = "") -> CheckResult:
        """Return the result: failed if there is a fault, else ok."""
        return cls(subject, fault, fix) if fault else cls(subject, status="ok")
