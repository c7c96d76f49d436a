"""Explains why the API server did not create a run's Job. Pure.

The run waits for what time can resolve, under a sub-state that names the reason. Anything else ends
the run with the fix.
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

# Texts of the API server, for cases that share a status and a reason. Admission names the object.
# The authorizer does not: it decides before the object exists.
_BY_ADMISSION = re.compile(r'"[^"]+" is forbidden: ')
_BY_A_POLICY = ("admission webhook", "ValidatingAdmissionPolicy")
_ENDING = "because it is being terminated"


def transient_reason(error: OperatorError) -> WaitReason | None:
    """Return what the run waits for; None if only a change of the cluster or the run would help."""
    text = str(error).rstrip(". ")
    if isinstance(error, BindingFault):
        return WaitReason("JobRefused", str(error))
    if isinstance(error, KubernetesUnavailable):
        problem = f"The Kubernetes API does not accept the run's Job: {text}"
        return WaitReason(OUTAGE, f"{problem}. The operator tries again.")
    if not isinstance(error, KubernetesRefused):
        return None
    answer = _answer(error)
    if isinstance(answer, KubernetesForbidden) and "exceeded quota" in text:
        advice = (
            "The Job starts as soon as the namespace's quota allows: raise it, or end other Jobs."
        )
        return WaitReason("QuotaExceeded", f"{text}. {advice}")
    if isinstance(answer, KubernetesConflict) or any(words in text for words in _BY_A_POLICY):
        return WaitReason("JobRefused", f"{text}. The operator tries again.")
    if _ENDING in text:
        advice = "Nothing can start in the namespace: create it again once it is deleted."
        return WaitReason("JobRefused", f"{text}. {advice}")
    return None


def is_missing_permission(error: KubernetesRefused) -> bool:
    """Return whether the operator lacks a right. A 403 of an admission plugin does not count."""
    answer = _answer(error)
    if isinstance(answer, KubernetesForbidden):
        return not _BY_ADMISSION.search(str(error))
    return isinstance(answer, KubernetesUnauthorized)


def rejected_job_message(
    refused: KubernetesRefused, render_input: RenderInput, *, namespace: str, grant: str = ""
) -> str:
    """Return why the run ends: the refused fields, where their values come from, and the fix.
    `grant` is the fix for a missing right."""
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
            "The operator may create Jobs, but a policy of the cluster refuses this one: "
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
