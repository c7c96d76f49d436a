"""The one error that a user of the commands sees."""

from __future__ import annotations


class SetupError(Exception):
    """Says what failed, with the value, the fix and the path of the log where there is one."""
