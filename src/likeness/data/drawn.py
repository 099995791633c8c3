"""Sets of two sides, drawn by code: `outlines` (pairs), `day-night` and `hidden-map` (two domains).

A scene is one object or a few; everything about scene i is a function of i.  A style draws it: both sides of
a pair are one scene in two styles.  The two domains show different scenes, in one style each, so that nobody
who learns sees the same scene twice; what a scene of A looks like in the style of B is drawn for the held-out
ones alone, to score by.  The class of an image is the form of its largest object, the same on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core import Refusal
from ..storage.cache import Progress, key_of
from .cache import Entry, fetch, room_for
from .dataset import Images, Reading
from .pixels import AT_ONCE
from .shapes import COLOURS, DISTANCES, FORMS, GROUNDS
from .writer import Writer, digest64

NAMES = {
    "outlines": "pairs drawn by code: black outlines of shapes, and the shapes in the colour of their form; "
    "32x32 or any other size; outlines:50000 for as many; no network",
    "day-night": "two domains drawn by code: landscapes by day, others by night; likewise",
    "hidden-map": "two domains drawn by code: shapes, and others after a map that nobody is told (inverted, "
    "tinted, thicker outlines); likewise",
}
COUNT = 5_000
"""pairs, or images of each domain, unless a number is said"""
SIZE = 32
VERSION = 3
"""raised whenever the same scene would be drawn otherwise"""
LINE = 1 / 24
"""width of an outline as a share of the image's height, one pixel at least"""
THICK = 2.5
"""how many times as wide the hidden map makes it"""
TINT = (70.0, 20.0, 88.0), (0.55, 0.9, 0.65)
"""the hidden map of colours, by channel: first + second * (255 - value)"""
NIGHT = (0.35, 0.4, 0.7)
"""what is left by night of the colours of things, by channel"""
LIGHT_GROUNDS = ("white", "beige")
OF_FORM = ("red", "blue", "yellow", "green", "purple")
"""colour of each of FORMS in the pairs, where the outline tells it"""


class Kind(NamedTuple):
    pairs: bool
    a: str
    """style of the source"""
    b: str
    cells: int
    """cells to a side, with one object at most in each"""
    most: int
    """objects in a scene"""


USUAL = np.cumsum(0.65 ** np.arange(len(COLOURS)))[:-1] * (0.35 / (1 - 0.65 ** len(COLOURS)))
"""share of objects in one of the first 1, 2, ... colours.  Each is rarer than the one before: of colours that
are equally frequent two might be exchanged, and no loss could tell such a map from the right one"""
KINDS = {
    "outlines": Kind(True, "outline", "by form", 2, 3),
    "day-night": Kind(False, "day", "night", 1, 1),
    "hidden-map": Kind(False, "plain", "mapped", 1, 1),
}


@dataclass(frozen=True)
class Scenes:
    """(N, K) arrays of objects from large to small; `many` (N,) of the K hold."""

    many: np.ndarray
    form: np.ndarray
    colour: np.ndarray
    centre: np.ndarray
    """(N, K, 2): x and y as shares of the image"""
    radius: np.ndarray
    """of the circle around the object, as a share of the image"""
    ground: np.ndarray
    """(N,) of LIGHT_GROUNDS"""
    light: np.ndarray
    """(N, 2): where the sun or the moon stands"""
    horizon: np.ndarray
    """(N,)"""

    def __len__(self) -> int:
        return len(self.many)

    @property
    def y(self) -> np.ndarray:
        """int64 (N,): the form of the first object."""
        return self.form[:, 0].astype(np.int64)

    def __getitem__(self, rows: Any) -> Scenes:
        return Scenes(**{name: value[rows] for name, value in vars(self).items()})


