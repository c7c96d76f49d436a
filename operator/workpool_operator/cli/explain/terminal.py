"""Prints a report on a terminal: colours, and a timeline that wraps within its column."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from workpool_operator.cli.explain.reason import Reason
from workpool_operator.cli.explain.report import Report, clock, heading, holders
from workpool_operator.cli.explain.timeline import Entry

_STYLES = {"good": "green", "bad": "red", "plain": ""}
_SOURCES = {"Prefect": "blue", "Job": "magenta", "Pod": "cyan"}


def show(report: Report, console: Console) -> None:
    """Print the report."""
    console.print(_heading(report))
    now = report.snapshot.prefect.now if report.snapshot.prefect else None
    for index, reason in enumerate(report.reasons):
        console.print(_reason(reason, [*holders(reason, now=now)], is_answer=index == 0))
    if report.timeline:
        console.print(Text("\nTimeline (UTC)", style="bold"))
        console.print(_timeline(report.timeline))


def _heading(report: Report) -> RenderableType:
    first, *others = heading(report) or [""]
    return Group(Text(first, style="bold"), *(Text(line, style="dim") for line in others))


def _reason(reason: Reason, by: list[str], *, is_answer: bool) -> RenderableType:
    colour = "yellow" if reason.holds else "green"
    mark = "●" if is_answer else "○"
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(overflow="fold")
    head = Text.assemble((f"{reason.reason}  ", f"bold {colour}"), reason.message)
    table.add_row(Text(mark, style=colour), head)
    for line in by:
        table.add_row("", Text(f"· {line}", style="dim"))
    if reason.next_step:
        table.add_row("", Text.assemble(("→ ", "bold"), (reason.next_step, "cyan")))
    return Group(Text(""), table)


def _timeline(entries: Sequence[Entry]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = None
    for entry in entries:
        style = _STYLES[entry.tone]
        table.add_row(
            clock(entry, before),
            Text("│" if entry.tone == "plain" else "●", style=style or "dim"),
            Text(entry.source, style=_SOURCES[entry.source]),
            Text(entry.what, style=f"bold {style}".strip()),
            Text(entry.text),
        )
        before = entry
    return table
