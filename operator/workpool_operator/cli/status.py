"""`workpool-operator status`: bindings, their slots, and their runs in flight, once or live."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from workpool_operator.cli import output, overview, status_report
from workpool_operator.cli.overview import Overview, Selection
from workpool_operator.cli.patience import PatientKubernetesClient
from workpool_operator.cli.status_report import Table
from workpool_operator.errors import OperatorError
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig

if TYPE_CHECKING:
    from rich.console import RenderableType

Format = Literal["text", "json"]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command. Without a namespace or key: the namespace of the kubeconfig,
    or all with `all_namespaces`."""

    selection: Selection
    all_namespaces: bool
    output_format: Format
    watch: bool
    interval_seconds: float
    kubeconfig: Kubeconfig


def main(options: Options) -> None:
    """Print the overview; with `watch`, until it is interrupted."""
    with output.errors_in_one_line(), output.silence_logs():
        if not options.watch:
            asyncio.run(_print_once(options))
            return
        is_live = sys.stdout.isatty() and options.output_format == "text"
        with suppress(KeyboardInterrupt):
            asyncio.run(_show_live(options) if is_live else _print_changes(options))


async def _print_once(options: Options) -> None:
    async with await PatientKubernetesClient.from_environment(options.kubeconfig) as kube:
        found = await _read(kube, options)
    _print(found, options)


async def _read(kube: KubernetesClient, options: Options) -> Overview:
    selection = options.selection
    if not (selection.listed or options.all_namespaces):
        selection = replace(selection, namespaces=(kube.namespace,))
    found = await overview.read_overview(kube, selection)
    if not found.bindings:
        where = f"namespace {', '.join(selection.listed)} of " if selection.listed else ""
        found.notes.append(f"no bindings in {where}{kube.address}")
    return found


async def _print_changes(options: Options) -> None:
    """Print the overview again each time it has changed; JSON as one line."""
    before = ""
    async with await PatientKubernetesClient.from_environment(options.kubeconfig) as kube:
        found = await _read(kube, options)
        while True:
            document = json.dumps(_document(found))
            if document != before and options.output_format == "json":
                output.echo(document)
            elif document != before:
                _print(found, options)
                output.echo()
            sys.stdout.flush()
            before = document
            found = await _read_again(kube, options, found)


async def _read_again(kube: KubernetesClient, options: Options, found: Overview) -> Overview:
    """Return the next overview; if it cannot be read, the last one with a note that says so."""
    await asyncio.sleep(options.interval_seconds)
    try:
        return await _read(kube, options)
    except OperatorError as error:
        return replace(found, notes=[f"not up to date: {error}"])


def _print(found: Overview, options: Options) -> None:
    if options.output_format == "json":
        output.echo(output.as_json(_document(found)))
        return
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(_renderable(found))
        return
    parts = [*map(str, _tables(found)), "\n".join(_explanations(found))]
    if text := "\n\n".join(filter(None, parts)):
        output.echo(text)
    for note in found.notes:
        output.echo_note(note)


def _document(found: Overview) -> dict[str, object]:
    return status_report.as_document(found.bindings, found.runs, found.notes, found.now)


def _tables(found: Overview) -> list[Table]:
    """Return the tables that have rows."""
    tables = (
        status_report.bindings_table(found.bindings, found.now),
        status_report.runs_table(found.runs, found.now),
    )
    return [table for table in tables if table.rows]


def _explanations(found: Overview) -> list[str]:
    lines = status_report.explanations(found.bindings, found.runs, found.now, found.next_steps)
    return list(lines)


# On a terminal


async def _show_live(options: Options) -> None:
    """Show the overview in place."""
    from rich.live import Live

    async with await PatientKubernetesClient.from_environment(options.kubeconfig) as kube:
        found = await _read(kube, options)
        with Live(_renderable(found), auto_refresh=False) as live:
            while True:
                found = await _read_again(kube, options, found)
                live.update(_renderable(found), refresh=True)


def _renderable(found: Overview) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    tables = [part for table in _tables(found) for part in (_rich(table), "")]
    notes = [f"note: {note}" for note in found.notes]
    return Group(*tables, *map(Text, [*_explanations(found), *notes]))


def _rich(table: Table) -> RenderableType:
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name in table.heading:
        made.add_column(name, overflow="fold")
    for row in table.rows:
        made.add_row(*(Text(cell, style=status_report.colour_of(cell)) for cell in row))
    return made
