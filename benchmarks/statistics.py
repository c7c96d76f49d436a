"""The figures that a part of the benchmark measures, with their targets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

OURS = "workpool-operator"
STOCK = "stock worker"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table; a value is None if it was not measured, or does not exist."""

    name: str
    ours: float | None
    stock: float | None = None
    unit: str = ""
    digits: int = 0
    at_most: float | None = None
    at_least: float | None = None

    @property
    def row(self) -> list[str]:
        return [self.name, self._text(self.ours), self._text(self.stock), self.target]

    @property
    def target(self) -> str:
        """Return the target of ours, "" if it has none."""
        if self.at_most is not None:
            return f"<= {self.at_most:g} {self.unit}".rstrip()
        return "" if self.at_least is None else f">= {self.at_least:g} {self.unit}".rstrip()

    @property
    def missed(self) -> str:
        """Return a sentence; "" if the target is met, or there is none."""
        if self.ours is None:
            return ""
        is_missed = (self.at_most is not None and self.ours > self.at_most) or (
            self.at_least is not None and self.ours < self.at_least
        )
        value = f"{self.ours:.3g} {self.unit}".rstrip()
        return f"Target missed: {self.name} is {value}, the target is {self.target}." * is_missed

    def _text(self, value: float | None) -> str:
        return "" if value is None else f"{value:.{self.digits}f} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Result:
    """What one part measured. `text` is Markdown: how it measured, and details. `pictures` are SVG
    by the name of their file."""

    title: str
    figures: Sequence[Figure]
    text: str
    pictures: Mapping[str, str] = field(default_factory=dict)


def missed(results: Iterable[Result]) -> list[str]:
    """Return a sentence for each target that ours misses."""
    return [figure.missed for result in results for figure in result.figures if figure.missed]


def nearest_rank(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all values do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
