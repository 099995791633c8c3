"""The built-in set `shapes`: one to three coloured objects on a plain ground, with captions and exact
attributes.

Everything about image i is a function of (seed, i).  Objects keep to the cells of a 3 x 3 grid, so they never
overlap; inside its cell each is shifted a little, by fractions of a pixel, so that hardly any two images are
equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .lazy import Lazy
from .pixels import AT_ONCE

CLASSES = FORMS = ("circle", "square", "triangle", "star", "cross")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (245, 210, 40),
    "orange": (245, 130, 20),
    "purple": (140, 60, 180),
    "pink": (250, 130, 190),
    "cyan": (40, 200, 220),
}
GROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128), "beige": (235, 220, 190)}
SIZES = {"small": 0.24, "large": 0.38}
"""radius of the circle around the object, as a share of the cell"""
SHIFT = 0.06
VERSION = 1
"""raised whenever the same scene would be drawn otherwise"""
PLACES = (
    *("at the top left", "at the top", "at the top right"),
    *("at the left", "in the centre", "at the right"),
    *("at the bottom left", "at the bottom", "at the bottom right"),
)


@dataclass(frozen=True)
class Scenes(Lazy[dict[str, Any]]):
    """What was drawn.  Objects stand from large to small, then in reading order; (N, 3) arrays, of which the
    first many[i] columns hold."""

    side: int
    many: np.ndarray
    ground: np.ndarray
    place: np.ndarray
    form: np.ndarray
    colour: np.ndarray
    large: np.ndarray
    shift: np.ndarray
    """float (N, 3, 2), x and y in cells"""

    def __len__(self) -> int:
        return len(self.many)

    @property
    def y(self) -> np.ndarray:
        """The class of each, int64 (N,): the form of its first object."""
        return self.form[:, 0]

    @property
    def new(self) -> np.ndarray:
        """bool (N,): whether an object has a shape and a colour that are held out together."""
        from .split import paired

        there = np.arange(3) < self.many[:, None]
        return np.asarray((paired(self.form, self.colour) & there).any(1))

    @property
    def centre(self) -> np.ndarray:
        """float (N, 3, 2): x and y in pixels, where the first pixel reaches from 0 to 1."""
        cells = np.stack([self.place % 3, self.place // 3], -1)
        return (cells + 0.5 + self.shift) * (self.side / 3)

    @property
    def radius(self) -> np.ndarray:
        small, large = SIZES.values()
        return np.where(self.large, large, small) * (self.side / 3)

    def item(self, i: int) -> dict[str, Any]:
        return dict(
            background=tuple(GROUNDS)[self.ground[i]],
            objects=[self._object(i, k) for k in range(self.many[i])],
        )

    def _object(self, i: int, k: int) -> dict[str, Any]:
        place = int(self.place[i, k])
        x, y = (
            ((place % 3, place // 3)[axis] + 0.5 + float(self.shift[i, k, axis])) * self.side / 3
            for axis in (0, 1)
        )
        size = "large" if self.large[i, k] else "small"
        return dict(
            shape=FORMS[self.form[i, k]],
            colour=tuple(COLOURS)[self.colour[i, k]],
            size=size,
            place=PLACES[place],
            x=round(x, 3),
            y=round(y, 3),
            radius=round(SIZES[size] * self.side / 3, 3),
        )


class Descriptions(Lazy[str]):
    """One sentence for each scene, made when it is asked for."""

    def __init__(self, scenes: Sequence[dict[str, Any]], caption: Callable[[dict[str, Any]], str]):
        self.scenes, self.caption = scenes, caption

    def __len__(self) -> int:
        return len(self.scenes)

    def item(self, i: int) -> str:
        return self.caption(self.scenes[i])


def caption(scene: dict[str, Any]) -> str:
    """Such as "a large blue square in the centre and a small red circle at the top left on a white
    background"."""
    *most, last = (f"a {o['size']} {o['colour']} {o['shape']} {o['place']}" for o in scene["objects"])
    return f"{', '.join(most) + ' and ' if most else ''}{last} on a {scene['background']} background"


