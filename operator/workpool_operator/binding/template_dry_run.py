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
from typing import TYPE_CHECKING, Any
from uuid import UUID

from workpool_operator.binding import template_findings
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.template_findings import TemplateFindings
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

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

REPEAT_SECONDS = 600.0
RETRY_SECONDS = 60.0  # without an answer, or after a refusal
MOST_REMARKS = 10
NAME = "workpool-operator-rehearsal"

_SAMPLE_ID = UUID(int=0)
_LONG_AGO = "2000-01-01T00:00:00Z"


class TemplateDryRun:
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
        self._last = TemplateFindings()

    async def check(self, pool: WorkPool, api: PrefectApi) -> TemplateFindings:
        """What became of the pool's template."""
        key = await run_in_thread(_digest, pool.base_job_template)
        for_what, until = self._asked
        if key == for_what and self._clock.monotonic() < until:
            return self._last
        seen = await self._check(pool, api)
        if seen.not_checked and key == for_what:
            seen = replace(self._last, not_checked=seen.not_checked)
        is_good = not (seen.not_checked or seen.faults)
        self._asked = key, self._clock.monotonic() + (REPEAT_SECONDS if is_good else RETRY_SECONDS)
        self._last = seen
        return seen

    async def _check(self, pool: WorkPool, api: PrefectApi) -> TemplateFindings:
        read = await run_in_thread(_read, pool.base_job_template, self._template_environment)
        if read.faults:
            return read
        render_input = _sample_run(pool, self._template_environment)
        identity = self._identity(pool, api)
        try:
            made = await run_with_client(
                api.client, lambda client: _made(render_input, identity, client)
            )
        except OperatorError as error:
            return TemplateFindings(not_checked=str(error)) + read
        return (
            made if isinstance(made, TemplateFindings) else await self._dry_run(made, render_input)
        ) + read

    async def _dry_run(
        self, manifest: Mapping[str, Any], render_input: RenderInput
    ) -> TemplateFindings:
        query = {"dryRun": "All", "fieldValidation": "Ignore"}
        path = JOBS.path(self._namespace)
        try:
            await self._consent.check()  # a refusal there may show what others must not see
            await self._kube.request("POST", path, query=query, body=manifest)
        except KubernetesRefused as refused:
            return await run_in_thread(template_findings.from_rejection, refused, render_input)
        except OperatorError as error:
            return TemplateFindings(not_checked=str(error))
        return TemplateFindings()

    def _identity(self, pool: WorkPool, api: PrefectApi) -> Identity:
        return Identity(
            run_id=_SAMPLE_ID,
            claim_id=_SAMPLE_ID,
            pool_id=pool.id,
            binding=NAME,
            binding_id=_SAMPLE_ID.hex,
            server=api.server.url,
            namespace=self._namespace,
        )


def _read(template: Mapping[str, Any], template_environment: frozenset[str]) -> TemplateFindings:
    """What is to be seen of the template itself."""
    if found := template_errors(template):
        return TemplateFindings(faults=tuple(str(fault) for fault in found))
    doubts = template_warnings(template, template_environment=template_environment)
    return TemplateFindings(remarks=tuple(str(doubt) for doubt in islice(doubts, MOST_REMARKS)))


async def _made(
    render_input: RenderInput, identity: Identity, client: PrefectClient
) -> dict[str, Any] | TemplateFindings:
    """The manifest that the template makes, or why it makes none."""
    try:
        manifest = await render_manifest(render_input, identity, client=client)
    except RenderError as error:
        return template_findings.from_error(error, render_input)
    except RecursionError:
        return TemplateFindings(
            faults=("job_configuration: nested more deeply than can be rendered",)
        )
    found = validation.find_errors(manifest)
    return template_findings.from_errors(found, render_input) if found else manifest


def _sample_run(pool: WorkPool, template_environment: frozenset[str]) -> RenderInput:
    """A run of nobody, which sets no job variable."""
    flow = {"id": str(_SAMPLE_ID), "name": NAME, "created": _LONG_AGO, "updated": _LONG_AGO}
    return RenderInput(
        run={"id": str(_SAMPLE_ID), "name": NAME, "flow_id": str(_SAMPLE_ID)},
        flow=flow,
        deployment=None,
        pool=pool.document,
        worker_name=NAME,
        template_environment=template_environment,
    )


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
