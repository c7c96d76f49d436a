"""`workpool-operator explain`: says why a flow run is, or is not, running.

It reads Prefect and the cluster with the rights of the person who asks, and needs no operator. If
one of the two cannot be read, it says so and explains what the other one knows:

    readers -> snapshot -> reasons, timeline (pure) -> report
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Literal

import typer

from workpool_operator.binding.context import Binding
from workpool_operator.cli import binding_lookup, connections, output
from workpool_operator.cli.connections import PatientPrefectApi
from workpool_operator.cli.explain import reasons, report, timeline
from workpool_operator.cli.explain.choice import choose_run
from workpool_operator.cli.explain.cluster_reader import ClusterReader
from workpool_operator.cli.explain.prefect_reader import Found, PrefectReader, find_run
from workpool_operator.cli.explain.report import Report
from workpool_operator.cli.explain.snapshot import (
    Choice,
    ClusterFacts,
    PrefectFacts,
    Snapshot,
    Unread,
)
from workpool_operator.cli.patience import PatientKubernetesClient
from workpool_operator.cli.redaction import Redaction
from workpool_operator.errors import OperatorError
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig
from workpool_operator.prefect_api import lookup

Format = Literal["text", "json"]
PARTIAL = 3  # the exit code if something could not be read


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command. `run` is an id, a name, or FLOW/DEPLOYMENT; without one, the
    run of `binding` that waits or has crashed is explained."""

    run: str
    binding: str
    namespace: str
    output_format: Format
    kubeconfig: Kubeconfig


def main(options: Options) -> None:
    """Print the explanation; exit with 1 if there is none, with 3 if a part could not be read."""
    redaction = Redaction()
    with output.errors_in_one_line(), output.silence_logs():
        try:
            found = asyncio.run(_Reading(options, redaction).report())
        except OperatorError as error:
            raise OperatorError(redaction.redact_text(str(error))) from error
    _print(_redacted(found, redaction), options.output_format)
    if not found.reasons or found.reasons[0].reason in _NO_ANSWER:
        raise typer.Exit(1)
    if found.is_partial:
        raise typer.Exit(PARTIAL)


_NO_ANSWER = frozenset({"NotFound", "NoJob"})


@dataclass
class _Reading:
    """One reading of both stores; `unread` grows with what cannot be read."""

    options: Options
    redaction: Redaction
    unread: list[Unread] = field(default_factory=list)
    choice: Choice | None = None

    async def report(self) -> Report:
        """Read both stores and explain what was read."""
        async with AsyncExitStack() as stack:
            kube = await self._cluster(stack)
            found, prefect = await self._prefect(kube, stack)
            run_id = found.run_id if found else self.options.run
            cluster = await self._read_cluster(kube, run_id, prefect) if kube else None
        snapshot = Snapshot(
            run_id=run_id,
            choice=self.choice,
            prefect=prefect,
            cluster=cluster,
            unread=tuple(self.unread),
        )
        return Report(snapshot, reasons.explain(snapshot), timeline.timeline(snapshot))

    async def _cluster(self, stack: AsyncExitStack) -> KubernetesClient | None:
        try:
            kube = await PatientKubernetesClient.from_environment(self.options.kubeconfig)
        except OperatorError as error:
            self.unread.append(Unread("the cluster", str(error)))
            return None
        return await stack.enter_async_context(kube)

    async def _prefect(
        self, kube: KubernetesClient | None, stack: AsyncExitStack
    ) -> tuple[Found | None, PrefectFacts | None]:
        """Read the run.

        Raises:
            OperatorError: it is not named by its id, and its name could not be looked up.
        """
        try:
            binding = await self._binding(kube)
            if binding and not self.options.run:
                pool = binding.spec().work_pool.pool_name
                self.choice = Choice(binding=binding.key, pool=pool)
            named = self.options.binding
            connection = await connections.connect_server(binding, kube, named=named)
            server = connection.server
            self.redaction.add([server.api_key, server.auth_string, *dict(server.headers).values()])
            api = await stack.enter_async_context(PatientPrefectApi(server, pool=""))
            with connections.explain_failures(connection):
                found = await self._find(api, binding)
                reader = PrefectReader(api, self.unread)
                return found, await reader.read(found)
        except OperatorError as error:
            if isinstance(error, lookup.NotFound | lookup.Ambiguous):
                raise
            more = ", or add --binding NS/NAME" if isinstance(error, connections.NoServer) else ""
            if self.choice is None and not lookup.is_id(self.options.run):
                raise OperatorError(f"{error}{more}") from error
            self.unread.append(Unread("Prefect", f"{error}{more}"))
            return None, None

    async def _find(self, api: PatientPrefectApi, binding: Binding | None) -> Found:
        """Return the run that the user named, or that of the binding."""
        if binding is None or self.choice is None:
            return await find_run(api, self.options.run)
        run, why = await choose_run(api, binding)
        self.choice = replace(self.choice, why=why)
        return Found(str(run.id) if run else "", run)

    async def _binding(self, kube: KubernetesClient | None) -> Binding | None:
        if not self.options.binding:
            return None
        if kube is None and binding_lookup.is_in_cluster(self.options.binding):
            text = f"--binding {self.options.binding} needs the cluster: {self.unread[-1].why}"
            raise OperatorError(text)
        return await binding_lookup.find_binding(self.options.binding, kube=kube)

    async def _read_cluster(
        self, kube: KubernetesClient, run_id: str, prefect: PrefectFacts | None
    ) -> ClusterFacts | None:
        reader = ClusterReader(kube, self.options.namespace, self.unread)
        try:
            return await reader.read(run_id, prefect)
        except OperatorError as error:
            why = f"{kube.address}: {error}"
            self.unread.append(Unread("the cluster", why, "check the kubeconfig and its context"))
            return None


def _redacted(found: Report, redaction: Redaction) -> Report:
    """Return the report without secrets, which states and Events can quote."""
    text = redaction.redact_text
    return Report(
        snapshot=replace(
            found.snapshot,
            unread=tuple(replace(each, why=text(each.why)) for each in found.snapshot.unread),
        ),
        reasons=tuple(replace(each, message=text(each.message)) for each in found.reasons),
        timeline=tuple(replace(each, text=text(each.text)) for each in found.timeline),
    )


def _print(found: Report, format_: Format) -> None:
    """Print the report, and what could not be read as notes."""
    if format_ == "json":
        output.echo(output.as_json(report.as_document(found)))
        return
    if sys.stdout.isatty():
        from rich.console import Console

        from workpool_operator.cli.explain import terminal

        terminal.show(found, Console(highlight=False))
    else:
        for line in report.as_lines(found):
            output.echo(line)
    for each in found.snapshot.unread:
        step = f"; {each.next_step}" if each.next_step else ""
        output.echo_note(f"cannot read {each.what}: {each.why.rstrip('.')}{step}")
