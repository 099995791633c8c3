"""What an image costs without learning anything, in bits per dimension: the rungs of the ladder a model
stands on.

All of them count -log2 P(image) / (C*H*W) where an image is a point of the grid of `levels` values,
so they may stand in one table with a model's own.  A file of b bytes is a code word: P = 2^(-8b).
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from PIL import Image

from ..core import Refusal
from .card import short

Format = Literal["PNG", "WebP"]
SHEET = 2**21
"""most pixels of a sheet, which bounds the time that a codec takes"""
CHUNK = 2**22
"""values looked at in one go"""
TABLE = 2**20
"""counts kept in one go"""


def uniform(levels: int = 256) -> float:
    """Every image equally likely: 8 bits for 256 levels."""
    return math.log2(levels)


def nats(bits: np.ndarray, dims: int) -> np.ndarray:
    """Nats an image, the unit of papers on black-and-white images."""
    return bits * (dims * math.log(2))


def solved(errors: Sequence[float | None], tolerance: float) -> str:
    """What a card must say of bits by a differential equation, from Bits.error of each batch; nothing where
    none was solved."""
    known = [error for error in errors if error is not None]
    if not known:
        return ""
    off = math.sqrt(sum(error**2 for error in known) / len(known))
    return (
        f"by an equation solved to a tolerance of {tolerance:g}: single values are off by {short(off)} "
        "bits/dim, root mean square of a few solved again"
    )


def codec(x: np.ndarray, form: Format, levels: int = 256) -> np.ndarray:
    """Bits/dim of each image of x, uint8 (n, C, H, W), as a lossless file of its own, header and all.

    On tiny images the header weighs more than the picture: see `sheet`.
    """
    _images(x)
    return np.array([_bytes(image, form, levels) for image in x]) * 8 / math.prod(x.shape[1:])


def sheet(x: np.ndarray, form: Format, levels: int = 256) -> tuple[float, int]:
    """Bits/dim of many images side by side in one lossless file, and of how many.

    One header for all, and what the codec learns from one image helps with the next: the fairer rival on
    tiny images.  The sheet is nearly square, without empty places, and of at most 2^21 pixels.
    """
    _images(x)
    if not len(x):
        raise Refusal("a sheet is made of images, and there is none; give one or more.")
    n, c, h, w = x.shape
    n = max(1, min(n, SHEET // (h * w)))
    columns = math.isqrt(n)
    rows = n // columns
    page = (
        x[: rows * columns]
        .reshape(rows, columns, c, h, w)
        .transpose(2, 0, 3, 1, 4)
        .reshape(c, rows * h, columns * w)
    )
    return _bytes(page, form, levels) * 8 / page.size, rows * columns


def _images(x: np.ndarray) -> None:
    if x.ndim != 4 or x.dtype != np.uint8 or not math.prod(x.shape[1:]):
        raise Refusal(
            f"bits are counted of images uint8 (n, channels, height, width), and these are {x.dtype} of "
            f"shape {x.shape}; give such."
        )


def _bytes(image: np.ndarray, form: Format, levels: int) -> int:
    """Length of the file of a (C, H, W) image, by the codec's best settings but the slowest of WebP, which
    gain 1 %."""
    colour = len(image) == 3
    picture = Image.fromarray(image.transpose(1, 2, 0).copy() if colour else np.concatenate(list(image)))
    file = io.BytesIO()
    if form == "PNG":
        (picture.convert("1", dither=Image.Dither.NONE) if levels == 2 and not colour else picture).save(
            file, "PNG", optimize=True
        )
    else:
        picture.save(file, "WEBP", lossless=True, quality=100, method=4)
    return file.tell()


def affordable(pixels: int) -> int:
    """How many images of that size `codec` can be asked about within a minute: a hundred at least, while
    images are no larger than 289x289."""
    return max(1, SHEET // pixels, min(100, 4 * SHEET // pixels))


def histogram(
    train: np.ndarray, rows: np.ndarray, x: np.ndarray, levels: int = 256, alpha: float = 1.0
) -> np.ndarray:
    """Bits/dim of each image of x under independent pixels, each with its histogram over the images
    train[rows].

    train uint8 (N, C, H, W), x uint8 (n, C, H, W) -> (n,).  Each count starts at alpha (Laplace 1774), so
    that no value is impossible.  For two levels these are independent Bernoulli variables.  Memory is
    bounded: a few lines of pixels are looked at in one go.
    """
    _images(x)
    if train.shape[1:] != x.shape[1:] or train.dtype != np.uint8:
        raise Refusal(
            f"histograms of {train.dtype} {train.shape[1:]} say nothing of images {x.shape[1:]}; give "
            "training images of their shape, uint8."
        )
    _, c, h, w = x.shape
    total, lines = np.zeros(len(x)), max(1, TABLE // (c * w * levels))
    for top in range(0, h, lines):
        here = np.s_[:, top : top + lines]
        counts = _counts(train, rows, here, levels)
        cost = np.float32(math.log2(len(rows) + alpha * levels)) - np.log2(counts + np.float32(alpha))
        for i, cells in _cells(x, np.arange(len(x)), here, levels):
            total[i : i + len(cells)] += cost[cells].sum(1, dtype=np.float64)
    return total / (c * h * w)


def _counts(train: np.ndarray, rows: np.ndarray, here: tuple[slice, slice], levels: int) -> np.ndarray:
    """How often each value stands at each pixel of these lines, float32 (dims * levels,)."""
    size = train[:1, *here].size * levels
    counts = np.zeros(size, np.float32)
    for _, cells in _cells(train, rows, here, levels):
        counts += np.bincount(cells.ravel(), minlength=size)
    return counts


def _cells(
    x: np.ndarray, rows: np.ndarray, here: tuple[slice, slice], levels: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Of some images after another: the first one's number, and the place of each value in a flat table
    (dims, levels).

    0 ... 255 is read as the nearest of the levels.
    """
    chunk = max(1, CHUNK // x[:1, *here].size)
    for i in range(0, len(rows), chunk):
        flat = x[rows[i : i + chunk], *here].reshape(len(rows[i : i + chunk]), -1).astype(np.int64)
        yield i, (flat * (levels - 1) + 127) // 255 + np.arange(flat.shape[1]) * levels
