"""Which of the names that exist somebody may have meant. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

_MOST_COMPARED = 1000  # a hint is not worth more


def close_matches(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names that are like it, the nearest first; upper and lower case are one."""
    by_folded = {each.casefold(): each for each in islice(known, _MOST_COMPARED)}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=most, cutoff=0.6)
    return [by_folded[each] for each in found]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the one that was meant, if there is one."""
    found = close_matches(name, known, most=1)
    return f" (did you mean {found[0]}?)" if found else ""
