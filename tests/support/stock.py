"""Both renderings of one run, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect.client.orchestration import PrefectClient

from tests.corpus.case import IDENTITY, WORKER_ENVIRONMENT, Case
from workpool_operator.errors import RenderError
from workpool_operator.jobs.render import render_manifest
from workpool_operator.parity import acceptance, differences
from workpool_operator.parity.stock import StockWorker

Object = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """A manifest, or the renderer's error."""

    manifest: Object | None = None
    error: str = ""


@dataclass(frozen=True)
class Sides:
    stock: Rendered
    ours: Rendered
    case: Case

    def undocumented(self) -> list[str]:
        """Return the differences that no rule allows, as lines of text."""
        if self.stock.manifest is None or self.ours.manifest is None:
            return [] if self.refusal else [f"stock: {self.stock}", f"ours: {self.ours}"]
        return [str(each) for each in self.differences if each.rule is None]

    @property
    def differences(self) -> list[differences.Difference]:
        stock, ours = self.stock.manifest, self.ours.manifest
        if stock is None or ours is None:
            return []
        subject = self.case.subject
        return differences.find_differences(
            stock, ours, environment=WORKER_ENVIRONMENT, render_input=subject
        )

    @property
    def refusal(self) -> str | None:
        """The documented reason why only one side refuses, or "both"."""
        if self.stock.error and self.ours.error:
            return "both"
        if self.stock.error:
            return acceptance.accepted_here(self.stock.error)
        return acceptance.refused_here(self.ours.error)


async def both(case: Case, *, stock: StockWorker, client: PrefectClient) -> Sides:
    return Sides(_stock(case, stock), await _ours(case, client), case)


def _stock(case: Case, worker: StockWorker) -> Rendered:
    try:
        return Rendered(worker.render(case.document).manifest)
    except RenderError as error:
        return Rendered(error=str(error))


async def _ours(case: Case, client: PrefectClient) -> Rendered:
    try:
        return Rendered(await render_manifest(case.subject, IDENTITY, client=client))
    except RenderError as error:
        return Rendered(error=str(error))
