"""Reads the work pools that a `prefect.yaml` names, each once, or one template for all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from workpool_operator.cli import connections, flow_run_documents
from workpool_operator.cli.connections import PatientPrefectApi
from workpool_operator.errors import OperatorError
from workpool_operator.prefect_api import lookup

SECONDS = 20.0
_OFFLINE = "--template FILE checks without a server"

Object = Mapping[str, Any]


class PoolTemplates:
    """`read(name)` returns the work pool of that name, with the template of the file if one is
    given."""

    def __init__(self, template: str = "") -> None:
        """
        Raises:
            UnreadableFile: the file contains no template.
        """
        self._given = flow_run_documents.read_template(template) if template else None
        self._known: dict[str, Object | OperatorError] = {}

    def read(self, name: str) -> Object:
        """Return the work pool as the server has it.

        Raises:
            OperatorError: no server is set, it cannot be reached, or it has no such pool.
        """
        if self._given is not None:
            return {"name": name, "type": "kubernetes", "base_job_template": self._given}
        if not name:
            raise OperatorError(f"names no work pool, so job variables are not checked; {_OFFLINE}")
        if name not in self._known:
            try:
                self._known[name] = asyncio.run(_read(name))
            except OperatorError as error:
                self._known[name] = OperatorError(f"{str(error).rstrip('.')}; {_OFFLINE}")
        found = self._known[name]
        if isinstance(found, OperatorError):
            raise found
        return found


async def _read(name: str) -> Object:
    found = await connections.connect_server(None, None, named="")
    with connections.explain_failures(found):
        try:
            async with (
                asyncio.timeout(SECONDS),
                PatientPrefectApi(found.server, pool="") as api,
            ):
                return await lookup.pool(api, name)
        except TimeoutError as error:
            raise OperatorError(f"{found.server.address}: no answer in {SECONDS:g} s") from error
