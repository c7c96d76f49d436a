"""Renders flow runs exactly as the stock Kubernetes worker does. A script: nothing imports it.

`stock.py` runs it with an interpreter that has prefect-kubernetes: importing that package into our
own process would register its kopf handlers there.

One JSON document per line on standard input, one answer per line on standard output, in order:

    {"run": {}, "flow": {}, "deployment": {} or null, "pool": {}, "worker_name": "w",
     "environment": {"PREFECT_API_URL": "http://..."}}   the worker's own environment
    {"manifest": {}, "cpu_seconds": 0.02}   or   {"error": "ValueError: ..."}

Promises: `resolve_for_flow_run` of prefect-kubernetes does all of the work; only the flow comes
from the document. Blocks and variables are read from the server of this process's own
PREFECT_API_URL, PREFECT_API_KEY and PREFECT_API_AUTH_STRING; without such placeholders no server is
needed. Nothing else is written to standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from typing import Any

NOT_INSTALLED = (
    f"prefect-kubernetes is not installed for {sys.executable}: name an interpreter that has it, "
    "or install it there (pip install prefect-kubernetes)."
)

try:
    with redirect_stdout(sys.stderr):
        from prefect.client.orchestration import PrefectClient
        from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
        from prefect.client.schemas.responses import DeploymentResponse
        from prefect.context import SettingsContext
        from prefect.settings import Profile, Settings
        from prefect_kubernetes.worker import (  # type: ignore[import-not-found]
            KubernetesWorkerJobConfiguration,
        )
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] not in ("prefect", "prefect_kubernetes"):
        raise
    sys.exit(NOT_INSTALLED)

Document = dict[str, Any]

NOWHERE = "http://127.0.0.1:9/api"
PROFILE = Profile(name="stock-worker", settings={})
# For this process's own files, as variables and as fields: a worker would not pass them on.
OWN_PLACES = {"PREFECT_HOME": "home", "PREFECT_PROFILES_PATH": "profiles_path"}


class Client(PrefectClient):
    """Returns the known flow of the run, and requests everything else from the server."""

    flow: Flow

    async def read_flow(self, flow_id: object) -> Flow:
        """Return the flow that is already known."""
        return self.flow


def main() -> None:
    """Answer requests until the input ends."""
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        asyncio.run(serve(answers))


async def serve(answers: Any) -> None:
    """Answer each line of standard input with a line."""
    async with _client(os.environ) as client:
        for line in sys.stdin:
            print(json.dumps(await _answer(json.loads(line), client)), file=answers, flush=True)


async def _answer(document: Document, client: Client) -> Document:
    try:
        with _worker_environment(document.get("environment") or {}):
            return await _render(document, client)
    except Exception as error:  # what the stock worker would report as the run's crash
        return {"error": f"{type(error).__name__}: {error}"}


async def _render(document: Document, client: Client) -> Document:
    deployment, client.flow = document["deployment"], Flow.model_validate(document["flow"])
    given = {
        "flow_run": FlowRun.model_validate(document["run"]),
        "deployment": DeploymentResponse.model_validate(deployment) if deployment else None,
        "work_pool": WorkPool.model_validate(document["pool"]),
        "worker_name": document["worker_name"],
    }
    began = time.process_time()
    rendered = await KubernetesWorkerJobConfiguration.resolve_for_flow_run(client=client, **given)
    used = time.process_time() - began
    return {"manifest": rendered.job_manifest, "cpu_seconds": used}


@contextmanager
def _worker_environment(environment: dict[str, str]) -> Iterator[None]:
    """Set the worker's environment, for settings and `{{ $NAME }}`."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with SettingsContext(profile=PROFILE, settings=_settings(frozenset(environment.items()))):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@lru_cache
def _settings(environment: frozenset[tuple[str, str]]) -> Settings:
    """Read the settings from the environment; like a worker, once for each environment."""
    settings, given = Settings(), dict(environment)
    for name, field in OWN_PLACES.items():
        if name not in given:
            settings.model_fields_set.discard(field)
    return settings


def _client(environ: Any) -> Client:
    """Return a client of this process's server, and remove its settings from the environment."""
    url, key, auth_string = (
        environ.get(f"PREFECT_API_{name}") for name in ("URL", "KEY", "AUTH_STRING")
    )
    for name in [n for n in environ if n.startswith("PREFECT_") and n not in OWN_PLACES]:
        del environ[name]
    return Client(url or NOWHERE, api_key=key, auth_string=auth_string)


if __name__ == "__main__":
    main()
