"""Samples -> the figures that are promised, and which of them miss their target."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.calls import Path

OURS = "workpool-operator"
RENDER_SECONDS = 0.002  # of processor time, at most, in the mean


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds from its creation until its Job was seen; the machine's load (1 min)."""

    seconds: float
    path: Path
    load: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One side's runs, and what its program used meanwhile."""

    name: str
    samples: tuple[Sample, ...]
    resident_bytes: int
    idle_cpu_share: float
    cpu_seconds: float
    seconds: float

    @property
    def runs(self) -> int:
        return len(self.samples)

    def percentile(self, share: float) -> float:
        """By nearest rank: a value that was measured, the highest one from 99 % of 30 on."""
        return nearest_rank([sample.seconds for sample in self.samples], share)

    @property
    def calls(self) -> list[int]:
        """Requests to Prefect on each run's claim path."""
        return [sample.path.counted.total() for sample in self.samples]

    @property
    def load(self) -> float:
        return statistics.median(sample.load for sample in self.samples)

    @property
    def cpu_seconds_per_run(self) -> float:
        """Beyond what the idle program uses in the same time."""
        return (self.cpu_seconds - self.idle_cpu_share * self.seconds) / self.runs


@dataclass(frozen=True, slots=True)
class Rendering:
    """What each of many renders took one side, all of one template."""

    side: str
    template: str
    seconds: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.seconds)

    @property
    def p99(self) -> float:
        return nearest_rank(self.seconds, 0.99)

    @property
    def misses_its_target(self) -> bool:
        return self.side == OURS and self.mean > RENDER_SECONDS


@dataclass(frozen=True, slots=True)
class Target:
    figure: str
    at_most: float
    unit: str
    digits: int
    of: Callable[[Trial], float]

    def missed_by(self, trial: Trial) -> str:
        """A sentence, "" if the target is met."""
        value = self.of(trial)
        if value <= self.at_most:
            return ""
        wanted = f"{self.at_most:g} {self.unit}"
        return f"Target missed: {self.figure} is {value:.3g}, the target is {wanted}."


TARGETS = (
    Target("run created -> Job, p50", 0.5, "s", 2, lambda trial: trial.percentile(0.50)),
    Target("run created -> Job, p99", 2.0, "s", 2, lambda trial: trial.percentile(0.99)),
    Target("Prefect calls per run, at most", 4, "calls", 0, lambda trial: max(trial.calls)),
)


def nearest_rank(values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by `share` of all."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def missed(trial: Trial) -> list[str]:
    return [wrong for target in TARGETS if (wrong := target.missed_by(trial))]
