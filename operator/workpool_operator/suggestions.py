"""Suggests known names for a misspelt one. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

MOST_COMPARED = 1000  # more would cost more time than a hint is worth


def close_matches(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """Return the known names that are similar, best match first. Ignores case."""
    by_folded = {each.casefold(): each for each in islice(known, MOST_COMPARED)}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=most, cutoff=0.6)
    return [by_folded[each] for each in found]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean NAME?)" for the best match, or "" if nothing is similar."""
    found = close_matches(name, known, most=1)
    return f" (did you mean {found[0]}?)" if found else ""
