"""Which container of a pod runs the flow: one rule for those who render Jobs and those who watch
them. Pure.

Rendering records the name on the Job and on its pods: a webhook may insert containers before it.
"""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_NAME = "prefect-job"  # the stock worker's


def find_index(names: Sequence[str], *, recorded: str = "") -> int:
    """Where in the list it is: the one of the recorded name, else `prefect-job`, else the first."""
    for name in (recorded, DEFAULT_NAME):
        if name and name in names:
            return names.index(name)
    return 0
