"""Pictures as SVG text: strips of dots with their medians, and lines over a logarithmic scale.

Everything is drawn with what the browser has: no script, no font, no address. Colours are readable
on paper, and every colour has its word beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

from perf.stats import summary

_WIDTH: Final = 520
_INK: Final = "#1f2933"
_FAINT: Final = "#8a94a0"
_GRID: Final = "#e3e7eb"


class Strip(NamedTuple):
    """One row of dots: a value for each round."""

    label: str
    colour: str
    values: Sequence[float]


class Point(NamedTuple):
    """A median, and the lowest and highest of its rounds."""

    x: float
    y: float
    low: float
    high: float


class Line(NamedTuple):
    """Points from left to right."""

    label: str
    colour: str
    points: Sequence[Point]


def strips(title: str, rows: Sequence[Strip], unit: str, digits: int = 2) -> str:
    """A row for each subject from nothing to the largest: dots for rounds, a bar for the median."""
    left, right, row_height, top = 110, 70, 26, 12
    room = _WIDTH - left - right
    most = max((max(row.values) for row in rows), default=1.0) or 1.0
    ticks = list(_steps(most))
    scale = room / ticks[-1]
    height = top + row_height * len(rows) + 34
    bottom = top + row_height * len(rows)
    parts = [_line(left + t * scale, top, left + t * scale, bottom, _GRID) for t in ticks]
    parts += [_text(left + t * scale, bottom + 14, f"{t:,g}", _FAINT, "middle") for t in ticks]
    parts.append(_text(left + room / 2, bottom + 29, unit, _FAINT, "middle"))
    for number, row in enumerate(rows):
        y = top + row_height * (number + 0.5)
        middle = summary(row.values).median
        strong = " font-weight='600'" if row.label == "kdns" else ""
        parts.append(_text(left - 10, y + 4, row.label, row.colour, "end", strong))
        width = max(middle * scale, 1)
        parts.append(
            f"<rect x='{left}' y='{y - 7:.1f}' width='{width:.1f}' height='14' rx='2' "
            f"fill='{row.colour}' fill-opacity='0.22'/>"
        )
        x = left + middle * scale
        parts.append(_line(x, y - 9, x, y + 9, row.colour, 2.5))
        parts += [_dot(left + value * scale, y, row.colour, 2.4, 0.75) for value in row.values]
        parts.append(
            _text(_WIDTH - right + 8, y + 4, f"{middle:,.{digits}f}", _INK, "start", strong)
        )
    return _svg(title, height, parts)


def lines(title: str, found: Sequence[Line], x_label: str, unit: str) -> str:
    """Lines over a linear x and a logarithmic y; a bar from the lowest to the highest round."""
    left, right, top, plot = 92, 30, 12, 230
    room = _WIDTH - left - right
    points = [point for line in found for point in line.points]
    if not points:
        return _svg(title, 40, [_text(left, 24, "nothing was measured", _FAINT, "start")])
    ticks = list(_steps(max(p.x for p in points)))
    lowest = max(min(p.low for p in points), 1)
    highest = max(p.high for p in points)
    low = math.floor(math.log10(lowest))
    high = max(math.ceil(math.log10(max(highest, lowest))), low + 1)

    def at_x(x: float) -> float:
        return left + x / ticks[-1] * room

    def at_y(y: float) -> float:
        return top + plot * (1 - (math.log10(max(y, 10**low)) - low) / (high - low))

    parts = []
    for power in range(low, high + 1):
        y = at_y(10**power)
        parts.append(_line(left, y, _WIDTH - right, y, _GRID))
        parts.append(_text(left - 8, y + 4, f"{10**power:,} {unit}", _FAINT, "end"))
    parts += [_text(at_x(t), top + plot + 16, f"{t:,g}", _FAINT, "middle") for t in ticks]
    parts.append(_text(left + room / 2, top + plot + 32, x_label, _FAINT, "middle"))
    for line in found:
        path = " ".join(f"{at_x(p.x):.1f},{at_y(p.y):.1f}" for p in line.points)
        thick = 2.6 if line.label == "kdns" else 1.6
        parts.append(
            f"<polyline points='{path}' fill='none' stroke='{line.colour}' stroke-width='{thick}'/>"
        )
        for p in line.points:
            x = at_x(p.x)
            parts.append(_line(x, at_y(p.low), x, at_y(p.high), line.colour, 1))
            parts.append(_dot(x, at_y(p.y), line.colour, 3.2))
    legend = top + plot + 54
    for number, line in enumerate(found):
        x, y = left + number % 4 * 106, legend + number // 4 * 18
        parts.append(_line(x, y - 4, x + 18, y - 4, line.colour, 3))
        parts.append(_text(x + 24, y, line.label, _INK, "start"))
    return _svg(title, legend + 12 + (len(found) - 1) // 4 * 18, parts)


def _steps(most: float) -> Iterator[float]:
    """Round numbers from 0 to `most` or above, five or so."""
    step = 10.0 ** math.floor(math.log10(most / 4)) if most > 0 else 1.0
    step = next(step * n for n in (1, 2, 2.5, 5, 10) if step * n * 5 >= most)
    for number in range(math.ceil(most / step - 1e-9) + 1):
        yield number * step


def _svg(title: str, height: float, parts: Iterable[str]) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height:.0f}' role='img'>"
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' "
        f"stroke='{colour}' stroke-width='{width}'/>"
    )


def _dot(x: float, y: float, colour: str, radius: float, opacity: float = 1) -> str:
    return (
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius}' fill='{colour}' fill-opacity='{opacity}'/>"
    )


def _text(x: float, y: float, text: str, colour: str, anchor: str, more: str = "") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' fill='{colour}' text-anchor='{anchor}'{more}>"
        f"{escape(text)}</text>"
    )
