"""Reads the key of a Secret or ConfigMap that a binding names, or says why it cannot be used."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from workpool_operator.api.v1alpha1 import ConfigMapKeySelector, KeySource, SecretKeySelector
from workpool_operator.errors import BindingFault, KubernetesNotFound, KubernetesRefused
from workpool_operator.kube import permissions
from workpool_operator.kube.client import CONFIG_MAPS, SECRETS, KubernetesClient, Object, Resource
from workpool_operator.prefect_api import endpoint

FORBIDDEN = "Forbidden"  # ends the reason of a fault if the operator may not read the object


@dataclass(frozen=True, slots=True)
class KeyReference:
    """A key of a Secret or ConfigMap, and the field of the spec that names it.

    `path` is that field, `condition` the condition that is False if the key cannot be used.
    `names_other_keys`: a fault may list the object's keys, because the binding's author may know
    them: the object is in the binding's own namespace.
    """

    selector: SecretKeySelector | ConfigMapKeySelector
    namespace: str
    path: str
    condition: str
    names_other_keys: bool = True

    async def value(self, kube: KubernetesClient) -> str:
        """Return the key's value, without surrounding whitespace, for use in a header.

        Raises:
            BindingFault: the value cannot be read or cannot be sent in a header.
        """
        value = (await self.text(kube)).strip()
        if problem := endpoint.header_value_problem(value):
            raise self.invalid(f"{problem}: it must hold only the value, in one line")
        return value

    async def certificates(self, kube: KubernetesClient) -> str:
        """Return the CA certificates that the key holds.

        Raises:
            BindingFault: the key cannot be read or holds no valid certificate.
        """
        try:
            return endpoint.certificates(await self.text(kube))
        except ValueError as error:
            text = "it must hold the CA's certificates, each from -----BEGIN CERTIFICATE----- on"
            raise self.invalid(f"{error}: {text}") from error

    async def headers(self, kube: KubernetesClient) -> None:
        """Check that the key holds headers in the form that Prefect's client reads.

        Raises:
            BindingFault: the key cannot be read or holds something else.
        """
        try:
            found = json.loads(await self.text(kube))
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(map(_is_header, found.items())):
            raise self.invalid('is not a JSON object like {"Name-Of-Header": "value"}')

    async def text(self, kube: KubernetesClient) -> str:
        """Return the key's value as it is.

        Raises:
            BindingFault: the object or its key does not exist, cannot be read or is not text.
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
        """Return the fault of a value that cannot be used. `why` must not quote the value."""
        text = f"key {self.selector.key!r} of {self.kind} {self.selector.name!r} {why}."
        return self._fault("ValueInvalid", text)

    @property
    def forbidden(self) -> str:
        """The reason of the fault that is raised if the operator may not read the object."""
        return f"{self.kind}{FORBIDDEN}"

    @property
    def kind(self) -> str:
        """Secret or ConfigMap."""
        return "Secret" if self._is_secret else "ConfigMap"

    @property
    def _is_secret(self) -> bool:
        return isinstance(self.selector, SecretKeySelector)

    @property
    def _resource(self) -> Resource[Object]:
        return SECRETS if self._is_secret else CONFIG_MAPS

    def _decoded(self, value: str) -> str:
        if not self._is_secret:
            return value
        try:
            return base64.b64decode(value).decode()
        except (UnicodeDecodeError, binascii.Error) as error:
            raise self.invalid("is not UTF-8 text") from error

    async def _unreadable(self, refused: KubernetesRefused, kube: KubernetesClient) -> BindingFault:
        if not isinstance(refused, KubernetesNotFound):
            grant = await permissions.how_to_grant(kube, self.namespace, permissions.BINDINGS_ROLE)
            return self._fault(FORBIDDEN, f"{refused}. Grant it: {grant}")
        where = f"{self.kind} {self.selector.name!r} does not exist in namespace"
        return self._fault("NotFound", f"{where} {self.namespace!r}: create it.")

    def _fault(self, what: str, text: str) -> BindingFault:
        return BindingFault(self.condition, f"{self.kind}{what}", f"{self.path}: {text}")


def key_reference(source: KeySource, *, namespace: str, path: str, condition: str) -> KeyReference:
    """Return the key of the ConfigMap or Secret that the field at `path` names."""
    field = "secretKeyRef" if source.secret_key_ref else "configMapKeyRef"
    return KeyReference(
        source.selector, namespace=namespace, path=f"{path}.{field}", condition=condition
    )


def _is_header(item: tuple[str, object]) -> bool:
    name, value = item
    is_value = isinstance(value, str) and not endpoint.header_value_problem(value)
    return is_value and not endpoint.header_name_problem(name, authorized=False)
