"""Turns samples into the figures that are promised, and finds those that miss their target."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.claim_path import ClaimPath

OURS = "workpool-operator"
RENDER_SECONDS = 0.002  # of CPU time, the mean at most


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds from its creation until its Job was seen; the machine's load (1 min)."""

    seconds: float
    path: ClaimPath
    load: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """The runs of one contender, and what its program used meanwhile."""

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
        """By nearest rank: a measured value; of 30 samples p99 is the highest."""
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
        """Without what the idle program uses in the same time."""
        return (self.cpu_seconds - self.idle_cpu_share * self.seconds) / self.runs


@dataclass(frozen=True, slots=True)
class Rendering:
    """The CPU time of each of many renders of one template by one contender."""

    contender: str
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
        return self.contender == OURS and self.mean > RENDER_SECONDS


@dataclass(frozen=True, slots=True)
class Target:
    figure: str
    at_most: float
    unit: str
    digits: int
    of: Callable[[Measurement], float]

    def missed_by(self, measured: Measurement) -> str:
        """Return a sentence, or "" if the target is met."""
        value = self.of(measured)
        if value <= self.at_most:
            return ""
        target = f"{self.at_most:g} {self.unit}"
        return f"Target missed: {self.figure} is {value:.3g}, the target is {target}."


TARGETS = (
    Target("run created -> Job, p50", 0.5, "s", 2, lambda measured: measured.percentile(0.50)),
    Target("run created -> Job, p99", 2.0, "s", 2, lambda measured: measured.percentile(0.99)),
    Target("Prefect calls per run, at most", 4, "calls", 0, lambda measured: max(measured.calls)),
)


def nearest_rank(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all values do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def missed(measured: Measurement) -> list[str]:
    return [sentence for target in TARGETS if (sentence := target.missed_by(measured))]
