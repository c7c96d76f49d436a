"""Exponential backoff for counters that grow without limit. Pure."""

from __future__ import annotations

import math


def exponential_delay(failures: int, *, first: float, longest: float) -> float:
    """Return the delay in seconds: `first` after no earlier failure, doubled by each, at most
    `longest`. Never overflows."""
    doublings = min(failures, math.ceil(math.log2(longest / first)))
    return min(first * 2.0**doublings, longest)
