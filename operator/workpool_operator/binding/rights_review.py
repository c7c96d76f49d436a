"""Reviews the rights that a binding needs besides those for its Jobs, as condition RightsGranted.

Without one of them the operator serves the binding, but not in full: it cannot quote the log of a
failed run, for example, or cannot delete the binding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workpool_operator.binding import conditions as c
from workpool_operator.binding.conditions import ConditionState
from workpool_operator.binding.context import Binding
from workpool_operator.errors import OperatorError
from workpool_operator.kube import permissions, rights
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.permissions import Role
from workpool_operator.kube.rights import Rule, Scope

NOT_REVIEWED = ConditionState("Unknown", "NotChecked", "Not checked yet.")
_GRANTED = ConditionState(
    "True", "Granted", "The operator has every right that it needs besides those for Jobs."
)


@dataclass(frozen=True, slots=True)
class _Part:
    """Rules for one namespace, and the role that grants them."""

    namespace: str
    rules: Sequence[Rule]
    role: Role


async def rights_granted(kube: KubernetesClient, binding: Binding) -> ConditionState:
    """Return RightsGranted. Its message names each missing right, what it is for, and its grant."""
    try:
        missing = [text for part in _parts(kube, binding) if (text := await _missing(kube, part))]
    except OperatorError as error:
        return ConditionState("Unknown", "NotChecked", f"The API server did not review: {error}.")
    if not missing:
        return _GRANTED
    return ConditionState("False", "RightsMissing", " ".join(missing))


def _parts(kube: KubernetesClient, binding: Binding) -> list[_Part]:
    of_bindings = rights.rules(Scope.BINDINGS)
    of_jobs = rights.rules(Scope.JOBS)
    own = binding.namespace
    return [
        _Part(
            own,
            [rule for rule in of_bindings if rule.is_everywhere],
            permissions.FOLLOW_BINDINGS_ROLE,
        ),
        _Part(
            own,
            [rule for rule in of_bindings if not rule.is_everywhere],
            permissions.BINDINGS_ROLE,
        ),
        *(_Part(each, of_jobs, permissions.JOBS_ROLE) for each in binding.job_namespaces),
        _Part(kube.namespace, rights.rules(Scope.REPLICAS), permissions.REPLICAS_ROLE),
    ]


async def _missing(kube: KubernetesClient, part: _Part) -> str:
    """Return a sentence about what is missing, "" if nothing is."""
    found = []
    for rule in part.rules:
        wanted = rights.permissions([rule], condition=c.RIGHTS_GRANTED)
        if lacks := await permissions.missing_permissions(kube, part.namespace, wanted):
            found.append(f"{', '.join(lacks)} (to {rule.why})")
    if not found:
        return ""
    grant = await permissions.how_to_grant(kube, part.namespace, part.role)
    return (
        f"In namespace {part.namespace!r} the operator may not {'; '.join(found)}. "
        f"Grant it: {grant}."
    )
