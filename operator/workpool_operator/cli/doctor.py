"""`workpool-operator doctor`: checks an installation, with the fix of each fault on the next line.

It asks with the caller's own rights: `helm test` runs it with the operator's account, and a person
can with `--as`. A check that its caller has no right to make is skipped, and says so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import aiohttp
import typer

from workpool_operator import connection_errors
from workpool_operator.api import v1alpha1
from workpool_operator.binding import crd_check
from workpool_operator.binding.conditions import READY
from workpool_operator.binding.status import BINDINGS
from workpool_operator.cli import output
from workpool_operator.cli.binding_list import list_bindings
from workpool_operator.cli.check_result import CheckResult, Status
from workpool_operator.cli.objects import key_of
from workpool_operator.cli.patience import PatientKubernetesClient
from workpool_operator.errors import OperatorError
from workpool_operator.kube import permissions, rights
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig
from workpool_operator.kube.permissions import Role
from workpool_operator.kube.rights import Rule, Scope

PROBE_SECONDS = 10.0
RETRY_SECONDS = 1.0
_ROLES = {
    Scope.BINDINGS: permissions.BINDINGS_ROLE,
    Scope.JOBS: permissions.JOBS_ROLE,
    Scope.SECRETS: permissions.WRITE_SECRETS_ROLE,
    Scope.REPLICAS: permissions.REPLICAS_ROLE,
}

_SERVICE_ACCOUNT = "system:serviceaccount:"
_RIGHTS = "rights in namespace"  # so begin the subjects of their checks

_LABELS: Mapping[Status, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "warning": ("warn", "yellow"),
    "skipped": ("skip", "yellow"),
    "failed": ("FAIL", "red"),
}
_SUMMARY: tuple[Status, ...] = ("failed", "warning", "skipped", "ok")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command. `namespaces` are those whose bindings the operator serves: empty
    for all, None for those of the `bindings`."""

    namespaces: tuple[str, ...] | None
    job_namespaces: tuple[str, ...]
    bindings: tuple[str, ...]
    write_secrets: bool
    operator: str
    patience_seconds: float
    output_format: Literal["text", "json"]
    kubeconfig: Kubeconfig


def main(options: Options) -> None:
    """Print a line for each check; exit with 1 if one failed."""
    with output.errors_in_one_line(), output.silence_logs():
        results = asyncio.run(_report(options))
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


async def _report(options: Options) -> list[CheckResult]:
    """Print the results, as text when they come; return them."""
    results = []
    is_text = options.output_format == "text"
    async with await PatientKubernetesClient.from_environment(options.kubeconfig) as kube:
        namespaces, keys = await _scope(kube, options)
        async for result in _checks(kube, replace(options, namespaces=namespaces, bindings=keys)):
            results.append(result)
            if is_text:
                output.echo(as_text(result))
    counts = Counter(result.status for result in results)
    if is_text:
        shown = [status for status in _SUMMARY if counts[status] or status in ("failed", "ok")]
        output.echo(", ".join(f"{counts[status]} {status}" for status in shown))
    else:
        checks = [asdict(result) for result in results]
        output.echo(output.as_json({"checks": checks, "counts": {s: counts[s] for s in _SUMMARY}}))
    if kube.context and not options.kubeconfig.user and any(map(_lacks_rights, results)):
        output.echo_note(
            "the rights are those of your own account; "
            f"--as {_SERVICE_ACCOUNT}NAMESPACE:NAME checks those of the operator's"
        )
    return results


def _lacks_rights(result: CheckResult) -> bool:
    return result.status != "ok" and result.subject.startswith(_RIGHTS)


