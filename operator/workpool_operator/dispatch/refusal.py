"""What the API server's no, or its silence, means for a run whose Job it was asked to create. Pure.

What time can mend is waited for, under a sub-state that says why; anything else ends the run with
the fix.
"""

from __future__ import annotations

from workpool_operator.errors import (
    BindingFault,
    KubernetesRefused,
    KubernetesUnavailable,
    OperatorError,
    SecretRefused,
)
from workpool_operator.jobs import blame
from workpool_operator.jobs.draft import Draft
from workpool_operator.jobs.verdict import OUTAGE, Wait


def passing(error: OperatorError) -> Wait | None:
    """What the run waits for; None where nothing but a change would help."""
    text = str(error).rstrip(". ")
    if isinstance(error, BindingFault):
        return Wait("JobRefused", str(error))
    if isinstance(error, KubernetesUnavailable):
        return Wait(
            OUTAGE, f"The Kubernetes API does not take the run's Job: {text}. It is tried again."
        )
    if not isinstance(error, KubernetesRefused):
        return None
    if error.status == 403 and "exceeded quota" in text:
        advice = "It starts as soon as the namespace's quota allows: raise it, or end other Jobs."
        return Wait("QuotaExceeded", f"{text}. {advice}")
    if error.status == 409 or "admission webhook" in text:
        return Wait("JobRefused", f"{text}. The Job is tried again.")
    return None


def crash_text(refused: KubernetesRefused, draft: Draft, *, namespace: str, grant: str = "") -> str:
    """Why the run ends: the places that are refused, where their values come from, and the fix;
    `grant` is that for a right that is missing."""
    text = blame.refusal_text(refused.causes, draft.subject) or str(refused)
    misfits = blame.misfit_text(draft.subject) if refused.status in (400, 422) else ""
    facts = ". ".join(part.rstrip(". ") for part in (text, misfits) if part)
    return f"The API server refused the run's Job: {facts}. {_advice(refused, namespace, grant)}"


def _advice(refused: KubernetesRefused, namespace: str, grant: str) -> str:
    if grant:
        what = "secrets" if isinstance(refused, SecretRefused) else "jobs"
        return f"Grant the operator the right to create {what} in namespace {namespace!r}: {grant}"
    if refused.status == 404:
        return (
            f"Create the namespace: kubectl create namespace {namespace}, or correct its name: "
            "spec.jobs.namespace of a binding, job variable namespace under a worker."
        )
    return "Correct the deployment's job variables or the pool's base job template."
