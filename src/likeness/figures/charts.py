"""Charts as SVG: learning curves, and points on two axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from .grids import LEAD, RULE, WHITE, _length, _words, compact
from .html import safe

# Curves, as SVG within a page: no script, no library


class Axis:
    """Numbers to places on a line of `length`, and the numbers worth writing beside it."""

    def __init__(self, values: np.ndarray, length: float, log: bool):
        self.log, self.length = log, length
        low, high = float(values.min()), float(values.max())
        if log:
            low, high = math.log10(low), math.log10(high)
        even = high - low < 1e-6 * max(abs(low), abs(high), 1e-6)  # a constant gets room around it
        spare = (0.5 * abs(high) if abs(high) > 1e-6 else 0.5) if even else 0.04 * (high - low)
        self.low, self.high = low - spare, high + spare

    def place(self, value: float) -> float:
        value = math.log10(value) if self.log else value
        return (value - self.low) / (self.high - self.low) * self.length

    def ticks(self) -> list[float]:
        """Round numbers: 1, 2, 5 times powers of ten."""
        if self.log:
            steps = (1,) if self.high - self.low > 3 else (1, 2, 5)
            result = [
                s * 10.0**k for k in range(math.floor(self.low) - 1, math.ceil(self.high) + 1) for s in steps
            ]
            result = [v for v in result if self.low <= math.log10(v) <= self.high]
            if len(result) >= 2:
                return result
        low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
        rough = (high - low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        return [float(f"{i * step:.12g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


COLOURS = ((31, 99, 168), (203, 90, 24), (38, 130, 74), (150, 60, 150), (120, 120, 120), (180, 30, 60))
"""of lines on a chart, told apart by their order in its key as well"""


def chart(
    lines: Sequence[tuple[str, np.ndarray, np.ndarray]],
    across: str,
    up: str,
    wide: int = 460,
    high: int = 240,
) -> np.ndarray:
    """Lines (name, x (n,), y (n,)) over common axes with a key, uint8 (height, width, 3); what is not finite
    is left out.

    across, up: what the axes measure.
    """
    lines = [
        (name, x[fine], y[fine])
        for name, x, y in lines
        for fine in [np.isfinite(x) & np.isfinite(y)]
        if fine.sum() > 1
    ]
    left, top, fine = 56, 14 + LEAD, 2
    axes = [
        Axis(np.concatenate([line[i] for line in lines]), length, False)
        for i, length in ((1, wide), (2, high))
    ]
    page = Image.new("RGB", ((left + wide + 12) * fine, (top + high + 44 + LEAD * len(lines)) * fine), WHITE)
    write = ImageDraw.Draw(page)

    def at(x: float, y: float) -> tuple[float, float]:
        return (left + axes[0].place(x)) * fine, (top + high - axes[1].place(y)) * fine

    ticks = [axis.ticks() for axis in axes]
    for value in ticks[1]:
        y = (top + high - axes[1].place(value)) * fine
        write.line([(left * fine, y), ((left + wide) * fine, y)], RULE, fine)
    for k, line in enumerate(lines):
        write.line([at(a, b) for a, b in zip(*line[1:])], COLOURS[k % len(COLOURS)], 2 * fine, "curve")
    page = page.resize((page.width // fine, page.height // fine), Image.Resampling.LANCZOS)
    write = ImageDraw.Draw(page)
    _words(write, 4, 4, up)
    for value, text in zip(ticks[0], labels(ticks[0])):
        _words(write, left + axes[0].place(value) - _length(text) / 2, top + high + 4, text)
    for value, text in zip(ticks[1], labels(ticks[1])):
        _words(write, left - 6 - _length(text), top + high - axes[1].place(value) - LEAD / 2, text)
    _words(write, left + wide - _length(across), top + high + 4 + LEAD, across)
    for k, (name, _, _) in enumerate(lines):
        y = top + high + 40 + k * LEAD
        write.line([(left, y + LEAD / 2), (left + 22, y + LEAD / 2)], COLOURS[k % len(COLOURS)], 3)
        _words(write, left + 30, y, name)
    return np.array(page)


def labels(ticks: list[float]) -> list[str]:
    """The shortest numbers that can be told apart."""
    every = ([compact(t, digits) for t in ticks] for digits in range(3, 16))
    return next((texts for texts in every if len(set(texts)) == len(ticks)), [f"{t:g}" for t in ticks])


def smooth(places: np.ndarray, y: np.ndarray, reach: float = 0.03) -> np.ndarray:
    """Means of y (n,) over all places within `reach` to both sides, `places` (n,) rising along an axis of
    length 1.

    Centred, so that it lags nowhere; on a logarithmic axis, where the first values stand alone, it is these
    values.
    """
    first, end = np.searchsorted(places, places - reach), np.searchsorted(places, places + reach, "right")
    return np.array([y[a:b].mean() for a, b in zip(first, end)])


def curve(x: np.ndarray, y: np.ndarray, title: str, below: str) -> str:
    """A line chart as SVG: raw values faint, a local mean over them, axes, and a value wherever one points.

    x rises.  An axis is logarithmic where its values span two powers of ten (y) or more than two (x).
    `title`, `below`: any text.
    """
    fine = np.isfinite(x) & np.isfinite(y)
    x, y = _thin(x[fine]), _thin(y[fine])
    if not len(x):
        return ""
    wide, high, left, top = 340.0, 150.0, 48.0, 26.0
    across = Axis(x, wide, bool(x[0] > 0 and x[-1] > 100 * x[0]))
    up = Axis(y, high, bool(y.min() > 0 and y.max() > 100 * y.min()))

    def point(a: float, b: float) -> tuple[float, float]:
        return left + across.place(a), top + high - up.place(b)

    averaged = smooth(np.array([across.place(a) for a in x]) / wide, y)
    lines = [_line("raw", map(point, x, y)), _line("smooth", map(point, x, averaged))]
    label_of_point = [
        _tooltip(*point(a, b), f"{below} {a:,.0f}: {c:.5g}") for a, b, c in zip(x, averaged, y)
    ][:: max(1, len(x) // 60)]
    rows, marks = up.ticks(), across.ticks()
    frame = [_row(left, wide, point(x[0], v)[1], text) for v, text in zip(rows, labels(rows))]
    frame += [_mark(point(v, y[0])[0], top + high, text) for v, text in zip(marks, labels(marks))]
    words = (
        f'<text class="name" x="0" y="13">{safe(title)}</text><text class="below" x="{left + wide:g}" '
        f'y="{top + high + 32:g}">{safe(below)}</text>'
    )
    says = safe(f"{title}: from {y[0]:.4g} to {y[-1]:.4g} over {x[-1]:,.0f} {below}")
    inner = "".join([words, *frame, *lines, *label_of_point])
    return (
        f'<svg class="curve" viewBox="0 0 {left + wide + 8:g} {top + high + 38:g}" role="img" '
        f'aria-label="{says}">{inner}</svg>'
    )


def _thin(values: np.ndarray, most: int = 400) -> np.ndarray:
    """Means of neighbours, where there are more values than a chart has room for."""
    return values if len(values) <= most else np.array([part.mean() for part in np.array_split(values, most)])


def _line(kind: str, points: Iterable[tuple[float, float]]) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>'


def _tooltip(a: float, b: float, text: str) -> str:
    return f'<circle cx="{a:.1f}" cy="{b:.1f}" r="6"><title>{safe(text)}</title></circle>'


def _row(left: float, wide: float, y: float, text: str) -> str:
    return (
        f'<path d="M{left:g} {y:.1f}h{wide:g}"/><text class="y" x="{left - 6:g}" '
        f'y="{y + 4:.1f}">{text}</text>'
    )


def _mark(x: float, y: float, text: str) -> str:
    return f'<text class="x" x="{x:.1f}" y="{y + 16:g}">{text}</text>'
