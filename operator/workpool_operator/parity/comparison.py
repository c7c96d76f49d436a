"""Our Job of a run beside the stock worker's: what differs, and by which documented rule it may."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from workpool_operator.errors import RenderError
from workpool_operator.jobs import certificates
from workpool_operator.jobs.credentials import CUSTOM_HEADERS, VARIABLES
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.parity.acceptance import accepted_here
from workpool_operator.parity.differences import Difference, find_differences
from workpool_operator.parity.stock import StockWorker

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both manifests, and every difference between them."""

    stock: Object
    ours: Object
    differences: list[Difference]

    @property
    def equivalent(self) -> bool:
        """Every difference is one that the documentation names."""
        return all(each.rule for each in self.differences)


def compare(
    ours: Object, render_input: RenderInput, worker: StockWorker, *, credential: str
) -> Comparison:
    """What the stock worker makes of the same documents, with `credential` in place of what it
    would write into the Job in plain text.

    Raises:
        RenderError: it makes nothing of them.
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
        why = f" (ours makes a Job: {rule})" if (rule := accepted_here(str(error))) else ""
        raise RenderError("", f"the stock worker crashes the run{why}: {error}") from error
    found = find_differences(stock, ours, environment=environment, render_input=render_input)
    return Comparison(stock, ours, found)


def _environment(render_input: RenderInput, credential: str) -> dict[str, str]:
    """The stock worker's own, as it would be set up for the same runs."""
    plain = {
        e["name"]: e["value"]
        for e in render_input.environment
        if "value" in e and e["name"] != certificates.VARIABLE  # a file that only pods have
    }
    headers = {CUSTOM_HEADERS: json.dumps({"X-Redacted": credential})}
    referred = [e["name"] for e in render_input.environment if e["name"] in VARIABLES]
    return plain | {name: headers.get(name, credential) for name in referred}
