"""kubectl, bound to one kubeconfig whatever the user's KUBECONFIG says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from localnode import commands


@dataclass(frozen=True)
class Kubectl:
    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Return what it prints; raises SetupError if it fails."""
        return commands.run(self._argv(arguments), stdin=stdin)

    def succeeds(self, *arguments: str, stdin: str | None = None) -> bool:
        return commands.succeeds(self._argv(arguments), stdin=stdin)

    def __str__(self) -> str:
        """Return the command as the user types it."""
        return f"{self.program} --kubeconfig={self.kubeconfig}"

    def _argv(self, arguments: tuple[str, ...]) -> list[str | Path]:
        return [self.program, f"--kubeconfig={self.kubeconfig}", *arguments]
