"""A WorkPoolBinding in a test: apply it, change it, wait for its status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.kube import Kube, Object

API_VERSION = "workpool-operator.dev/v1alpha1"


@dataclass(frozen=True)
class Binding:
    kube: Kube
    namespace: str
    name: str

    async def apply(self, **spec: Any) -> Object:
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "WorkPoolBinding",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        }
        return await self.kube.apply("workpoolbindings", self.namespace, manifest)

    async def patch(self, **spec: Any) -> Object:
        """Merge-patch the spec."""
        return await self.kube.patch("workpoolbindings", self.namespace, self.name, {"spec": spec})

    async def label(self, **labels: str | None) -> Object:
        """Set labels; None removes one."""
        change = {"metadata": {"labels": labels}}
        return await self.kube.patch("workpoolbindings", self.namespace, self.name, change)

    async def read(self) -> Object | None:
        return await self.kube.get("workpoolbindings", self.namespace, self.name)

    async def delete(self) -> None:
        await self.kube.delete("workpoolbindings", self.namespace, self.name)

    async def condition(
        self, type: str, status: str, *, reason: str | None = None, seconds: float = 30
    ) -> Object:
        """Return the condition once it has the status (and the reason) for the present spec."""

        def holds(binding: Object | None) -> bool:
            found = _condition(binding, type)
            if binding is None or found is None:
                return False
            current = found["observedGeneration"] == binding["metadata"]["generation"]
            return current and found["status"] == status and reason in (None, found["reason"])

        binding = await self.kube.wait(
            "workpoolbindings", self.namespace, self.name, until=holds, seconds=seconds
        )
        return _condition(binding, type) or {}

    async def wait(self, until: Callable[[Object], bool], *, seconds: float = 30) -> Object:
        """Return the status once the operator has written one and `until(status)` is true."""
        binding = await self.kube.wait(
            "workpoolbindings",
            self.namespace,
            self.name,
            until=lambda found: bool(found and _conditions(found) and until(found["status"])),
            seconds=seconds,
        )
        status: Object = (binding or {})["status"]
        return status

    async def ready(self, *, seconds: float = 30) -> Object:
        return await self.condition("Ready", "True", seconds=seconds)

    async def gone(self, *, seconds: float = 30) -> None:
        await self.kube.wait(
            "workpoolbindings",
            self.namespace,
            self.name,
            until=lambda binding: binding is None,
            seconds=seconds,
        )

    async def remove(self) -> None:
        """Delete it, also if no operator is running that would remove its finalizer."""
        await self.delete()
        if await self.read() is not None:
            change = {"metadata": {"finalizers": None}}
            try:
                await self.kube.patch("workpoolbindings", self.namespace, self.name, change)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 404:  # an operator removed it meanwhile
                    raise


def _condition(binding: Object | None, type: str) -> Object | None:
    return next((found for found in _conditions(binding) if found["type"] == type), None)


def _conditions(binding: Object | None) -> list[Object]:
    conditions: list[Object] = (binding or {}).get("status", {}).get("conditions", [])
    return conditions
