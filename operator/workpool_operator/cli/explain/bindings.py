"""Why a binding claims no runs now. Pure."""

from __future__ import annotations

from datetime import datetime

from workpool_operator.cli.explain.reason import Reason, describe, sentences, since
from workpool_operator.cli.explain.snapshot import BindingFacts
from workpool_operator.cli.operator_log import FIND_PODS, how_to_read, why_silent
from workpool_operator.cli.status_report import SILENT


def read_log(run_id: str, binding: BindingFacts | None) -> str:
    """Return how to read about the run in the log of the binding's operator."""
    if binding is None:
        return how_to_read("", "", about=run_id)
    return how_to_read(binding.operator_pod, binding.operator_namespace, about=run_id)


def hold(binding: BindingFacts, *, now: datetime) -> Reason | None:
    """Return what keeps the binding from claiming runs; None if it claims them."""
    if binding.suspended:
        return _suspended(binding)
    return unserved(binding, now=now) or _not_ready(binding) or _full(binding) or _waiting(binding)


def unserved(binding: BindingFacts, *, now: datetime) -> Reason | None:
    """Return why no operator acts for the binding; None if one does."""
    ready = binding.ready
    if ready is None:
        text = f"No operator serves binding {binding.key}: it has no status"
        step = f"start an operator that watches namespace {binding.namespace}: {FIND_PODS}"
        return Reason(reason="NoOperator", message=sentences(text), next_step=step)
    if binding.deleting:
        text = f"Binding {binding.key} is being deleted: it claims no runs"
        step = describe("wpb", binding.namespace, binding.name)
        return Reason(reason="BindingDeleting", message=sentences(text), next_step=step)
    if not binding.operator or ready.reason == "NotSelected":
        text = f"No operator serves binding {binding.key} ({ready.reason})"
        message = sentences(text, ready.message)
        return Reason(reason="NoOperator", message=message, next_step=FIND_PODS)
    if binding.is_silent(now):
        text = f"No operator has polled for binding {binding.key} {since(binding.last_poll, now)}"
        message = sentences(text, SILENT)
        step = why_silent(binding.operator_pod, binding.operator_namespace)
        return Reason(reason="OperatorSilent", message=message, next_step=step)
    return None


def _suspended(binding: BindingFacts) -> Reason:
    change = """--type=merge -p '{"spec":{"suspend":false}}'"""
    return Reason(
        reason="BindingSuspended",
        message=f"Binding {binding.key} is suspended: spec.suspend is true.",
        next_step=f"kubectl -n {binding.namespace} patch wpb {binding.name} {change}",
    )


def _not_ready(binding: BindingFacts) -> Reason | None:
    ready, claiming = binding.ready, binding.claiming
    if ready is None or ready.status == "True" or (claiming and claiming.status == "True"):
        return None
    text = f"Binding {binding.key} is not Ready ({ready.reason})"
    return Reason(
        reason="BindingNotReady",
        message=sentences(text, ready.message),
        next_step=describe("wpb", binding.namespace, binding.name),
    )


def _full(binding: BindingFacts) -> Reason | None:
    claiming = binding.claiming
    if claiming is None or claiming.status == "True" or claiming.reason != "AtCapacity":
        return None
    change = """--type=merge -p '{"spec":{"concurrencyLimit":N}}'"""
    command = f"kubectl -n {binding.namespace} patch wpb {binding.name} {change}"
    return Reason(
        reason="BindingAtCapacity",
        message=sentences(f"Binding {binding.key}: {claiming.message}"),
        next_step=f"wait until one is free, or raise the limit: {command}",
        holders=binding.in_flight,
    )


def _waiting(binding: BindingFacts) -> Reason | None:
    """Return what else keeps it from claiming: the work pool, a quota, the API server."""
    claiming = binding.claiming
    if claiming is None or claiming.status == "True":
        return None
    text = f"Binding {binding.key} claims no runs now ({claiming.reason})"
    step = describe("wpb", binding.namespace, binding.name)
    if claiming.reason == "QuotaExceeded":
        where = next(iter(binding.job_namespaces), binding.namespace)
        step = f"see what takes the quota: kubectl -n {where} get resourcequota,jobs,pods"
    return Reason(
        reason="BindingNotClaiming", message=sentences(text, claiming.message), next_step=step
    )