async def _scope(
    kube: KubernetesClient, options: Options
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the namespaces and bindings to check. Without either, all bindings of the current
    namespace; if they cannot be listed, the check of the CRD says why."""
    if options.namespaces is not None:
        return options.namespaces, options.bindings
    if options.bindings:
        named = dict.fromkeys(key.partition("/")[0] for key in options.bindings)
        return tuple(named), options.bindings
    with suppress(OperatorError):
        found = await list_bindings(kube, [kube.namespace])
        return (kube.namespace,), tuple(map(key_of, found))
    return (kube.namespace,), ()


def as_text(result: CheckResult) -> str:
    """Return the result as one line, or two with its fix."""
    label, colour = _LABELS[result.status]
    message = f": {result.message}" if result.message else ""
    fix = f"\n      fix: {result.fix}" if result.fix else ""
    padding = " " * (6 - len(label))
    return f"{output.styled(label, colour)}{padding}{result.subject}{message}{fix}"


async def _checks(kube: KubernetesClient, options: Options) -> AsyncIterator[CheckResult]:
    unwatchable = await crd_check.unwatchable(kube, options.namespaces or [""])
    problem = "; ".join(dict.fromkeys(unwatchable.values()))
    if not problem and (outdated := await crd_check.crd_outdated(kube)).status == "True":
        problem = outdated.message
    subject = f"{v1alpha1.KIND} is served with every field, and can be listed and watched"
    yield CheckResult.of(subject, problem)
    for scope, namespace in _granted(kube, options):
        for result in await check_rights(kube, scope, namespace):
            yield result
    if options.operator:
        yield await _operator(options.operator, options.patience_seconds)
    for key in options.bindings:
        yield await _binding(kube, key, options.patience_seconds)
    for key in options.bindings:
        from workpool_operator.cli.server_checks import check_binding  # imports Prefect

        async for result in check_binding(kube, key):
            yield replace(result, subject=f"{key}: {result.subject}")


def _granted(kube: KubernetesClient, options: Options) -> list[tuple[Scope, str]]:
    """Return in which namespaces the operator needs which rights."""
    found = [(Scope.REPLICAS, _namespace_of(options.kubeconfig.user) or kube.namespace)]
    found += [(Scope.BINDINGS, namespace) for namespace in options.namespaces or ()]
    found += [(Scope.JOBS, namespace) for namespace in options.job_namespaces]
    if options.write_secrets:
        found += [(Scope.SECRETS, namespace) for namespace in options.job_namespaces]
    return found


def _namespace_of(user: str) -> str:
    """Return the namespace of a service account, "" for another user."""
    namespace = user.removeprefix(_SERVICE_ACCOUNT).partition(":")[0]
    return namespace if user.startswith(_SERVICE_ACCOUNT) else ""


async def check_rights(kube: KubernetesClient, scope: Scope, namespace: str) -> list[CheckResult]:
    """Check the rights in the namespace: those that every operator needs, and those that it needs
    only for what its bindings name."""
    subject = f"{_RIGHTS} {namespace} ({scope.value})"
    of_fields = [rule for rule in rights.rules(scope) if rule.condition == rights.OF_THE_FIELD]
    always = [rule for rule in rights.rules(scope) if rule.condition != rights.OF_THE_FIELD]
    role: Role = _ROLES[scope]
    try:
        missing = [await _missing(kube, namespace, rules) for rules in (always, of_fields)]
        fix = await permissions.how_to_grant(kube, namespace, role) if any(missing) else ""
    except OperatorError as error:
        return [CheckResult(subject, str(error))]
    results = [CheckResult.of(subject, missing[0] and f"missing {missing[0]}", missing[0] and fix)]
    if missing[1]:
        text = f"missing {missing[1]}, which only a binding needs that names such an object"
        results.append(CheckResult(subject, text, fix, "warning"))
    return results


async def _missing(kube: KubernetesClient, namespace: str, rules: Sequence[Rule]) -> str:
    """Return the missing permissions of the rules as a list, such as `get jobs, list jobs`."""
    wanted = [permission for rule in rules for permission in rule.permissions]
    return ", ".join(await permissions.missing_permissions(kube, namespace, wanted))


async def _operator(address: str, patience_seconds: float) -> CheckResult:
    """Check that a replica says that it is ready, or will soon."""

    async def unready() -> str:
        limit = aiohttp.ClientTimeout(total=PROBE_SECONDS)
        url = f"{address.rstrip('/')}/readyz"
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.get(url) as answer,
            ):
                return "" if answer.ok else (await answer.text()).strip()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"no answer: {connection_errors.explain(error)}"

    fault = await _soon(unready, patience_seconds)
    fix = "kubectl get pods, and read the log of the operator's" if fault else ""
    return CheckResult.of(f"an operator is ready at {address}", fault, fix)


async def _binding(kube: KubernetesClient, key: str, patience_seconds: float) -> CheckResult:
    """Check that the binding is Ready, or will be soon."""
    namespace, _, name = key.partition("/")

    async def unready() -> str:
        return _unready(await kube.get(BINDINGS, namespace, name))

    subject = f"binding {key} is Ready"
    try:
        return CheckResult.of(subject, await _soon(unready, patience_seconds))
    except OperatorError as error:
        return CheckResult(subject, str(error))


async def _soon(unready: Callable[[], Awaitable[str]], patience_seconds: float) -> str:
    """Wait until it is ready; return why it is not after these seconds, "" if it is."""
    ends = asyncio.get_running_loop().time() + patience_seconds
    while True:
        fault = await unready()
        if not fault or asyncio.get_running_loop().time() > ends:
            return fault
        await asyncio.sleep(RETRY_SECONDS)


def _unready(binding: Object) -> str:
    """Return why the binding is not Ready, "" if it is."""
    conditions = (binding.get("status") or {}).get("conditions") or []
    ready = next((found for found in conditions if found["type"] == READY), None)
    if ready is None:
        return "it has no status: no operator serves it"
    return "" if ready["status"] == "True" else f"{ready['reason']}: {ready['message']}"
