"""Provides the Secrets that a binding's run pods need: plans, checks, creates and deletes them.

Run pods take credentials and the CA from the objects that spec.jobs names. If it names none, they
take them from those of spec.server if these are in the namespace of the Jobs, otherwise from a
Secret there into which the operator copies them: the managed Secret. Headers are always copied,
because spec.server has a Secret key for each and run pods need them as one value.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from workpool_operator.api.v1alpha1 import JobsSpec, ServerSpec, Spec
from workpool_operator.binding import conditions as c
from workpool_operator.binding.context import Binding
from workpool_operator.binding.key_reference import KeyReference, key_reference
from workpool_operator.errors import (
    BindingFault,
    KubernetesRefused,
    OperatorError,
    Unavailable,
)
from workpool_operator.jobs import names
from workpool_operator.jobs.certificates import CASource
from workpool_operator.jobs.secrets import (
    API_KEY,
    AUTH_STRING,
    CUSTOM_HEADERS,
    Credentials,
    SecretKey,
    custom_headers,
    managed_secret_name,
    plan_credentials,
)
from workpool_operator.kube import models, permissions, secrets
from workpool_operator.kube.client import JOBS, SECRETS, KubernetesClient
from workpool_operator.kube.models import BINDING_LABEL, Job
from workpool_operator.kube.rights import Permission
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.runs.secret_collector import collect

log = logging.getLogger(__name__)

SKIP_VERIFY = {"name": "PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "value": "true"}
MANAGE_PERMISSIONS = (
    ("create", "", "secrets"),
    ("patch", "", "secrets"),
    ("delete", "", "secrets"),
)
COLLECT_PERMISSIONS = (*MANAGE_PERMISSIONS, ("list", "", "secrets"))


async def release_secrets(binding: Binding, kube: KubernetesClient) -> None:
    """Delete the Secrets of a deleted binding, except those that its Jobs still need.

    Raises:
        Unavailable: not done yet; call again.
    """
    try:
        has_environments = binding.spec().jobs.environment_secret
        if not (binding.is_cross_namespace or has_environments or _managed_fields(binding)):
            return
        cluster_id = await kube.namespace_uid(binding.namespace)
        binding_id = names.binding_id(cluster_id=cluster_id, binding=binding.key)
        secrets_of_runs = RunSecrets(binding, kube, binding_id=binding_id)
        for namespace in binding.followed_namespaces:
            await secrets_of_runs.release(namespace)
    except Unavailable:
        raise
    except OperatorError as error:  # a retry would not help
        log.warning("%s: cannot delete its Secrets: %s", binding.key, error)


class RunSecrets:
    """Manages the Secrets for one binding's run pods; its Jobs have the label `binding_id`."""

    def __init__(self, binding: Binding, kube: KubernetesClient, *, binding_id: str) -> None:
        self._binding = binding
        self._kube = kube
        self._binding_id = binding_id

    def credentials(self, server: PrefectEndpoint) -> Credentials:
        """Return what run pods need to call the server, as references to Secrets."""
        return run_credentials(self._binding, server)

    async def ensure(self, server: PrefectEndpoint, namespace: str) -> str:
        """Check the objects that new Jobs refer to in the namespace and write the managed Secret.

        Returns:
            Sentences for the condition JobsPermitted, each with a blank before it.

        Raises:
            BindingFault: an object is missing or invalid, or the operator may not write Secrets.
        """
        spec, managed = self._binding.spec(), self.credentials(server).managed_secret
        await self._check_permitted(spec, namespace, server.url)
        note = await self._check_referenced(namespace)
        if managed is None:
            return note
        self._binding.check_lease()
        await secrets.apply(self._kube, namespace, managed)
        name = managed["metadata"]["name"]
        return f" Run pods get their credentials from Secret {name!r} there.{note}"

    async def release_unneeded(self, server: PrefectEndpoint, namespace: str) -> None:
        """Delete the managed Secret of the namespace if the spec no longer needs it and no Job
        does."""
        managed = _managed_fields(self._binding, server.url)
        if managed and namespace in self._binding.job_namespaces:
            return
        if not (self._binding.is_cross_namespace or await self._has_managed(namespace)):
            return
        try:
            jobs = await self._jobs(namespace)
        except KubernetesRefused:  # the condition JobsPermitted names the missing right
            return
        self._binding.check_lease()
        await self._release_managed(namespace, jobs)

    async def release(self, namespace: str) -> None:
        """Delete the managed Secret of the namespace, unless Jobs need it, and those of unfinished
        Job creations."""
        jobs = await self._jobs(namespace)
        if self._binding.is_cross_namespace or _managed_fields(self._binding):
            await self._release_managed(namespace, jobs)
        if self._binding.spec().jobs.environment_secret:
            await self._delete_unowned(namespace, jobs)

    async def _has_managed(self, namespace: str) -> bool:
        """Return whether the managed Secret exists, as far as the operator may read it."""
        try:
            name = managed_secret_name(self._binding.key)
            await self._kube.request("GET", SECRETS.path(namespace, name))
        except KubernetesRefused:
            return False
        return True

    async def _check_permitted(self, spec: Spec, namespace: str, server_url: str) -> None:
        fields = _managed_fields(self._binding, server_url)
        needed: Sequence[Permission] = ()
        if spec.jobs.environment_secret:
            needed = COLLECT_PERMISSIONS
        elif fields:
            needed = MANAGE_PERMISSIONS
        missing = await permissions.missing_permissions(self._kube, namespace, needed)
        if not missing:
            return
        why, instead = _why_secrets(spec, fields)
        grant = await permissions.how_to_grant(
            self._kube, namespace, permissions.WRITE_SECRETS_ROLE
        )
        raise BindingFault(
            c.JOBS_PERMITTED,
            "SecretsForbidden",
            f"The operator may not {', '.join(missing)} in namespace {namespace!r}: {why}. "
            f"Grant it: {grant}; or {instead}.",
        )

    async def _check_referenced(self, namespace: str) -> str:
        """Check the objects that spec.jobs names there; return a note if one may not be read.

        The operator does not need that right: if such an object is missing, a run's pod reports it.
        """
        for key in _referenced_keys(self._binding, namespace):
            try:
                await _check(key, self._kube)
            except BindingFault as fault:
                if fault.reason != key.forbidden:
                    raise
                name = key.selector.name
                return f" It may not read {key.kind} {name!r} there, which run pods use."
        return ""

    async def _jobs(self, namespace: str) -> tuple[Job, ...]:
        selector = f"{BINDING_LABEL}={self._binding_id}"
        return await self._kube.list(JOBS, namespace, label_selector=selector)

    async def _release_managed(self, namespace: str, jobs: tuple[Job, ...]) -> None:
        name = managed_secret_name(self._binding.key)
        try:
            await secrets.release(self._kube, namespace, name, jobs=jobs)
        except KubernetesRefused as refused:
            if _managed_fields(self._binding):  # otherwise there may be no Secret and no right
                log.warning("%s: cannot delete Secret %s: %s", self._binding.key, name, refused)

    async def _delete_unowned(self, namespace: str, jobs: tuple[Job, ...]) -> None:
        try:
            await collect(self._kube, namespace, binding_id=self._binding_id, jobs=jobs)
        except KubernetesRefused as refused:
            text = "cannot delete the environment Secrets of unfinished Job creations"
            log.warning("%s: %s: %s", self._binding.key, text, refused)


