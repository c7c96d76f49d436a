"""`workpool-operator run`: an event loop around the handlers, with the process's own environment
kept away from Prefect's settings."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import MutableMapping, Sequence

from workpool_operator.settings import Settings

_PREFECT_HOME = "/nonexistent"


def main(*, namespaces: Sequence[str], health_port: int | None) -> None:
    """Run until SIGTERM or SIGINT."""
    settings = Settings()
    if health_port is not None:
        settings = settings.model_copy(update={"health_port": health_port})
    isolate(os.environ)
    from workpool_operator import telemetry
    from workpool_operator.app import App
    from workpool_operator.handlers import operate

    telemetry.configure(settings.log_level, settings.log_format)

    async def operate_until_signalled() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await operate(App(settings), namespaces=namespaces, stop=stop)

    try:
        asyncio.run(operate_until_signalled())
    except OSError as error:
        sys.exit(f"workpool-operator: {error}")


def isolate(environ: MutableMapping[str, str]) -> None:
    """Take Prefect's settings out of the process: a client reads them although it is given
    explicit ones, and a run's environment would inherit them (races.md 18 and 19)."""
    for name in [name for name in environ if name.startswith("PREFECT_")]:
        del environ[name]
    environ["PREFECT_PROFILES_PATH"] = f"{_PREFECT_HOME}/profiles.toml"
    environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
