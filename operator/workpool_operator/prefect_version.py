"""Says which Prefect is installed, without the seconds that its import takes."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

_DISTRIBUTIONS = ("prefect", "prefect-client")  # the same modules, the latter without server


@cache
def prefect_version() -> str:
    """Return the version of Prefect, such as `3.8.8`; "" if it is not installed."""
    for distribution in _DISTRIBUTIONS:
        try:
            return version(distribution).split("+")[0]
        except PackageNotFoundError:
            continue
    return ""
