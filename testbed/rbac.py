"""The RBAC of the manifests and of the chart, and the table in docs/security.md, from the
operator's table of rights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from workpool_operator.kube import rights
from workpool_operator.kube.rights import Rule, Scope

_NOTE = "Made by `make crd` from kube/rights.py: change that file instead."

_SERVICE_ACCOUNT = """\
apiVersion: v1
kind: ServiceAccount
metadata:
  name: workpool-operator
  namespace: workpool-operator # an overlay's `namespace:` changes it here and in the bindings below
  labels: {app.kubernetes.io/name: workpool-operator}
"""
_EVERYWHERE = """\
# In every namespace: read bindings and their Leases, and write to bindings. It gives no access to
# Secrets or Jobs, and none to objects of others.
"""
_REPLICAS = """\
# In the operator's own namespace: the Leases by which its replicas know each other.
"""
_JOBS = """\
# Grant it in each namespace that has bindings or their Jobs:
#   kubectl -n data create rolebinding workpool-operator-jobs \\
#     --clusterrole=workpool-operator-jobs --serviceaccount=workpool-operator:workpool-operator
"""
_SECRETS = """\
# Grant it as well where the operator has to write Secrets (docs/secrets.md): for Jobs in another
# namespace than their binding that use its credentials, for spec.server.headers and for
# spec.jobs.environmentSecret.
#   kubectl -n runs create rolebinding workpool-operator-secrets \\
#     --clusterrole=workpool-operator-secrets --serviceaccount=workpool-operator:workpool-operator
"""
_OWN_NAMESPACE = """\
# In the operator's own namespace: what it needs there, besides the Leases of manifests/base.
"""
_SECRETS_OF_OWN_NAMESPACE = """\
# Grant it as well if the operator has to write Secrets (docs/secrets.md): for spec.server.headers
# and for spec.jobs.environmentSecret.
#   kubectl -n data create rolebinding workpool-operator-secrets \\
#     --role=workpool-operator-secrets --serviceaccount=data:workpool-operator
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
    secrets = rights.rules(Scope.SECRETS)
    return _documents(
        _SERVICE_ACCOUNT,
        _EVERYWHERE + _role("ClusterRole", "workpool-operator", _everywhere()),
        _role_binding("ClusterRole", "workpool-operator"),
        _REPLICAS + _role("Role", "workpool-operator-replicas", rights.rules(Scope.REPLICAS)),
        _role_binding("Role", "workpool-operator-replicas"),
        _JOBS + _role("ClusterRole", "workpool-operator-jobs", _per_namespace()),
        _SECRETS + _role("ClusterRole", "workpool-operator-secrets", secrets),
    )


def namespaced_manifest() -> str:
    """Return manifests/namespaced/rbac.yaml."""
    own, secrets = rights.rules(Scope.BINDINGS, Scope.JOBS), rights.rules(Scope.SECRETS)
    return _documents(
        _OWN_NAMESPACE + _role("Role", "workpool-operator", own),
        _role_binding("Role", "workpool-operator"),
        _SECRETS_OF_OWN_NAMESPACE + _role("Role", "workpool-operator-secrets", secrets),
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


def _documents(*documents: str) -> str:
    return f"# {_NOTE}\n" + "---\n".join(documents)


def _role(kind: str, name: str, rules: Iterable[Rule]) -> str:
    return f"{_head(kind, name)}rules:\n{_yaml(rules)}\n"


def _role_binding(kind: str, name: str) -> str:
    """Return the object that grants the operator a role of its own namespace, or of all."""
    return (
        f"{_head(f'{kind}Binding', name)}"
        f"roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: {name}}}\n"
        "subjects:\n"
        "  - {kind: ServiceAccount, name: workpool-operator, namespace: workpool-operator}\n"
    )


def _head(kind: str, name: str) -> str:
    namespace = "" if kind.startswith("Cluster") else "  namespace: workpool-operator\n"
    return (
        f"apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\n"
        f"{namespace}  labels: {{app.kubernetes.io/name: workpool-operator}}\n"
    )


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
