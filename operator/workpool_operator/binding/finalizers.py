"""Sets and removes the finalizer of a binding, which makes its deletion wait for its holder.

It is not kopf's: kopf removes its own as soon as it has no handler that needs one, also in a
replica that does not serve the binding (docs/races.md, 28).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workpool_operator.api import v1alpha1
from workpool_operator.binding.status import BINDINGS
from workpool_operator.errors import KubernetesConflict, KubernetesNotFound
from workpool_operator.kube.client import KubernetesClient

Object = dict[str, Any]
ATTEMPTS = 5  # of a read and a write, between which another may change the binding


Check = Callable[[], None]  # raises LeaseNotHeld before a write that another replica makes


async def add(
    kube: KubernetesClient, namespace: str, name: str, *, uid: str, check: Check
) -> Object | None:
    """Return the binding with the finalizer, or as it is if it is being deleted; None if the
    binding with this uid does not exist.

    Raises:
        OperatorError: not done; call again.
    """
    return await _change(kube, namespace, name, uid=uid, present=True, check=check)


async def remove(
    kube: KubernetesClient, namespace: str, name: str, *, uid: str, check: Check
) -> None:
    """Remove the finalizer, if the binding with this uid exists; keep those of others.

    Raises:
        OperatorError: not done; call again.
    """
    await _change(kube, namespace, name, uid=uid, present=False, check=check)


async def _change(
    kube: KubernetesClient, namespace: str, name: str, *, uid: str, present: bool, check: Check
) -> Object | None:
    for attempt in range(ATTEMPTS):
        try:
            found: Object = await kube.get(BINDINGS, namespace, name)
            metadata = found["metadata"]
            if metadata["uid"] != uid:
                return None
            others = [each for each in metadata.get("finalizers", []) if each != v1alpha1.FINALIZER]
            has_it = len(others) < len(metadata.get("finalizers", []))
            if has_it == present or (present and metadata.get("deletionTimestamp")):
                return found
            wanted = [*others, v1alpha1.FINALIZER] if present else others
            version = metadata["resourceVersion"]
            check()
            patch = {"metadata": {"finalizers": wanted or None, "resourceVersion": version}}
            return await kube.patch(BINDINGS, namespace, name, patch)
        except KubernetesNotFound:
            return None
        except KubernetesConflict:
            if attempt == ATTEMPTS - 1:
                raise
    return None
