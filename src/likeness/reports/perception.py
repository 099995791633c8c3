"""Perception against distortion of several runs, with what costs nothing: a picture of the comparison.

Blau & Michaeli, "The Perception-Distortion Tradeoff", 2018: beyond some point, the nearer translations are to
the truth on average, the less they look like real images; losses of pixels, of features and of a game lie
along that line.  Across is the distortion, PSNR, up how far translations are from real images: down and to
the right is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .. import figures
from .ranking import Column, Row

DISTORTION = ("PSNR on Y", "PSNR to truth")
PERCEPTION = ("Fréchet distance of translations", "KID of translations", "feature distance to truth")
"""the first that two runs or more have"""
WIDE, HIGH, LEFT, TOP = 420.0, 260.0, 56.0, 26.0


class Dot(NamedTuple):
    name: str
    x: float
    y: float
    column: int
    """of which run it is, or -1 for what costs nothing"""


def picture(columns: Sequence[Column], rows: Sequence[Row], colours: Sequence[str]) -> str:
    """An SVG with a dot a run, and one for each baseline, or nothing where fewer than two runs have both
    measures on the same data."""
    for up in PERCEPTION:
        for across in DISTORTION:
            dots = _dots(columns, rows, across, up)
            if sum(dot.column >= 0 for dot in dots) > 1:
                return _drawn(dots, across, up, colours)
    return ""


def _dots(columns: Sequence[Column], rows: Sequence[Row], across: str, up: str) -> list[Dot]:
    """Of runs on the data of the first that has both."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault((row.key.name, row.key.of), row)
    dots: list[Dot] = []
    subject: tuple[str, str] | None = None
    for of in dict.fromkeys(of for name, of in first if name == across):
        a, b = first[across, of], first.get((up, of))
        for i, column in enumerate(columns):
            cells = (a.cells[i], None if b is None else b.cells[i])
            if any(card is None or not math.isfinite(card.value) for card in cells):
                continue
            if of == "model" and subject in (None, column.data):
                subject = column.data
                dots.append(Dot(column.name, cells[0].value, cells[1].value, i))  # type: ignore[union-attr]
            elif of != "model" and column.data == subject and of not in {dot.name for dot in dots}:
                dots.append(Dot(of, cells[0].value, cells[1].value, -1))  # type: ignore[union-attr]
    return dots


def _drawn(dots: Sequence[Dot], across: str, up: str, colours: Sequence[str]) -> str:
    e = figures.safe
    x, y = (np.array([dot[k] for dot in dots]) for k in (1, 2))
    # room for names on the right
    h = figures.Axis(x, WIDE - 130, False)
    v = figures.Axis(y, HIGH, bool(y.min() > 0 and y.max() > 100 * y.min()))
    rows, marks = v.ticks(), h.ticks()
    frame = [
        f'<path d="M{LEFT:g} {TOP + HIGH - v.place(t):.1f}h{WIDE:g}"/><text class="y" x="{LEFT - 6:g}" '
        f'y="{TOP + HIGH - v.place(t) + 4:.1f}">{text}</text>'
        for t, text in zip(rows, figures.labels(rows))
    ]
    frame += [
        f'<text class="x" x="{LEFT + h.place(t):.1f}" y="{TOP + HIGH + 16:g}">{text}</text>'
        for t, text in zip(marks, figures.labels(marks))
    ]
    spots = []
    for dot in dots:
        at, height = LEFT + h.place(dot.x), TOP + HIGH - v.place(dot.y)
        ink = colours[dot.column % len(colours)] if dot.column >= 0 else "currentColor"
        title = e(f"{dot.name}: {across} {dot.x:.4g}, {up} {dot.y:.4g}")
        size, opacity = (5, 1) if dot.column >= 0 else (3.5, 0.5)
        spots.append(
            f'<circle cx="{at:.1f}" cy="{height:.1f}" r="{size:g}" fill="{ink}" opacity="{opacity:g}">'
            f'<title>{title}</title></circle><text x="{at + 9:.1f}" y="{height + 4:.1f}">{e(dot.name)}</text>'
        )
    words = (
        f'<text class="name" x="0" y="13">{e(f"{up} (lower is better)")}</text><text class="below" '
        f'x="{LEFT + WIDE:g}" y="{TOP + HIGH + 32:g}">{e(f"{across}, dB (higher is better)")}</text>'
    )
    box = f"0 0 {LEFT + WIDE + 8:g} {TOP + HIGH + 38:g}"
    says = e(f"{up} over {across}: " + "; ".join(f"{d.name} {d.x:.4g}, {d.y:.4g}" for d in dots))
    return (
        f'<svg class="curve plane" viewBox="{box}" role="img" aria-label="{says}">{words}{"".join(frame)}'
        f"{''.join(spots)}</svg>"
    )
