"""The operator's log: one line per change, in text or JSON, never a secret.

A trouble is told when it begins, when it becomes another one, and when it is over.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

_LEVELS = {
    # They speak of every request, task or tick.
    **dict.fromkeys(("httpx", "httpcore", "websockets", "asyncio", "prefect"), logging.WARNING),
    "kubernetes_asyncio": logging.ERROR,
    # Whatever makes kopf give up is raised, too, and told where it is caught.
    "kopf": logging.CRITICAL,
    "kopf.objects": logging.WARNING,
    "kopf._core.engines.posting": logging.WARNING,
}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _no_retry(record: logging.LogRecord) -> bool:
    """kopf tells every attempt of a request in an outage; its end is told, too."""
    return not (record.name.startswith("kopf") and "Request attempt" in record.getMessage())


def configure(level: str, format_: Literal["text", "json"]) -> None:
    """Own the root logger: Prefect's import puts handlers of its own there (docs/races.md, 20)."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
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
    """The troubles of one subject; `what` names one, as the middle of a sentence."""

    def __init__(self, log: logging.Logger, subject: str) -> None:
        self._log = log
        self._subject = subject
        self._known: dict[str, str] = {}

    def report(self, what: str, why: object) -> None:
        """It holds, because of `why`; told unless the same was told last."""
        if self._known.get(what) != str(why):
            self._known[what] = str(why)
            self._log.warning("%s: %s: %s", self._subject, what, why)

    def resolved(self, what: str) -> None:
        """It does not hold; told if it did."""
        if self._known.pop(what, None) is not None:
            self._log.info("%s: no longer: %s", self._subject, what)
