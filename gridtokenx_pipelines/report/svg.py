"""Plots as inline SVG: time on the x axis in Bangkok local time, one y axis, steps, stacked areas, bars.

Belongs here: geometry and marks. Does not belong here: what is plotted (sections.py), colours (page.py's style sheet:
series are classes s1 … s8). Small enough to read on a phone without zooming, so text is never scaled far down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Literal

import msgspec

from gridtokenx_pipelines.epochs import BANGKOK_OFFSET_SECONDS, EPOCH_SECONDS, EPOCHS_PER_DAY

WIDTH, HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 42, 20, 24, 28
MOST_TICKS_X = 8
STEPS_X = (1, 2, 4, 8, 12, 24, 48, 96, 192, 288, 672, 1_344)  # epochs between labels
MOST_HIT_AREAS = 400  # beyond, tooltips would weigh more than the plot
SERIES_COLOURS = 8

Value = float | None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One value per epoch (None: a gap). `style`: step line, dashed step line, stacked area or (stacked) bars."""

    name: str
    values: Sequence[Value]
    colour: int
    style: Literal["line", "dashed", "area", "bar"] = "line"


def local_time(epoch: int) -> datetime:
    """Start of an epoch on a Bangkok clock."""
    return datetime.fromtimestamp(epoch * EPOCH_SECONDS + BANGKOK_OFFSET_SECONDS, UTC)


def nice_step(span: float, count: int = 4) -> float:
    """1, 2, 2.5 or 5 times a power of ten, so that about `count` steps cover the span."""
    raw = max(span, 1e-9) / count
    magnitude = 10 ** math.floor(math.log10(raw))
    return next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)


def plot(epochs: Sequence[int], series: Sequence[Series], *, label: str, unit: str, from_zero: bool = True) -> str:
    """An `<svg>` of the series over consecutive epochs; `label` says in words what it shows."""
    scale = _Scale(epochs, series, from_zero)
    parts = [_grid(scale), _time_axis(scale)]
    parts += _stacked(scale, [each for each in series if each.style == "area"], _area)
    parts += _stacked(scale, [each for each in series if each.style == "bar"], _bars)
    parts += [_line(scale, each) for each in series if each.style in ("line", "dashed")]
    if len(epochs) <= MOST_HIT_AREAS:
        parts += _hit_areas(scale, series, unit)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f'<text x="0" y="11">{escape(unit)}</text>{"".join(parts)}</svg>'
    )


class _Scale:
    """From epochs and values to coordinates."""

    def __init__(self, epochs: Sequence[int], series: Sequence[Series], from_zero: bool) -> None:
        self.epochs = epochs
        highs, lows = [], []
        for style in ("area", "bar"):
            stack = [each.values for each in series if each.style == style]
            highs += [sum(max(v or 0.0, 0.0) for v in column) for column in zip(*stack, strict=True)]
            lows += [sum(min(v or 0.0, 0.0) for v in column) for column in zip(*stack, strict=True)]
        plain = [v for each in series if each.style in ("line", "dashed") for v in each.values if v is not None]
        seen = highs + lows + plain + ([0.0] if from_zero else [])
        low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
        if high - low < 1e-9:
            high = low + 1.0
        self.step = nice_step(high - low)
        self.low, self.high = math.floor(low / self.step) * self.step, math.ceil(high / self.step) * self.step

    def x(self, index: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * index / len(self.epochs)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.low) / (self.high - self.low)

    def levels(self) -> list[float]:
        return [self.low + index * self.step for index in range(round((self.high - self.low) / self.step) + 1)]


def _grid(scale: _Scale) -> str:
    digits = max(0, -math.floor(math.log10(scale.step) + 1e-9))
    if digits and round(scale.step * 10**digits, 6) % 1:
        digits += 1  # a step of 2.5 or 0.25 needs one more place than its magnitude
    elif not digits and scale.step % 1:
        digits = 1
    lines = []
    for value in scale.levels():
        y = scale.y(value)
        kind = "axis" if abs(value) < scale.step / 1e6 else "grid"
        lines.append(f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,.{digits}f}</text>')
    return "".join(lines)


def _time_axis(scale: _Scale) -> str:
    count = len(scale.epochs)
    step = next((each for each in STEPS_X if count / each <= MOST_TICKS_X), STEPS_X[-1])
    labels, local_shift = [], BANGKOK_OFFSET_SECONDS // EPOCH_SECONDS
    for index, epoch in enumerate([*scale.epochs, scale.epochs[-1] + 1]):
        if (epoch + local_shift) % step:
            continue
        time, x = local_time(epoch), scale.x(index)
        text = f"{time.day} {time:%b}" if step >= EPOCHS_PER_DAY else f"{time:%H:%M}"
        labels.append(
            f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}"/>'
        )
        labels.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{text}</text>')
    return "".join(labels)


def _line(scale: _Scale, series: Series) -> str:
    path, pen_down = [], False
    for index, value in enumerate(series.values):
        if value is None:
            pen_down = False
            continue
        y = scale.y(value)
        path.append(f"{'L' if pen_down else 'M'}{scale.x(index):.1f},{y:.1f}H{scale.x(index + 1):.1f}")
        pen_down = True
    return f'<path class="line s{series.colour} {series.style}" d="{"".join(path)}"/>'


def _stacked(scale: _Scale, stack: Sequence[Series], draw) -> list[str]:  # type: ignore[no-untyped-def] # _area, _bars
    above, below = [0.0] * len(scale.epochs), [0.0] * len(scale.epochs)
    parts = []
    for series in stack:
        spans = []
        for index, raw in enumerate(series.values):
            value, base = raw or 0.0, above if (raw or 0.0) >= 0 else below
            spans.append((base[index], base[index] + value))
            base[index] += value
        parts.append(draw(scale, series, spans))
    return parts


def _area(scale: _Scale, series: Series, spans: Sequence[tuple[float, float]]) -> str:
    upper = "".join(f"L{scale.x(i):.1f},{scale.y(top):.1f}H{scale.x(i + 1):.1f}" for i, (_, top) in enumerate(spans))
    lower = "".join(
        f"L{scale.x(i + 1):.1f},{scale.y(bottom):.1f}H{scale.x(i):.1f}"
        for i, (bottom, _) in reversed(list(enumerate(spans)))
    )
    return f'<path class="area s{series.colour}" d="M{upper[1:]}{lower}Z"/>'


def _bars(scale: _Scale, series: Series, spans: Sequence[tuple[float, float]]) -> str:
    gap = min(1.0, (scale.x(1) - scale.x(0)) * 0.15)
    path = "".join(
        f"M{scale.x(i) + gap / 2:.1f},{scale.y(bottom):.1f}V{scale.y(top):.1f}H{scale.x(i + 1) - gap / 2:.1f}"
        f"V{scale.y(bottom):.1f}Z"
        for i, (bottom, top) in enumerate(spans)
        if bottom != top
    )
    return f'<path class="bar s{series.colour}" d="{path}"/>'


def _hit_areas(scale: _Scale, series: Sequence[Series], unit: str) -> list[str]:
    areas = []
    for index, epoch in enumerate(scale.epochs):
        start, end = local_time(epoch), local_time(epoch + 1)
        lines = [f"{start:%H:%M}–{end:%H:%M}"]
        lines += [
            f"{each.name}: {'–' if each.values[index] is None else f'{each.values[index]:,.3f} {unit}'}"
            for each in series
        ]
        x, width = scale.x(index), scale.x(index + 1) - scale.x(index)
        areas.append(
            f'<rect class="hit" x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}">'
            f"<title>{escape(chr(10).join(lines))}</title></rect>"
        )
    return areas
