"""Compares our Job of a run with the stock worker's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from workpool_operator.errors import RenderError
from workpool_operator.jobs import certificates
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.secrets import CUSTOM_HEADERS, VARIABLES
from workpool_operator.parity.acceptance import accepted_here
from workpool_operator.parity.differences import Difference, find_differences
from workpool_operator.parity.stock import StockWorker

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both manifests and their differences."""

    stock: Object
    ours: Object
    differences: list[Difference]

    @property
    def equivalent(self) -> bool:
        """Whether a documented rule allows every difference."""
        return all(each.rule for each in self.differences)


def compare(
    ours: Object, render_input: RenderInput, worker: StockWorker, *, credential: str
) -> Comparison:
    """Render the same documents with the stock worker, and compare.

    `credential` replaces the values that the stock worker writes into the Job in plain text.

    Raises:
        RenderError: the stock worker cannot render them.
    """
    environment = _environment(render_input, credential)
    document = {
        "run": render_input.run,
        "flow": render_input.flow,
        "deployment": render_input.deployment,
        "pool": render_input.pool,
        "worker_name": render_input.worker_name,
        "environment": environment,
    }
    try:
        stock = worker.render(document).manifest
    except RenderError as error:
        why = (
            f" (this project renders a Job: {rule})" if (rule := accepted_here(str(error))) else ""
        )
        raise RenderError("", f"the stock worker crashes the run{why}: {error}") from error
    found = find_differences(stock, ours, environment=environment, render_input=render_input)
    return Comparison(stock, ours, found)


def _environment(render_input: RenderInput, credential: str) -> dict[str, str]:
    """Return the environment of a stock worker that is set up for the same runs."""
    plain = {
        e["name"]: e["value"]
        for e in render_input.environment
        if "value" in e and e["name"] != certificates.VARIABLE  # a file that only pods have
    }
    headers = {CUSTOM_HEADERS: json.dumps({"X-Redacted": credential})}
    referred = [e["name"] for e in render_input.environment if e["name"] in VARIABLES]
    return plain | {name: headers.get(name, credential) for name in referred}
