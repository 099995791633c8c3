"""What a user asks of an image: strokes, as vectors, and which pixels each of them covers.

    colour:red:0.5,0.4:0.1                      this colour, along the points, this far from them
    sketch:line:0.2,0.8 0.5,0.2 0.8,0.8:0.02    an edge along the points
    warp:0.3,0.3:0.6,0.3:0.15                   what lies around the first point is dragged to the second
    keep:0.7,0.7:0.2                            nothing changes here
    erase:0.7,0.7:0.2                           what is here goes, and the surroundings close over it

Places are shares of the image's side, x to the right and y down from its upper left corner; the radius, which
may be left out, is a share of the side too.

Which pixels a stroke covers is decided by whole numbers alone, so that a browser and this file agree to the
last pixel.  On an image of S x S pixels, with G = 4096:

    1  each coordinate becomes q = floor(G x + 1/2), and the radius R = max(floor(G r + 1/2), ceil(3 G / 4 S)), so that
       no stroke falls between the pixels
    2  along each segment from p to p + d lie n + 1 centres, p + floor((2 k d + n) / 2 n) for k = 0 ... n, where
       n = max(1, ceil(max(|dx|, |dy|) / max(1, floor(R / 4))))
    3  the pixel in row i and column j is covered if, for one of the centres c,
       (2 S c_x - (2 j + 1) G)^2 + (2 S c_y - (2 i + 1) G)^2 <= (2 S R)^2

All numbers stay below 2^53 up to S = 1024, so that doubles are exact.  docs/painting.md has it in JavaScript.
"""  # noqa: E501

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageColor

from ..core import BadData, Refusal, closest

KINDS = ("colour", "sketch", "warp", "keep", "erase")
RADII = {"colour": 0.06, "sketch": 0.02, "warp": 0.15, "keep": 0.1, "erase": 0.1}
"""shares of the side, where none is said"""
GRID = 4096
LARGEST = 1024
"""pixels a side up to which the rule is exact in doubles"""
MOST_STROKES, MOST_POINTS, MOST_DISCS = 200, 10_000, 200_000
LIGHTEST, HEAVIEST = 0.01, 100.0
MOST_BYTES = 8_000_000
"""of a file of strokes"""
SCHEMA = 1
EXAMPLES = {
    "colour": "colour:red:0.5,0.4:0.1",
    "sketch": "sketch:line:0.2,0.8 0.8,0.8:0.02",
    "warp": "warp:0.3,0.3:0.6,0.3:0.15",
    "keep": "keep:0.7,0.7:0.2",
    "erase": "erase:0.7,0.7:0.2",
}


