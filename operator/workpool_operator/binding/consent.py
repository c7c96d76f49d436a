"""Whether the namespace of a binding's Jobs lets the bindings of another namespace in.

The operator may make Jobs in every namespace that it serves, for whoever may write a binding
anywhere. So a namespace names the others whose bindings may have Jobs in it; without that, whoever
may write a binding in one namespace would run pods with the Secrets and rights of another.
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
FRESH_SECONDS = 10.0  # no Job is made later than that after a consent is withdrawn
_namespace = TypeAdapter(models.Namespace)


def allowed_namespaces(annotation: str) -> frozenset[str]:
    """The namespaces that the annotation lists, separated by commas."""
    return frozenset(name.strip() for name in annotation.split(",") if name.strip())


def annotate_command(annotation: str, *, binding_namespace: str, job_namespace: str) -> str:
    """Adds the binding's namespace to those that the annotation allows, without showing them."""
    annotate = f"kubectl annotate namespace {job_namespace}"
    if not allowed_namespaces(annotation):
        return f"{annotate} --overwrite {ANNOTATION}={binding_namespace}"
    key = ANNOTATION.replace(".", r"\.")
    read = f"kubectl get namespace {job_namespace} -o jsonpath='{{.metadata.annotations.{key}}}'"
    return f'{annotate} --overwrite {ANNOTATION}="$({read}),{binding_namespace}"'


class Consent:
    """Of the namespace of the Jobs to the bindings of another one; its own it need not allow."""

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
        self._given_until = float("-inf")

    @property
    def is_needed(self) -> bool:
        """Whether the Jobs have another namespace than the binding."""
        return self._job_namespace != self._binding_namespace

    async def check(self) -> None:
        """As `read`, but an answer is good for ten seconds: for each Job that is to be made."""
        if self._clock.monotonic() >= self._given_until:
            await self.read()

    async def read(self) -> None:
        """Read the namespace of the Jobs, if it has to consent.

        Raises:
            BindingFault: it does not, it does not exist, or the operator may not read it.
        """
        self._given_until = float("-inf")
        if self.is_needed:
            annotation = await self._annotation()
            if not {self._binding_namespace, ANY} & allowed_namespaces(annotation):
                raise self._refused(annotation)
        self._given_until = self._clock.monotonic() + FRESH_SECONDS

    async def _annotation(self) -> str:
        name = self._job_namespace
        try:
            body = await self._kube.request("GET", f"/api/v1/namespaces/{name}")
        except KubernetesRefused as refused:
            raise await self._unread(refused) from refused
        return models.decode(_namespace, body).metadata.annotations.get(ANNOTATION, "")

    async def _unread(self, refused: KubernetesRefused) -> BindingFault:
        name = self._job_namespace
        if isinstance(refused, KubernetesNotFound):
            return BindingFault(
                c.JOBS_PERMITTED,
                "NamespaceNotFound",
                f"Namespace {name!r} of spec.jobs.namespace does not exist. Create it: "
                f"kubectl create namespace {name}",
            )
        grant = await permissions.how_to_grant(self._kube, name, permissions.JOBS_ROLE)
        return BindingFault(
            c.JOBS_PERMITTED,
            "NamespaceForbidden",
            f"The operator cannot see whether namespace {name!r} lets bindings of namespace "
            f"{self._binding_namespace!r} in: {refused}. Grant it: {grant}",
        )

    def _refused(self, annotation: str) -> BindingFault:
        own, name = self._binding_namespace, self._job_namespace
        fix = annotate_command(annotation, binding_namespace=own, job_namespace=name)
        return BindingFault(
            c.JOBS_PERMITTED,
            "NamespaceNotConsenting",
            f"Namespace {name!r} of spec.jobs.namespace does not let bindings of namespace "
            f"{own!r} run Jobs in it. To allow it: {fix}",
        )
