"""The built-in set `moving-shapes`: clips of one or two coloured objects that move straight ahead on a plain
ground, with captions and exact trajectories.

Everything about clip i is a function of (seed, i).  An object keeps its speed and its direction, is inside
the picture from the first frame to the last, and never touches the other one, which has another colour.  The
forms, colours and grounds are those of `shapes`.  Lengths are shares of the side: x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .lazy import Lazy
from .pixels import AT_ONCE
from .shapes import COLOURS, DISTANCES, FORMS, GROUNDS

FRAMES = 16
CLASSES = DIRECTIONS = ("right", "down right", "down", "down left", "left", "up left", "up", "up right")
"""every 45 degrees, clockwise as it is seen"""
SIZES = {"small": 0.09, "large": 0.15}
"""radius of the circle around the object"""
SPEEDS = {"slowly": 0.3, "quickly": 0.6}
"""way from the first frame to the last"""
VARIED = 0.1
"""a way may be longer or shorter by this share"""
GAP = 0.06
"""least distance between the circles around two objects"""
TRIES = 32
"""pairs of paths of which the first that keeps the gap is taken; else the clip has one object"""
VERSION = 1
"""raised whenever the same clip would be drawn otherwise"""


@dataclass(frozen=True)
class Clips(Lazy[dict[str, Any]]):
    """What was drawn: (N, 2) arrays, of which the first many[i] columns hold."""

    side: int
    many: np.ndarray
    ground: np.ndarray
    form: np.ndarray
    colour: np.ndarray
    large: np.ndarray
    direction: np.ndarray
    fast: np.ndarray
    path: np.ndarray
    """float (N, 2, FRAMES, 2), x and y of the centre in shares of the side"""

    def __len__(self) -> int:
        return len(self.many)

    @property
    def y(self) -> np.ndarray:
        """The class of each, int64 (N,): the direction of its first object."""
        return self.direction[:, 0]

    @property
    def new(self) -> np.ndarray:
        """bool (N,): whether an object has a shape and a direction that are held out together."""
        from .split import paired

        there = np.arange(2) < self.many[:, None]
        return np.asarray((paired(self.form, self.direction) & there).any(1))

    @property
    def radius(self) -> np.ndarray:
        small, large = SIZES.values()
        return np.where(self.large, large, small) * self.side

    def item(self, i: int) -> dict[str, Any]:
        return dict(
            background=tuple(GROUNDS)[self.ground[i]],
            objects=[self._object(i, k) for k in range(self.many[i])],
        )

    def _object(self, i: int, k: int) -> dict[str, Any]:
        """x and y: pixels, a list of each with a number for every frame; vx and vy: pixels a frame."""
        path = self.path[i, k] * self.side
        vx, vy = (path[-1] - path[0]) / (FRAMES - 1)
        size = "large" if self.large[i, k] else "small"
        return dict(
            shape=FORMS[self.form[i, k]],
            colour=tuple(COLOURS)[self.colour[i, k]],
            size=size,
            direction=DIRECTIONS[self.direction[i, k]],
            speed=tuple(SPEEDS)[int(self.fast[i, k])],
            x=[round(float(v), 3) for v in path[:, 0]],
            y=[round(float(v), 3) for v in path[:, 1]],
            vx=round(float(vx), 4),
            vy=round(float(vy), 4),
            radius=round(SIZES[size] * self.side, 3),
        )


def caption(clip: dict[str, Any]) -> str:
    """Such as "a large blue square moving quickly up left and a small red circle moving slowly down on a
    white background"."""
    said = (
        f"a {o['size']} {o['colour']} {o['shape']} moving {o['speed']} {o['direction']}"
        for o in clip["objects"]
    )
    return f"{' and '.join(said)} on a {clip['background']} background"


def side(size: int) -> int:
    """Pixels at which clips of `size` are drawn: as many, up to 256."""
    return min(size or 32, 256)


def invent(n: int, side: int, seed: int = 0) -> Clips:
    """Decide what clips 0 ... n-1 of this seed show."""
    import torch

    from ..core import Noise

    noise = Noise(torch.arange(n), key=0x5A9EF11 + seed)

    def pick(many: int, *shape: int) -> np.ndarray:
        return (noise.uniform(*shape).double().numpy() * many).astype(np.int64)

    many, ground = 1 + pick(2, 1)[:, 0], pick(len(GROUNDS), 1)[:, 0]
    form, large, fast = pick(len(FORMS), 2), pick(2, 2).astype(bool), pick(2, 2).astype(bool)
    direction = pick(len(DIRECTIONS), 2)
    first, step = pick(len(COLOURS), 1)[:, 0], 1 + pick(len(COLOURS) - 1, 1)[:, 0]
    colour = np.stack([first, (first + step) % len(COLOURS)], 1)
    radius = np.where(large, SIZES["large"], SIZES["small"])
    way = np.where(fast, SPEEDS["quickly"], SPEEDS["slowly"])
    way = way * (1 + VARIED * (2 * noise.uniform(2).double().numpy() - 1))
    path, apart = _paths(way, direction, radius, noise.uniform(TRIES, 2, 2).double().numpy())
    many = np.where(apart, many, 1)
    return Clips(side, many, ground, form, colour, large, direction, fast, path)


