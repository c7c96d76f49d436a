"""The Secrets that a binding's run pods need beside them: checked, kept, and given up.

Credentials come from the Secret that the binding names for run pods; else from the operator's own,
where both share a namespace; else from a copy that is kept in the namespace of the Jobs.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from workpool_operator.binding import conditions as c
from workpool_operator.binding import rights
from workpool_operator.binding.model import Jobs, Spec
from workpool_operator.binding.model import Server as ServerSpec
from workpool_operator.binding.secret_key import FORBIDDEN, NamedKey
from workpool_operator.binding.surroundings import Binding
from workpool_operator.dispatch.sweep import sweep
from workpool_operator.errors import (
    BindingFault,
    KubernetesRefused,
    OperatorError,
    Unavailable,
)
from workpool_operator.jobs import credentials, names
from workpool_operator.jobs.credentials import API_KEY, AUTH_STRING, Credentials, SecretKey
from workpool_operator.kube import secrets, views
from workpool_operator.kube.client import JOBS, KubernetesClient
from workpool_operator.kube.views import BINDING_LABEL, Job
from workpool_operator.prefect_api.client import Server

log = logging.getLogger(__name__)

KEEPS = (("create", "", "secrets"), ("patch", "", "secrets"), ("delete", "", "secrets"))
SWEEPS = (*KEEPS, ("list", "", "secrets"))


async def release(binding: Binding, kube: KubernetesClient) -> None:
    """The binding is deleted, and nobody serves it: leave no Secret but what its Jobs still need.

    Raises:
        Unavailable: not done yet; call again.
    """
    try:
        jobs = binding.spec().jobs
        if jobs.namespace in (None, binding.namespace) and not jobs.environment_secret:
            return
        cluster_id = await kube.namespace_uid(binding.namespace)
        binding_id = names.binding_id(cluster_id=cluster_id, binding=binding.key)
        await RunSecrets(binding, kube, binding_id=binding_id).give_up()
    except Unavailable:
        raise
    except OperatorError as error:  # no better for being repeated
        log.warning("%s: its Secrets may stay: %s", binding.key, error)


class RunSecrets:
    """Of one binding, whose Jobs carry `binding_id`; all but `given` asks the cluster."""

    def __init__(self, binding: Binding, kube: KubernetesClient, *, binding_id: str) -> None:
        self._binding = binding
        self._kube = kube
        self._binding_id = binding_id
        self._namespace = binding.spec().jobs.namespace or binding.namespace

    def given(self, server: Server) -> Credentials:
        """What a run's pod gets to call the server with."""
        return given(self._binding, server)

    async def ensure(self, server: Server) -> str:
        """Have in place what a Job made now refers to; what there is to say about it.

        Raises:
            BindingFault: something is not there, or may not be made.
        """
        spec, kept = self._binding.spec(), self.given(server).kept
        await self._permitted(spec)
        if kept is None:
            return await self._look_at_named(spec)
        await secrets.keep(self._kube, self._namespace, kept)
        return f" Run pods have its credentials from Secret {kept['metadata']['name']!r} there."

    async def drop_unneeded(self) -> None:
        """Give the kept Secret up if the spec does not ask for it any more."""
        if self._apart and not self._keeps(self._binding.spec()):
            await self._give_up_kept(await self._jobs())

    async def give_up(self) -> None:
        """Give up what is kept, and what an interrupted creation left."""
        jobs = await self._jobs()
        if self._apart:
            await self._give_up_kept(jobs)
        if self._binding.spec().jobs.environment_secret:
            await self._sweep(jobs)

    @property
    def _apart(self) -> bool:
        """Jobs run in another namespace than the binding's."""
        return self._namespace != self._binding.namespace

    def _keeps(self, spec: Spec) -> bool:
        return self._apart and not _named(spec.jobs) and bool(_named(spec.server))

    async def _permitted(self, spec: Spec) -> None:
        wanted = SWEEPS if spec.jobs.environment_secret else KEEPS if self._keeps(spec) else ()
        if not (missing := await rights.missing(self._kube, self._namespace, wanted)):
            return
        why, instead = _reason(spec)
        grant = await rights.grant(self._kube, self._namespace, rights.WRITES_SECRETS)
        raise BindingFault(
            c.JOBS_PERMITTED,
            "SecretsForbidden",
            f"The operator may not {', '.join(missing)} in namespace {self._namespace!r}: {why}. "
            f"Grant it: {grant}; or {instead}.",
        )

    async def _look_at_named(self, spec: Spec) -> str:
        """Where the operator may not look, it need not: a run's pod tells what is missing."""
        for key in _keys(spec.jobs, self._namespace, apart=self._apart):
            try:
                await key.value(self._kube)
            except BindingFault as fault:
                if fault.reason != FORBIDDEN:
                    raise
                return f" It may not read Secret {key.selector.name!r} there, which run pods use."
        return ""

    async def _jobs(self) -> tuple[Job, ...]:
        query = {"labelSelector": f"{BINDING_LABEL}={self._binding_id}"}
        return views.jobs_of(
            await self._kube.request("GET", JOBS.path(self._namespace), query=query)
        )

    async def _give_up_kept(self, jobs: tuple[Job, ...]) -> None:
        name = credentials.kept_name(self._binding.key)
        try:
            await secrets.leave(self._kube, self._namespace, name, to=jobs)
        except KubernetesRefused as refused:
            if self._keeps(self._binding.spec()):  # else it never had the right, nor the need
                log.warning("%s: Secret %s stays: %s", self._binding.key, name, refused)

    async def _sweep(self, jobs: tuple[Job, ...]) -> None:
        try:
            await sweep(
                self._kube,
                self._namespace,
                binding_id=self._binding_id,
                jobs=jobs,
                grace=timedelta(0),
            )
        except KubernetesRefused as refused:
            log.warning("%s: Secrets of environments may stay: %s", self._binding.key, refused)


