"""Completes `kubectl workpool ...`: kubectl calls it by the name `kubectl_complete-workpool`.

It prints a candidate in each line, and at last what the shell is to do: complete files if there is
no candidate, else nothing more (the numbers are those of kubectl's library for commands, cobra).
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from contextlib import redirect_stdout, suppress

_PROGRAM = "workpool-operator"
_FILES, _NO_FILES = 0, 4


def main() -> None:
    """Print the completions of the last argument."""
    from workpool_operator.cli import app

    words = [_PROGRAM, *sys.argv[1:]]
    os.environ["_WORKPOOL_OPERATOR_COMPLETE"] = "complete_bash"
    os.environ["COMP_WORDS"] = " ".join(shlex.quote(word) if word else "" for word in words)
    os.environ["COMP_CWORD"] = str(len(words) - 1)
    with redirect_stdout(io.StringIO()) as candidates, suppress(SystemExit):
        app(prog_name=_PROGRAM)
    found = candidates.getvalue().split()
    print("\n".join([*found, f":{_NO_FILES if found else _FILES}"]))
