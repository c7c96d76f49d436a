"""Reads from Prefect the runs that a binding has claimed and that have no Job."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from workpool_operator.cli import connections
from workpool_operator.cli.binding_lookup import binding_of
from workpool_operator.cli.connections import PatientPrefectApi
from workpool_operator.cli.objects import key_of
from workpool_operator.cli.runs_in_flight import NO_JOB, RunInFlight
from workpool_operator.errors import OperatorError
from workpool_operator.jobs import names
from workpool_operator.jobs.field_errors import get_path
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs.claims import find_claim

SECONDS = 10.0
MOST_RUNS = 50

Object = dict[str, Any]


async def read_claims(
    kube: KubernetesClient, binding: Object, *, without: Set[str]
) -> list[RunInFlight]:
    """Return the PENDING runs that the binding has claimed, except for these ids.

    Raises:
        OperatorError: the server cannot be reached or refuses, or the binding is not valid.
    """
    key, pool_id = key_of(binding), get_path(binding, ("status", "workPool", "id"))
    if not isinstance(pool_id, str):
        return []
    try:
        valid = binding_of(binding)
        cluster_id = await kube.namespace_uid(valid.namespace)
    except ValidationError as error:
        raise OperatorError("its spec is not valid: workpool-operator validate") from error
    found = await connections.connect_server(valid, kube, named=key)
    chosen = {
        "work_pools": {"id": {"any_": [pool_id]}},
        "flow_runs": {
            "state": {"type": {"any_": ["PENDING"]}},
            "id": {"not_any_": sorted(without)},
        },
        "limit": MOST_RUNS,
    }
    claimed = []
    with connections.explain_failures(found):
        try:
            async with (
                asyncio.timeout(SECONDS),
                PatientPrefectApi(found.server, pool="") as api,
            ):
                for run in await api.filter_runs(chosen):
                    mine = names.transition_id(
                        cluster_id=cluster_id, binding=key, pool_id=UUID(pool_id), run_id=run.id
                    )
                    if find_claim(run, await api.history(run.id), {mine}):
                        claimed.append(_run(run, key, valid.job_namespace))
        except TimeoutError as error:
            raise OperatorError(f"no answer within {SECONDS:g} s") from error
    return claimed


def _run(run: Run, binding: str, namespace: str) -> RunInFlight:
    state = run.state
    return RunInFlight(
        run_id=str(run.id),
        name=run.name,
        binding=binding,
        namespace=namespace,
        phase=NO_JOB,
        since=state.timestamp if state else None,
        reason=run.state_name,
        message=(state.message if state else None) or "",
    )
