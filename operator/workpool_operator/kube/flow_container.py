"""Finds the container of a pod that runs the flow, both when a Job is rendered and when its pods
are read. Pure.

Rendering records the name on the Job and on its pods: a webhook may insert containers before it.
"""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_NAME = "prefect-job"  # the name in the stock worker's template


def find_index(names: Sequence[str], *, recorded: str = "") -> int:
    """Return the index of the recorded name, else that of `prefect-job`, else 0."""
    for name in (recorded, DEFAULT_NAME):
        if name and name in names:
            return names.index(name)
    return 0
