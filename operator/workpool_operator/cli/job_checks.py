"""The checks of `doctor` of a binding's Jobs: what the API server says of one in a dry run.

Nothing is created. A Job's dry run does not check its pod, so the pod is sent, too, if the caller
may create pods: the operator itself needs no such right.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from workpool_operator import settings
from workpool_operator.binding import preflight_checks
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.context import Binding
from workpool_operator.binding.template_dry_run import NAME, TemplateDryRun
from workpool_operator.binding.template_findings import TemplateFindings
from workpool_operator.cli.check_result import CheckResult
from workpool_operator.errors import (
    KubernetesForbidden,
    KubernetesNotFound,
    KubernetesRefused,
    OperatorError,
)
from workpool_operator.kube.client import PODS, SECRETS, KubernetesClient
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.models import WorkPool

_POD_SECURITY = "violates PodSecurity"
_QUOTA = "exceeded quota"

Object = dict[str, Any]


async def check_jobs(
    kube: KubernetesClient, api: PrefectApi, pool: WorkPool, binding: Binding
) -> AsyncIterator[CheckResult]:
    """Yield the results of the template, the consent of the namespace, the pod, and its image."""
    consent = Consent(kube, binding_namespace=binding.namespace)
    dry_run = TemplateDryRun(
        kube,
        namespace=binding.job_namespace,
        consent=consent,
        allowed_namespaces=lambda: binding.allowed_namespaces,
        template_environment=settings.template_environment(),
        overlay=binding.overlay,
    )
    for other in binding.job_namespaces:
        if other != binding.namespace:
            yield await _consents(consent, other)
    subject, namespace = "template: the API server accepts its Job", binding.job_namespace
    try:
        findings = await dry_run.check(pool, api)
        await preflight_checks.check_template(pool, api, dry_run)
        job = await dry_run.render(pool, api)
        skipped = await _skipped(kube, subject, "batch", "jobs", namespace)
    except OperatorError as error:
        yield CheckResult(subject, str(error))
        return
    if findings.not_checked and skipped:
        yield skipped
    elif findings.not_checked:
        yield not_accepted(subject, findings.not_checked, namespace)
    elif findings.crashes:
        text = f"a run that sets no job variable crashes: {'; '.join(findings.crashes[:3])}"
        yield CheckResult(subject, text, "correct the pool's template or its defaults", "warning")
    else:
        yield CheckResult(subject, status="ok")
    if not isinstance(job, TemplateFindings):
        yield await _pod(kube, job)
        yield await _image(kube, job)


async def _consents(consent: Consent, namespace: str) -> CheckResult:
    subject = f"namespace {namespace} allows Jobs of the binding"
    try:
        await consent.read(namespace)
    except OperatorError as error:
        return CheckResult(subject, str(error))
    return CheckResult(subject, status="ok")


async def _pod(kube: KubernetesClient, job: Object) -> CheckResult:
    """Send the pod of the Job as a dry run."""
    namespace = job["metadata"]["namespace"]
    subject = "pod: Pod Security, quotas and admission accept it"
    try:
        if skipped := await _skipped(kube, subject, "", "pods", namespace):
            return skipped
        await kube.dry_run(PODS, namespace, _pod_of(job))
    except KubernetesRefused as refused:
        return not_accepted(subject, str(refused), namespace)
    except OperatorError as error:
        return CheckResult(subject, str(error))
    return CheckResult(subject, status="ok")


async def _skipped(
    kube: KubernetesClient, subject: str, group: str, resource: str, namespace: str
) -> CheckResult | None:
    """Return that the caller may not send such a dry run, None if it may."""
    if await kube.allowed(namespace, verb="create", group=group, resource=resource):
        return None
    text = f"needs the right to create {resource} in namespace {namespace}"
    fix = "run doctor with an account that has it: the operator's for Jobs, your own for pods"
    return CheckResult(subject, text, fix, "skipped")


def _pod_of(job: Object) -> Object:
    template = job["spec"]["template"]
    metadata = {**(template.get("metadata") or {}), "generateName": f"{NAME}-"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def not_accepted(subject: str, text: str, namespace: str) -> CheckResult:
    """Return the result of a refused dry run, with the fix of the usual reasons."""
    if _POD_SECURITY in text:
        return CheckResult(
            f"pod: Pod Security of namespace {namespace}",
            text,
            "set the securityContext of the pod and its containers in the base job template, or "
            f"relax the label pod-security.kubernetes.io/enforce of namespace {namespace}",
        )
    if _QUOTA in text:
        fix = f"kubectl -n {namespace} describe resourcequota; raise it, or lower the requests"
        return CheckResult(f"quota of namespace {namespace}", text, fix)
    return CheckResult(subject, text)


async def _image(kube: KubernetesClient, job: Object) -> CheckResult:
    """Check what is known of the pull before a pod starts: its pull Secrets."""
    namespace = job["metadata"]["namespace"]
    spec: Mapping[str, Any] = job["spec"]["template"]["spec"]
    images = ", ".join(dict.fromkeys(each["image"] for each in spec["containers"]))
    subject = f"image {images}: its pull Secrets exist (whether it can be pulled, a pod shows)"
    for each in spec.get("imagePullSecrets") or ():
        name = str(each.get("name", ""))
        try:
            await kube.get(SECRETS, namespace, name)
        except KubernetesNotFound:
            fix = (
                f"kubectl -n {namespace} create secret docker-registry {name}, or correct the name"
            )
            text = f"Secret {name!r} of imagePullSecrets does not exist in namespace {namespace}"
            return CheckResult(f"image {images}", text, fix)
        except KubernetesForbidden:
            text = f"needs the right to read Secrets in namespace {namespace}"
            return CheckResult(subject, text, "", "skipped")
        except OperatorError as error:
            return CheckResult(subject, str(error))
    return CheckResult(subject, status="ok")
