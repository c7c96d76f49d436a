"""Charts as SVG: text that can be selected, legible on a light and on a dark page."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 16, 76, 54
#: Each has a contrast of at least 3 to white and to GitHub's dark page.
COLOURS = ("#0a7ea4", "#c2571a", "#7d6bd0", "#5f8a2c", "#b8478c")
STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #333 }
    .title { font-size: 15px; font-weight: 600 }
    .grid { stroke: #8884; stroke-width: 1 }
    .axis { stroke: #888; stroke-width: 1 }
    .line { fill: none; stroke-width: 2; stroke-linejoin: round }
    @media (prefers-color-scheme: dark) { text { fill: #ddd } }
"""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    dashed: bool = False


def lines(
    title: str,
    series: Sequence[Series],
    *,
    x: str,
    y: str,
    log_x: bool = False,
    height: int = HEIGHT,
) -> str:
    """Draw the series in one chart; `x` and `y` label the axes and name the units."""
    horizontal = _Axis.of(
        [px for each in series for px, _ in each.points], LEFT, WIDTH - RIGHT, log_x
    )
    bottom = height - BOTTOM
    vertical = _Axis.of([py for each in series for _, py in each.points], bottom, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        _text(LEFT, 22, title, of="title"),
        *_grid(horizontal, vertical, bottom),
        _text((LEFT + WIDTH - RIGHT) / 2, height - 12, x, anchor="middle"),
        f'<text x="{LEFT - 54}" y="{TOP - 12}">{escape(y)}</text>',
    ]
    at = float(LEFT)
    for each, colour in zip(series, COLOURS, strict=False):
        parts += [_line(each, colour, horizontal.place, vertical.place), *_key(each, colour, at)]
        at += 50 + 7.5 * len(each.name)
    return "\n".join([*parts, "</svg>"]) + "\n"


def grid(title: str, charts: Sequence[str], *, columns: int) -> str:
    """Draw charts of the same size next to and below each other, each at half its size."""
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', charts[0])
    assert size is not None
    width, height = int(size[1]) // 2, int(size[2]) // 2
    rows = math.ceil(len(charts) / columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * columns} {height * rows}"'
        ' role="img">',
        f"<title>{escape(title)}</title>",
    ]
    for number, chart in enumerate(charts):
        row, column = divmod(number, columns)
        place = f'x="{width * column}" y="{height * row}" width="{width}" height="{height}"'
        parts.append(chart.replace("<svg ", f"<svg {place} ", 1).rstrip())
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True, slots=True)
class _Axis:
    """`place(value)` is the value's coordinate; `ticks` are round values."""

    place: Callable[[float], float]
    ticks: Sequence[float]

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float, log: bool = False) -> _Axis:
        if log:
            low = math.floor(math.log10(min(values)))
            high = max(math.ceil(math.log10(max(values))), low + 1)
            scale = (end - start) / (high - low)
            ticks = [10.0**power for power in range(low, high + 1)]
            return cls(lambda value: start + (math.log10(value) - low) * scale, ticks)
        most = max(values, default=0) or 1
        step = _round_step(most / 5)
        count = math.ceil(most / step)
        return cls(
            lambda value: start + (end - start) * value / (step * count),
            [step * number for number in range(count + 1)],
        )


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * each for each in (1, 2, 2.5, 5, 10) if power * each >= least * 0.999)


def _grid(x: _Axis, y: _Axis, bottom: float) -> list[str]:
    top, parts = TOP, []
    for tick in y.ticks:
        at = y.place(tick)
        kind = "grid" if tick else "axis"
        parts.append(
            f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(_text(LEFT - 8, at + 4, f"{tick:,g}", anchor="end"))
    for tick in x.ticks:
        at = x.place(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(_text(at, bottom + 18, f"{tick:,g}", anchor="middle"))
    return parts


def _line(
    series: Series, colour: str, x: Callable[[float], float], y: Callable[[float], float]
) -> str:
    points = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in series.points)
    return f'<polyline class="line" stroke="{colour}"{_dash(series)} points="{points}"/>'


def _key(series: Series, colour: str, at: float) -> list[str]:
    return [
        f'<line stroke="{colour}" stroke-width="3"{_dash(series)}'
        f' x1="{at:.0f}" x2="{at + 22:.0f}" y1="40" y2="40"/>',
        _text(at + 28, 44, series.name),
    ]


def _dash(series: Series) -> str:
    return ' stroke-dasharray="6 4"' if series.dashed else ""


def _text(x: float, y: float, text: str, *, anchor: str = "", of: str = "") -> str:
    kind = f' class="{of}"' if of else ""
    where = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}"{where}>{escape(text)}</text>'
