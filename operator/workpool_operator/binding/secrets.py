"""The Secrets that a binding's run pods need beside them: checked, kept, and given up.

Credentials and a CA come from what the binding names for run pods; else from the operator's own,
where both share a namespace; else from a copy that is kept in the namespace of the Jobs. Headers,
which the operator has one by one and run pods need as one value, are always such a copy.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Literal

from workpool_operator.api.v1alpha1 import JobsSpec, ServerSpec, Spec
from workpool_operator.binding import conditions as c
from workpool_operator.binding.context import Binding
from workpool_operator.binding.key_reference import KeyReference, ca_reference
from workpool_operator.errors import (
    BindingFault,
    KubernetesRefused,
    OperatorError,
    Unavailable,
)
from workpool_operator.jobs import credentials, names
from workpool_operator.jobs.certificates import CASource
from workpool_operator.jobs.credentials import (
    API_KEY,
    AUTH_STRING,
    CUSTOM_HEADERS,
    Credentials,
    SecretKey,
)
from workpool_operator.kube import models, permissions, secrets
from workpool_operator.kube.client import JOBS, SECRETS, KubernetesClient
from workpool_operator.kube.models import BINDING_LABEL, Job
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.runs.secret_collector import collect

log = logging.getLogger(__name__)

MANAGE_PERMISSIONS = (
    ("create", "", "secrets"),
    ("patch", "", "secrets"),
    ("delete", "", "secrets"),
)
COLLECT_PERMISSIONS = (*MANAGE_PERMISSIONS, ("list", "", "secrets"))


async def release_secrets(binding: Binding, kube: KubernetesClient) -> None:
    """The binding is deleted, and nobody serves it: leave no Secret but what its Jobs still need.

    Raises:
        Unavailable: not done yet; call again.
    """
    try:
        jobs = binding.spec().jobs
        is_apart = jobs.namespace not in (None, binding.namespace)
        if not (is_apart or jobs.environment_secret or _managed_fields(binding.spec(), is_apart)):
            return
        cluster_id = await kube.namespace_uid(binding.namespace)
        binding_id = names.binding_id(cluster_id=cluster_id, binding=binding.key)
        await RunSecrets(binding, kube, binding_id=binding_id).release()
    except Unavailable:
        raise
    except OperatorError as error:  # no better for being repeated
        log.warning("%s: its Secrets may stay: %s", binding.key, error)


class RunSecrets:
    """Of one binding, whose Jobs carry `binding_id`; all but `credentials` asks the cluster."""

    def __init__(self, binding: Binding, kube: KubernetesClient, *, binding_id: str) -> None:
        self._binding = binding
        self._kube = kube
        self._binding_id = binding_id
        self._namespace = binding.spec().jobs.namespace or binding.namespace

    def credentials(self, server: PrefectEndpoint) -> Credentials:
        """What a run's pod gets to call the server with."""
        return run_credentials(self._binding, server)

    async def ensure(self, server: PrefectEndpoint) -> str:
        """Have in place what a Job made now refers to; what there is to say about it.

        Raises:
            BindingFault: something is not there, or may not be made.
        """
        spec, kept = self._binding.spec(), self.credentials(server).managed_secret
        await self._permitted(spec)
        said = await self._check_referenced(spec)
        if kept is None:
            return said
        await secrets.apply(self._kube, self._namespace, kept)
        name = kept["metadata"]["name"]
        return f" Run pods have what opens the server from Secret {name!r} there.{said}"

    async def release_unneeded(self) -> None:
        """Give the kept Secret up if the spec does not ask for it any more."""
        if self._managed_fields() or not (self._apart or await self._has_managed()):
            return
        try:
            jobs = await self._jobs()
        except KubernetesRefused:  # a condition says which right is missing
            return
        await self._release_managed(jobs)

    async def release(self) -> None:
        """Give up what is kept, and what an interrupted creation left."""
        jobs = await self._jobs()
        if self._apart or self._managed_fields():
            await self._release_managed(jobs)
        if self._binding.spec().jobs.environment_secret:
            await self._delete_unowned(jobs)

    @property
    def _apart(self) -> bool:
        """Jobs run in another namespace than the binding's."""
        return self._namespace != self._binding.namespace

    def _managed_fields(self) -> list[str]:
        return _managed_fields(self._binding.spec(), self._apart)

    async def _has_managed(self) -> bool:
        """In its own namespace the operator may look before it tries to delete."""
        try:
            name = credentials.managed_secret_name(self._binding.key)
            await self._kube.request("GET", SECRETS.path(self._namespace, name))
        except KubernetesRefused:
            return False
        return True

    async def _permitted(self, spec: Spec) -> None:
        kept = self._managed_fields()
        wanted = (
            COLLECT_PERMISSIONS
            if spec.jobs.environment_secret
            else MANAGE_PERMISSIONS
            if kept
            else ()
        )
        if not (
            missing := await permissions.missing_permissions(self._kube, self._namespace, wanted)
        ):
            return
        why, instead = _reason(spec, kept)
        grant = await permissions.how_to_grant(
            self._kube, self._namespace, permissions.WRITE_SECRETS_ROLE
        )
        raise BindingFault(
            c.JOBS_PERMITTED,
            "SecretsForbidden",
            f"The operator may not {', '.join(missing)} in namespace {self._namespace!r}: {why}. "
            f"Grant it: {grant}; or {instead}.",
        )

    async def _check_referenced(self, spec: Spec) -> str:
        """Where the operator may not look, it need not: a run's pod tells what is missing."""
        for key in _keys(spec.jobs, self._namespace, apart=self._apart):
            try:
                await _check(key, self._kube)
            except BindingFault as fault:
                if fault.reason != key.forbidden:
                    raise
                return (
                    f" It may not read {key.kind} {key.selector.name!r} there, which run pods use."
                )
        return ""

    async def _jobs(self) -> tuple[Job, ...]:
        selector = f"{BINDING_LABEL}={self._binding_id}"
        return await self._kube.list(JOBS, self._namespace, label_selector=selector)

    async def _release_managed(self, jobs: tuple[Job, ...]) -> None:
        name = credentials.managed_secret_name(self._binding.key)
        try:
            await secrets.release(self._kube, self._namespace, name, jobs=jobs)
        except KubernetesRefused as refused:
            if self._managed_fields():  # else it never had the right, nor the need
                log.warning("%s: Secret %s stays: %s", self._binding.key, name, refused)

    async def _delete_unowned(self, jobs: tuple[Job, ...]) -> None:
        try:
            await collect(self._kube, self._namespace, binding_id=self._binding_id, jobs=jobs)
        except KubernetesRefused as refused:
            log.warning("%s: Secrets of environments may stay: %s", self._binding.key, refused)


