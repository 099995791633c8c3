"""Maps as pictures: a point for each image, or the images themselves side by side, and small maps of several
settings.

There are no axes: where a map lies and how it is turned means nothing.  Colours are told apart with any
colour vision, ten of them, and after these the shape changes; names stand at the islands themselves, so that
colour is not all there is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .. import figures

COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#882255",
    "#999933",
    "#332288",
    "#c9b458",
)
"""those of Okabe & Ito (2008) without black and yellow, and some of Paul Tol's muted scheme (2021)"""
NONE = "#9a978f"
PAPER, INK, SOFT, PALE = "#ffffff", "#24231f", "#6a665e", "#dcd9d2"
SIDE, FINER, MARGIN = 1000, 3, 28
"""pixels of a picture of points; it is drawn three times as large"""
NAMED = 30
"""groups up to which their names stand on the map"""
CROWD = 1000
"""dots from which on a name stands among them"""
ROOM, CELLS = 2.2, (8, 40)
"""cells for each image, and fewest and most in a row"""
SHEET, TILE = 1400, (28, 96)
"""pixels of a picture of images, and fewest and most of one of them"""
NEAR = 1
"""cells that an image may move where not all find room"""
LONGEST = 24


class Groups(NamedTuple):
    """What points are coloured by: labels or clusters."""

    of: np.ndarray
    """int64 (n,); -1 for an image that has none"""
    names: tuple[str, ...]
    what: str
    """label or cluster"""

    def marks(self) -> list[tuple[int, str]]:
        """Those that occur, with their names."""
        return [(g, self.names[g]) for g in np.unique(self.of).tolist() if g >= 0]


def colour(group: int) -> str:
    return NONE if group < 0 else COLOURS[group % len(COLOURS)]


def grouped(labels: Sequence[str], what: str = "label") -> Groups:
    """By the names themselves, in the order of numbers where they are numbers; an empty name is none."""
    names = sorted(
        {label for label in labels if label},
        key=lambda s: (not s.isdecimal(), int(s) if s.isdecimal() else 0, s),
    )
    place = {name: i for i, name in enumerate(names)} | {"": -1}
    return Groups(np.array([place[label] for label in labels], np.int64), tuple(names), what)


# Points


def points(
    y: np.ndarray,
    groups: Groups | None = None,
    title: str = "",
    side: int = SIDE,
    names: bool = True,
    under: np.ndarray | None = None,
) -> np.ndarray:
    """A dot for each row of y (n, 2), y up, in the colours of its group, under a title: uint8 (height, width,
    3).

    under: points (m, 2) of an older map, pale beneath them.
    """
    of = np.full(len(y), -1 if under is None else 5) if groups is None else groups.of
    margin = MARGIN * side // SIDE + 4
    every, high = _fitted(y if under is None else np.concatenate([y, under]), side - 2 * margin)
    every, at = every + margin, every[: len(y)] + margin
    high += 2 * margin
    page = Image.new("RGB", (side * FINER, high * FINER), PAPER)
    write, radius = ImageDraw.Draw(page), float(np.clip(side / 7 / math.sqrt(len(every)), 1.1, 5.0)) * FINER
    for x, row in every[len(y) :] * FINER:
        write.ellipse([x - 0.8 * radius, row - 0.8 * radius, x + 0.8 * radius, row + 0.8 * radius], PALE)
    radius *= 1 if under is None else 1.4
    # at random, so that no group lies on top of the others
    for i in np.random.default_rng(0).permutation(len(y)):
        _dot(write, at[i, 0] * FINER, at[i, 1] * FINER, radius, int(of[i]))
    page = page.resize((side, high), Image.Resampling.LANCZOS)
    if groups is not None and names and 0 < len(groups.marks()) <= NAMED:
        _named(page, at, groups)
    parts = [_line(title, side, 17)] if title else []
    parts.append(np.array(page))
    if groups is not None and names and 0 < len(groups.marks()) <= NAMED:
        parts.append(_key(groups, side))
    return figures.stacked(*parts)


