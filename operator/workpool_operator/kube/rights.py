"""Every right that the operator needs, with the reason. Pure.

One table: the RBAC of manifests/base and of the chart, and the table in docs/security.md, are made
from it (`make crd`), and the operator reviews its own rights by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from workpool_operator.api.v1alpha1 import GROUP, PLURAL

JOBS_PERMITTED = "JobsPermitted"
RIGHTS_GRANTED = "RightsGranted"
OF_THE_FIELD = ""  # the condition of the field that names the object

Permission = tuple[str, str, str]  # verb, API group, resource


class Scope(Enum):
    """The namespaces in which a right is needed."""

    BINDINGS = "bindings"
    """Those of bindings: the chart's `watchNamespaces`."""
    JOBS = "jobs"
    """Those of Jobs: the chart's `jobNamespaces`."""
    SECRETS = "secrets"
    """Those of Jobs whose bindings need copies of Secrets, if the chart's `writeSecrets` is set."""
    REPLICAS = "replicas"
    """The operator's own."""
    UPGRADE = "upgrade"
    """All, for the hook of the chart that upgrades the CRD."""
    UNINSTALLATION = "uninstallation"
    """Those of bindings, for the hook of the chart that deletes them."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Verbs that the operator needs for one resource.

    `why` completes "in order to". `condition` is the one that names a missing verb.
    `is_everywhere`: manifests/base, and the chart with `clusterWide`, grant it in all namespaces,
    because a binding could otherwise not say what is missing. `names` are the only objects, if any.
    """

    scope: Scope
    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    condition: str = RIGHTS_GRANTED
    is_everywhere: bool = False
    names: tuple[str, ...] = ()

    @property
    def permissions(self) -> Iterator[Permission]:
        """Each verb by itself."""
        return ((verb, self.group, self.resource) for verb in self.verbs)


RULES = (
    Rule(
        Scope.BINDINGS,
        GROUP,
        PLURAL,
        ("get", "list", "watch"),
        "follow bindings",
        is_everywhere=True,
    ),
    Rule(
        Scope.BINDINGS,
        GROUP,
        PLURAL,
        ("patch",),
        "set and remove their finalizer",
        is_everywhere=True,
    ),
    Rule(
        Scope.BINDINGS,
        GROUP,
        f"{PLURAL}/status",
        ("patch",),
        "write their status",
        is_everywhere=True,
    ),
    Rule(
        Scope.BINDINGS,
        "coordination.k8s.io",
        "leases",
        ("get", "list", "watch"),
        "see which replica serves which binding",
        is_everywhere=True,
    ),
    Rule(
        Scope.BINDINGS,
        "coordination.k8s.io",
        "leases",
        ("create", "patch"),
        "take the Lease of a binding before it serves it",
    ),
    Rule(
        Scope.BINDINGS,
        "",
        "namespaces",
        ("get",),
        "read the UID of the namespace, which is part of each claim",
        is_everywhere=True,
    ),
    Rule(
        Scope.BINDINGS,
        "",
        "events",
        ("create",),
        "report changes of Ready, refused claims, and crashed runs without a Job",
    ),
    Rule(
        Scope.BINDINGS,
        "",
        "secrets",
        ("get",),
        "read the credentials that bindings name",
        condition=OF_THE_FIELD,
    ),
    Rule(
        Scope.BINDINGS,
        "",
        "configmaps",
        ("get",),
        "read the CA, the address and the template that a binding names",
        condition=OF_THE_FIELD,
    ),
    Rule(
        Scope.BINDINGS,
        "prefect.io",
        "prefectservers",
        ("get",),
        "read the server of prefect-operator that a binding names",
        condition=OF_THE_FIELD,
    ),
    Rule(
        Scope.BINDINGS,
        "prefect.io",
        "prefectworkpools",
        ("get",),
        "read the work pool of prefect-operator that a binding names",
        condition=OF_THE_FIELD,
    ),
    Rule(
        Scope.JOBS,
        "batch",
        "jobs",
        ("create", "get", "list", "watch", "patch", "delete"),
        "run, follow, annotate and end Jobs, and start their TTL",
        condition=JOBS_PERMITTED,
    ),
    Rule(
        Scope.JOBS,
        "",
        "pods",
        ("list", "watch", "patch"),
        "follow a run's pod; end the pod of a finished run, and keep its log",
        condition=JOBS_PERMITTED,
    ),
    Rule(
        Scope.JOBS,
        "",
        "namespaces",
        ("get",),
        "read whether the namespace allows bindings of another one",
        condition=JOBS_PERMITTED,
    ),
    Rule(
        Scope.JOBS,
        "",
        "pods/log",
        ("get",),
        "quote the last lines of a container that failed",
    ),
    Rule(
        Scope.JOBS,
        "",
        "events",
        ("list", "create"),
        "find why a pod does not start, and report on a Job what its run waits for or how it ended",
    ),
    Rule(
        Scope.JOBS,
        "",
        "secrets",
        ("get",),
        "check those that bindings name for run pods",
        condition=OF_THE_FIELD,
    ),
    Rule(
        Scope.JOBS,
        "",
        "configmaps",
        ("get",),
        "check those that bindings name for run pods",
        condition=OF_THE_FIELD,
    ),
    Rule(
        Scope.SECRETS,
        "",
        "secrets",
        ("create", "patch", "delete", "list"),
        "keep copies of credentials, and environments of runs",
        condition=JOBS_PERMITTED,
    ),
    Rule(
        Scope.REPLICAS,
        "coordination.k8s.io",
        "leases",
        ("get", "list", "watch", "create", "patch"),
        "know the other replicas, and be known to them",
    ),
)


#: Of the chart's hooks, which have accounts of their own.
HOOK_RULES = (
    Rule(
        Scope.UPGRADE,
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        ("get", "patch"),
        "upgrade the CRD of WorkPoolBinding",
        names=(f"{PLURAL}.{GROUP}",),
    ),
    Rule(
        Scope.UNINSTALLATION,
        GROUP,
        PLURAL,
        ("get", "list", "delete", "patch"),
        "delete the bindings of the release, and their finalizer if no operator does",
    ),
    Rule(
        Scope.UNINSTALLATION,
        "coordination.k8s.io",
        "leases",
        ("get",),
        "see whether an operator still waits for the runs of a deleted binding",
    ),
)


def rules(*scopes: Scope) -> list[Rule]:
    """Return the rules of these scopes."""
    return [rule for rule in RULES if rule.scope in scopes]


def permissions(found: Iterable[Rule], *, condition: str) -> list[Permission]:
    """Return what the rules permit, of those that this condition reports."""
    return [
        permission
        for rule in found
        if rule.condition == condition
        for permission in rule.permissions
    ]
