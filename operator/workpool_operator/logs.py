"""The operator's log: one line per decision, as text or JSON, never a secret.

A message says to people what it is about. To collectors, a JSON line says it in fields of its own,
which `about` sets for a whole task, so that the lines of libraries have them, too. A problem is
logged when it begins, when its cause changes, and when it is resolved.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

_LEVELS = {
    # They log every request, task or tick.
    **dict.fromkeys(("httpx", "httpcore", "websockets", "asyncio", "prefect"), logging.WARNING),
    "kubernetes_asyncio": logging.ERROR,
    # `tracing` logs once that spans are not sent, and once that they are again.
    "opentelemetry.sdk._shared_internal": logging.CRITICAL,
    "opentelemetry.exporter": logging.CRITICAL,
    "opentelemetry.util": logging.CRITICAL,  # quotes headers that are not valid
    "urllib3": logging.ERROR,
    # kopf also raises what makes it end; it is logged where it is caught.
    "kopf": logging.CRITICAL,
    "kopf.objects": logging.WARNING,
    "kopf._core.engines.posting": logging.WARNING,
}


# What a line is about. Objects of Kubernetes are NAMESPACE/NAME, as in its own structured logs.
FIELDS = ("binding", "run", "flow_run_name", "job", "trace_id")

_about: ContextVar[Mapping[str, str]] = ContextVar("about")


@contextmanager
def about(
    *,
    binding: str = "",
    run: object = "",
    flow_run_name: str = "",
    job: str = "",
    trace_id: str = "",
) -> Iterator[None]:
    """Give these fields to the lines that are logged in the block and in tasks created by it."""
    given = zip(FIELDS, (binding, run, flow_run_name, job, trace_id), strict=True)
    known = {name: str(value) for name, value in given if value}
    token = _about.set({**_about.get({}), **known})
    try:
        yield
    finally:
        _about.reset(token)


def first_line(message: str) -> str:
    """Return what a line of the log says of a message that continues with a container's log."""
    return message.partition("\n")[0]


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get({}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class _Text(logging.Formatter):
    """One line for each message, whatever characters the names of flow runs have."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return line if line.isprintable() else "".join(map(_printable, line))


def _printable(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def _no_retry(record: logging.LogRecord) -> bool:
    """Drop kopf's line about each attempt of a request; it also logs that the request failed."""
    return not (record.name.startswith("kopf") and "Request attempt" in record.getMessage())


def configure(level: str, format_: Literal["text", "json"]) -> None:
    """Replace the root logger's handlers, which importing Prefect installs (docs/races.md, 20)."""
    handler = logging.StreamHandler(sys.stderr)
    text = _Text("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(_Json() if format_ == "json" else text)
    handler.addFilter(_no_retry)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, least in _LEVELS.items():
        logging.getLogger(name).setLevel(least)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("prefect"):
            logging.getLogger(name).handlers.clear()


class ProblemLogger:
    """Logs the problems of one subject, such as a binding. `what` names a problem in a sentence."""

    def __init__(self, log: logging.Logger, subject: str) -> None:
        self._log = log
        self._subject = subject
        self._known: dict[str, str] = {}

    def report(self, what: str, why: object) -> None:
        """Log the problem and its cause, unless the same cause was logged last."""
        if self._known.get(what) != str(why):
            self._known[what] = str(why)
            self._log.warning("%s: %s: %s", self._subject, what, why)

    def resolved(self, what: str) -> None:
        """Log that the problem is resolved, if it was reported."""
        if self._known.pop(what, None) is not None:
            self._log.info("%s: resolved: %s", self._subject, what)