def _fitted(y: np.ndarray, wide: int) -> tuple[np.ndarray, int]:
    """Places (n, 2), x and y down, within `wide` pixels and as many as are needed downwards, between half of
    these and all; and that number."""
    low, high = y.min(0), y.max(0)
    span = np.maximum(high - low, 1e-12)
    tall = int(np.clip(wide * span[1] / span[0], wide / 2, wide))
    scale = min(wide / span[0], tall / span[1])
    spare = (np.array([wide, tall]) - span * scale) / 2
    return (y - [low[0], high[1]]) * [scale, -scale] + spare, tall


def _dot(write: ImageDraw.ImageDraw, x: float, y: float, r: float, group: int) -> None:
    """A disc; for groups beyond the tenth a square, a triangle, a diamond."""
    fill, shape = colour(group), 0 if group < 0 else group // len(COLOURS) % 4
    if shape == 0:
        write.ellipse([x - r, y - r, x + r, y + r], fill)
    elif shape == 1:
        write.rectangle([x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r], fill)
    elif shape == 2:
        write.polygon([(x, y - 1.3 * r), (x + 1.2 * r, y + r), (x - 1.2 * r, y + r)], fill)
    else:
        write.polygon([(x, y - 1.4 * r), (x + 1.4 * r, y), (x, y + 1.4 * r), (x - 1.4 * r, y)], fill)


