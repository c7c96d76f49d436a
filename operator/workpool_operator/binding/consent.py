"""Checks that the namespace of a binding's Jobs allows bindings of the binding's namespace.

The operator may create Jobs in every namespace that it serves. Without consent, everyone who may
create a binding in one of them could run pods with the Secrets and rights of another. So a
namespace lists, in an annotation, the other namespaces whose bindings may run Jobs in it.
"""

from __future__ import annotations

from pydantic import TypeAdapter

from workpool_operator.api.v1alpha1 import GROUP
from workpool_operator.binding import conditions as c
from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import BindingFault, KubernetesNotFound, KubernetesRefused
from workpool_operator.kube import models, permissions
from workpool_operator.kube.client import KubernetesClient

ANNOTATION = f"{GROUP}/allowed-binding-namespaces"
ANY = "*"
CACHE_SECONDS = 10.0  # Jobs are created at most this long after the consent is withdrawn
_namespace = TypeAdapter(models.Namespace)


def allowed_namespaces(annotation: str) -> frozenset[str]:
    """Return the namespaces that the annotation lists, separated by commas."""
    return frozenset(name.strip() for name in annotation.split(",") if name.strip())


def annotate_command(annotation: str, *, binding_namespace: str, job_namespace: str) -> str:
    """Return a command that adds the binding's namespace to the annotation.

    The command does not contain the namespaces that are in the annotation already.
    """
    annotate = f"kubectl annotate namespace {job_namespace}"
    if not allowed_namespaces(annotation):
        return f"{annotate} --overwrite {ANNOTATION}={binding_namespace}"
    key = ANNOTATION.replace(".", r"\.")
    read = f"kubectl get namespace {job_namespace} -o jsonpath='{{.metadata.annotations.{key}}}'"
    return f'{annotate} --overwrite {ANNOTATION}="$({read}),{binding_namespace}"'


class Consent:
    """Reads the consent of one Job namespace to the bindings of one namespace."""

    def __init__(
        self,
        kube: KubernetesClient,
        *,
        binding_namespace: str,
        job_namespace: str,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._binding_namespace = binding_namespace
        self._job_namespace = job_namespace
        self._valid_until = float("-inf")

    @property
    def is_needed(self) -> bool:
        """Whether the Jobs run in another namespace than the binding's, which must consent."""
        return self._job_namespace != self._binding_namespace

    async def check(self) -> None:
        """Check the consent before a Job is created. A consent is cached for ten seconds.

        Raises:
            BindingFault: as `read`.
        """
        if self._clock.monotonic() >= self._valid_until:
            await self.read()

    async def read(self) -> None:
        """Read the consent from the namespace of the Jobs, if it is needed.

        Raises:
            BindingFault: the namespace does not consent, does not exist, or cannot be read.
        """
        self._valid_until = float("-inf")
        if self.is_needed:
            annotation = await self._annotation()
            if not {self._binding_namespace, ANY} & allowed_namespaces(annotation):
                raise self._not_consenting(annotation)
        self._valid_until = self._clock.monotonic() + CACHE_SECONDS

    async def _annotation(self) -> str:
        name = self._job_namespace
        try:
            body = await self._kube.request("GET", f"/api/v1/namespaces/{name}")
        except KubernetesRefused as refused:
            raise await self._unreadable(refused) from refused
        return models.decode(_namespace, body).metadata.annotations.get(ANNOTATION, "")

    async def _unreadable(self, refused: KubernetesRefused) -> BindingFault:
        name = self._job_namespace
        if isinstance(refused, KubernetesNotFound):
            return BindingFault(
                c.JOBS_PERMITTED,
                "NamespaceNotFound",
                f"Namespace {name!r} (spec.jobs.namespace) does not exist. Create it: "
                f"kubectl create namespace {name}",
            )
        grant = await permissions.how_to_grant(self._kube, name, permissions.JOBS_ROLE)
        return BindingFault(
            c.JOBS_PERMITTED,
            "NamespaceForbidden",
            f"The operator cannot read whether namespace {name!r} allows bindings of namespace "
            f"{self._binding_namespace!r}: {refused}. Grant it: {grant}",
        )

    def _not_consenting(self, annotation: str) -> BindingFault:
        own, name = self._binding_namespace, self._job_namespace
        fix = annotate_command(annotation, binding_namespace=own, job_namespace=name)
        return BindingFault(
            c.JOBS_PERMITTED,
            "NamespaceNotConsenting",
            f"Namespace {name!r} (spec.jobs.namespace) does not allow bindings of namespace "
            f"{own!r} to run Jobs in it. To allow it: {fix}",
        )