def given(binding: Binding, server: Server) -> Credentials:
    """What a run's pod gets to call the server with. Pure."""
    spec, owner = binding.spec(), binding.key
    if named := _named(spec.jobs):
        return credentials.provide({}, named=named, owner=owner)
    apart = (spec.jobs.namespace or binding.namespace) != binding.namespace
    named = {} if apart else _named(spec.server)
    about = {views.BINDING_ANNOTATION: owner}
    return credentials.provide(_values(server), named=named, owner=owner, annotations=about)


def _values(server: Server) -> dict[str, str]:
    values = {API_KEY: server.api_key, AUTH_STRING: server.auth_string}
    return {variable: value for variable, value in values.items() if value is not None}


def _named(part: Jobs | ServerSpec) -> dict[str, SecretKey]:
    values = {API_KEY: part.api_key, AUTH_STRING: part.auth_string}
    return {
        variable: SecretKey(value.secret_key_ref.name, value.secret_key_ref.key)
        for variable, value in values.items()
        if value is not None
    }


def _keys(jobs: Jobs, namespace: str, *, apart: bool) -> list[NamedKey]:
    fields = {"apiKey": jobs.api_key, "authString": jobs.auth_string}
    return [
        NamedKey(
            value.secret_key_ref,
            namespace=namespace,
            path=f"spec.jobs.{field}.secretKeyRef",
            condition=c.JOBS_PERMITTED,
            tells_keys=not apart,
        )
        for field, value in fields.items()
        if value is not None
    ]


def _reason(spec: Spec) -> tuple[str, str]:
    """Why Secrets are to be written, and what else would do."""
    if spec.jobs.environment_secret:
        return "spec.jobs.environmentSecret asks for a Secret per run", "set that to false"
    field = "apiKey" if spec.server.api_key else "authString"
    return (
        f"it keeps a copy of the Secret of spec.server.{field} for run pods there",
        f"name a Secret of that namespace in spec.jobs.{field}",
    )
