"""`workpool-operator run`: runs the handlers, without the environment's Prefect settings."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Container, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from workpool_operator.cli.output import errors_in_one_line
from workpool_operator.errors import OperatorError
from workpool_operator.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from workpool_operator.tracing import Tracing

log = logging.getLogger(__name__)

COLLECTION_THRESHOLDS = (5_000, 4, 250)  # Python's own: 700, 10, 10
# For how long a thread that renders a Job may keep the interpreter from the event loop. Python's
# own, 5 ms, doubles the wait of other bindings' runs next to a busy one (docs/decisions/0053).
SWITCH_SECONDS = 0.0005
_PREFECT_HOME = "/nonexistent"
# One process calls the servers of many bindings, each with credentials of its own.
_INSTEAD = {
    "PREFECT_API_URL": "set spec.server.url of each binding",
    "PREFECT_API_KEY": "name its Secret in spec.server.apiKey of each binding",
    "PREFECT_API_AUTH_STRING": "name its Secret in spec.server.authString of each binding",
    "PREFECT_CLIENT_CUSTOM_HEADERS": "name their Secrets in spec.server.headers of each binding",
    "PREFECT_API_SSL_CERT_FILE": (
        "set SSL_CERT_FILE for all bindings, or spec.server.caBundle of each"
    ),
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": (
        "name the CA in spec.server.caBundle of each binding, or set its "
        "spec.server.tls.insecureSkipVerify"
    ),
}


def main(*, namespaces: Sequence[str], health_port: int | None, selector: str | None) -> None:
    """Run until SIGTERM or SIGINT."""
    # The first process of a container ignores SIGTERM until somebody handles it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = read_settings(health_port=health_port, selector=selector)
    ignored = clear_prefect_settings(os.environ)
    raise_open_file_limit()
    from workpool_operator import logs
    from workpool_operator.app import App
    from workpool_operator.handlers import operate

    collect_garbage_rarely()
    sys.setswitchinterval(SWITCH_SECONDS)
    logs.configure(settings.log_level, settings.log_format)
    for text in ignored:
        log.warning("%s", text)
    with errors_in_one_line():
        tracing = make_tracing(settings) if settings.tracing else None
        app = App(settings, namespaces=namespaces, selector=settings.selector, tracing=tracing)
        asyncio.run(operate(app))


def make_tracing(settings: Settings) -> Tracing:
    """Return what makes spans. It is imported only if spans are wanted, because it takes memory.

    Raises:
        OperatorError: its packages are not installed, or a variable of theirs is invalid.
    """
    try:
        from workpool_operator.tracing import Tracing
    except ModuleNotFoundError as error:
        raise OperatorError(
            f"{ENV_PREFIX}TRACING is set, but {error.name} is not installed: "
            "pip install 'workpool-operator[tracing]'"
        ) from error
    try:
        return Tracing(pod=settings.pod_name, uid=settings.pod_uid)
    except ValueError as error:
        raise OperatorError(f"a variable of OpenTelemetry (OTEL_...): {error}") from error


def collect_garbage_rarely() -> None:
    """Exclude what is imported from collections, and collect younger objects less often.

    A full collection of all imports would stop the loop for 100 ms, and so would one of 10,000 Jobs
    and pods, which Python would make several times while they are listed. Nearly nothing that the
    operator keeps is in cycles: it is freed without a collection. While thousands of runs are
    listed, one of the middle generation takes 10 ms, and would take 25 ms after 10 young ones.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTION_THRESHOLDS)


def raise_open_file_limit() -> None:
    """Raise the limit of open files to the hard limit.

    Each binding has about five connections, and many container runtimes start a process with a
    soft limit of 1024.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def read_settings(**options: Any) -> Settings:
    """Return the settings of the environment; options of the command line override them, unless
    they are None."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = "; ".join(_describe(each, given) for each in error.errors())
        sys.exit(f"workpool-operator: error: {problems}")


def _describe(error: ErrorDetails, options: Container[str]) -> str:
    """Return the error of one setting, as `WORKPOOL_OPERATOR_X='y': must be ...`."""
    name = "_".join(map(str, error["loc"]))
    spelled = f"--{name.replace('_', '-')}" if name in options else f"{ENV_PREFIX}{name.upper()}"
    expected = error["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    return f"{spelled}={error['input']!r}: {expected}"


def clear_prefect_settings(environ: MutableMapping[str, str]) -> list[str]:
    """Remove Prefect's settings from the environment; return what to use instead, a line for each.

    Prefect's client reads them even if explicit ones are passed, and the environment of runs would
    inherit them (docs/races.md, 18, 19).
    """
    removed = [name for name in environ if name.startswith("PREFECT_")]
    for name in removed:
        del environ[name]
    environ["PREFECT_HOME"] = "/"  # exists, so Prefect does not create it; nothing is written
    environ["PREFECT_PROFILES_PATH"] = f"{_PREFECT_HOME}/profiles.toml"
    environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
    return [f"{name} has no effect here: {_INSTEAD[name]}" for name in removed if name in _INSTEAD]
