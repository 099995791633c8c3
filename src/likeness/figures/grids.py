"""Images for people: grids of them, sheets of what belongs together, PNG files that carry their recipe, and
curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..core import Refusal

TILE, GAP, PAPER = 48, 2, 238
"""a tile has at least 48 pixels a side, 2 lie between two tiles, and that grey shows there"""


def pixels(x: Tensor) -> np.ndarray:
    """(B, C, H, W) in [-1, 1] as uint8 (B, H, W, 3).  One channel is grey; of more than three the first three
    show; no number is middle grey."""
    levels = x.detach().float().cpu().nan_to_num(0.0).clamp(-1, 1).add(1).mul(127.5).round().byte().numpy()
    c = levels.shape[1]
    shown = levels[:, :3] if c >= 3 else levels[:, [0, 0, 0]]
    return np.ascontiguousarray(shown.transpose(0, 2, 3, 1))


def enlargement(height: int, width: int) -> int:
    """The whole number by which small images are enlarged, so that a digit of 8x8 can be seen."""
    return max(1, math.ceil(TILE / max(height, width)))


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Each pixel of (..., H, W, 3) as a square of scale x scale."""
    return image.repeat(scale, -3).repeat(scale, -2)


def grid(x: Tensor, columns: int | None = None, gap: int = GAP, scale: int | None = None) -> np.ndarray:
    """Images (B, C, H, W) in [-1, 1] side by side, nearly square unless `columns` are given: uint8 (height,
    width, 3).

    `scale` enlarges by a whole number; the default makes a tile of at least 48 pixels.
    """
    if not len(x):
        raise Refusal("there is no image to show; ask for one or more.")
    columns = min(len(x), columns or math.ceil(math.sqrt(len(x))))
    tiles = enlarge(pixels(x), scale or enlargement(*x.shape[-2:]))
    n, h, w, _ = tiles.shape
    page = np.full((math.ceil(n / columns) * (h + gap) + gap, columns * (w + gap) + gap, 3), PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
        page[top : top + h, left : left + w] = tile
    return page


def strips(
    *lines: Tensor, columns: int | None = None, gap: int = GAP, scale: int | None = None
) -> np.ndarray:
    """Lines of images that belong together, each (B, C, H, W), one above the other: an original above its
    reconstruction.

    Where B is more than `columns` the strip goes on below, after a wider gap.
    """
    b = min(map(len, lines))
    columns = min(
        b, columns or max(1, 960 // (gap + lines[0].shape[-1] * (scale or enlargement(*lines[0].shape[-2:]))))
    )
    blocks = [
        np.concatenate([grid(line[i : i + columns], columns, gap, scale) for line in lines])
        for i in range(0, b, columns)
    ]
    return np.concatenate(
        [
            np.pad(x, ((0, 2 * gap), (0, blocks[0].shape[1] - x.shape[1]), (0, 0)), constant_values=PAPER)
            for x in blocks
        ]
    )


def beside(*columns: Tensor, across: int = 6) -> np.ndarray:
    """Images that belong together side by side, such as a source, what was made of it, and the truth: a
    grid() of about `across` tiles in a row.

    columns: (B, C, H, W) each, of any channels; those smaller than the last are enlarged to its size.
    """
    size = columns[-1].shape[-2:]
    tiles = [_coloured(x) if x.shape[-2:] == size else F.interpolate(_coloured(x), size) for x in columns]
    k = len(columns)
    return grid(torch.stack(tiles, 1).flatten(0, 1), max(1, across // k) * k)


def _coloured(x: Tensor) -> Tensor:
    """Of three channels, in memory."""
    x = x.detach().float().cpu()
    return x[:, :3] if x.shape[1] >= 3 else x[:, [0, 0, 0]]


# Points in the plane

PLOT, REACH, FINER = 400, 1.15, 2
"""a scatter plot has that many pixels a side and shows -1.15 to 1.15, unless points lie outside; it is drawn
twice as large"""
BENEATH, ON_TOP = ((196, 191, 182), 0.4, 3.0), ((38, 84, 150), 0.55, 1.7)
"""colour, opacity and radius in pixels of dots beneath and on top"""
RULE, FAINT = (228, 226, 221), (150, 146, 138)


def shown(x: Tensor, under: Tensor | None = None) -> np.ndarray:
    """What a model drew, whatever it is; uint8 (height, width, 3).

    Images (B, C, H, W) stand side by side, of a video (B, C, T, H, W) the frames in a row, points (B, 2, 1,
    1) lie in the plane.
    under: real examples to be shown pale beneath, if these are points.
    """
    if x.ndim == 5:
        return grid(x.transpose(1, 2).flatten(0, 1), columns=x.shape[2])
    return (
        scatter(x.flatten(1), None if under is None else under.flatten(1))
        if x.shape[1:] == (2, 1, 1)
        else grid(x)
    )


def scatter(points: Tensor, under: Tensor | None = None) -> np.ndarray:
    """Points (N, 2), x to the right and y up, over those of `under`, pale: uint8 (PLOT, PLOT, 3).

    Where dots lie on each other they are darker.  The axes are doubled until 99 of 100 points lie within; how
    many do not is said.
    """
    if not len(points):
        raise Refusal("there is no point to show; ask for one or more.")
    sets = [np.asarray(p.detach().float().cpu()) for p in (under, points) if p is not None and len(p)]
    reach = _reach(sets)
    page = _ruled(reach).astype(float)
    for at, (colour, opacity, radius) in zip(sets, (BENEATH, ON_TOP)[-len(sets) :]):
        cover = _dots(at, reach, opacity, radius)[..., None]
        page = page * (1 - cover) + cover * np.array(colour, float)
    image = Image.fromarray(page.round().astype(np.uint8))
    if outside := int((~(np.abs(sets[-1]) <= reach).all(1)).sum()):
        text = f"{outside:,} of {len(points):,} outside"
        _words(ImageDraw.Draw(image), PLOT - _length(text) - 4, 2, text)
    return np.array(image)


def compact(value: float, digits: int = 3) -> str:
    """A number for an axis: 12k, 3M, 0.25."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def _reach(sets: Sequence[np.ndarray]) -> float:
    """Of the axes; what is no number lies nowhere."""
    far = [np.abs(s[np.isfinite(s).all(1)]).max(1) for s in sets]
    most = max([0.0, *(float(np.quantile(f, 0.99)) for f in far if len(f))])
    return REACH * 2 ** max(0, math.ceil(math.log2(max(most, REACH) / REACH)))


def _ruled(reach: float) -> np.ndarray:
    """White paper with a line at each tick, and numbers along two of its edges."""
    page = Image.new("RGB", (PLOT, PLOT), WHITE)
    write, font = ImageDraw.Draw(page), ImageFont.load_default(10)
    step = reach / REACH
    for value in (-step, 0.0, step):
        a = (value / reach + 1) / 2 * PLOT
        write.line([(a, 0), (a, PLOT)], RULE)
        write.line([(0, PLOT - a), (PLOT, PLOT - a)], RULE)
        write.text((a + 3, PLOT - 14), compact(value), FAINT, font)
        if value:
            write.text((3, PLOT - a + 1), compact(value), FAINT, font)
    return np.array(page)


def _dots(at: np.ndarray, reach: float, opacity: float, radius: float) -> np.ndarray:
    """How much of each pixel (PLOT, PLOT) discs at these points (N, 2) cover: k of them, one on the other, 1
    - (1 - opacity)^k."""
    side, r = PLOT * FINER, radius * FINER
    margin = math.ceil(r)
    wide = side + 2 * margin
    inside = at[(np.abs(at) <= reach).all(1)]  # no number is not inside
    column, row = ((np.array([1, -1]) * inside / reach + 1) / 2 * side).astype(np.int64).clip(0, side - 1).T
    down, right = np.nonzero(np.hypot(*np.ogrid[-margin : margin + 1, -margin : margin + 1]) <= r)
    hits = np.bincount(
        ((row * wide + column)[:, None] + down * wide + right).reshape(-1), minlength=wide * wide
    )
    cover = 1 - (1 - opacity) ** np.arange(np.max(hits) + 1)
    fine = cover[hits].reshape(wide, wide)[margin : margin + side, margin : margin + side]
    return fine.reshape(PLOT, FINER, PLOT, FINER).mean((1, 3))


# Sheets: what belongs together in a row, with words

TINT = (170, 196, 226)
"""where nothing is known: no grey, so that it is not taken for an image"""
INK, WHITE, LETTERS, LEAD = (40, 40, 40), (255, 255, 255), 13, 18
"""colours, size and line height of words"""
RAMP = np.array(
    [(6, 4, 22), (60, 15, 105), (140, 35, 110), (215, 70, 60), (248, 150, 30), (250, 235, 140)], float
)
"""from little to much, ever brighter, so that it can be read without colours too"""


def heat(share: np.ndarray) -> np.ndarray:
    """Numbers of any shape as colours, uint8 (..., 3): 0 and below is dark, 1 and above is bright."""
    at = np.clip(np.nan_to_num(share), 0, 1) * (len(RAMP) - 1)
    return (
        np.stack([np.interp(at, np.arange(len(RAMP)), RAMP[:, k]) for k in range(3)], -1)
        .round()
        .astype(np.uint8)
    )


def sheet(
    columns: Sequence[np.ndarray],
    titles: Sequence[str],
    notes: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    tile: int = 64,
) -> np.ndarray:
    """Columns of tiles under their titles, uint8 (height, width, 3).

    columns: each uint8 (B, h, w, 3), its tiles enlarged to `tile` pixels or more.  notes (B): words to the
    right of each row.
    captions: words below each tile, (columns, B).
    """
    scale = max(1, math.ceil(tile / max(columns[0].shape[1:3])))
    parts = [enlarge(column, scale) for column in columns]
    words = captions or [[""]] * len(columns)
    wide = [
        max(part.shape[2], *(_length(w) for w in (title, *caption))) + 8
        for part, title, caption in zip(parts, titles, words)
    ]
    high, below = (
        parts[0].shape[1],
        LEAD * max(len(w.split("\n")) for caption in words for w in caption) if captions else 0,
    )
    top, pitch = LEAD * max(t.count("\n") + 1 for t in titles) + 8, high + below + 6
    size = sum(wide) + 8 + max([0, *(_length(n) for n in notes)]), top + len(parts[0]) * pitch + 2
    page = Image.new("RGB", size, WHITE)
    write, lefts = ImageDraw.Draw(page), [8 + sum(wide[:i]) for i in range(len(wide))]
    for left, title, part, caption in zip(lefts, titles, parts, captions or [[]] * len(parts)):
        _words(write, left, 4, title)
        for i, image in enumerate(part):
            page.paste(Image.fromarray(image), (left, top + i * pitch))
        for i, text in enumerate(caption):
            _words(write, left, top + i * pitch + high + 1, text)
    for i, note in enumerate(notes):
        _words(write, sum(wide) + 8, top + i * pitch + (high - LEAD * (note.count("\n") + 1)) // 2, note)
    return np.array(page)


def _length(text: str) -> int:
    font = ImageFont.load_default(LETTERS)
    return max(math.ceil(font.getlength(line)) for line in _drawable(text).split("\n"))


def _words(write: ImageDraw.ImageDraw, left: float, top: float, text: str) -> None:
    write.multiline_text(
        (left, top), _drawable(text), INK, ImageFont.load_default(LETTERS), spacing=LEAD - LETTERS
    )


def _drawable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def legend(
    marks: Sequence[tuple[float, str]],
    text: str,
    others: Sequence[tuple[tuple[int, int, int], str]] = (),
    length: int = 240,
) -> np.ndarray:
    """What the colours of heat() mean: a bar with words at places from 0 to 1, and what it measures; below
    it, what other colours mean."""
    pad = 24
    wide = pad + max(length + pad, *(_length(w) + 24 for _, w in others), _length(text)) + 8
    page = Image.new("RGB", (wide, 24 + 2 * LEAD + 10 + LEAD * len(others)), WHITE)
    write = ImageDraw.Draw(page)
    page.paste(Image.fromarray(heat(np.linspace(0, 1, length)[None].repeat(12, 0))), (pad, 8))
    for place, mark in marks:
        x = pad + place * (length - 1)
        write.line([(x, 20), (x, 24)], INK)
        _words(write, x - _length(mark) / 2, 26, mark)
    _words(write, pad, 26 + LEAD, text)
    for i, (colour, word) in enumerate(others):
        y = 30 + (i + 2) * LEAD
        write.rectangle([pad, y + 2, pad + 12, y + 14], colour, INK)
        _words(write, pad + 20, y, word)
    return np.array(page)


def stacked(*pages: np.ndarray, gap: int = 0) -> np.ndarray:
    """Pages one below the other, on white."""
    wide, last = max(page.shape[1] for page in pages), len(pages) - 1
    return np.concatenate(
        [
            np.pad(p, ((0, gap * (i < last)), (0, wide - p.shape[1]), (0, 0)), constant_values=255)
            for i, p in enumerate(pages)
        ]
    )


def ungrid(page: np.ndarray, size: int) -> np.ndarray | None:
    """The tiles (B, size, size, 3) of a page that `grid` made of square images, its own defaults assumed;
    None if it is no such page.

    Empty places at the end come back as paper.
    """
    scale = enlargement(size, size)
    pitch = size * scale + GAP
    rows, columns = (page.shape[0] - GAP) // pitch, (page.shape[1] - GAP) // pitch
    if page.shape != (rows * pitch + GAP, columns * pitch + GAP, 3) or not rows * columns:
        return None
    cut = page[GAP:, GAP:].reshape(rows, pitch, columns, pitch, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(
        cut[:, :, : pitch - GAP : scale, : pitch - GAP : scale].reshape(rows * columns, size, size, 3)
    )
