"""Checks a label selector as the API server would. Pure.

The API server is the one who selects; this finds a mistake before the first request.
"""

from __future__ import annotations

import re

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_PREFIX = rf"(?=[^/]{{1,253}}/){_DOMAIN}(?:\.{_DOMAIN})*/"
_KEY = rf"(?:{_PREFIX})?{_NAME}"
_VALUE = rf"(?:{_NAME})?"
_REQUIREMENT = re.compile(
    rf"!\s*{_KEY}"
    rf"|{_KEY}"
    rf"|{_KEY}\s*(?:==?|!=)\s*{_VALUE}"
    rf"|{_KEY}\s*[<>]\s*[0-9]+"
    rf"|{_KEY}\s+(?:in|notin)\s*\(\s*{_VALUE}(?:\s*,\s*{_VALUE})*\s*\)"
)
_BETWEEN_REQUIREMENTS = re.compile(r",(?![^(]*\))")


def invalid_requirement(selector: str) -> str | None:
    """Return the first requirement that is not one, such as `a in b`; None if all are valid."""
    if not selector.strip():
        return None  # selects everything
    requirements = map(str.strip, _BETWEEN_REQUIREMENTS.split(selector))
    return next((each for each in requirements if not _REQUIREMENT.fullmatch(each)), None)
