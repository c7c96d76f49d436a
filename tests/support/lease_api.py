"""An API server that has Leases only, for unit tests: versions, conflicts, and outages."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, cast

from pydantic import TypeAdapter

from workpool_operator.errors import (
    KubernetesConflict,
    KubernetesNotFound,
    KubernetesUnavailable,
    OperatorError,
)
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.models import Lease

_lease = TypeAdapter(Lease)


class LeaseApi:
    """Answers as a KubernetesClient does. `error` is raised instead of an answer; `lost` drops the
    answers to writes that were carried out."""

    namespace = "operator"

    def __init__(self) -> None:
        self.leases: dict[tuple[str, str], dict[str, Any]] = {}
        self.error: OperatorError | None = None
        self.lost = False
        self.writes = 0
        self._numbers = itertools.count(1)

    @property
    def client(self) -> KubernetesClient:
        return cast("KubernetesClient", self)

    async def create(self, _: object, namespace: str, manifest: Mapping[str, Any]) -> Lease:
        self._check()
        key = (namespace, manifest["metadata"]["name"])
        if key in self.leases:
            raise KubernetesConflict("it exists")
        self.leases[key] = {**manifest, "metadata": {**manifest["metadata"], "uid": self._next()}}
        return self._written(key)

    async def get(self, _: object, namespace: str, name: str) -> Lease:
        self._check()
        return self.read(namespace, name)

    async def patch(self, _: object, namespace: str, name: str, patch: Mapping[str, Any]) -> Lease:
        self._check()
        key = (namespace, name)
        if key not in self.leases:
            raise KubernetesNotFound("it does not exist")
        version = patch["metadata"].get("resourceVersion")
        if version not in (None, self.leases[key]["metadata"]["resourceVersion"]):
            raise KubernetesConflict("it was changed")
        self.edit(namespace, name, **patch["spec"])
        return self._written(key)

    def read(self, namespace: str, name: str) -> Lease:
        """Return the Lease as a watch shows it."""
        if (namespace, name) not in self.leases:
            raise KubernetesNotFound("it does not exist")
        return _lease.validate_python(self.leases[namespace, name])

    def edit(self, namespace: str, name: str, **spec: Any) -> None:
        """Change fields of the spec, as an editor does."""
        lease = self.leases[namespace, name]
        lease["spec"] = {**lease["spec"], **spec}
        lease["metadata"]["resourceVersion"] = self._next()

    def _written(self, key: tuple[str, str]) -> Lease:
        self.writes += 1
        self.leases[key]["metadata"]["resourceVersion"] = self._next()
        if self.lost:
            raise KubernetesUnavailable("the answer was lost")
        return self.read(*key)

    def _next(self) -> str:
        return str(next(self._numbers))

    def _check(self) -> None:
        if self.error:
            raise self.error
