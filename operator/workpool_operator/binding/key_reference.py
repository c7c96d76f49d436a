"""A key of a Secret or ConfigMap that a binding names, and what is wrong where it is unusable."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from workpool_operator.api.v1alpha1 import CABundle, ConfigMapKeySelector, SecretKeySelector
from workpool_operator.errors import BindingFault, KubernetesNotFound, KubernetesRefused
from workpool_operator.kube import permissions
from workpool_operator.kube.client import CONFIG_MAPS, SECRETS, KubernetesClient, Object, Resource
from workpool_operator.prefect_api import endpoint

FORBIDDEN = "Forbidden"  # how the reason of a fault ends where the operator may not look


@dataclass(frozen=True, slots=True)
class KeyReference:
    """`path` is the field of the spec that names it, `condition` the one that needs it. A
    fault lists the existing keys only of an object in the binding's own namespace:
    `names_other_keys`."""

    selector: SecretKeySelector | ConfigMapKeySelector
    namespace: str
    path: str
    condition: str
    names_other_keys: bool = True

    async def value(self, kube: KubernetesClient) -> str:
        """The key's value as it can be sent in a header, which is how all but a CA is.

        Raises:
            BindingFault: there is none to be had; with the field and the fix.
        """
        value = (await self.text(kube)).strip()
        if fault := endpoint.header_value_problem(value):
            raise self.invalid(f"{fault}: it must hold nothing but the value, in one line")
        return value

    async def certificates(self, kube: KubernetesClient) -> str:
        """The certificates that it holds.

        Raises:
            BindingFault: there are none; with the field and the fix.
        """
        try:
            return endpoint.certificates(await self.text(kube))
        except ValueError as error:
            text = "it must hold the certificates of the CA, each from -----BEGIN CERTIFICATE-----"
            raise self.invalid(f"{error}: {text}") from error

    async def headers(self, kube: KubernetesClient) -> None:
        """Check that it holds headers as Prefect's client reads them.

        Raises:
            BindingFault: it does not; with the field and the fix.
        """
        try:
            found = json.loads(await self.text(kube))
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(map(_is_header, found.items())):
            raise self.invalid('is no JSON as {"Name-Of-Header": "value"}')

    async def text(self, kube: KubernetesClient) -> str:
        """The key's value, whatever it is.

        Raises:
            BindingFault: there is no such object or key; with the field and the fix.
        """
        name, key = self.selector.name, self.selector.key
        try:
            found = await kube.get(self._resource, self.namespace, name)
        except KubernetesRefused as refused:
            raise await self._unreadable(refused, kube) from refused
        data = found.get("data") or {}
        if key not in data:
            keys = ", ".join(sorted(data)) or "none"
            others = f" (its keys: {keys})" if self.names_other_keys else ""
            raise self._fault(
                "KeyMissing", f"{self.kind} {name!r} has no key {key!r}{others}: add it."
            )
        return self._decoded(data[key])

    def invalid(self, why: str) -> BindingFault:
        """Its value is none that can be used; `why` must not quote it."""
        about = f"key {self.selector.key!r} of {self.kind} {self.selector.name!r} {why}."
        return self._fault("ValueInvalid", about)

    @property
    def forbidden(self) -> str:
        """The reason of the fault that is raised where the operator may not look."""
        return f"{self.kind}{FORBIDDEN}"

    @property
    def kind(self) -> str:
        """The kind of the object: Secret or ConfigMap."""
        return "Secret" if self._of_secret else "ConfigMap"

    @property
    def _of_secret(self) -> bool:
        return isinstance(self.selector, SecretKeySelector)

    @property
    def _resource(self) -> Resource[Object]:
        return SECRETS if self._of_secret else CONFIG_MAPS

    def _decoded(self, value: str) -> str:
        if not self._of_secret:
            return value
        try:
            return base64.b64decode(value).decode()
        except (UnicodeDecodeError, binascii.Error) as error:
            raise self.invalid("holds no text") from error

    async def _unreadable(self, refused: KubernetesRefused, kube: KubernetesClient) -> BindingFault:
        if not isinstance(refused, KubernetesNotFound):
            grant = await permissions.how_to_grant(
                kube, self.namespace, permissions.READ_SECRETS_ROLE
            )
            return self._fault(FORBIDDEN, f"{refused}. Grant it: {grant}")
        where = f"{self.kind} {self.selector.name!r} does not exist in namespace"
        return self._fault("NotFound", f"{where} {self.namespace!r}: create it.")

    def _fault(self, what: str, text: str) -> BindingFault:
        return BindingFault(self.condition, f"{self.kind}{what}", f"{self.path}: {text}")


def ca_reference(named: CABundle, *, namespace: str, path: str, condition: str) -> KeyReference:
    """The key of whichever of the two the field at `path` names."""
    field = "secretKeyRef" if named.secret_key_ref else "configMapKeyRef"
    return KeyReference(
        named.selector, namespace=namespace, path=f"{path}.{field}", condition=condition
    )


def _is_header(item: tuple[str, object]) -> bool:
    name, value = item
    is_value = isinstance(value, str) and not endpoint.header_value_problem(value)
    return is_value and not endpoint.header_name_problem(name, authorized=False)
