"""Plots for the page of results: SVG in the colours of the page's style sheet, and rows of dots in
HTML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 380, 262
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 42


@dataclass(frozen=True)
class Series:
    """A line of a plot.

    Attributes
    ----------
    name
        What it is called in the legend.
    colour
        Number of the colour, from 1.
    x, y
        The points; undefined ones are left out.
    is_dashed
        Draw it dashed: for a limit, or a reference.
    """

    name: str
    colour: int
    x: Sequence[float]
    y: Sequence[float]
    is_dashed: bool = False

    @property
    def points(self) -> list[tuple[float, float]]:
        """What can be drawn."""
        return [
            (x, y)
            for x, y in zip(self.x, self.y, strict=True)
            if math.isfinite(x) and math.isfinite(y)
        ]


@dataclass(frozen=True)
class Scale:
    """From values to a length in the drawing.

    Attributes
    ----------
    low, high
        Values at the ends.
    start, end
        Where these are drawn.
    is_log
        Logarithmic; else linear.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = True

    def __call__(self, value: float) -> float:
        """Place a value."""
        low, high, at = (
            (math.log10(v) for v in (self.low, self.high, value))
            if self.is_log
            else self._plain(value)
        )
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def _plain(self, value: float) -> tuple[float, float, float]:
        return self.low, self.high, value

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, *, is_log: bool) -> Scale:
        """Span values with some room; a linear scale from zero on, so that what is flat looks
        flat.
        """
        low, high = min(values), max(values)
        if not is_log:
            low = min(low, 0.0)
            return cls(low, high + 0.08 * (high - low or 1.0), start, end, is_log=False)
        room = (high / low) ** 0.07 if high > low else 2.0
        return cls(low / room, high * room, start, end)

    @property
    def ticks(self) -> list[float]:
        """Round values within: decades, with 2 and 5 where decades are few."""
        if not self.is_log:
            step = 10 ** math.floor(math.log10((self.high - self.low) / 2.5))
            step *= next(
                factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (factor * step) <= 5
            )
            first = math.ceil(self.low / step - 1e-9)
            return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1,), (1, 3), (1, 2, 5)):
            found = [
                f * 10.0**d
                for d in decades
                for f in factors
                if self.low <= f * 10.0**d <= self.high
            ]
            if len(found) >= 3:
                break
        return found


def short(value: float) -> str:
    """Write a number in little room: 0.05, 12, 3.4k."""
    if value >= 1000:
        return f"{value / 1000:.3g}k"
    return f"{value:.3g}"


def lines(
    series: Sequence[Series],
    title: str,
    x_label: str,
    *,
    x_ticks: Sequence[float] | None = None,
    y_is_log: bool = True,
) -> str:
    """Draw lines over a logarithmic axis.

    Parameters
    ----------
    series
        The lines; those without points are left out.
    title, x_label
        What is plotted (units included), against what.
    x_ticks
        Where the horizontal axis is labelled; none: at round values.
    y_is_log
        Logarithmic vertical axis.

    Returns
    -------
    str
        An HTML figure with SVG; empty where there is nothing to draw.
    """
    drawn = [line for line in series if line.points]
    if not drawn:
        return ""
    across, up = zip(*(point for line in drawn for point in line.points), strict=True)
    x = Scale.around(across, _LEFT, _WIDTH - _RIGHT, is_log=True)
    y = Scale.around(up, _HEIGHT - _BOTTOM, _TOP, is_log=y_is_log)
    body = [_grid(x, y, x_ticks if x_ticks is not None else x.ticks, x_label)]
    body += [_line(line, x, y) for line in drawn]
    label = escape(f"{title}, against {x_label}", quote=True)
    svg = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{label}">{"".join(body)}</svg>'
    )
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"


def _grid(x: Scale, y: Scale, x_ticks: Sequence[float], x_label: str) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in y.ticks:
        at = y(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(
            f'<text x="{_LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{short(tick)}</text>'
        )
    for tick in x_ticks:
        at = x(tick)
        parts.append(
            f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        )
        parts.append(
            f'<text x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">{short(tick)}</text>'
        )
    parts.append(f'<line class="tick" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text class="label" x="{middle:.0f}" y="{_HEIGHT - 6}" '
        f'text-anchor="middle">{escape(x_label)}</text>'
    )
    return "".join(parts)


def _line(line: Series, x: Scale, y: Scale) -> str:
    places = [(x(a), y(b)) for a, b in line.points]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    dashes = ' stroke-dasharray="5 4"' if line.is_dashed else ""
    hints = [
        f"<title>{escape(line.name)}: {short(b)} at {short(a)}</title>" for a, b in line.points
    ]
    dots = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.2">{hint}</circle>'
        for (a, b), hint in zip(places, hints, strict=True)
    )
    return f'<g class="c{line.colour}"><polyline points="{path}"{dashes}/>{dots}</g>'


def legend(names: Sequence[tuple[str, int]]) -> str:
    """Name the colours."""
    items = "".join(f'<li class="c{colour}"><i></i>{escape(name)}</li>' for name, colour in names)
    return f'<ul class="legend">{items}</ul>'


@dataclass(frozen=True)
class DotRow:
    """A row of dots: what it is about, its values, and how it is coloured."""

    title: str
    detail: str
    values: Sequence[float]
    colour: int


def dot_rows(rows: Sequence[DotRow], ticks: Sequence[float], unit: str) -> str:
    """Draw rows of dots over one logarithmic axis, as HTML that wraps on a narrow screen.

    Parameters
    ----------
    rows
        The rows; the bold figure is the median of each.
    ticks
        Labelled values of the axis; its ends are the first and the last.
    unit
        Written before every value.
    """
    scale = Scale(ticks[0], ticks[-1], 0.0, 100.0)
    marks = "".join(f'<b style="left:{scale(tick):.1f}%">{unit}{short(tick)}</b>' for tick in ticks)
    grid = "".join(f'<i class="rule" style="left:{scale(tick):.1f}%"></i>' for tick in ticks)
    lines_ = [
        (
            '<div class="dots axis"><span></span><div '
            f'class="track">{marks}</div><strong></strong></div>'
        )
    ]
    for row in rows:
        middle = (
            sorted(row.values)[len(row.values) // 2]
            if len(row.values) % 2
            else _even_median(row.values)
        )
        dots = "".join(
            f'<i class="dot" style="left:{scale(min(max(value, ticks[0]), ticks[-1])):.1f}%"></i>'
            for value in row.values
        )
        reach = f'<i class="bar" style="width:{max(scale(max(middle, ticks[0])), 0.0):.1f}%"></i>'
        words = f"<span>{escape(row.title)}<small>{escape(row.detail)}</small></span>"
        track = f'<div class="track">{grid}{reach}{dots}</div>'
        lines_.append(
            '<div class="dots '
            f'c{row.colour}">{words}{track}<strong>{unit}{short(middle)}</strong></div>'
        )
    return f'<div class="dotplot">{"".join(lines_)}</div>'


def _even_median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return 0.5 * (ordered[half - 1] + ordered[half])
