"""What Jobs a pool's template makes: looked at here, then tried on the API server, which is shown
the Job of a run that sets nothing (a server-side dry run).

Done only when the template changed, and then rarely. Only what no run's values can mend is a fault
of the pool; the rest is a doubt, which its runs answer. A refusal that is not about the Job
(rights, quota, a webhook, no answer) says nothing of the template: it leaves the last answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient

from workpool_operator.binding import outcome
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.outcome import Outcome
from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import KubernetesRefused, OperatorError, RenderError
from workpool_operator.jobs import validation
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import Identity
from workpool_operator.jobs.render import render_manifest
from workpool_operator.jobs.template_validation import template_errors, template_warnings
from workpool_operator.jobs.threads import run_in_thread, run_with_client
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import WorkPool

AGAIN_SECONDS = 600.0
SOON_SECONDS = 60.0  # without an answer, or after a refusal
MOST_REMARKS = 10
NAME = "workpool-operator-rehearsal"

_NOBODY = UUID(int=0)
_LONG_AGO = "2000-01-01T00:00:00Z"


class Rehearsal:
    """The dry runs of one binding's pool, and the last answer."""

    def __init__(
        self,
        kube: KubernetesClient,
        *,
        namespace: str,
        consent: Consent,
        template_environment: frozenset[str] = frozenset(),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._namespace = namespace
        self._consent = consent
        self._template_environment = template_environment
        self._asked: tuple[str, float] = ("", 0.0)  # for what, and until when its answer is good
        self._last = Outcome()

    async def of(self, pool: WorkPool, api: PrefectApi) -> Outcome:
        """What became of the pool's template."""
        key = await run_in_thread(_digest, pool.base_job_template)
        for_what, until = self._asked
        if key == for_what and self._clock.monotonic() < until:
            return self._last
        seen = await self._look(pool, api)
        if seen.unasked and key == for_what:
            seen = replace(self._last, unasked=seen.unasked)
        is_good = not (seen.unasked or seen.faults)
        self._asked = key, self._clock.monotonic() + (AGAIN_SECONDS if is_good else SOON_SECONDS)
        self._last = seen
        return seen

    async def _look(self, pool: WorkPool, api: PrefectApi) -> Outcome:
        read = await run_in_thread(_read, pool.base_job_template, self._template_environment)
        if read.faults:
            return read
        render_input = _stand_in(pool, self._template_environment)
        identity = self._identity(pool, api)
        try:
            made = await run_with_client(
                api.client, lambda client: _made(render_input, identity, client)
            )
        except OperatorError as error:
            return Outcome(unasked=str(error)) + read
        return (made if isinstance(made, Outcome) else await self._ask(made, render_input)) + read

    async def _ask(self, manifest: Mapping[str, Any], render_input: RenderInput) -> Outcome:
        query = {"dryRun": "All", "fieldValidation": "Ignore"}
        path = JOBS.path(self._namespace)
        try:
            await self._consent.check()  # a refusal there may show what others must not see
            await self._kube.request("POST", path, query=query, body=manifest)
        except KubernetesRefused as refused:
            return await run_in_thread(outcome.of_refusal, refused, render_input)
        except OperatorError as error:
            return Outcome(unasked=str(error))
        return Outcome()

    def _identity(self, pool: WorkPool, api: PrefectApi) -> Identity:
        return Identity(
            run_id=_NOBODY,
            claim_id=_NOBODY,
            pool_id=pool.id,
            binding=NAME,
            binding_id=_NOBODY.hex,
            server=api.server.url,
            namespace=self._namespace,
        )


def _read(template: Mapping[str, Any], template_environment: frozenset[str]) -> Outcome:
    """What is to be seen of the template itself."""
    if found := template_errors(template):
        return Outcome(faults=tuple(str(fault) for fault in found))
    doubts = template_warnings(template, template_environment=template_environment)
    return Outcome(remarks=tuple(str(doubt) for doubt in islice(doubts, MOST_REMARKS)))


async def _made(
    render_input: RenderInput, identity: Identity, client: PrefectClient
) -> dict[str, Any] | Outcome:
    """The manifest that the template makes, or why it makes none."""
    try:
        manifest = await render_manifest(render_input, identity, client=client)
    except RenderError as error:
        return outcome.of_error(error, render_input)
    except RecursionError:
        return Outcome(faults=("job_configuration: nested more deeply than can be rendered",))
    found = validation.find_errors(manifest)
    return outcome.of_faults(found, render_input) if found else manifest


def _stand_in(pool: WorkPool, template_environment: frozenset[str]) -> RenderInput:
    """A run of nobody, which sets no job variable."""
    flow = {"id": str(_NOBODY), "name": NAME, "created": _LONG_AGO, "updated": _LONG_AGO}
    return RenderInput(
        run={"id": str(_NOBODY), "name": NAME, "flow_id": str(_NOBODY)},
        flow=flow,
        deployment=None,
        pool=pool.document,
        worker_name=NAME,
        template_environment=template_environment,
    )


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
