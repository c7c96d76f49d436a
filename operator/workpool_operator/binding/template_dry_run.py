"""Validates a pool's base job template, then sends the Job of a run without job variables to the
API server as a dry run.

It is done when the template changes and repeated rarely. A fault is what no run's values can
correct; other problems crash the runs that have them. If the API server refuses the dry run for
a reason other than the Job (rights, quota, a webhook, an outage), the last findings stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

from workpool_operator.binding import template_findings
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.template_findings import TemplateFindings
from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import KubernetesRefused, OperatorError, PatchRejected, RenderError
from workpool_operator.jobs import validation
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import Identity
from workpool_operator.jobs.overlay import JobOverlay
from workpool_operator.jobs.render import render_manifest
from workpool_operator.jobs.template_validation import template_errors, template_warnings
from workpool_operator.jobs.threads import run_in_thread, run_with_client
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import WorkPool

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

REPEAT_SECONDS = 600.0
RETRY_SECONDS = 60.0  # after a fault, or if the API server did not check the Job
MOST_WARNINGS = 10
NAME = "workpool-operator-dry-run"

_SAMPLE_ID = UUID(int=0)
_LONG_AGO = "2000-01-01T00:00:00Z"


class TemplateDryRun:
    """Checks the template of one binding's pool and keeps the last findings."""

    def __init__(
        self,
        kube: KubernetesClient,
        *,
        namespace: str,
        consent: Consent,
        allowed_namespaces: Callable[[], frozenset[str]] = frozenset,
        template_environment: frozenset[str] = frozenset(),
        overlay: Callable[[], JobOverlay] = JobOverlay,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._namespace = namespace
        self._allowed_namespaces = allowed_namespaces
        self._consent = consent
        self._template_environment = template_environment
        self._overlay = overlay
        self._checked = ""  # the digest of the template that the last findings are about
        self._valid_until = float("-inf")
        self._last = TemplateFindings()

    async def check(self, pool: WorkPool, api: PrefectApi) -> TemplateFindings:
        """Return the findings about the pool's template, those of the last check if still valid."""
        allowed = sorted(self._allowed_namespaces())
        overlay = self._overlay()
        document = [pool.base_job_template, allowed, asdict(overlay)]
        digest = await run_in_thread(_digest, document)
        if digest == self._checked and self._clock.monotonic() < self._valid_until:
            return self._last
        findings = await self._check(pool, api, overlay)
        if findings.not_checked and digest == self._checked:
            findings = replace(self._last, not_checked=findings.not_checked)
        is_final = not (findings.not_checked or findings.faults or findings.patch_faults)
        seconds = REPEAT_SECONDS if is_final else RETRY_SECONDS
        self._checked, self._valid_until = digest, self._clock.monotonic() + seconds
        self._last = findings
        return findings

    async def _check(
        self, pool: WorkPool, api: PrefectApi, overlay: JobOverlay
    ) -> TemplateFindings:
        own = await run_in_thread(
            partial(
                _validate,
                pool.base_job_template,
                template_environment=self._template_environment,
                has_allowed_namespaces=bool(self._allowed_namespaces()),
            )
        )
        if own.faults:
            return own
        rendered = await self.render(pool, api)
        if isinstance(rendered, TemplateFindings):
            return rendered + own
        return await self._dry_run(rendered, self._render_input(pool, overlay)) + own

    async def render(self, pool: WorkPool, api: PrefectApi) -> dict[str, Any] | TemplateFindings:
        """Return the Job of a run that sets no job variable, or why there is none."""
        render_input = self._render_input(pool, self._overlay())
        identity = self._identity(pool, api)
        try:
            return await run_with_client(
                api.client, lambda client: _render(render_input, identity, client)
            )
        except OperatorError as error:
            return TemplateFindings(not_checked=str(error))

    def _render_input(self, pool: WorkPool, overlay: JobOverlay) -> RenderInput:
        return replace(_sample_run(pool, self._template_environment), overlay=overlay)

    async def _dry_run(
        self, manifest: Mapping[str, Any], render_input: RenderInput
    ) -> TemplateFindings:
        query = {"dryRun": "All", "fieldValidation": "Ignore"}
        namespace = manifest["metadata"]["namespace"]
        path = JOBS.path(namespace)
        try:
            await self._consent.check(
                namespace
            )  # else the answer could reveal another team's policies
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
            allowed_namespaces=self._allowed_namespaces(),
        )


def _validate(
    template: Mapping[str, Any],
    *,
    template_environment: frozenset[str],
    has_allowed_namespaces: bool,
) -> TemplateFindings:
    """Return the findings about the template itself."""
    if errors := template_errors(template):
        return TemplateFindings(faults=tuple(str(error) for error in errors))
    warnings = template_warnings(
        template,
        template_environment=template_environment,
        has_allowed_namespaces=has_allowed_namespaces,
    )
    return TemplateFindings(warnings=tuple(map(str, islice(warnings, MOST_WARNINGS))))


async def _render(
    render_input: RenderInput, identity: Identity, client: PrefectClient
) -> dict[str, Any] | TemplateFindings:
    """Return the Job's manifest, or why the template does not render to a valid one."""
    try:
        manifest = await render_manifest(render_input, identity, client=client)
    except PatchRejected as error:
        return TemplateFindings(patch_faults=(str(error),))
    except RenderError as error:
        return template_findings.from_error(error, render_input)
    except RecursionError:
        return TemplateFindings(
            faults=("job_configuration: nested more deeply than can be rendered",)
        )
    errors = validation.find_errors(manifest)
    return template_findings.from_errors(errors, render_input) if errors else manifest


def _sample_run(pool: WorkPool, template_environment: frozenset[str]) -> RenderInput:
    """Return a run that sets no job variable."""
    flow = {"id": str(_SAMPLE_ID), "name": NAME, "created": _LONG_AGO, "updated": _LONG_AGO}
    return RenderInput(
        run={"id": str(_SAMPLE_ID), "name": NAME, "flow_id": str(_SAMPLE_ID)},
        flow=flow,
        deployment=None,
        pool=pool.document,
        worker_name=NAME,
        template_environment=template_environment,
    )


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
