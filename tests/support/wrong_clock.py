"""`python -m tests.support.wrong_clock SECONDS run ...`: the operator on a machine whose clock is
wrong by so much."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

from workpool_operator.clock import Clock


class WrongClock(Clock):
    """Is ahead of the servers' clocks."""

    def __init__(self, seconds: int) -> None:
        self._ahead = timedelta(seconds=seconds)

    def now(self) -> datetime:
        return super().now() + self._ahead


def program(seconds: int) -> list[str]:
    """Return the program that stands for `workpool-operator`."""
    return [sys.executable, "-m", "tests.support.wrong_clock", str(seconds)]


def main() -> None:
    ahead = timedelta(seconds=int(sys.argv.pop(1)))
    now = Clock.now
    Clock.now = lambda self: now(self) + ahead  # type: ignore[method-assign]
    sys.argv[0] = "workpool-operator"
    from workpool_operator.cli import app

    app()


if __name__ == "__main__":
    main()
