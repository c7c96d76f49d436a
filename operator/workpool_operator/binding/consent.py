"""Checks that the namespace of a binding's Jobs allows bindings of the binding's namespace.

The operator may create Jobs in every namespace that it serves. Without consent, everyone who may
create a binding in one of them could run pods with the Secrets and rights of another. So a
namespace lists, in an annotation, the other namespaces whose bindings may run Jobs in it.
"""

from __future__ import annotations

from collections.abc import Callable

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
    """Reads the consent of namespaces to the Jobs of the bindings of one namespace.

    `field(namespace)` is the path of the field that names that namespace, for messages.
    """

    def __init__(
        self,
        kube: KubernetesClient,
        *,
        binding_namespace: str,
        field: Callable[[str], str] = lambda _: "spec.jobs.namespace",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._binding_namespace = binding_namespace
        self._field = field
        self._valid_until: dict[str, float] = {}

    async def check(self, namespace: str) -> None:
        """Check the namespace's consent before a Job is created there. A consent is cached for ten
        seconds.

        Raises:
            BindingFault: as `read`.
        """
        if self._clock.monotonic() >= self._valid_until.get(namespace, float("-inf")):
            await self.read(namespace)

    async def read(self, namespace: str) -> None:
        """Read the namespace's consent, which is needed if it is not the binding's.

        Raises:
            BindingFault: the namespace does not consent, does not exist, or cannot be read.
        """
        self._valid_until.pop(namespace, None)
        if namespace != self._binding_namespace:
            annotation = await self._annotation(namespace)
            if not {self._binding_namespace, ANY} & allowed_namespaces(annotation):
                raise self._not_consenting(namespace, annotation)
        self._valid_until[namespace] = self._clock.monotonic() + CACHE_SECONDS

    async def _annotation(self, name: str) -> str:
        try:
            body = await self._kube.request("GET", f"/api/v1/namespaces/{name}")
        except KubernetesRefused as refused:
            raise await self._unreadable(name, refused) from refused
        return models.decode(_namespace, body).metadata.annotations.get(ANNOTATION, "")

    async def _unreadable(self, name: str, refused: KubernetesRefused) -> BindingFault:
        if isinstance(refused, KubernetesNotFound):
            return BindingFault(
                c.JOBS_PERMITTED,
                "NamespaceNotFound",
                f"Namespace {name!r} ({self._field(name)}) does not exist. Create it: "
                f"kubectl create namespace {name}",
            )
        grant = await permissions.how_to_grant(self._kube, name, permissions.JOBS_ROLE)
        return BindingFault(
            c.JOBS_PERMITTED,
            "NamespaceForbidden",
            f"The operator cannot read whether namespace {name!r} ({self._field(name)}) allows "
            f"bindings of namespace {self._binding_namespace!r}: {refused}. Grant it: {grant}",
        )

    def _not_consenting(self, name: str, annotation: str) -> BindingFault:
        own = self._binding_namespace
        fix = annotate_command(annotation, binding_namespace=own, job_namespace=name)
        return BindingFault(
            c.JOBS_PERMITTED,
            "NamespaceNotConsenting",
            f"Namespace {name!r} ({self._field(name)}) does not allow bindings of namespace "
            f"{own!r} to run Jobs in it. To allow it: {fix}",
        )
