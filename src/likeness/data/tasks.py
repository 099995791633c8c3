"""Tasks that any set of images holds: the image is the target B, and its source A is made from it.

    colourise   A is the luma of B (ITU-R BT.601)
    upscale2    A is B at half the size, upscale4 at a quarter: Pillow's bicubic with antialias
    inpaint     A is B with grey holes, a quarter of it on average, and a plane that is white where they are
    edges       A is the edges of B, black lines one pixel thin on white: Canny's operator in whole numbers
    slow2       of clips: A is every second frame of B, slow4 every fourth; upscale2 and upscale4 make every frame smaller

A is made when it is asked for, and is a function of B alone: the same bits in every run and batch, whatever
the folder holds beside it.
"""  # noqa: E501

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..core import Refusal
from .lazy import Made
from .pixels import planes
from .writer import as_colour, content_hash

VERSION = 1
"""raised whenever the same image would become another source"""
FACTORS = {"upscale2": 2, "upscale4": 4}
SLOWER = {"slow2": 2, "slow4": 4}
HOLE = 128
"""grey of what is to be filled in"""
LOW, HIGH = 60, 140
"""gradients, of Sobel's operator on the blurred luma (1,020 at most): an edge has one of HIGH somewhere, and
LOW all along"""


class Task(NamedTuple):
    """One of them for images of one shape."""

    name: str
    shape: tuple[int, ...]
    """(C, H, W) of a source, (C, T, H, W) of clips"""

    def source(self, x: np.ndarray) -> np.ndarray:
        """uint8 (n, C, S, S), or (n, C, T, S, S), to (n, *shape)."""
        if self.name in SLOWER:
            return np.ascontiguousarray(x[:, :, :: SLOWER[self.name]])
        if x.ndim == 5:
            return np.stack(
                [reduced(frame, FACTORS[self.name]) for frame in x.swapaxes(0, 2).swapaxes(1, 2)], 2
            )
        if self.name == "colourise":
            return as_colour(x, "grey")
        if self.name in FACTORS:
            return reduced(x, FACTORS[self.name])
        return holed(x) if self.name == "inpaint" else edges(x)