def run_credentials(binding: Binding, server: PrefectEndpoint) -> Credentials:
    """What a run's pod gets to call the server with. Pure."""
    spec = binding.spec()
    is_apart = (spec.jobs.namespace or binding.namespace) != binding.namespace
    named, values = _named(spec.jobs), {}
    if not (named or is_apart):
        named = _named(spec.server)
    elif not named:
        values = {API_KEY: server.api_key, AUTH_STRING: server.auth_string}
    if spec.jobs.headers:
        ref = spec.jobs.headers.secret_key_ref
        named[CUSTOM_HEADERS] = SecretKey(ref.name, ref.key)
    elif spec.jobs.server_url is None:
        values[CUSTOM_HEADERS] = credentials.custom_headers(server.headers)
    return credentials.plan_credentials(
        {variable: value for variable, value in values.items() if value is not None},
        named=named,
        owner=binding.key,
        annotations={models.BINDING_ANNOTATION: binding.key},
        ca=_ca(spec, server, is_apart=is_apart),
    )


def _ca(spec: Spec, server: PrefectEndpoint, *, is_apart: bool) -> CASource | str | None:
    named = spec.jobs.ca_bundle or (spec.server.ca_bundle if _trusts_the_same(spec) else None)
    if named is None:
        return None
    if is_apart and not spec.jobs.ca_bundle:
        return server.trust.ca_bundle
    kind: Literal["ConfigMap", "Secret"] = "Secret" if named.secret_key_ref else "ConfigMap"
    return CASource(kind, named.selector.name, named.selector.key)


def _trusts_the_same(spec: Spec) -> bool:
    """Run pods have a use for the CA of the operator's own connection."""
    return (spec.jobs.server_url or spec.server.url or "").startswith("https:")


def _managed_fields(spec: Spec, is_apart: bool) -> list[str]:
    """The fields of the spec for which a Secret is kept in the namespace of the Jobs."""
    jobs, server, found = spec.jobs, spec.server, []
    if is_apart and not _named(jobs):
        found += ["apiKey"] if server.api_key else ["authString"] if server.auth_string else []
    if server.headers and not jobs.headers and jobs.server_url is None:
        found.append("headers")
    if is_apart and server.ca_bundle and not jobs.ca_bundle and _trusts_the_same(spec):
        found.append("caBundle")
    return found


def _named(part: JobsSpec | ServerSpec) -> dict[str, SecretKey]:
    values = {API_KEY: part.api_key, AUTH_STRING: part.auth_string}
    return {
        variable: SecretKey(value.secret_key_ref.name, value.secret_key_ref.key)
        for variable, value in values.items()
        if value is not None
    }


def _keys(jobs: JobsSpec, namespace: str, *, apart: bool) -> list[KeyReference]:
    fields = {"apiKey": jobs.api_key, "authString": jobs.auth_string, "headers": jobs.headers}
    found = [
        KeyReference(
            value.secret_key_ref,
            namespace=namespace,
            path=f"spec.jobs.{field}.secretKeyRef",
            condition=c.JOBS_PERMITTED,
            names_other_keys=not apart,
        )
        for field, value in fields.items()
        if value is not None
    ]
    if jobs.ca_bundle:
        path, condition = "spec.jobs.caBundle", c.JOBS_PERMITTED
        key = ca_reference(jobs.ca_bundle, namespace=namespace, path=path, condition=condition)
        found.append(replace(key, names_other_keys=not apart))
    return found


async def _check(key: KeyReference, kube: KubernetesClient) -> None:
    """It is there, and a run's pod can use it."""
    if "caBundle" in key.path:
        await key.certificates(kube)
    elif "headers" in key.path:
        await key.headers(kube)
    else:
        await key.value(kube)


def _reason(spec: Spec, kept: list[str]) -> tuple[str, str]:
    """Why Secrets are to be written, and what else would do."""
    if spec.jobs.environment_secret:
        return "spec.jobs.environmentSecret asks for a Secret per run", "set that to false"
    of_server = " and ".join(f"spec.server.{field}" for field in kept)
    of_jobs = " and ".join(f"spec.jobs.{field}" for field in kept)
    return (
        f"it keeps a copy of {of_server} for run pods in a Secret there",
        f"name what that namespace has for them in {of_jobs}",
    )
