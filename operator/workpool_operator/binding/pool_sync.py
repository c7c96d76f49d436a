"""Creates the work pool of a binding and keeps its base job template, as `spec.workPool` says.

`binding/pool_template.py` decides; here are the requests to Kubernetes and Prefect.
"""

from __future__ import annotations

import logging
from functools import partial

from workpool_operator.api.v1alpha1 import WorkPoolSpec
from workpool_operator.binding import conditions as c
from workpool_operator.binding import pool_template
from workpool_operator.binding.conditions import ConditionState
from workpool_operator.binding.context import Binding
from workpool_operator.binding.key_reference import KeyReference
from workpool_operator.binding.pool_template import (
    OVERWRITE,
    Template,
    Verdict,
    decide,
    template_synced,
)
from workpool_operator.binding.status import synced_template
from workpool_operator.errors import (
    BindingFault,
    OperatorError,
    PrefectConflict,
    PrefectForbidden,
    PrefectNotFound,
    PrefectRedirects,
    PrefectRefused,
    PrefectUnauthorized,
)
from workpool_operator.jobs.configuration import default_base_job_template
from workpool_operator.jobs.threads import run_in_thread
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import WorkPool

log = logging.getLogger(__name__)

_FIELD = "spec.workPool.baseJobTemplate.configMapKeyRef"


class PoolSync:
    """Creates the pool of one binding, and keeps its template.

    `fault` says why the pool could not be created. `base` is the digest of the last template that
    the ConfigMap and the pool both had, "" if there was none.
    """

    def __init__(self, binding: Binding, kube: KubernetesClient) -> None:
        self._binding = binding
        self._kube = kube
        self._last = ("", Template({}, ""))  # the text that was parsed last
        self._condition = c.UNCHECKED
        self.fault: BindingFault | None = None
        self.base = synced_template(binding.status)

    def conditions(self) -> dict[str, ConditionState]:
        """Return TemplateSynced, if the spec names a template."""
        has_template = self._binding.spec().work_pool.base_job_template is not None
        return {c.TEMPLATE_SYNCED: self._condition} if has_template else {}

    def uncheck(self) -> None:
        """Forget what the pool has, because it cannot be read."""
        self._condition = c.UNCHECKED

    async def apply(self, pool: WorkPool | None, api: PrefectApi) -> WorkPool | None:
        """Do with the pool what the spec says, unless the binding is being deleted: create it if it
        is None, or update its template. Return it as the server has it then; None if the server has
        none.

        Raises:
            OperatorError: the server does not answer the creation of the pool.
        """
        self.fault = None
        spec = self._binding.spec().work_pool
        if pool is None:
            self.uncheck()
            pool = await self._created(spec, api)
        if pool is None or pool.type != spec.type or spec.base_job_template is None:
            return pool
        if self._binding.deletion():
            return pool
        try:
            return await self._synced(pool, spec, api)
        except BindingFault as fault:
            self._condition = ConditionState("False", fault.reason, str(fault))
        except OperatorError as error:
            text = (
                f"The template of work pool {pool.name!r} could not be compared or updated: "
                f"{error}. The operator tries again; the pool keeps the template that it has."
            )
            self._condition = ConditionState("False", "UpdateFailed", text)
        return pool

    async def _created(self, spec: WorkPoolSpec, api: PrefectApi) -> WorkPool | None:
        if spec.creation_policy == "Never" or self._binding.deletion():
            return None
        try:
            await self._create(await self._template(spec), spec, api)
        except BindingFault as fault:
            self.fault = fault
            return None
        try:
            return await api.work_pool()
        except PrefectNotFound:
            return None

    async def _synced(self, pool: WorkPool, spec: WorkPoolSpec, api: PrefectApi) -> WorkPool:
        """Return the pool, whose template is updated if the comparison says so."""
        template = await self._template(spec)
        compare = partial(pool_template.compare, template, syncs=spec.sync_policy != "Never")
        overwrite = self._binding.annotations().get(OVERWRITE, "")
        found = await run_in_thread(
            compare, pool.base_job_template, base=self.base, overwrite=overwrite
        )
        if decide(found) is Verdict.UPDATE:
            self._binding.check_lease()
            await api.update_work_pool(base_job_template=dict(template.document))
            text = "%s: updated the template of work pool %r to %s"
            log.info(text, self._binding.key, pool.name, template.source)
            self.base = template.digest
            pool = await api.work_pool()
            found = await run_in_thread(
                compare, pool.base_job_template, base=self.base, overwrite=""
            )
        if decide(found) is Verdict.SYNCED:
            self.base = template.digest
        self._condition = template_synced(
            found, pool=pool.name, source=template.source, binding=self._binding.key
        )
        return pool

    async def _create(self, template: Template, spec: WorkPoolSpec, api: PrefectApi) -> None:
        self._binding.check_lease()
        try:
            await api.create_work_pool(type_=spec.type, base_job_template=dict(template.document))
        except PrefectConflict:  # somebody was faster
            return
        except (PrefectUnauthorized, PrefectRedirects):
            raise  # reported like those of any other request
        except PrefectRefused as refused:
            raise _refusal(refused, template, spec, api) from refused
        log.info("%s: created work pool %r with %s", self._binding.key, api.pool, template.source)

    async def _template(self, spec: WorkPoolSpec) -> Template:
        """Return the template that the pool should have.

        Raises:
            BindingFault: it cannot be read, or no pool may have it.
        """
        if spec.base_job_template is None:
            return Template(default_base_job_template(), "the operator's own template")
        key = KeyReference(
            spec.base_job_template.config_map_key_ref,
            namespace=self._binding.namespace,
            path=_FIELD,
            condition=c.WORK_POOL_FOUND,
        )
        template = await self._parsed(key)
        if template.errors:
            raise BindingFault(
                c.WORK_POOL_FOUND,
                "InvalidTemplate",
                f"{_FIELD}: {template.source}: {'; '.join(template.errors)}. Correct it; the work "
                "pool does not get this template until then.",
            )
        return template

    async def _parsed(self, key: KeyReference) -> Template:
        text = await key.text(self._kube)
        source = f"key {key.selector.key!r} of ConfigMap {key.selector.name!r}"
        if self._last[0] != text or self._last[1].source != source:
            try:
                parse = partial(pool_template.parse, text, source=source)
                self._last = (text, await run_in_thread(parse))
            except ValueError as error:
                raise key.invalid(str(error)) from error
        return self._last[1]


def _refusal(
    refused: PrefectRefused, template: Template, spec: WorkPoolSpec, api: PrefectApi
) -> BindingFault:
    command = f"prefect work-pool create {api.pool!r} --type {spec.type}"
    if isinstance(refused, PrefectForbidden):
        return BindingFault(
            c.WORK_POOL_FOUND,
            "CreationForbidden",
            f"The credentials do not allow the operator to create work pool {api.pool!r} "
            f"({refused}). Give their owner the right to, or create it: {command}.",
        )
    return BindingFault(
        c.WORK_POOL_FOUND,
        "CreationRefused",
        f"{api.server.address} refuses work pool {api.pool!r} with {template.source} ({refused}). "
        f"Correct the template, or create the pool: {command}.",
    )