def invent(name: str, numbers: np.ndarray) -> Scenes:
    """What scenes number `numbers` (int64) of the set called `name` show."""
    import torch

    from ..core import Noise

    kind = KINDS[name]
    noise = Noise(torch.from_numpy(numbers), key=0xD2A3 + tuple(KINDS).index(name))

    def share(*shape: int) -> np.ndarray:
        return noise.uniform(*shape).double().numpy()

    def pick(many: int, *shape: int) -> np.ndarray:
        return (share(*shape) * many).astype(np.int64)

    k = kind.most
    many = 1 + pick(k, 1)[:, 0]
    place = share(kind.cells**2).argsort(1)[:, :k]
    form, colour = pick(len(FORMS), k), np.searchsorted(USUAL, share(k), side="right")
    radius = (0.28 + 0.12 * share(k)) / kind.cells  # what is left of the cell, it may stand in
    free = 0.5 / kind.cells - 1.15 * radius
    cells = (np.stack([place % kind.cells, place // kind.cells], -1) + 0.5) / kind.cells
    centre = cells + (2 * share(k, 2) - 1) * free[..., None]
    absent = np.arange(k) >= many[:, None]
    order = (absent - radius).argsort(1, kind="stable")
    form, colour, radius = (np.take_along_axis(a, order, 1) for a in (form, colour, radius))
    centre = np.take_along_axis(centre, order[..., None], 1)
    ground = pick(len(LIGHT_GROUNDS), 1)[:, 0]
    return Scenes(many, form, colour, centre, radius, ground, share(2), 0.55 + 0.2 * share(1)[:, 0])


def draw(scenes: Scenes, style: str, size: int) -> Iterator[np.ndarray]:
    """The images in order, uint8 (n, C, size, size), each edge anti-aliased over one pixel."""
    step = max(1, min(500, AT_ONCE // (8 * size**2)))
    for start in range(0, len(scenes), step):
        x = STYLES[style](scenes[start : start + step], size)
        yield np.clip(np.rint(x), 0, 255).astype(np.uint8)


def _ground(scenes: Scenes, size: int) -> np.ndarray:
    """Plain, float32 (n, 3, size, size)."""
    colours = np.array([GROUNDS[name] for name in LIGHT_GROUNDS], np.float32)
    return np.tile(colours[scenes.ground][..., None, None], (1, 1, size, size))


def _distance(scenes: Scenes, k: int, size: int) -> np.ndarray:
    """Of each pixel's middle from the edge of object k in pixels, negative inside: float32 (n, size, size);
    far away where there is no such object."""
    axis = np.arange(size, dtype=np.float32) + 0.5
    out = np.full((len(scenes), size, size), 9.0 * size, np.float32)
    for form, distance in enumerate(DISTANCES):
        here = np.flatnonzero((scenes.form[:, k] == form) & (scenes.many > k))
        across, down = (axis - size * scenes.centre[here, k, i, None].astype(np.float32) for i in (0, 1))
        radius = size * scenes.radius[here, k, None, None].astype(np.float32)
        out[here] = distance(across[:, None, :], down[:, :, None], radius)
    return out


def _paint(x: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    """In place: colour (n, C) over x (n, C, H, W) where cover (n, H, W) says, from 0 to 1."""
    x += cover[:, None] * (colour[..., None, None].astype(np.float32) - x)


def _inside(distance: np.ndarray) -> np.ndarray:
    return np.clip(0.5 - distance, 0, 1)


def _line(distance: np.ndarray, size: int, times: float = 1.0) -> np.ndarray:
    """Cover of the outline."""
    return _inside(abs(distance) - max(1.0, LINE * size) * times / 2)


def _colours(names: tuple[str, ...], which: np.ndarray) -> np.ndarray:
    return np.array([COLOURS[name] for name in names], np.float32)[which]


def _outline(scenes: Scenes, size: int) -> np.ndarray:
    x = np.full((len(scenes), 1, size, size), 255, np.float32)
    for k in range(scenes.form.shape[1]):
        _paint(x, _line(_distance(scenes, k, size), size), np.zeros((len(scenes), 1)))
    return x


def _by_form(scenes: Scenes, size: int) -> np.ndarray:
    x = np.tile(np.array(GROUNDS["beige"], np.float32).reshape(1, 3, 1, 1), (len(scenes), 1, size, size))
    for k in range(scenes.form.shape[1]):
        _paint(x, _inside(_distance(scenes, k, size)), _colours(OF_FORM, scenes.form[:, k]))
    return x


def _plain(scenes: Scenes, size: int, thick: float = 1.0) -> np.ndarray:
    """A shape in any colour with a black outline, on a light ground."""
    x = _ground(scenes, size)
    distance = _distance(scenes, 0, size)
    _paint(x, _inside(distance), _colours(tuple(COLOURS), scenes.colour[:, 0]))
    _paint(x, _line(distance, size, thick), np.zeros((len(scenes), 3)))
    return x


def _mapped(scenes: Scenes, size: int) -> np.ndarray:
    """The hidden map of _plain(): outlines THICK times as wide, then inverted and tinted."""
    low, scale = (np.array(part, np.float32).reshape(1, 3, 1, 1) for part in TINT)
    return low + scale * (255 - np.rint(_plain(scenes, size, THICK)))


def _landscape(scenes: Scenes, size: int, night: bool) -> np.ndarray:
    """A shape that stands on a meadow, under the sun or the moon."""
    n, dim = len(scenes), np.array(NIGHT if night else (1, 1, 1), np.float32)
    down = (np.arange(size, dtype=np.float32) + 0.5) / size
    top, low = ((8, 10, 40), (30, 30, 80)) if night else ((90, 160, 240), (200, 225, 250))
    sky = np.array(top, np.float32)[:, None] * (1 - down) + np.array(low, np.float32)[:, None] * down
    x = np.tile(sky[None, :, :, None], (n, 1, 1, size))
    at = np.stack([0.1 + 0.8 * scenes.light[:, 0], 0.08 + 0.12 * scenes.light[:, 1]], 1).astype(np.float32)
    axis = np.arange(size, dtype=np.float32) + 0.5
    across, below = axis - size * at[:, :1], axis - size * at[:, 1:]
    disc = np.hypot(across[:, None, :], below[:, :, None]) - 0.08 * size
    _paint(x, _inside(disc), np.tile((235, 235, 215) if night else (255, 220, 60), (n, 1)))
    below = _inside(size * scenes.horizon.astype(np.float32)[:, None] - axis)
    meadow = np.tile(below[:, :, None], (1, 1, size))
    _paint(x, meadow, np.tile(np.array((90, 170, 60)) * dim, (n, 1)))
    _paint(x, _inside(_distance(scenes, 0, size)), _colours(tuple(COLOURS), scenes.colour[:, 0]) * dim)
    return x


STYLES: dict[str, Callable[[Scenes, int], np.ndarray]] = {
    "outline": _outline,
    "by form": _by_form,
    "plain": _plain,
    "mapped": _mapped,
    "day": partial(_landscape, night=False),
    "night": partial(_landscape, night=True),
}


class Sides(NamedTuple):
    pairs: bool
    a: Images
    b: Images
    truth: Callable[[np.ndarray], np.ndarray]
    """uint8 (n, C, S, S): what images of A, int64 (n,) rows, look like on the side of B"""


def read(name: str, n: int, reading: Reading, base: Path, progress: Progress | None = None) -> Sides:
    """Both sides of the set called `name`, n images each.  swap: as Reading has it."""
    kind, size = KINDS[name], reading.size or SIZE
    if kind.pairs and reading.colour == "grey":
        raise Refusal(f"{name} is a lesson in colours; leave --colour grey out.")
    first = np.arange(n)
    second = first if kind.pairs else n + first
    sides = [(kind.a, first), (kind.b, second)]
    (style_a, of_a), (style_b, of_b) = reversed(sides) if reading.swap else sides

    def images(style: str, numbers: np.ndarray) -> Images:
        scenes = invent(name, numbers)
        entry = _drawn(name, style, scenes, numbers, size, reading.colour, base, progress)
        text = f"{n:,} pairs, drawn by code" if kind.pairs else f"{n:,} images, drawn by code"
        keys, levels = entry.keys, entry.meta["levels"]
        return Images(entry.x, entry.hashes, text, levels, scenes.y, FORMS, keys=keys)

    def truth(rows: np.ndarray) -> np.ndarray:
        from .writer import as_colour

        drawn = np.concatenate([*draw(invent(name, of_a[rows]), style_b, size)])
        return as_colour(drawn, reading.colour)

    return Sides(kind.pairs, images(style_a, of_a), images(style_b, of_b), truth)


def _drawn(
    name: str,
    style: str,
    scenes: Scenes,
    numbers: np.ndarray,
    size: int,
    colour: str,
    base: Path,
    progress: Progress | None,
) -> Entry:
    colour = "grey" if style == "outline" else "rgb" if colour == "auto" else colour

    def build(folder: Path) -> dict[str, Any]:
        room_for(folder, len(scenes) * 3 * size * size)
        writer = Writer(folder, colour)
        for x in draw(scenes, style, size):
            done = len(writer.hashes)
            keys = [digest64(b"%s %d" % (name.encode(), i)) for i in numbers[done : done + len(x)]]
            writer.add(x, keys)
            if progress:
                progress(len(writer.hashes), len(scenes))
        return writer.finish()

    key = key_of("drawn", name, style, VERSION, len(scenes), int(numbers[0]), size, colour)
    return fetch(base, key, build)
