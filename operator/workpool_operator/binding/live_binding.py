"""A `WorkPoolBinding` as a watch keeps it current."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from workpool_operator.api import v1alpha1
from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding.context import Binding
from workpool_operator.binding.pool_sharing import PoolConsumer
from workpool_operator.errors import OperatorError
from workpool_operator.kube.models import is_uuid, version_of
from workpool_operator.logs import about

log = logging.getLogger(__name__)

Object = Mapping[str, Any]


class LiveBinding:
    """One object of the API; `update` replaces it by a later version of the same object."""

    def __init__(self, found: Object) -> None:
        self._found = found
        self._spec = LiveSpec(self.key)
        self.update(found)

    def update(self, found: Object) -> None:
        """Replace the object by the version that was read, unless a later one is known."""
        if _version(found) < _version(self._found):
            return
        self._found = found
        self._spec.update(found.get("spec") or {})

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self._found["metadata"]["namespace"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._found["metadata"]["name"])

    @property
    def key(self) -> str:
        """NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"

    @property
    def uid(self) -> str:
        """Its UID."""
        return str(self._found["metadata"]["uid"])

    @property
    def is_deleting(self) -> bool:
        """Whether its deletion was requested."""
        return bool(self._found["metadata"].get("deletionTimestamp"))

    @property
    def deletion(self) -> str:
        """The deletionPolicy by which it is being deleted, also if the rest of the spec is invalid;
        "" if it is not being deleted."""
        policy = (self._found.get("spec") or {}).get("deletionPolicy")
        return str(policy or "Orphan") if self.is_deleting else ""

    @property
    def is_released(self) -> bool:
        """Whether it is being deleted and no longer waits for this operator."""
        return self.is_deleting and not self.has_finalizer

    @property
    def has_finalizer(self) -> bool:
        """Whether its deletion waits for this operator."""
        return v1alpha1.FINALIZER in (self._found["metadata"].get("finalizers") or ())

    @property
    def pool_name(self) -> str:
        """The name of its work pool, also if the rest of the spec is invalid; "" without one."""
        pool = (self._found.get("spec") or {}).get("workPool") or {}
        return str(pool.get("name") or (pool.get("ref") or {}).get("name") or "")

    @property
    def consumer(self) -> PoolConsumer | None:
        """What it takes from which pool, by its status; None if its holder has not found the pool.
        Another replica may be the holder."""
        status = self._found.get("status") or {}
        pool_id = str((status.get("workPool") or {}).get("id"))
        if not is_uuid(pool_id):
            return None
        queues = (self._found.get("spec") or {}).get("workQueues")
        worker = status.get("workerName") or ""
        return PoolConsumer(self.key, worker=worker, pool_id=UUID(pool_id), queues=queues)

    @property
    def reference(self) -> dict[str, str]:
        """The owner reference to it."""
        return {
            "apiVersion": v1alpha1.API_VERSION,
            "kind": v1alpha1.KIND,
            "name": self.name,
            "uid": self.uid,
        }

    def binding(self, *, holds_lease: Callable[[], bool]) -> Binding:
        """Return the binding, whose spec, generation and annotations stay current."""
        return Binding(
            namespace=self.namespace,
            name=self.name,
            spec=self._spec,
            generation=lambda: int(self._found["metadata"].get("generation") or 0),
            status=dict(self._found.get("status") or {}),
            uid=self.uid,
            holds_lease=holds_lease,
            deletion=lambda: self.deletion,
            annotations=lambda: self._found["metadata"].get("annotations") or {},
        )


class LiveSpec:
    """Parses a spec once per change.

    An invalid spec, which only an older CRD admits, is logged, and the last valid one stays in use.
    """

    def __init__(self, binding: str) -> None:
        self._binding = binding
        self._raw: Mapping[str, Any] | None = None
        self._is_parsed = False
        self._parsed: Spec | None = None
        self._error = ""

    def __call__(self) -> Spec:
        """Return the last valid spec.

        Raises:
            OperatorError: no spec has been valid yet.
        """
        if not self._is_parsed:
            self._is_parsed = True
            self._parse()
        if self._parsed is None:
            raise OperatorError(self._error)
        return self._parsed

    def update(self, raw: Mapping[str, Any]) -> None:
        """Replace the spec; it is parsed when it is asked for, if it changed."""
        if raw != self._raw:
            self._raw, self._is_parsed = raw, False

    def _parse(self) -> None:
        try:
            self._parsed = Spec.model_validate(self._raw)
        except ValidationError as error:
            fields = (".".join(map(str, e["loc"])) + ": " + e["msg"] for e in error.errors())
            fix = "apply the current CRD, then correct the spec"
            self._error = f"the spec is invalid: {'; '.join(fields)}; {fix}"
            with about(binding=self._binding):
                log.error("%s: %s", self._binding, self._error)


def _version(found: Object) -> int:
    return version_of(str(found["metadata"].get("resourceVersion", "")))