@dataclass(frozen=True)
class Stroke:
    """Raises Refusal where it asks for nothing, or for what no image has."""

    kind: str
    points: tuple[tuple[float, float], ...]
    """x and y in shares of the side; of a warp where it is dragged from and to"""
    radius: float
    colour: tuple[int, int, int] | None = None
    """0 ... 255"""
    weight: float = 1.0
    """times what its kind counts"""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise Refusal(f"there is no stroke {self.kind!r}; {closest(self.kind, KINDS)}")
        if not self.points:
            raise Refusal(f"a {self.kind} stroke has no point; type one as in {EXAMPLES[self.kind]}")
        if len(self.points) > MOST_POINTS:
            raise Refusal(
                f"a {self.kind} stroke has {len(self.points):,} points, and {MOST_POINTS:,} are the most; "
                "a pen gives 100 a second, so leave out every other one."
            )
        if (self.kind == "colour") != (self.colour is not None):
            raise Refusal(f"a {self.kind} stroke {'needs a' if self.colour is None else 'has no'} colour.")
        if self.kind == "warp" and len(self.points) != 2:
            raise Refusal(f"a warp has two points, from and to, as in {EXAMPLES['warp']}")
        for x, y in self.points:
            if not (math.isfinite(x) and math.isfinite(y)):
                raise Refusal(f"a {self.kind} stroke has the point ({x:g}, {y:g}), which is no place.")
            if not (0 <= x <= 1 and 0 <= y <= 1):
                raise Refusal(
                    f"a {self.kind} stroke has the point ({x:g}, {y:g}), outside of the image; places are "
                    "shares of its side, from 0 to 1."
                )
        if not 0 < self.radius <= 1:
            raise Refusal(
                f"a {self.kind} stroke has the radius {self.radius:g}; it is a share of the side, as 0.1."
            )
        if not LIGHTEST <= self.weight <= HEAVIEST:
            raise Refusal(
                f"a {self.kind} stroke has the weight {self.weight:g}; it is {LIGHTEST:g} to {HEAVIEST:g}."
            )

    def centres(self, size: int) -> np.ndarray:
        """Rule 1 and 2: int64 (n, 2), x and y.  Raises Refusal where the stroke is longer than a scribble."""
        if not 1 <= size <= LARGEST:
            raise Refusal(
                f"strokes are drawn on images of up to {LARGEST} pixels a side, and this one has {size}."
            )
        at = np.array([[math.floor(GRID * c + 0.5) for c in point] for point in self.points], np.int64)
        if len(at) == 1 or self.kind == "warp":
            return at[:1]
        step, way = max(1, self.reach(size) // 4), np.diff(at, axis=0)
        pieces = np.maximum(1, -(-np.abs(way).max(1) // step))
        if (total := int(pieces.sum()) + 1) > MOST_DISCS:
            raise Refusal(
                f"a {self.kind} stroke of {len(self.points):,} points is too long to be drawn ({total:,} "
                f"discs, of which {MOST_DISCS:,} are the most); make it shorter, or wider."
            )
        parts = [at[:1]]
        for p, d, n in zip(at, way, pieces):
            k = np.arange(1, n + 1)[:, None]
            parts.append(p + (2 * k * d + n) // (2 * n))
        return np.concatenate(parts)

    def reach(self, size: int) -> int:
        """R of rule 1."""
        return max(math.floor(GRID * self.radius + 0.5), (3 * GRID + 4 * size - 1) // (4 * size))

    def covers(self, size: int) -> np.ndarray:
        """Rule 3: bool (size, size); of a warp where it is dragged from."""
        return _covers(self, size).copy()

    def arrives(self, size: int) -> np.ndarray:
        """Of a warp: where it is dragged to."""
        x, y = self.points[-1]
        return Stroke("keep", ((x, y),), self.radius).covers(size)

    def shift(self, size: int) -> tuple[int, int]:
        """Of a warp: whole pixels to the right and down."""
        (a, b), (c, d) = self.points[0], self.points[-1]
        return math.floor((c - a) * size + 0.5), math.floor((d - b) * size + 0.5)

    def facts(self) -> dict[str, Any]:
        """As a file of strokes, and a recipe, has it."""
        tint = {} if self.colour is None else {"colour": "#{:02x}{:02x}{:02x}".format(*self.colour)}
        heavy = {} if self.weight == 1 else {"weight": self.weight}
        return dict(kind=self.kind, points=[list(p) for p in self.points], radius=self.radius) | tint | heavy


@lru_cache(256)
def _covers(stroke: Stroke, size: int) -> np.ndarray:
    """Kept, since of many strokes on a screen one grows at a time."""
    return discs(stroke.centres(size), stroke.reach(size), size)


def discs(centres: np.ndarray, reach: int, size: int) -> np.ndarray:
    """Rule 3, of centres int64 (n, 2)."""
    result, scaled = np.zeros((size, size), bool), 2 * size * np.unique(centres, axis=0)
    middle = (2 * np.arange(size, dtype=np.int64) + 1) * GRID
    most = (2 * size * reach) ** 2
    for some in np.array_split(scaled, max(1, len(scaled) * size * size // 2**22)):
        across, down = (some[:, axis, None] - middle for axis in (0, 1))
        result |= ((across**2)[:, None, :] + (down**2)[:, :, None] <= most).any(0)
    return result


# Reading


def parse(text: str) -> Stroke:
    """One stroke as it is typed: KIND:...; see above."""
    kind, *parts = [part.strip() for part in text.split(":")]
    if kind not in KINDS:
        raise Refusal(f"--stroke {text[:60]!r}: there is no stroke {kind!r}; {closest(kind, KINDS)}")
    lead = 1 if kind in ("colour", "sketch", "warp") else 0
    if not lead < len(parts) <= lead + 2 or not all(parts):
        raise Refusal(
            f"--stroke {text[:60]!r} is not understood; a {kind} stroke is typed as {EXAMPLES[kind]}"
        )
    colour = _colour(parts[0]) if kind == "colour" else None
    if kind == "sketch" and parts[0] != "line":
        raise Refusal(f"--stroke {text[:60]!r}: a sketch is made of lines; type {EXAMPLES['sketch']}")
    points = _points(parts[0] + " " + parts[1] if kind == "warp" else parts[lead], text)
    return Stroke(
        kind, points, _number(parts[lead + 1], text) if len(parts) > lead + 1 else RADII[kind], colour
    )


def load(path: Path) -> list[Stroke]:
    """Those of a file: {"strokes": [{"kind": "colour", "colour": "#ff0000", "points": [[0.5, 0.4]],
    "radius": 0.1}, ...]}."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadData(
                f"{path} has {path.stat().st_size:,} bytes; a file of strokes has {MOST_BYTES:,} at most."
            )
        known = json.loads(path.read_text(encoding="utf-8"))
    except OSError as why:
        raise BadData(f"there are no strokes in {path} ({why.strerror}); name a .json file.") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as why:
        raise BadData(
            f"{path} is no JSON ({str(why)[:80]}); write {{'strokes': [...]}}, as docs/painting.md has it."
        ) from None
    if not isinstance(known, dict) or not isinstance(known.get("strokes"), list):
        raise BadData(
            f"{path} has no list of strokes; write {{'strokes': [...]}}, as docs/painting.md has it."
        )
    if known.get("schema", SCHEMA) != SCHEMA:
        raise BadData(f"{path} is of schema {known['schema']}, and this version reads {SCHEMA}.")
    return some(known["strokes"])


def some(given: Iterable[str | dict[str, Any] | Stroke]) -> list[Stroke]:
    """Strokes however they are written.  Raises Refusal where there are none, or more than a picture
    bears."""
    result = [
        one if isinstance(one, Stroke) else parse(one) if isinstance(one, str) else _read(one)
        for one in given
    ]
    if not result:
        raise Refusal(f"nothing is asked for; draw a stroke, such as --stroke {EXAMPLES['colour']}")
    if len(result) > MOST_STROKES or (total := sum(len(s.points) for s in result)) > MOST_POINTS:
        points = f" of {total:,} points" if len(result) <= MOST_STROKES else ""
        raise Refusal(
            f"there are {len(result):,} strokes{points}; {MOST_STROKES} strokes and {MOST_POINTS:,} points "
            "are the most."
        )
    return result


def _read(known: Any) -> Stroke:
    try:
        kind, listed = known["kind"], known["points"]
        if len(listed) > MOST_POINTS:
            raise Refusal(
                f"a stroke has {len(listed):,} points, and {MOST_POINTS:,} are the most; leave out some."
            )
        points = tuple((float(x), float(y)) for x, y in listed)
        radius = float(known.get("radius", RADII.get(kind, 0.1)))
        weight = float(known.get("weight", 1.0))
        tint = known.get("colour")
        colour = (
            None if tint is None else _colour(tint) if isinstance(tint, str) else tuple(int(c) for c in tint)
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as why:
        raise BadData(
            f"a stroke is not understood ({type(why).__name__}: {str(why)[:60]}); it has a kind, points "
            "[[x, y], ...], a radius, and a colour '#rrggbb' if its kind is colour."
        ) from None
    if colour is not None and (len(colour) != 3 or not all(0 <= c <= 255 for c in colour)):
        raise BadData(f"a stroke has the colour {tint!r}; write '#rrggbb', or three numbers from 0 to 255.")
    return Stroke(str(kind), points, radius, colour, weight)


def _colour(text: str) -> tuple[int, int, int]:
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise Refusal(f"{text[:40]!r} is no colour; type a name such as red, or #rrggbb.") from None
    return red, green, blue


def _points(text: str, whole: str) -> tuple[tuple[float, float], ...]:
    result = []
    for part in text.split():
        place = part.split(",")
        if len(place) != 2:
            raise Refusal(f"--stroke {whole[:60]!r}: {part[:20]!r} is no place; type x,y, as 0.5,0.4")
        result.append((_number(place[0], whole), _number(place[1], whole)))
    return tuple(result)


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Refusal(f"--stroke {whole[:60]!r}: {text[:20]!r} is no number.") from None


# What they look like


def drawn(strokes: Sequence[Stroke], under: np.ndarray) -> np.ndarray:
    """The strokes over a picture uint8 (S, S, 3): colours as they are, sketches black with a pale rim, a drag
    as two rings and its way, kept parts hatched green, erased parts hatched white."""
    result, size = under.copy(), len(under)
    hatch = (np.add.outer(np.arange(size), np.arange(size)) // max(1, size // 48)) % 3 == 0
    for stroke in strokes:
        mask = stroke.covers(size)
        if stroke.kind == "colour":
            result[mask] = stroke.colour
        elif stroke.kind == "sketch":
            result[_wider(mask)] = (235, 235, 235)
            result[mask] = (20, 20, 20)
        elif stroke.kind == "warp":
            way = Stroke("keep", (*stroke.points, stroke.points[-1]), 0.008).covers(size)
            for ring in (_rim(mask), _rim(stroke.arrives(size)), way):
                result[_wider(ring)] = (255, 255, 255)
            result[_rim(mask) | way] = (184, 86, 15)
            result[_rim(stroke.arrives(size))] = (26, 102, 168)
        else:
            tint = (30, 150, 60) if stroke.kind == "keep" else (255, 255, 255)
            result[(mask & hatch) | _rim(mask)] = tint
    return result


def _wider(mask: np.ndarray) -> np.ndarray:
    """With the pixels beside it."""
    out, edge = mask.copy(), np.pad(mask, 1)
    for i in range(3):
        for j in range(3):
            out |= edge[i : i + len(mask), j : j + len(mask)]
    return out


def _rim(mask: np.ndarray) -> np.ndarray:
    return mask & _wider(~mask)
