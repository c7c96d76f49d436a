"""`workpool-operator doctor`: checks an installation, with the fix of each fault on the next line.

It asks with the caller's own rights. Run it with the operator's account, as `helm test` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import typer

from workpool_operator import connection_errors
from workpool_operator.api import v1alpha1
from workpool_operator.binding import crd_check
from workpool_operator.binding.conditions import READY
from workpool_operator.binding.status import BINDINGS
from workpool_operator.cli import output
from workpool_operator.errors import OperatorError
from workpool_operator.kube import permissions, rights
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig
from workpool_operator.kube.permissions import Role
from workpool_operator.kube.rights import Scope

PROBE_SECONDS = 10.0
READY_SECONDS = 30.0  # right after an installation, not all is ready yet
RETRY_SECONDS = 1.0
_ROLES = {
    Scope.BINDINGS: permissions.BINDINGS_ROLE,
    Scope.JOBS: permissions.JOBS_ROLE,
    Scope.SECRETS: permissions.WRITE_SECRETS_ROLE,
    Scope.REPLICAS: permissions.REPLICAS_ROLE,
}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command. Without `namespaces` the operator serves all."""

    namespaces: tuple[str, ...]
    job_namespaces: tuple[str, ...]
    bindings: tuple[str, ...]
    write_secrets: bool
    operator: str
    kubeconfig: Kubeconfig


@dataclass(frozen=True, slots=True)
class Result:
    """What was checked, and what is wrong with it, "" if nothing is."""

    subject: str
    fault: str = ""
    fix: str = ""


def main(options: Options) -> None:
    """Print a line for each check; exit with 1 if one failed."""
    with output.errors_in_one_line(), output.silence_logs():
        failed = asyncio.run(_report(options))
    if failed:
        raise typer.Exit(1)


async def _report(options: Options) -> int:
    """Print the results as they come; return the number of those that failed."""
    failed = passed = 0
    async with await KubernetesClient.from_environment(options.kubeconfig) as kube:
        async for result in _checks(kube, options):
            if result.fault:
                failed += 1
                output.echo(f"{output.styled('FAIL', 'red')}  {result.subject}: {result.fault}")
                if result.fix:
                    output.echo(f"      fix: {result.fix}")
            else:
                passed += 1
                output.echo(f"{output.styled('ok', 'green')}    {result.subject}")
    output.echo(f"{failed} failed, {passed} ok")
    return failed


async def _checks(kube: KubernetesClient, options: Options) -> AsyncIterator[Result]:
    problem = await crd_check.crd_problem(kube, options.namespaces)
    if not problem and (outdated := await crd_check.crd_outdated(kube)).status == "True":
        problem = outdated.message
    yield Result(f"{v1alpha1.KIND} is served, and can be listed and watched", problem)
    for scope, namespace in _granted(kube, options):
        yield await _rights(kube, scope, namespace)
    if options.operator:
        yield await _operator(options.operator)
    for key in options.bindings:
        yield await _binding(kube, key)


def _granted(kube: KubernetesClient, options: Options) -> list[tuple[Scope, str]]:
    """Return in which namespaces the operator needs which rights."""
    found = [(Scope.REPLICAS, kube.namespace)]
    found += [(Scope.BINDINGS, namespace) for namespace in options.namespaces]
    found += [(Scope.JOBS, namespace) for namespace in options.job_namespaces]
    if options.write_secrets:
        found += [(Scope.SECRETS, namespace) for namespace in options.job_namespaces]
    return found


async def _rights(kube: KubernetesClient, scope: Scope, namespace: str) -> Result:
    """Check the rights that the operator needs whatever its bindings name."""
    subject = f"rights in namespace {namespace} ({scope.value})"
    role: Role = _ROLES[scope]
    wanted = [
        permission
        for rule in rights.rules(scope)
        if rule.condition != rights.OF_THE_FIELD
        for permission in rule.permissions
    ]
    try:
        missing = await permissions.missing_permissions(kube, namespace, wanted)
        if not missing:
            return Result(subject)
        fix = await permissions.how_to_grant(kube, namespace, role)
    except OperatorError as error:
        return Result(subject, str(error))
    return Result(subject, f"missing {', '.join(missing)}", fix)


async def _operator(address: str) -> Result:
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

    fault = await _soon(unready)
    fix = "kubectl get pods, and read the log of the operator's" if fault else ""
    return Result(f"an operator is ready at {address}", fault, fix)


async def _binding(kube: KubernetesClient, key: str) -> Result:
    """Check that the binding is Ready, or will be soon."""
    namespace, _, name = key.partition("/")

    async def unready() -> str:
        return _unready(await kube.get(BINDINGS, namespace, name))

    subject = f"binding {key} is Ready"
    try:
        return Result(subject, await _soon(unready))
    except OperatorError as error:
        return Result(subject, str(error))


async def _soon(unready: Callable[[], Awaitable[str]]) -> str:
    """Wait until it is ready; return why it is not after `READY_SECONDS`, "" if it is."""
    ends = asyncio.get_running_loop().time() + READY_SECONDS
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
