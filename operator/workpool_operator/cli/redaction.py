"""Keeps secrets out of what a command prints. Pure.

A value is secret because of its source (a block, a credential of the server), the name of its
variable or option, or its form: the user and password of a URL, what follows `Password=` or
`"token":`, a bearer token, a private key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from workpool_operator.cli.credential_names import is_credential

REDACTED = "<redacted>"
SHORTEST_PART = 4  # a shorter secret is redacted only as a whole value, not within other text
_VALUES_BY_NAME = ("env", "annotations")
_ARGUMENTS = ("command", "args")

# Up to the last @ of a URL's authority; a password can contain an unescaped slash.
_USERINFO = re.compile(
    r"""(?<=://)([^/\s'":@]{0,200}:(?!\d+/)[^/\s'"@]{0,200}/[^\s'"@]{0,200}|[^/\s'"]+)(?=@)"""
)
_BEARER = re.compile(r"(?<=\bBearer )[\w.~+/=-]{16,}", re.IGNORECASE)
_PRIVATE_KEY = re.compile(
    r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
# Two patterns: a name with its separator, and the value that follows.
_NAMED = (
    # Password=x of a connection string, a query, a command line
    (
        re.compile(r"\b([A-Za-z][\w.-]{0,99}(?: [A-Za-z]{1,99})?)\s?=\s?"),
        re.compile(r""""[^"]*"?|'[^']*'?|[^;&"'\n]+(?=;)|[^\s;&,"']+"""),
    ),
    # "password": "x" of JSON, even escaped within a string
    (
        re.compile(r"""\\?["']([^"'\\]{1,99})\\?["']\s*:\s*"""),
        re.compile(r"""\\?"[^"\\]*(\\?")?|'[^']*'?|[^\s,}\]"']+"""),
    ),
)
_NAMED_IN_A_VALUE = (
    *_NAMED,
    (re.compile(r"(?<!\S)(--?[A-Za-z][\w-]{0,99})\s+(?!-)"), re.compile(r"\S+")),  # --password x
    (re.compile(r"^[ \t]*(?:- )?([\w.-]{1,99}): +", re.MULTILINE), re.compile(r"\S.*")),  # YAML
)
_Named = Iterable[tuple[re.Pattern[str], re.Pattern[str]]]


class Redaction:
    """Remembers secrets, and replaces them in documents and texts."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def add(self, value: Any) -> None:
        """Add every value in it as a secret, except booleans and empty values."""
        if isinstance(value, Mapping):
            self._add_all(value.values())
        elif isinstance(value, list | tuple):
            self._add_all(value)
        elif value not in (None, "", True, False):
            self._secrets.add(str(value))

    def _add_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.add(value)

    def redact_text(self, text: str) -> str:
        """Return the text of a message without secrets."""
        return self._redacted(text, _NAMED)

    def _redacted(self, text: str, named: _Named) -> str:
        if text in self._secrets:
            return REDACTED
        for secret in sorted(self._secrets, key=len, reverse=True):
            if len(secret) >= SHORTEST_PART:
                text = text.replace(secret, REDACTED)
        text = _BEARER.sub(REDACTED, _USERINFO.sub(REDACTED, text))
        text = _PRIVATE_KEY.sub(rf"\1{REDACTED}\2", text)
        for name, value in named:
            text = _without_values(text, name, value)
        return text

    def redact(self, document: Any, *, key: str = "") -> Any:
        """Return a copy without secrets; `key` is the document's key in its parent."""
        if isinstance(document, Mapping):
            hidden = _hidden(document, key)
            return {
                name: REDACTED if name in hidden else self.redact(item, key=name)
                for name, item in document.items()
            }
        if isinstance(document, list):
            hidden_at = _hidden_arguments(document) if key in _ARGUMENTS else set()
            return [
                REDACTED if index in hidden_at else self.redact(item, key=key)
                for index, item in enumerate(document)
            ]
        if isinstance(document, str):
            return self._redacted(document, _NAMED_IN_A_VALUE)
        return REDACTED if str(document) in self._secrets else document


def _without_values(text: str, name: re.Pattern[str], value: re.Pattern[str]) -> str:
    kept, done = [], 0
    for match in name.finditer(text):
        if match.end() < done or not any(map(is_credential, match[1].split())):
            continue
        if found := value.match(text, match.end()):
            kept += [text[done : found.start()], _redacted_in_quotes(found[0])]
            done = found.end()
    return "".join([*kept, text[done:]])


def _redacted_in_quotes(value: str) -> str:
    quote = value[: len(value) - len(value.lstrip("\\\"'"))]
    return f"{quote}{REDACTED}{quote if quote and value.endswith(quote) else ''}"


def _hidden(mapping: Mapping[str, Any], key: str) -> set[str]:
    """Return the keys whose values are secret by name, in both forms of `env`."""
    if key == "env" and "name" in mapping:
        return {"value"} if mapping.get("value") and is_credential(str(mapping["name"])) else set()
    if key not in _VALUES_BY_NAME:
        return set()
    return {name for name, value in mapping.items() if is_credential(name) and value}


def _hidden_arguments(arguments: list[Any]) -> set[int]:
    """Return the indexes of arguments that follow an option such as `--password`."""
    return {
        index + 1
        for index, argument in enumerate(arguments[:-1])
        if isinstance(argument, str)
        and argument.startswith("-")
        and "=" not in argument
        and is_credential(argument)
    }