def run_credentials(binding: Binding, server: PrefectEndpoint) -> Credentials:
    """Return what run pods need to call the server, as references to Secrets. Pure."""
    spec = binding.spec()
    named, values = _named(spec.jobs), {}
    if not (named or binding.is_cross_namespace):
        named = _named(spec.server)
    elif not named:
        values = {API_KEY: server.api_key, AUTH_STRING: server.auth_string}
    if spec.jobs.headers:
        ref = spec.jobs.headers.secret_key_ref
        named[CUSTOM_HEADERS] = SecretKey(ref.name, ref.key)
    elif spec.jobs.server_url is None:
        values[CUSTOM_HEADERS] = custom_headers(server.headers)
    credentials = plan_credentials(
        {variable: value for variable, value in values.items() if value is not None},
        named=named,
        owner=binding.key,
        annotations={models.BINDING_ANNOTATION: binding.key},
        ca=_ca(binding, server),
    )
    if server.trust.verify or spec.jobs.server_url or not _pods_use_https(spec, server.url):
        return credentials
    return replace(credentials, entries=(*credentials.entries, SKIP_VERIFY))


def _ca(binding: Binding, server: PrefectEndpoint) -> CASource | str | None:
    spec = binding.spec()
    is_trusted = _pods_use_https(spec, server.url)
    ca_bundle = spec.jobs.ca_bundle or (spec.server.ca_bundle if is_trusted else None)
    if ca_bundle is None:
        return None
    if binding.is_cross_namespace and not spec.jobs.ca_bundle:
        return server.trust.ca_bundle
    kind: Literal["ConfigMap", "Secret"] = "Secret" if ca_bundle.secret_key_ref else "ConfigMap"
    return CASource(kind, ca_bundle.selector.name, ca_bundle.selector.key)


