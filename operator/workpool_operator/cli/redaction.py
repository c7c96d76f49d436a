"""Keeps secrets out of what a command prints. Pure.

A value is secret for where it came from (a block, a credential of the server), for the name of the
variable that holds it, or for its place in a URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

REDACTED = "<redacted>"
SHORTEST_PART = 4  # a shorter secret is only looked for as a whole value, or all text would go
_CREDENTIAL = re.compile(r"KEY|TOKEN|PASS(WORD|WD|PHRASE)|SECRET|AUTH|CREDENTIAL", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_VALUES_BY_NAME = ("env", "annotations")


class Redaction:
    """Remembers what is secret, and takes it out of documents and texts."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def learn(self, value: Any) -> None:
        """Everything in the value is a secret from now on; true and false say nothing."""
        if isinstance(value, Mapping):
            self._learn_all(value.values())
        elif isinstance(value, list | tuple):
            self._learn_all(value)
        elif value not in (None, "", True, False):
            self._secrets.add(str(value))

    def _learn_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.learn(value)

    def text(self, text: str) -> str:
        """The text without any secret."""
        if text in self._secrets:
            return REDACTED
        for secret in sorted(self._secrets, key=len, reverse=True):
            if len(secret) >= SHORTEST_PART:
                text = text.replace(secret, REDACTED)
        return _USERINFO.sub(REDACTED, text)

    def document(self, document: Any, *, key: str = "") -> Any:
        """A copy without any secret; `key` is the one under which it is found."""
        if isinstance(document, Mapping):
            hidden = _hidden(document, key)
            return {
                name: REDACTED if name in hidden else self.document(item, key=name)
                for name, item in document.items()
            }
        if isinstance(document, list):
            return [self.document(item, key=key) for item in document]
        if isinstance(document, str):
            return self.text(document)
        return REDACTED if str(document) in self._secrets else document


def is_credential(name: str) -> bool:
    """The name is one that people give to credentials."""
    return _CREDENTIAL.search(name) is not None


def _hidden(mapping: Mapping[str, Any], key: str) -> set[str]:
    """The keys whose values are secret for the name of their variable, in both forms of `env`."""
    if key == "env" and "name" in mapping:
        return {"value"} if mapping.get("value") and is_credential(str(mapping["name"])) else set()
    if key not in _VALUES_BY_NAME:
        return set()
    return {name for name, value in mapping.items() if is_credential(name) and value}
