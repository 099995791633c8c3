"""Images for people: grids of them, sheets of what belongs together, PNG files that carry their recipe, and curves."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import struct
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from torch import Tensor

from . import __version__
from .core import BadData, DiskTrouble, NotAllowed, Refusal

TILE, GAP, PAPER = 48, 2, 238
"""a tile has at least 48 pixels a side, 2 lie between two tiles, and that grey shows there"""


def pixels(x: Tensor) -> np.ndarray:
    """(B, C, H, W) in [-1, 1] as uint8 (B, H, W, 3).  One channel is grey; of more than three the first three show; no number is middle grey."""
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
    """Images (B, C, H, W) in [-1, 1] side by side, nearly square unless `columns` are given: uint8 (height, width, 3).

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


def strips(*lines: Tensor, columns: int | None = None, gap: int = GAP, scale: int | None = None) -> np.ndarray:
    """Lines of images that belong together, each (B, C, H, W), one above the other: an original above its reconstruction.

    Where B is more than `columns` the strip goes on below, after a wider gap.
    """
    b = min(map(len, lines))
    columns = min(b, columns or max(1, 960 // (gap + lines[0].shape[-1] * (scale or enlargement(*lines[0].shape[-2:])))))
    blocks = [np.concatenate([grid(line[i : i + columns], columns, gap, scale) for line in lines]) for i in range(0, b, columns)]
    return np.concatenate([np.pad(x, ((0, 2 * gap), (0, blocks[0].shape[1] - x.shape[1]), (0, 0)), constant_values=PAPER) for x in blocks])


# Points in the plane

PLOT, REACH, FINER = 400, 1.15, 2
"""a scatter plot has that many pixels a side and shows -1.15 to 1.15, unless points lie outside; it is drawn twice as large"""
BENEATH, ON_TOP = ((196, 191, 182), 0.4, 3.0), ((38, 84, 150), 0.55, 1.7)
"""colour, opacity and radius in pixels of dots beneath and on top"""
RULE, FAINT = (228, 226, 221), (150, 146, 138)


def shown(x: Tensor, under: Tensor | None = None) -> np.ndarray:
    """What a model drew, whatever it is: images (B, C, H, W) side by side, points (B, 2, 1, 1) in the plane; uint8 (height, width, 3).

    under: real examples to be shown pale beneath, if these are points.
    """
    return scatter(x.flatten(1), None if under is None else under.flatten(1)) if x.shape[1:] == (2, 1, 1) else grid(x)


def scatter(points: Tensor, under: Tensor | None = None) -> np.ndarray:
    """Points (N, 2), x to the right and y up, over those of `under`, pale: uint8 (PLOT, PLOT, 3).

    Where dots lie on each other they are darker.  The axes are doubled until 99 of 100 points lie within; how many do not is said.
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
    """How much of each pixel (PLOT, PLOT) discs at these points (N, 2) cover: k of them, one on the other, 1 - (1 - opacity)^k."""
    side, r = PLOT * FINER, radius * FINER
    margin = math.ceil(r)
    wide = side + 2 * margin
    inside = at[(np.abs(at) <= reach).all(1)]  # no number is not inside
    column, row = ((np.array([1, -1]) * inside / reach + 1) / 2 * side).astype(np.int64).clip(0, side - 1).T
    down, right = np.nonzero(np.hypot(*np.ogrid[-margin : margin + 1, -margin : margin + 1]) <= r)
    hits = np.bincount(((row * wide + column)[:, None] + down * wide + right).reshape(-1), minlength=wide * wide)
    cover = 1 - (1 - opacity) ** np.arange(np.max(hits) + 1)
    fine = cover[hits].reshape(wide, wide)[margin : margin + side, margin : margin + side]
    return fine.reshape(PLOT, FINER, PLOT, FINER).mean((1, 3))


# Sheets: what belongs together in a row, with words

TINT = (170, 196, 226)
"""where nothing is known: no grey, so that it is not taken for an image"""
INK, WHITE, LETTERS, LEAD = (40, 40, 40), (255, 255, 255), 13, 18
"""colours, size and line height of words"""
RAMP = np.array([(6, 4, 22), (60, 15, 105), (140, 35, 110), (215, 70, 60), (248, 150, 30), (250, 235, 140)], float)
"""from little to much, ever brighter, so that it can be read without colours too"""


def heat(share: np.ndarray) -> np.ndarray:
    """Numbers of any shape as colours, uint8 (..., 3): 0 and below is dark, 1 and above is bright."""
    at = np.clip(np.nan_to_num(share), 0, 1) * (len(RAMP) - 1)
    return np.stack([np.interp(at, np.arange(len(RAMP)), RAMP[:, k]) for k in range(3)], -1).round().astype(np.uint8)


def sheet(
    columns: Sequence[np.ndarray], titles: Sequence[str], notes: Sequence[str] = (), captions: Sequence[Sequence[str]] = (), tile: int = 64
) -> np.ndarray:
    """Columns of tiles under their titles, uint8 (height, width, 3).

    columns: each uint8 (B, h, w, 3), its tiles enlarged to `tile` pixels or more.  notes (B): words to the right of each row.
    captions: words below each tile, (columns, B).
    """
    scale = max(1, math.ceil(tile / max(columns[0].shape[1:3])))
    parts = [enlarge(column, scale) for column in columns]
    words = captions or [[""]] * len(columns)
    wide = [max(part.shape[2], *(_length(w) for w in (title, *said))) + 8 for part, title, said in zip(parts, titles, words)]
    high, below = parts[0].shape[1], LEAD * max(len(w.split("\n")) for said in words for w in said) if captions else 0
    top, pitch = LEAD * max(t.count("\n") + 1 for t in titles) + 8, high + below + 6
    size = sum(wide) + 8 + max([0, *(_length(n) for n in notes)]), top + len(parts[0]) * pitch + 2
    page = Image.new("RGB", size, WHITE)
    write, lefts = ImageDraw.Draw(page), [8 + sum(wide[:i]) for i in range(len(wide))]
    for left, title, part, said in zip(lefts, titles, parts, captions or [[]] * len(parts)):
        _words(write, left, 4, title)
        for i, image in enumerate(part):
            page.paste(Image.fromarray(image), (left, top + i * pitch))
        for i, text in enumerate(said):
            _words(write, left, top + i * pitch + high + 1, text)
    for i, note in enumerate(notes):
        _words(write, sum(wide) + 8, top + i * pitch + (high - LEAD * (note.count("\n") + 1)) // 2, note)
    return np.array(page)


def _length(text: str) -> int:
    font = ImageFont.load_default(LETTERS)
    return max(math.ceil(font.getlength(line)) for line in _drawable(text).split("\n"))


def _words(write: ImageDraw.ImageDraw, left: float, top: float, text: str) -> None:
    write.multiline_text((left, top), _drawable(text), INK, ImageFont.load_default(LETTERS), spacing=LEAD - LETTERS)


def _drawable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def legend(marks: Sequence[tuple[float, str]], text: str, others: Sequence[tuple[tuple[int, int, int], str]] = (), length: int = 240) -> np.ndarray:
    """What the colours of heat() mean: a bar with words at places from 0 to 1, and what it measures; below it, what other colours mean."""
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
    return np.concatenate([np.pad(p, ((0, gap * (i < last)), (0, wide - p.shape[1]), (0, 0)), constant_values=255) for i, p in enumerate(pages)])


def ungrid(page: np.ndarray, size: int) -> np.ndarray | None:
    """The tiles (B, size, size, 3) of a page that `grid` made of square images, its own defaults assumed; None if it is no such page.

    Empty places at the end come back as paper.
    """
    scale = enlargement(size, size)
    pitch = size * scale + GAP
    rows, columns = (page.shape[0] - GAP) // pitch, (page.shape[1] - GAP) // pitch
    if page.shape != (rows * pitch + GAP, columns * pitch + GAP, 3) or not rows * columns:
        return None
    cut = page[GAP:, GAP:].reshape(rows, pitch, columns, pitch, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(cut[:, :, : pitch - GAP : scale, : pitch - GAP : scale].reshape(rows * columns, size, size, 3))


def _said(recipe: dict[str, Any]) -> str:
    return json.dumps(dict(likeness=__version__) | recipe, sort_keys=True, default=str)


def png(image: np.ndarray, recipe: dict[str, Any]) -> bytes:
    """A PNG file of uint8 (H, W, 3) or (H, W) that says in its text chunk `likeness` how it was made: the same bytes for the same input."""
    text = PngImagePlugin.PngInfo()
    text.add_text("likeness", _said(recipe))
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", pnginfo=text, optimize=True)
    return file.getvalue()


def jpeg(image: np.ndarray, recipe: dict[str, Any]) -> bytes:
    """A tenth of the bytes, for pages with many large images: JPEG of quality 90, the recipe in its comment."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90, comment=_said(recipe).encode()[:65_000])
    return file.getvalue()


def uri(file: bytes) -> str:
    """A PNG or JPEG file as the address of itself, for a page that needs no other file."""
    kind = "png" if file.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def safe(text: object) -> str:
    """For HTML and SVG: escaped, and bytes of a file name that are no UTF-8 written out."""
    return escape(str(text).encode(errors="backslashreplace").decode())


def write_png(path: Path, image: np.ndarray, recipe: dict[str, Any]) -> None:
    """Replace `path` whole or not at all.  Raises DiskTrouble or NotAllowed."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as f:
            f.write(png(image, recipe))
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kind = NotAllowed if isinstance(error, PermissionError) else DiskTrouble
        raise kind(f"the picture {path} could not be written ({error.strerror or error}); make room, or name another folder.") from error


def read_recipe(path: Path) -> dict[str, Any]:
    """How a picture was made.  Raises Refusal if it is not one of ours, BadData if it is damaged.  No pixel is decoded."""
    try:
        said = _text(path.read_bytes(), b"likeness")
    except OSError as error:
        raise Refusal(f"{path} cannot be read ({error.strerror}); name a PNG file that likeness wrote.") from None
    if said is None:
        raise Refusal(f"{path} carries no recipe; only PNG files that likeness wrote do, and only while nobody has saved them anew.")
    try:
        recipe = json.loads(said)
    except (ValueError, RecursionError):
        recipe = None
    if not isinstance(recipe, dict):
        raise BadData(f"the recipe in {path} is damaged; make the picture again.")
    return recipe


def _text(file: bytes, keyword: bytes) -> bytes | None:
    """The tEXt chunk of that keyword (PNG specification, 11.3.4.3)."""
    at = 8
    while file[:8] == b"\x89PNG\r\n\x1a\n" and at + 8 <= len(file):
        length, kind = struct.unpack_from(">I4s", file, at)
        content = file[at + 8 : at + 8 + length]
        if kind == b"tEXt" and content.startswith(keyword + b"\0"):
            return content[len(keyword) + 1 :]
        at += length + 12
    return None


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
            found = [s * 10.0**k for k in range(math.floor(self.low) - 1, math.ceil(self.high) + 1) for s in steps]
            found = [v for v in found if self.low <= math.log10(v) <= self.high]
            if len(found) >= 2:
                return found
        low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
        rough = (high - low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        return [float(f"{i * step:.12g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


COLOURS = ((31, 99, 168), (203, 90, 24), (38, 130, 74), (150, 60, 150), (120, 120, 120), (180, 30, 60))
"""of lines on a chart, told apart by their order in its key as well"""


def chart(lines: Sequence[tuple[str, np.ndarray, np.ndarray]], across: str, up: str, wide: int = 460, high: int = 240) -> np.ndarray:
    """Lines (name, x (n,), y (n,)) over common axes with a key, uint8 (height, width, 3); what is not finite is left out.

    across, up: what the axes measure.
    """
    lines = [(name, x[fine], y[fine]) for name, x, y in lines for fine in [np.isfinite(x) & np.isfinite(y)] if fine.sum() > 1]
    left, top, fine = 56, 14 + LEAD, 2
    axes = [Axis(np.concatenate([line[i] for line in lines]), length, False) for i, length in ((1, wide), (2, high))]
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


def compact(value: float, digits: int = 3) -> str:
    """A number for an axis: 12k, 3M, 0.25."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def labels(ticks: list[float]) -> list[str]:
    """The shortest numbers that can be told apart."""
    every = ([compact(t, digits) for t in ticks] for digits in range(3, 16))
    return next((texts for texts in every if len(set(texts)) == len(ticks)), [f"{t:g}" for t in ticks])


def smooth(places: np.ndarray, y: np.ndarray, reach: float = 0.03) -> np.ndarray:
    """Means of y (n,) over all places within `reach` to both sides, `places` (n,) rising along an axis of length 1.

    Centred, so that it lags nowhere; on a logarithmic axis, where the first values stand alone, it is these values.
    """
    first, end = np.searchsorted(places, places - reach), np.searchsorted(places, places + reach, "right")
    return np.array([y[a:b].mean() for a, b in zip(first, end)])


def curve(x: np.ndarray, y: np.ndarray, title: str, below: str) -> str:
    """A line chart as SVG: raw values faint, a local mean over them, axes, and a value wherever one points.

    x rises.  An axis is logarithmic where its values span two powers of ten (y) or more than two (x).  `title`, `below`: any text.
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
    told = [_told(*point(a, b), f"{below} {a:,.0f}: {c:.5g}") for a, b, c in zip(x, averaged, y)][:: max(1, len(x) // 60)]
    rows, marks = up.ticks(), across.ticks()
    frame = [_row(left, wide, point(x[0], v)[1], text) for v, text in zip(rows, labels(rows))]
    frame += [_mark(point(v, y[0])[0], top + high, text) for v, text in zip(marks, labels(marks))]
    words = f'<text class="name" x="0" y="13">{safe(title)}</text><text class="below" x="{left + wide:g}" y="{top + high + 32:g}">{safe(below)}</text>'
    says = safe(f"{title}: from {y[0]:.4g} to {y[-1]:.4g} over {x[-1]:,.0f} {below}")
    inner = "".join([words, *frame, *lines, *told])
    return f'<svg class="curve" viewBox="0 0 {left + wide + 8:g} {top + high + 38:g}" role="img" aria-label="{says}">{inner}</svg>'


def _thin(values: np.ndarray, most: int = 400) -> np.ndarray:
    """Means of neighbours, where there are more values than a chart has room for."""
    return values if len(values) <= most else np.array([part.mean() for part in np.array_split(values, most)])


def _line(kind: str, points: Iterable[tuple[float, float]]) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>'


def _told(a: float, b: float, text: str) -> str:
    return f'<circle cx="{a:.1f}" cy="{b:.1f}" r="6"><title>{safe(text)}</title></circle>'


def _row(left: float, wide: float, y: float, text: str) -> str:
    return f'<path d="M{left:g} {y:.1f}h{wide:g}"/><text class="y" x="{left - 6:g}" y="{y + 4:.1f}">{text}</text>'


def _mark(x: float, y: float, text: str) -> str:
    return f'<text class="x" x="{x:.1f}" y="{y + 16:g}">{text}</text>'