def side(size: int) -> int:
    """Pixels at which images of `size` are drawn, before they are scaled to it."""
    return 64 if size > 32 else 32


def invent(n: int, side: int, seed: int = 0) -> Scenes:
    """Decide what images 0 ... n-1 of this seed show."""
    import torch

    from ..core import Noise

    noise = Noise(torch.arange(n), key=0x5A9E5 + seed)

    def pick(many: int, *shape: int) -> np.ndarray:
        return (noise.uniform(*shape).double().numpy() * many).astype(np.int64)

    count, ground = 1 + pick(3, 1)[:, 0], pick(len(GROUNDS), 1)[:, 0]
    place = noise.uniform(9).numpy().argsort(1)[:, :3]
    form, colour, large = pick(len(FORMS), 3), pick(len(COLOURS), 3), pick(2, 3)
    shift = (noise.uniform(3, 2).numpy() * 2 - 1) * SHIFT
    absent = np.arange(3) >= count[:, None]
    order = (absent * 100 - large * 10 + place).argsort(1)
    place, form, colour, large = (np.take_along_axis(a, order, 1) for a in (place, form, colour, large))
    return Scenes(
        side,
        count,
        ground,
        place,
        form,
        colour,
        large.astype(bool),
        np.take_along_axis(shift, order[..., None], 1),
    )


def draw(scenes: Scenes, most: int = 500) -> Iterator[np.ndarray]:
    """The images in order, as uint8 (step, 3, side, side), each edge anti-aliased over one pixel."""
    step = max(1, min(most, AT_ONCE // (3 * scenes.side**2)))
    axis = np.arange(scenes.side, dtype=np.float32) + 0.5
    centre, radius = scenes.centre.astype(np.float32), scenes.radius.astype(np.float32)
    grounds, colours = (np.array(list(c.values()), np.float32) for c in (GROUNDS, COLOURS))
    for start in range(0, len(scenes), step):
        rows = np.arange(start, min(start + step, len(scenes)))
        x = np.broadcast_to(
            grounds[scenes.ground[rows]][..., None, None], (len(rows), 3, scenes.side, scenes.side)
        ).copy()
        for k in range(3):
            for form, distance in enumerate(DISTANCES):
                here = rows[(scenes.many[rows] > k) & (scenes.form[rows, k] == form)]
                across, down = (axis - centre[here, k, i, None] for i in (0, 1))
                cover = np.clip(
                    0.5 - distance(across[:, None, :], down[:, :, None], radius[here, k, None, None]), 0, 1
                )[:, None]
                x[here - start] += cover * (
                    colours[scenes.colour[here, k]][..., None, None] - x[here - start]
                )
        yield np.rint(x).astype(np.uint8)


# The signed distance, in pixels, of points (x, y) from the edge of a form in a circle of radius r; negative
# inside.


def _circle(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - r


def _square(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    return np.maximum(abs(x), abs(y)) - 0.82 * r


def _triangle(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    return np.maximum(y, abs(x) * (3**0.5 / 2) - y / 2) - r / 2


def _cross(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    long, thin = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y))
    return np.maximum(long - r, thin - 0.4 * r)


def _star(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Five points: one edge, from an outer corner to an inner one at 0.48 r, seen in a kaleidoscope of ten
    mirrors."""
    tenth = np.pi / 5
    angle = abs((np.arctan2(x, -y) + tenth) % (2 * tenth) - tenth)
    inner = 0.48 * np.array([np.cos(tenth), np.sin(tenth)])
    normal = np.array([inner[1], 1 - inner[0]]) / np.hypot(inner[1], 1 - inner[0])
    far = np.hypot(x, y)
    return far * (normal[0] * np.cos(angle) + normal[1] * np.sin(angle)) - normal[0] * r


DISTANCES = (_circle, _square, _triangle, _star, _cross)