def _pods_use_https(spec: Spec, server_url: str) -> bool:
    return (spec.jobs.server_url or server_url).startswith("https:")


def _managed_fields(binding: Binding, server_url: str = "https:") -> list[str]:
    """Return the fields of spec.server that the operator copies to the namespace of the Jobs;
    without the server's address those that it may have copied."""
    spec, fields = binding.spec(), []
    jobs, server = spec.jobs, spec.server
    if binding.is_cross_namespace and not _named(jobs):
        fields += ["apiKey"] if server.api_key else ["authString"] if server.auth_string else []
    if server.headers and not jobs.headers and jobs.server_url is None:
        fields.append("headers")
    copies_ca = binding.is_cross_namespace and server.ca_bundle and not jobs.ca_bundle
    if copies_ca and _pods_use_https(spec, server_url):
        fields.append("caBundle")
    return fields


def _named(part: JobsSpec | ServerSpec) -> dict[str, SecretKey]:
    values = {API_KEY: part.api_key, AUTH_STRING: part.auth_string}
    return {
        variable: SecretKey(value.secret_key_ref.name, value.secret_key_ref.key)
        for variable, value in values.items()
        if value is not None
    }


def _referenced_keys(binding: Binding, namespace: str) -> list[KeyReference]:
    """Return the keys that spec.jobs names, in that namespace of Jobs."""
    jobs = binding.spec().jobs
    fields = {"apiKey": jobs.api_key, "authString": jobs.auth_string, "headers": jobs.headers}
    keys = [
        KeyReference(
            value.secret_key_ref,
            namespace=namespace,
            path=f"spec.jobs.{field}.secretKeyRef",
            condition=c.JOBS_PERMITTED,
            names_other_keys=not binding.is_cross_namespace,
        )
        for field, value in fields.items()
        if value is not None
    ]
    if jobs.ca_bundle:
        path, condition = "spec.jobs.caBundle", c.JOBS_PERMITTED
        key = key_reference(jobs.ca_bundle, namespace=namespace, path=path, condition=condition)
        keys.append(replace(key, names_other_keys=not binding.is_cross_namespace))
    return keys


async def _check(key: KeyReference, kube: KubernetesClient) -> None:
    """Check that the key exists and run pods can use its value."""
    if "caBundle" in key.path:
        await key.certificates(kube)
    elif "headers" in key.path:
        await key.headers(kube)
    else:
        await key.value(kube)


def _why_secrets(spec: Spec, fields: list[str]) -> tuple[str, str]:
    """Return why the operator has to write Secrets, and what the user can do to avoid it."""
    if spec.jobs.environment_secret:
        return "spec.jobs.environmentSecret needs a Secret for each run", "set that field to false"
    of_server = " and ".join(f"spec.server.{field}" for field in fields)
    of_jobs = " and ".join(f"spec.jobs.{field}" for field in fields)
    return (
        f"it copies {of_server} for run pods to a Secret there",
        f"create what run pods need in that namespace, and name it in {of_jobs}",
    )
