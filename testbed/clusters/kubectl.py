"""kubectl, bound to one cluster and deaf to the user's KUBECONFIG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from testbed import commands


@dataclass(frozen=True)
class Kubectl:
    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        return commands.run(self._argv(arguments), stdin=stdin)

    def succeeds(self, *arguments: str, stdin: str | None = None) -> bool:
        return commands.succeeds(self._argv(arguments), stdin=stdin)

    def __str__(self) -> str:
        """As the user types it."""
        return f"{self.program} --kubeconfig={self.kubeconfig}"

    def _argv(self, arguments: tuple[str, ...]) -> list[str | Path]:
        return [self.program, f"--kubeconfig={self.kubeconfig}", *arguments]
