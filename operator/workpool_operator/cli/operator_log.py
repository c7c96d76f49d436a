"""Says how to read the log of the operator that serves a binding. Pure."""

from __future__ import annotations

FIND_PODS = "kubectl get pods -A -l app.kubernetes.io/name=workpool-operator"


def pod_of(identity: str) -> str:
    """Return the name of the operator's pod, which its identity begins with."""
    return identity.partition("_")[0]


def how_to_read(pod: str, namespace: str, *, about: str) -> str:
    """Return the command that prints what the operator logged about a run, or how to find its pod.
    `pod` and `namespace` are "" if they are unknown."""
    if pod and namespace:
        return f"read the operator's log: kubectl -n {namespace} logs {pod} | grep {about}"
    if pod:
        where = f"kubectl get pods -A --field-selector=metadata.name={pod}"
        return f"read the log of the operator's pod {pod} for {about}; its namespace: {where}"
    return f"read the operator's log for {about}; it is one of: {FIND_PODS}"


def why_silent(pod: str, namespace: str) -> str:
    """Return how to find out why an operator does not act any more. Its pod is in no namespace if
    it has ended."""
    if not namespace:
        return f"does it run? {FIND_PODS}; if it does, its log says what it may not do"
    warnings = f"kubectl -n {namespace} logs {pod} | grep -E 'WARNING|ERROR' | tail -20"
    return f"its log says what it may not do: {warnings}"
