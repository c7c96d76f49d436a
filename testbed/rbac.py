"""The RBAC of the manifests and of the chart, and the table in docs/security.md, from the
operator's table of rights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from workpool_operator.kube import rights
from workpool_operator.kube.rights import Rule, Scope

_NOTE = "Made by `make crd` from kube/rights.py: change that file instead."
_ACCOUNT = "- {kind: ServiceAccount, name: workpool-operator, namespace: workpool-operator}"

_BASE = """\
# {note}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: workpool-operator
  namespace: workpool-operator # an overlay's `namespace:` changes it here and in the bindings below
  labels: {{app.kubernetes.io/name: workpool-operator}}
---
# In every namespace: read bindings and their Leases, and write to bindings. It gives no access to
# Secrets or Jobs, and none to objects of others.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: workpool-operator
  labels: {{app.kubernetes.io/name: workpool-operator}}
rules:
{everywhere}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: workpool-operator
  labels: {{app.kubernetes.io/name: workpool-operator}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: workpool-operator}}
subjects:
  {account}
---
# In the operator's own namespace: the Leases by which its replicas know each other.
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: workpool-operator-replicas
  namespace: workpool-operator
  labels: {{app.kubernetes.io/name: workpool-operator}}
rules:
{replicas}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: workpool-operator-replicas
  namespace: workpool-operator
  labels: {{app.kubernetes.io/name: workpool-operator}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: workpool-operator-replicas}}
subjects:
  {account}
---
# Grant it in each namespace that has bindings or their Jobs:
#   kubectl -n data create rolebinding workpool-operator-jobs \\
#     --clusterrole=workpool-operator-jobs --serviceaccount=workpool-operator:workpool-operator
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: workpool-operator-jobs
  labels: {{app.kubernetes.io/name: workpool-operator}}
rules:
{jobs}
---
# Grant it as well where the operator has to write Secrets (docs/secrets.md): for Jobs in another
# namespace than their binding that use its credentials, for spec.server.headers and for
# spec.jobs.environmentSecret.
#   kubectl -n runs create rolebinding workpool-operator-secrets \\
#     --clusterrole=workpool-operator-secrets --serviceaccount=workpool-operator:workpool-operator
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: workpool-operator-secrets
  labels: {{app.kubernetes.io/name: workpool-operator}}
rules:
{secrets}
"""

_NAMESPACED = """\
# {note}
# In the operator's own namespace: what it needs there, besides the Leases of manifests/base.
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: workpool-operator
  namespace: workpool-operator
  labels: {{app.kubernetes.io/name: workpool-operator}}
rules:
{rules}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: workpool-operator
  namespace: workpool-operator
  labels: {{app.kubernetes.io/name: workpool-operator}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: workpool-operator}}
subjects:
  {account}
---
# Grant it as well if the operator has to write Secrets (docs/secrets.md): for spec.server.headers
# and for spec.jobs.environmentSecret.
#   kubectl -n data create rolebinding workpool-operator-secrets \\
#     --role=workpool-operator-secrets --serviceaccount=data:workpool-operator
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: workpool-operator-secrets
  namespace: workpool-operator
  labels: {{app.kubernetes.io/name: workpool-operator}}
rules:
{secrets}
"""

#: The chart's Roles: the name of each template, and its rules. Those that read what bindings name
#: in a namespace of Jobs are missing: the chart limits them to names, which only it knows.
_CHART: dict[str, Callable[[Rule], bool]] = {
    "bindings": lambda rule: rule.scope is Scope.BINDINGS,
    "jobs": lambda rule: rule.scope is Scope.JOBS and rule.condition != rights.OF_THE_FIELD,
    "secrets": lambda rule: rule.scope is Scope.SECRETS,
    "replicas": lambda rule: rule.scope is Scope.REPLICAS,
    "everywhere": lambda rule: rule.is_everywhere,
    "namespace": lambda rule: rule in _per_namespace(),
    "unbind": lambda rule: rule.scope is Scope.UNINSTALLATION,
    "crd": lambda rule: rule.scope is Scope.UPGRADE,
}

_PREFIX = "workpool-operator.rules"
_COLUMNS = """\
| role | resource | verbs | why |
|---|---|---|---|
"""


def manifest() -> str:
    """Return manifests/base/rbac.yaml."""
    return _BASE.format(
        note=_NOTE,
        account=_ACCOUNT,
        everywhere=_yaml(_everywhere()),
        replicas=_yaml(rights.rules(Scope.REPLICAS)),
        jobs=_yaml(_per_namespace()),
        secrets=_yaml(rights.rules(Scope.SECRETS)),
    )


def namespaced_manifest() -> str:
    """Return manifests/namespaced/rbac.yaml."""
    return _NAMESPACED.format(
        note=_NOTE,
        account=_ACCOUNT,
        rules=_yaml(rights.rules(Scope.BINDINGS, Scope.JOBS)),
        secrets=_yaml(rights.rules(Scope.SECRETS)),
    )


def chart_rules() -> str:
    """Return the templates of the rules of the chart's Roles."""
    parts = [f"{{{{- /* {_NOTE} */}}}}\n"]
    for name, chosen in _CHART.items():
        rules = _yaml(rule for rule in rights.RULES + rights.HOOK_RULES if chosen(rule))
        parts.append(
            f'{{{{- define "workpool-operator.rules.{name}" }}}}\n{rules}\n{{{{- end }}}}\n'
        )
    return "\n".join(parts)


def table() -> str:
    """Return the rows of docs/security.md: what each role of manifests/base permits."""
    rows = [
        f"| `{role}` | `{rule.resource}` | {', '.join(rule.verbs)} | {rule.why} |\n"
        for role, rules in (
            ("workpool-operator", _everywhere()),
            ("workpool-operator-jobs", _per_namespace()),
            ("workpool-operator-secrets", rights.rules(Scope.SECRETS)),
            ("workpool-operator-replicas", rights.rules(Scope.REPLICAS)),
        )
        for rule in rules
    ]
    return _COLUMNS + "".join(rows)


def _everywhere() -> list[Rule]:
    return [rule for rule in rights.RULES if rule.is_everywhere]


def _per_namespace() -> list[Rule]:
    return [rule for rule in rights.rules(Scope.BINDINGS, Scope.JOBS) if not rule.is_everywhere]


def _yaml(rules: Iterable[Rule]) -> str:
    return "\n".join(_entries(rules))


def _entries(rules: Iterable[Rule]) -> Iterator[str]:
    """Yield a rule of RBAC for each resource, with the reasons as comments."""
    ordered = sorted(rules, key=lambda rule: (rule.group, rule.resource))
    for (group, resource), same in groupby(ordered, lambda rule: (rule.group, rule.resource)):
        of_one = list(same)
        verbs = dict.fromkeys(verb for rule in of_one for verb in rule.verbs)
        yield from (f"  # {why}" for why in dict.fromkeys(rule.why for rule in of_one))
        yield f'  - apiGroups: ["{group}"]'
        yield f"    resources: [{resource}]"
        if of_one[0].names:
            yield f"    resourceNames: [{', '.join(of_one[0].names)}]"
        yield f"    verbs: [{', '.join(verbs)}]"
