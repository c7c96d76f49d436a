"""Checks quantities, image references and names as Kubernetes and container runtimes do. Pure.

It is exactly as lenient as they are. A runtime refuses an invalid image reference only once the pod
exists; this module refuses it before. One exception: Kubernetes takes a quantity without a number,
such as the `Gi` of `{{ memory }}Gi` without a value, for 0. Here it is an error.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

QUANTITY = "a quantity, such as 500m, 2 or 1Gi"
IMAGE = "an image reference, [registry/]name[:tag][@digest] in lower case"
ENV_NAME = "the name of an environment variable: printable ASCII without '='"
LABEL_NAME = "a name of at most 63 lower case letters, digits and '-'"
SUBDOMAIN = "a name of at most 253 lower case letters, digits, '-' and '.'"
LABEL_KEY = (
    "a label key: [prefix/]name, with a name of at most 63 letters, digits, '-', '_' and '.'"
)
LABEL_VALUE = "a label value: at most 63 letters, digits, '-', '_' and '.'"

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
}
_QUANTITY = re.compile(
    r"(?P<number>[+-]?\d*\.?\d*)(?:(?P<unit>[KMGTPE]i|[numkMGTPE]|)|[eE](?P<power>[+-]?\d+))",
    re.ASCII,
)
_ENV_NAME = re.compile(r"[ -<>-~]+")
_SUBDOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
)
_QUALIFIED = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")

_HOST_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_NAME_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_NAME_PART}(?:/{_NAME_PART})*)"
    r"(?::[\w][\w.-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
_LONGEST_IMAGE_NAME = 255
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


def parse_quantity(value: Any) -> Decimal | None:
    """Return the amount; None if it is not a quantity."""
    if isinstance(value, bool) or (isinstance(value, float) and not isfinite(value)):
        return None
    if not isinstance(value, str | int | float):
        return None
    text = str(value).strip(" ")
    found = _QUANTITY.fullmatch(text)
    return _amount(found) if found and text else None


def _amount(found: re.Match[str]) -> Decimal | None:
    number = found["number"]
    try:
        if found["power"]:
            return Decimal(f"{number}e{found['power']}")
        return Decimal(number) * (_BINARY.get(found["unit"]) or _DECIMAL[found["unit"]])
    except InvalidOperation:  # no digits, or an exponent that is too large
        return None


def is_image(value: str) -> bool:
    """Return whether a kubelet can request it from a registry."""
    found = _IMAGE.fullmatch(value)
    return bool(
        found
        and len(found["name"]) <= _LONGEST_IMAGE_NAME
        and not _IDENTIFIER.fullmatch(found["name"])
    )


def is_env_name(value: str) -> bool:
    """Return whether Kubernetes accepts it as the name of an environment variable."""
    return bool(_ENV_NAME.fullmatch(value))


def is_label_name(value: str) -> bool:
    """Return whether it is an RFC 1123 label: the name of a container or volume."""
    return bool(_LABEL_NAME.fullmatch(value))


def is_subdomain(value: str) -> bool:
    """Return whether it is an RFC 1123 subdomain: the name of most objects."""
    return bool(_SUBDOMAIN.fullmatch(value))


def is_label_key(value: str) -> bool:
    """Return whether it is `name` or `prefix/name`, with a subdomain as prefix."""
    prefix, slash, name = value.rpartition("/")
    return bool(_QUALIFIED.fullmatch(name)) and (not slash or is_subdomain(prefix))


def is_label_value(value: str) -> bool:
    """Return whether it is empty or a qualified name."""
    return value == "" or bool(_QUALIFIED.fullmatch(value))