def _named(page: Image.Image, at: np.ndarray, groups: Groups) -> None:
    """The name of each group where most of it lies, or above that where there are few dots; moved until it
    covers no other name."""
    write, font, taken = (
        ImageDraw.Draw(page),
        ImageFont.load_default(22),
        list[tuple[float, float, float, float]](),
    )
    for group, name in groups.marks():
        inside = at[groups.of == group]
        far = ((inside - np.median(inside, 0)) ** 2).sum(1)
        middle, core = inside[far.argmin()], inside[np.argsort(far, kind="stable")[: (len(inside) + 1) // 2]]
        text = drawable(name)
        x0, y0, x1, y1 = write.textbbox((0, 0), text, font, stroke_width=3)
        left = float(np.clip(middle[0] - (x1 - x0) / 2, 2, max(2, page.width - (x1 - x0) - 2)))
        first = middle[1] - (y1 - y0) / 2 if len(at) > CROWD else core[:, 1].min() - (y1 - y0) - 4
        tops = (first + step * sign * 6 for step in range(40) for sign in (1, -1))
        boxes = [
            (left, t, left + x1 - x0, t + y1 - y0) for t in tops if 0 <= t <= page.height - (y1 - y0)
        ] or [(left, 0.0, left + x1 - x0, y1 - y0)]
        box = next((b for b in boxes if not any(_meet(b, other) for other in taken)), boxes[0])
        taken.append(box)
        write.text((box[0] - x0, box[1] - y0), text, INK, font, stroke_width=3, stroke_fill=PAPER)


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _key(groups: Groups, wide: int) -> np.ndarray:
    """Every group with its mark, its name and how many images it has, in as many lines as that takes."""
    font, marks, counts = (
        ImageFont.load_default(15),
        groups.marks(),
        np.bincount(groups.of[groups.of >= 0], minlength=len(groups.names)),
    )
    texts = [(drawable(name), f"{counts[g]:,}") for g, name in marks]
    places, x, line = [], MARGIN, 0
    for text in texts:
        length = math.ceil(font.getlength("  ".join(text))) + 52
        if x + length > wide - MARGIN / 2 and x > MARGIN:
            x, line = MARGIN, line + 1
        places.append((x, 8 + 26 * line))
        x += length
    page = Image.new("RGB", (wide * FINER, (26 * (line + 1) + 22) * FINER), PAPER)
    for (left, top), (g, _) in zip(places, marks):
        _dot(ImageDraw.Draw(page), (left + 6) * FINER, (top + 10) * FINER, 6 * FINER, g)
    page = page.resize((wide, page.height // FINER), Image.Resampling.LANCZOS)
    for (left, top), (name, count) in zip(places, texts):
        ImageDraw.Draw(page).text((left + 20, top), name, INK, font)
        ImageDraw.Draw(page).text(
            (left + 28 + font.getlength(name), top + 2), count, SOFT, ImageFont.load_default(13)
        )
    return np.array(page)


def _line(text: str, wide: int, size: int) -> np.ndarray:
    """Words on a line of their own."""
    font = ImageFont.load_default(size)
    text = drawable(text, 200)
    while font.getlength(text) > wide - MARGIN and len(text) > 2:
        text = text[:-2].rstrip("…") + "…"
    page = Image.new("RGB", (wide, size + 24), PAPER)
    ImageDraw.Draw(page).text((MARGIN * wide // SIDE + 8, 14), text, SOFT, font)
    return np.array(page)


def drawable(text: str, longest: int = LONGEST) -> str:
    """A name as it can be drawn on one line: cut in the middle where it is long."""
    text = "".join(c if c.isprintable() else " " for c in text.encode(errors="backslashreplace").decode())
    return text if len(text) <= longest else f"{text[: longest // 2 - 1]}…{text[-(longest // 2) :]}"


def multiples(
    maps: Sequence[tuple[str, np.ndarray]], groups: Groups | None = None, side: int = 420
) -> np.ndarray:
    """Small maps (title, y (n, 2)) side by side, up to three in a row, with one key: uint8 (height, width,
    3)."""
    columns = 2 if len(maps) == 4 else min(3, len(maps))
    panels = [points(y, groups, title, side, names=False) for title, y in maps]
    high = max(p.shape[0] for p in panels)
    panels = [np.pad(p, ((0, high - p.shape[0]), (0, 0), (0, 0)), constant_values=255) for p in panels]
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % columns)
    rows = [np.concatenate(panels[i : i + columns], 1) for i in range(0, len(panels), columns)]
    keyed = groups is not None and 0 < len(groups.marks()) <= NAMED
    return figures.stacked(*rows, *([_key(groups, columns * side)] if keyed and groups is not None else []))


# Images


class Snapped(NamedTuple):
    """Images in the cells of a grid, at most one in each."""

    row: np.ndarray
    """int64 (s,): which images found a cell, rising"""
    cell: np.ndarray
    """int64 (s, 2): column and line of each"""
    columns: int
    lines: int


def snap(y: np.ndarray, columns: int = 0) -> Snapped:
    """A cell for each row of y (n, 2), y up, near its own place; the nearest pairs of image and cell come
    first.

    Where there are more than half as many images as cells an image moves by one cell at most, and who finds
    none is left out: a map with everybody on it would no longer be the map.
    """
    columns = columns or int(np.clip(math.ceil(math.sqrt(ROOM * len(y))), *CELLS))
    at, tall = _fitted(y, 1000)
    lines = max(1, round(columns * tall / 1000))
    at = at / [1000, tall] * [columns - 1, lines - 1]
    everyone = len(y) <= columns * lines / 2
    around = np.arange(-NEAR, NEAR + 1)
    near = np.rint(at)[:, None].astype(np.int64) + np.stack(np.meshgrid(around, around), -1).reshape(1, -1, 2)
    far = np.square(near - at[:, None]).sum(2) + np.where(
        ((near >= 0) & (near < [columns, lines])).all(2), 0, np.inf
    )
    result, free = np.full((len(y), 2), -1), np.ones((columns, lines), bool)
    for k in np.argsort(far, axis=None, kind="stable").tolist():
        i, j = divmod(k, far.shape[1])
        c, r = near[i, j]
        if far[i, j] < np.inf and result[i, 0] < 0 and free[c, r]:
            result[i], free[c, r] = (c, r), False
    for i in np.flatnonzero(result[:, 0] < 0) if everyone else ():
        open_ = np.argwhere(free)
        result[i] = open_[np.square(open_ - at[i]).sum(1).argmin()]
        free[tuple(result[i])] = False
    row = np.flatnonzero(result[:, 0] >= 0)
    return Snapped(row, result[row], columns, lines)


def images(
    y: np.ndarray, x: np.ndarray, groups: Groups | None = None, title: str = ""
) -> tuple[np.ndarray, int]:
    """The images x, uint8 (n, C, H, W), near their places y (n, 2), none over another, framed in the colour
    of their group.

    Returns uint8 (height, width, 3), and how many found room.
    """
    result = snap(y)
    pitch = int(np.clip(SHEET // result.columns, *TILE))
    gap, frame = 1, 2 if groups is not None else 0
    side = pitch - 2 * (gap + frame)
    margin = 14
    page = Image.new("RGB", (result.columns * pitch + 2 * margin, result.lines * pitch + 2 * margin), PAPER)
    write = ImageDraw.Draw(page)
    for i, (c, r) in zip(result.row, result.cell.tolist()):
        left, top = margin + c * pitch + gap, margin + r * pitch + gap
        if groups is not None:
            write.rectangle(
                [left, top, left + side + 2 * frame - 1, top + side + 2 * frame - 1],
                colour(int(groups.of[i])),
            )
        page.paste(Image.fromarray(tile(x[i], side)), (left + frame, top + frame))
    keyed = groups is not None and 0 < len(groups.marks()) <= NAMED
    parts = [
        *([_line(title, page.width, 17)] if title else []),
        np.array(page),
        *([_key(groups, page.width)] if keyed and groups is not None else []),
    ]
    return figures.stacked(*parts), len(result.row)


def tile(x: np.ndarray, side: int) -> np.ndarray:
    """One image, uint8 (C, H, W), as uint8 (side, side, 3): small ones enlarged by squares, large ones
    averaged."""
    shown = x[:3] if len(x) >= 3 else x[[0, 0, 0]]
    image = Image.fromarray(np.ascontiguousarray(shown.transpose(1, 2, 0)))
    if image.size == (side, side):
        return np.asarray(image)
    scale = max(1, math.ceil(side / max(image.size)))
    image = (
        image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
        if scale > 1
        else image
    )
    return np.asarray(
        image.resize((side, side), Image.Resampling.LANCZOS if scale == 1 else Image.Resampling.BOX)
    )


def strip(shown: Sequence[tuple[np.ndarray, Sequence[str]]], side: int = 132, columns: int = 9) -> np.ndarray:
    """Images, uint8 (C, H, W), with lines of words above (the first) and below (the others): uint8 (height,
    width, 3)."""
    lines, font = max(len(words) for _, words in shown) - 1, ImageFont.load_default(14)
    columns = min(columns, len(shown))
    wide, high = side + 14, side + 34 + 19 * lines
    page = Image.new("RGB", (14 + columns * wide, 10 + math.ceil(len(shown) / columns) * high), PAPER)
    write = ImageDraw.Draw(page)
    for i, (x, words) in enumerate(shown):
        left, top = 14 + i % columns * wide, 10 + i // columns * high
        page.paste(Image.fromarray(tile(x, side)), (left, top + 22))
        for k, word in enumerate(words):
            text = drawable(word)
            while font.getlength(text) > side and len(text) > 2:
                text = drawable(word, len(text) - 1)
            write.text(
                (left, top if not k else top + 26 + side + 19 * (k - 1)), text, INK if k < 2 else SOFT, font
            )
    return np.array(page)


class Sprites(NamedTuple):
    """Many images as one, row by row, for a page."""

    sheet: np.ndarray
    """uint8 (height, width, 3)"""
    side: int
    columns: int


def sprites(x: np.ndarray) -> Sprites:
    """All images x, uint8 (n, C, H, W), as tiles of 64 pixels or less: so many that a page stays below some
    ten megabytes."""
    n = len(x)
    side = min(
        max(x.shape[2:]), next((s for most, s in ((1500, 64), (6000, 40), (12_000, 28)) if n <= most), 20)
    )
    columns = math.ceil(math.sqrt(n))
    sheet = np.zeros((math.ceil(n / columns) * side, columns * side, 3), np.uint8)
    for i, image in enumerate(x):
        top, left = i // columns * side, i % columns * side
        sheet[top : top + side, left : left + side] = tile(image, side)
    return Sprites(sheet, side, columns)
