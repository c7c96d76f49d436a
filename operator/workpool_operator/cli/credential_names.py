"""Recognises names of credentials. Pure.

A name is split into words (`DbPassword`, `AWS_SECRET_ACCESS_KEY`, `x-api-key`), so that `keyboard`
does not match `key`. The end of a word can match, too (`PGPASSWORD`, `apikey`).
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_WORDS = {
    *("auth", "authorization", "bearer", "conn", "connstr", "cookie", "cred", "dsn", "jwt"),
    *("netrc", "pat", "pw", "sas", "sig", "signature", "webhook"),
}
_ENDINGS = (
    *("auth", "authstring", "connectionstring", "cred", "credential", "key", "pass", "passphrase"),
    *("passwd", "password", "pwd", "secret", "token"),
)
#: Words that end like a credential and are not one.
_EXCEPTIONS = {
    *("bypass", "compass", "encompass", "overpass", "surpass", "trespass", "underpass"),
    *("donkey", "hockey", "hotkey", "jockey", "monkey", "turkey", "turnkey", "whiskey"),
    *("oldpwd",),
}
_CONNECTION_STRING = re.compile("connection[ _.-]?string", re.IGNORECASE)
_WORKING_DIRECTORY = "PWD"


def is_credential(name: str) -> bool:
    """Return whether the name is likely to be that of a credential."""
    words = _WORD.findall(name) if name != _WORKING_DIRECTORY else ()
    return any(_names_a_credential(word.lower()) for word in words) or bool(
        _CONNECTION_STRING.search(name)
    )


def _names_a_credential(word: str) -> bool:
    return any(
        each not in _EXCEPTIONS and (each in _WORDS or each.endswith(_ENDINGS))
        for each in (word, word.removesuffix("s"))
    )
