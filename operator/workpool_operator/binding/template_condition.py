"""The condition TemplateValid: what the pool's base job template makes, as far as no run's values
decide it.
"""

from __future__ import annotations

from collections.abc import Sequence

from workpool_operator.binding import conditions as c
from workpool_operator.binding.template_dry_run import TemplateDryRun
from workpool_operator.binding.template_findings import MAX_LISTED
from workpool_operator.errors import BindingFault
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import WorkPool

_LISTED = 3  # a condition is read in a terminal


async def template_valid(pool: WorkPool, api: PrefectApi, rehearsal: TemplateDryRun) -> str:
    """What is to be said of a template from which Jobs can come.

    Raises:
        BindingFault: none can.
    """
    outcome = await rehearsal.check(pool, api)
    if outcome.faults:
        raise _fault(pool, outcome.faults)
    parts = ["The base job template makes a Job."]
    if outcome.warnings:
        parts.append(f"But a run that sets no job variable crashes: {_listed(outcome.warnings)}.")
    if outcome.remarks:
        parts.append(f"Perhaps not as meant: {_listed(outcome.remarks)}.")
    if outcome.not_checked:
        parts.append(f"The API server could not try it and is asked again: {outcome.not_checked}.")
    return " ".join(parts)


def _fault(pool: WorkPool, found: Sequence[str]) -> BindingFault:
    return BindingFault(
        c.TEMPLATE_VALID,
        "InvalidTemplate",
        f"Base job template of work pool {pool.name!r}: {_listed(found)}. Correct it in Prefect "
        "(work pool, Edit, Advanced); nothing is claimed until then.",
    )


def _listed(items: Sequence[str]) -> str:
    more = f" (and {len(items) - _LISTED} more)" if len(items) > _LISTED else ""
    more = " (and many more)" if len(items) >= MAX_LISTED else more
    return "; ".join(items[:_LISTED]) + more
