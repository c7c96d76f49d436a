"""One key of a Secret that a binding names, and what is wrong where it cannot be had."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from workpool_operator.binding import rights
from workpool_operator.binding.model import SecretKeySelector
from workpool_operator.errors import BindingFault, KubernetesRefused
from workpool_operator.kube.client import SECRETS, KubernetesClient

FORBIDDEN = "SecretForbidden"


@dataclass(frozen=True, slots=True)
class NamedKey:
    """`path` is the field of the spec that names it, `condition` the one that needs it. What keys
    there are instead is told of a Secret in the binding's own namespace only: `tells_keys`."""

    selector: SecretKeySelector
    namespace: str
    path: str
    condition: str
    tells_keys: bool = True

    async def value(self, kube: KubernetesClient) -> str:
        """The key's value.

        Raises:
            BindingFault: there is none to be had; with the field and the fix.
        """
        name, key = self.selector.name, self.selector.key
        try:
            data = (await kube.get(SECRETS, self.namespace, name)).get("data") or {}
        except KubernetesRefused as refused:
            raise await self._unread(refused, kube) from refused
        if key not in data:
            keys = ", ".join(sorted(data)) or "none"
            others = f" (its keys: {keys})" if self.tells_keys else ""
            text = f"Secret {name!r} has no key {key!r}{others}: add it."
            raise self._fault("SecretKeyMissing", text)
        return base64.b64decode(data[key]).decode(errors="replace").strip()

    async def _unread(self, refused: KubernetesRefused, kube: KubernetesClient) -> BindingFault:
        if refused.status != 404:
            grant = await rights.grant(kube, self.namespace, rights.READS_SECRETS)
            return self._fault(FORBIDDEN, f"{refused}. Grant it: {grant}")
        where = f"Secret {self.selector.name!r} does not exist in namespace {self.namespace!r}"
        return self._fault("SecretNotFound", f"{where}: create it.")

    def _fault(self, reason: str, text: str) -> BindingFault:
        return BindingFault(self.condition, reason, f"{self.path}: {text}")