def of(name: str, source: str, x: np.ndarray) -> Task:
    """The task called `name` for the images x (N, C, S, S) of `source`.  Raises Refusal where they are not
    for it."""
    channels, size = int(x.shape[1]), int(x.shape[-1])
    if name in SLOWER or x.ndim == 5:
        return _of_clips(name, source, x)
    if x.ndim != 4 or x.dtype != np.uint8:
        raise Refusal(f"--task {name} is for images, and {source} holds none; leave --task out.")
    if name == "colourise" and channels == 1:
        raise Refusal(
            f"--task colourise learns colours from images that have some, and those of {source} are grey; "
            "name a set in colour, or another task (upscale2, inpaint)."
        )
    if name in FACTORS and (size % (factor := FACTORS[name]) or size < 2 * factor):
        larger = max(2 * factor, -(-size // factor) * factor)
        raise Refusal(
            f"--task {name} makes sources of a {'half' if factor == 2 else 'quarter'} of the size, and "
            f"{size} is no multiple of {factor} from {2 * factor} on; type --size {larger}."
        )
    small = size // FACTORS.get(name, 1)
    planes = {"colourise": 1, "edges": 1, "inpaint": channels + 1}.get(name, channels)
    return Task(name, (planes, small, small))


def _of_clips(name: str, source: str, x: np.ndarray) -> Task:
    """Raises Refusal where the clips x (N, C, T, S, S) are not for it."""
    if x.ndim != 5:
        raise Refusal(f"--task {name} is for videos, and {source} holds none; leave it out.")
    if name not in (*SLOWER, *FACTORS):
        known = ", ".join((*SLOWER, *FACTORS))
        raise Refusal(f"--task {name} is for still images, and {source} holds videos; for these: {known}.")
    frames, size = int(x.shape[2]), int(x.shape[-1])
    slower, smaller = SLOWER.get(name, 1), FACTORS.get(name, 1)
    if frames % slower or size % smaller or size < 2 * smaller:
        what = f"{frames} frames" if slower > 1 else f"{size} pixels"
        raise Refusal(f"--task {name} asks for a multiple of {slower * smaller}, and there are {what}.")
    return Task(name, (int(x.shape[1]), frames // slower, size // smaller, size // smaller))


def made(task: Task, x: np.ndarray) -> Made:
    """The sources of the images x (N, C, S, S), each made when it is asked for."""
    return Made(partial(_rows, task, x), (len(x), *task.shape))


def _rows(task: Task, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return task.source(np.asarray(x[rows]))


def reduced(x: np.ndarray, factor: int) -> np.ndarray:
    """(n, C, H, W) at 1/factor of the size: cubic convolution with a = -1/2, made wider by the factor."""
    size = x.shape[3] // factor, x.shape[2] // factor
    pictures = (
        Image.fromarray(np.ascontiguousarray(a[0] if len(a) == 1 else a.transpose(1, 2, 0))) for a in x
    )
    return np.stack([planes(p.resize(size, Image.Resampling.BICUBIC)) for p in pictures])


def holed(x: np.ndarray) -> np.ndarray:
    """(n, C, H, W) to (n, C + 1, H, W): grey rectangles, and the plane that is 255 where they are."""
    masks = np.stack([mask(content_hash(image), image.shape[-1]) for image in x])[:, None]
    return np.concatenate([np.where(masks, np.uint8(HOLE), x), masks.astype(np.uint8) * 255], 1)


def mask(seed: int, size: int) -> np.ndarray:
    """bool (size, size) of one, two or three rectangles that cover a quarter on average; a function of `seed`
    alone.

    k rectangles that cover a share p each cover 1 - (1 - p)^k together on average, where they are placed
    freely; p is chosen for a quarter, and sides vary from 0.6 to 1/0.6 of those of a square.
    """
    draw = np.random.Generator(np.random.Philox(seed))
    count = int(draw.integers(1, 4))
    area = 1 - 0.75 ** (1 / count)
    out = np.zeros((size, size), bool)
    for _ in range(count):
        stretch = 0.6 ** draw.uniform(-1, 1)
        sides = np.clip(np.rint(size * area**0.5 * np.array([stretch, 1 / stretch])), 1, size - 1).astype(int)
        # wrapped around the border, so that every pixel is as likely to be missing as any other
        top, left = draw.integers(0, size, 2)
        out[np.ix_((top + np.arange(sides[0])) % size, (left + np.arange(sides[1])) % size)] = True
    return out


def edges(x: np.ndarray) -> np.ndarray:
    """uint8 (n, C, H, W) to (n, 1, H, W): 0 on an edge, else 255.

    Canny, "A Computational Approach to Edge Detection", 1986: blurred, Sobel's gradient, what is largest
    across the edge, and from there on along the edge while it stays above LOW.
    """
    luma = as_colour(x, "grey")[:, 0].astype(np.int32)
    blurred = _filtered(_filtered(luma, (1, 4, 6, 4, 1), 1), (1, 4, 6, 4, 1), 2)  # times 256
    across = _filtered(_filtered(blurred, (-1, 0, 1), 2), (1, 2, 1), 1)
    down = _filtered(_filtered(blurred, (-1, 0, 1), 1), (1, 2, 1), 2)
    strength = across.astype(np.int64) ** 2 + down.astype(np.int64) ** 2
    thin = _crest(strength, across, down)
    low, high = ((256 * t) ** 2 for t in (LOW, HIGH))
    weak, sure = thin & (strength >= low), thin & (strength >= high)
    while True:
        grown = _around(sure) & weak
        if np.array_equal(grown, sure):
            return np.where(sure, np.uint8(0), np.uint8(255))[:, None]
        sure = grown


def _filtered(x: np.ndarray, weights: tuple[int, ...], axis: int) -> np.ndarray:
    """Along an axis of (n, H, W), the border repeated."""
    reach = len(weights) // 2
    pad = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
    wide = np.pad(x, pad, mode="edge")
    n = x.shape[axis]
    parts = (np.take(wide, range(k, k + n), axis) * w for k, w in enumerate(weights) if w)
    out: np.ndarray = sum(parts, np.zeros_like(x))
    return out


def _crest(strength: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """bool (n, H, W): stronger than the neighbour on one side along the gradient, and not weaker than that on
    the other, so that of two equal ones the first is taken."""
    wide = np.pad(strength, ((0, 0), (1, 1), (1, 1)))
    h, w = strength.shape[1:]

    def beside(dy: int, dx: int) -> np.ndarray:
        return wide[:, 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]

    flat, steep = 2 * abs(down) < abs(across), 2 * abs(across) < abs(down)
    rising = (across > 0) == (down > 0)
    out = np.zeros(strength.shape, bool)
    for where, (dy, dx) in (
        (flat, (0, 1)),
        (steep, (1, 0)),
        (~flat & ~steep & rising, (1, 1)),
        (~flat & ~steep & ~rising, (1, -1)),
    ):
        out |= where & (strength > beside(-dy, -dx)) & (strength >= beside(dy, dx))
    return out


def _around(x: np.ndarray) -> np.ndarray:
    """bool (n, H, W): itself and the eight neighbours."""
    rows = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    rows = rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
    wide = np.pad(rows, ((0, 0), (0, 0), (1, 1)))
    return wide[:, :, :-2] | wide[:, :, 1:-1] | wide[:, :, 2:]
