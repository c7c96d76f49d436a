"""What the API server's no, or its silence, means for a run whose Job it was asked to create. Pure.

What time can mend is waited for, under a sub-state that says why; anything else ends the run with
the fix.
"""

from __future__ import annotations

import re

from workpool_operator.errors import (
    BindingFault,
    KubernetesBadRequest,
    KubernetesConflict,
    KubernetesForbidden,
    KubernetesInvalid,
    KubernetesNotFound,
    KubernetesRefused,
    KubernetesUnauthorized,
    KubernetesUnavailable,
    OperatorError,
    SecretRefused,
)
from workpool_operator.jobs import attribution
from workpool_operator.jobs.diagnosis import OUTAGE, WaitReason
from workpool_operator.jobs.inputs import RenderInput

# How the API server words what status and reason do not tell apart. Admission names the object, the
# authorizer never: it decides before there is one.
_BY_ADMISSION = re.compile(r'"[^"]+" is forbidden: ')
_BY_A_POLICY = ("admission webhook", "ValidatingAdmissionPolicy")
_ENDING = "because it is being terminated"


def transient_reason(error: OperatorError) -> WaitReason | None:
    """What the run waits for; None where nothing but a change would help."""
    text = str(error).rstrip(". ")
    if isinstance(error, BindingFault):
        return WaitReason("JobRefused", str(error))
    if isinstance(error, KubernetesUnavailable):
        return WaitReason(
            OUTAGE, f"The Kubernetes API does not take the run's Job: {text}. It is tried again."
        )
    if not isinstance(error, KubernetesRefused):
        return None
    answer = _answer(error)
    if isinstance(answer, KubernetesForbidden) and "exceeded quota" in text:
        advice = "It starts as soon as the namespace's quota allows: raise it, or end other Jobs."
        return WaitReason("QuotaExceeded", f"{text}. {advice}")
    if isinstance(answer, KubernetesConflict) or any(words in text for words in _BY_A_POLICY):
        return WaitReason("JobRefused", f"{text}. The Job is tried again.")
    if _ENDING in text:
        advice = "Nothing starts in it any more: create it again once it is gone."
        return WaitReason("JobRefused", f"{text}. {advice}")
    return None


def is_missing_permission(error: KubernetesRefused) -> bool:
    """Whether it is refused because the operator lacks a right, which is the binding's fault. Every
    admission plugin answers 403, too."""
    answer = _answer(error)
    if isinstance(answer, KubernetesForbidden):
        return not _BY_ADMISSION.search(str(error))
    return isinstance(answer, KubernetesUnauthorized)


def rejected_job_message(
    refused: KubernetesRefused, render_input: RenderInput, *, namespace: str, grant: str = ""
) -> str:
    """Why the run ends: the places that are refused, where their values come from, and the fix;
    `grant` is that for a right that is missing."""
    text = attribution.rejected_fields_message(refused.causes, render_input) or str(refused)
    is_misfit = isinstance(_answer(refused), KubernetesBadRequest | KubernetesInvalid)
    misfits = attribution.invalid_variables_message(render_input) if is_misfit else ""
    facts = ". ".join(part.rstrip(". ") for part in (text, misfits) if part)
    return f"The API server refused the run's Job: {facts}. {_advice(refused, namespace, grant)}"


def _advice(refused: KubernetesRefused, namespace: str, grant: str) -> str:
    if grant:
        what = "secrets" if isinstance(refused, SecretRefused) else "jobs"
        return f"Grant the operator the right to create {what} in namespace {namespace!r}: {grant}"
    answer = _answer(refused)
    if isinstance(answer, KubernetesForbidden):
        return (
            "The operator has the right to create Jobs, a policy of the cluster refuses this one: "
            "change what it names, or the policy."
        )
    if isinstance(answer, KubernetesNotFound):
        return (
            f"Create the namespace: kubectl create namespace {namespace}, or correct its name: "
            "spec.jobs.namespace of a binding, job variable namespace under a worker."
        )
    return "Correct the deployment's job variables or the pool's base job template."


def _answer(refused: KubernetesRefused) -> KubernetesRefused:
    """Return the API server's own refusal, of the Job or of the Secret of its environment."""
    return refused.refusal if isinstance(refused, SecretRefused) else refused