def _paths(
    way: np.ndarray, direction: np.ndarray, radius: np.ndarray, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Paths (N, 2, FRAMES, 2) and whether the two of a clip keep apart, bool (N,).

    way, direction, radius: (N, 2).  where: (N, TRIES, 2, 2), uniform on (0, 1): where between the places that
    keep the object inside the picture a path begins.
    """
    angle = direction * (np.pi / 4)
    travel = way[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)  # (N, 2, 2)
    low = radius[..., None] + np.maximum(-travel, 0)
    room = 1 - 2 * radius[..., None] - abs(travel)
    begin = low[:, None] + where * room[:, None]  # (N, TRIES, 2, 2)
    # between two that move straight ahead the distance is least at one time, which is between two frames
    apart, relative = begin[:, :, 0] - begin[:, :, 1], (travel[:, 0] - travel[:, 1])[:, None]
    nearest = np.clip(-(apart * relative).sum(-1) / np.maximum((relative**2).sum(-1), 1e-12), 0, 1)
    least = np.hypot(*np.moveaxis(apart + nearest[..., None] * relative, -1, 0))
    good = least >= radius.sum(1)[:, None] + GAP
    chosen = begin[np.arange(len(way)), good.argmax(1)]  # (N, 2, 2)
    time = np.linspace(0, 1, FRAMES)[:, None]
    return chosen[:, :, None] + time * travel[:, :, None], good.any(1)


def draw(clips: Clips, most: int = 500) -> Iterator[np.ndarray]:
    """The clips in order, as uint8 (step, 3, FRAMES, side, side), each edge anti-aliased over one pixel."""
    side, colours = clips.side, np.array(list(COLOURS.values()), np.float32)
    grounds = np.array(list(GROUNDS.values()), np.float32)
    step = max(1, min(most, AT_ONCE // (3 * FRAMES * side**2)))
    for start in range(0, len(clips), step):
        rows = np.arange(start, min(start + step, len(clips)))
        x = np.empty((len(rows), FRAMES, 3, side, side), np.float32)
        x[:] = grounds[clips.ground[rows]][:, None, :, None, None]
        for k in range(2):
            for form in range(len(FORMS)):
                here = rows[(clips.many[rows] > k) & (clips.form[rows, k] == form)]
                _paint(x, here - start, clips, here, k, form, colours[clips.colour[here, k]])
        yield np.rint(x).astype(np.uint8).swapaxes(1, 2)


def _paint(
    x: np.ndarray, places: np.ndarray, clips: Clips, rows: np.ndarray, k: int, form: int, colour: np.ndarray
) -> None:
    """Object k of these rows, all of one form, onto x (step, FRAMES, 3, side, side): of each frame only the
    square that the object can reach is worked on."""
    if not len(rows):
        return
    path = (clips.path[rows, k] * clips.side).astype(np.float32)  # (n, FRAMES, 2)
    radius = clips.radius[rows, k].astype(np.float32)
    window = min(clips.side, 2 * int(np.ceil(radius.max() + 1)) + 1)
    corner = np.clip(np.floor(path).astype(np.int64) - window // 2, 0, clips.side - window)
    near = np.arange(window)
    column, row = (corner[..., axis, None] + near for axis in (0, 1))  # (n, FRAMES, window)
    across, down = (at + np.float32(0.5) - path[..., axis, None] for axis, at in ((0, column), (1, row)))
    distance = DISTANCES[form](
        across[:, :, None, :].astype(np.float32),
        down[:, :, :, None].astype(np.float32),
        radius[:, None, None, None],
    )
    cover = np.clip(0.5 - distance, 0, 1)[:, :, None]
    where = (
        places[:, None, None, None, None],
        np.arange(FRAMES)[None, :, None, None, None],
        np.arange(3)[None, None, :, None, None],
        row[:, :, None, :, None],
        column[:, :, None, None, :],
    )
    before = x[where]
    x[where] = before + cover * (colour[:, None, :, None, None] - before)
