"""What Kubernetes and container runtimes accept as a quantity, an image reference and a name. Pure.

Exactly as lenient as they are: what is refused here would be refused there, and what a runtime
refuses only when the pod is there (an image reference) is refused before. But for a quantity
without a number, such as the `Gi` of `{{ memory }}Gi` without a value: Kubernetes takes it for 0.
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
LABEL_KEY = "a label's key: [prefix/]name, the name of at most 63 letters, digits, '-', '_' and '.'"
LABEL_VALUE = "a label's value: at most 63 letters, digits, '-', '_' and '.'"

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
    """The amount; None where it is none."""
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
    except InvalidOperation:  # no digits, or an exponent beyond what anybody counts
        return None


def is_image(value: str) -> bool:
    """A kubelet can ask a registry for it."""
    found = _IMAGE.fullmatch(value)
    return bool(
        found
        and len(found["name"]) <= _LONGEST_IMAGE_NAME
        and not _IDENTIFIER.fullmatch(found["name"])
    )


def is_env_name(value: str) -> bool:
    """Return whether Kubernetes accepts it as the name of a variable."""
    return bool(_ENV_NAME.fullmatch(value))


def is_label_name(value: str) -> bool:
    """An RFC 1123 label: what containers and volumes are called."""
    return bool(_LABEL_NAME.fullmatch(value))


def is_subdomain(value: str) -> bool:
    """An RFC 1123 subdomain: what most objects are called."""
    return bool(_SUBDOMAIN.fullmatch(value))


def is_label_key(value: str) -> bool:
    """Return whether Kubernetes accepts it as the key of a label."""
    prefix, slash, name = value.rpartition("/")
    return bool(_QUALIFIED.fullmatch(name)) and (not slash or is_subdomain(prefix))


def is_label_value(value: str) -> bool:
    """Return whether Kubernetes accepts it as the value of a label."""
    return value == "" or bool(_QUALIFIED.fullmatch(value))
