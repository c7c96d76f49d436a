"""The one error of the testbed: a sentence for the user, never a stack trace."""

from __future__ import annotations


class TestbedError(Exception):
    """What is wrong, with the value, the fix and the log's path where there is one."""

    __test__ = False  # pytest would collect it for its name
