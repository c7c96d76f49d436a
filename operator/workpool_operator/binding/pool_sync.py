"""Creates the work pool of a binding, as `spec.workPool` says.

`binding/pool_template.py` reads the template; here are the requests to Kubernetes and Prefect.
"""

from __future__ import annotations

import logging
from functools import partial

from workpool_operator.api.v1alpha1 import WorkPoolSpec
from workpool_operator.binding import conditions as c
from workpool_operator.binding import pool_template
from workpool_operator.binding.context import Binding
from workpool_operator.binding.key_reference import KeyReference
from workpool_operator.binding.pool_template import Template
from workpool_operator.errors import (
    BindingFault,
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
    """Creates the pool of one binding. `fault` says why it could not be created."""

    def __init__(self, binding: Binding, kube: KubernetesClient) -> None:
        self._binding = binding
        self._kube = kube
        self._last = ("", Template({}, ""))  # the text that was parsed last
        self.fault: BindingFault | None = None

    async def create(self, api: PrefectApi) -> WorkPool | None:
        """Create the missing pool, if the spec says so and the binding is not being deleted. Return
        it as the server has it; None if the server has none.

        Raises:
            OperatorError: the server or the API server does not answer.
        """
        self.fault = None
        spec = self._binding.spec().work_pool
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
