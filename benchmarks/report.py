"""The results as Markdown, the same on the screen and in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks.calls import per_run
from benchmarks.facts import Facts
from benchmarks.figures import (
    OURS,
    RENDER_SECONDS,
    TARGETS,
    Rendering,
    Target,
    Trial,
    missed,
)

#: Figures without a target.
FURTHER: dict[str, Callable[[Trial], str]] = {
    "run created -> Job, slowest": lambda trial: f"{trial.percentile(1):.2f} s",
    "Prefect calls per run, mean": lambda trial: f"{sum(trial.calls) / trial.runs:.3g} calls",
    "processor time per run": lambda trial: f"{trial.cpu_seconds_per_run * 1000:.0f} ms",
    "processor when idle": lambda trial: f"{trial.idle_cpu_share:.1%} of a core",
    "load of the machine meanwhile": lambda trial: f"{trial.load:.1f}",
    "resident memory": lambda trial: f"{trial.resident_bytes / 2**20:.0f} MiB",
}


def report(trials: Sequence[Trial], facts: Facts, *, renderings: Sequence[Rendering]) -> str:
    """The whole of it; the first trial is ours."""
    parts = [
        "# Run created -> Job created",
        *facts.warnings,
        figures(trials),
        "\n".join(missed(trials[0])) or "Ours meets every target.",
        _method(trials[0].runs),
        "## Processor time of rendering one Job",
        rendering(renderings),
        *_calls(trials),
        *_versions(facts),
    ]
    return "\n\n".join(parts) + "\n"


def report_of_rendering(measured: Sequence[Rendering], facts: Facts) -> str:
    """What needs neither cluster nor server, alone."""
    parts = ["# Processor time of rendering one Job", *facts.warnings, rendering(measured)]
    return "\n\n".join([*parts, *_versions(facts)]) + "\n"


def figures(trials: Sequence[Trial]) -> str:
    """The table, one column per side and one for the targets."""
    rows = [["", *(trial.name for trial in trials), "target"]]
    rows += [_targeted(target, trials) for target in TARGETS]
    rows += [[title, *map(show, trials), ""] for title, show in FURTHER.items()]
    return _table(rows)


def rendering(measured: Sequence[Rendering]) -> str:
    """The table, and what was done."""
    rows = [["", "template", "mean", "p99", "target"]]
    for each in measured:
        target = f"mean <= {RENDER_SECONDS * 1000:g} ms" if each.side == OURS else ""
        times = (f"{seconds * 1000:.2f} ms" for seconds in (each.mean, each.p99))
        rows.append([each.side, each.template, *times, target])
    renders = len(measured[0].seconds)
    return (
        f"{_table(rows)}\n\n{renders} renders of each, one after the other, each of another run,"
        " with 30 environment variables; a first one is not counted."
    )


def _versions(facts: Facts) -> Iterator[str]:
    yield "## Machine and versions"
    yield "\n".join(f"- {name}: {value}" for name, value in facts.lines)


def _targeted(target: Target, trials: Sequence[Trial]) -> list[str]:
    measured = [f"{target.of(trial):.{target.digits}f} {target.unit}" for trial in trials]
    return [target.figure, *measured, f"<= {target.at_most:g} {target.unit}"]


def _method(runs: int) -> str:
    rank = "the slowest one" if runs < 100 else "a measured value"
    return (
        f"{runs} runs, one after the other, after one that is not counted. Percentiles are by"
        f" nearest rank, so that p99 is {rank}. Processor time per run is what the program used"
        " beyond its idle use, for the whole life of a run."
    )


def _calls(trials: Sequence[Trial]) -> Iterator[str]:
    for trial in trials:
        yield f"## Prefect calls of a run: {trial.name}"
        yield _list(per_run([sample.path.counted for sample in trial.samples]))
        yield "Not counted, from the same time:"
        yield _list(per_run([sample.path.apart for sample in trial.samples])) or "- none"


def _list(numbers: dict[str, float]) -> str:
    return "\n".join(f"- {number:.2f} {name}" for name, number in numbers.items())


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that also reads well as text; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
