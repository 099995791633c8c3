"""Whether files that are twice as wide as high hold two pictures side by side, or one wide picture.

A wide picture goes on in the middle; two pictures break off.  Where both are drawn on white paper, nothing is
to be seen in the middle of either kind: then two halves are a pair if their edges lie at the same places.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from .dataset import Reading
from .decode import Skip, decoded
from .listing import Listing

FILES = 24
"""files that are looked at"""
BREAK = 2.5
"""times the mean difference of neighbouring columns: two pictures differ more than that where they meet"""
REACH = 16
"""columns to each side with which the middle is compared"""
BLANK = 2.0
"""standard deviation, in levels of 255, of what is but paper"""
ALIKE = 0.5
"""correlation of the edges of two halves that belong together, at least"""
SMALL = 32


def most(listing: Listing, rows: np.ndarray, reading: Reading) -> bool:
    """Whether more than half of the files are two pictures; rows: int64, those of the listing that are
    images."""
    some = rows[np.linspace(0, len(rows) - 1, min(FILES, len(rows))).astype(int)].tolist()
    return sum(two_pictures(listing, row, reading) for row in some) > len(some) / 2


def two_pictures(listing: Listing, row: int, reading: Reading) -> bool:
    full = replace(reading, size=4096)  # no JPEG is decoded at a fraction of its size
    middle = decoded(lambda: listing.read(row), full, _middle)
    if isinstance(middle, Skip):
        return False
    if not blank(middle.pixels):
        seam, beside = steps(middle.pixels)
        return seam > BREAK * beside
    whole = decoded(lambda: listing.read(row), full, _shrunk)
    return not isinstance(whole, Skip) and resemblance(whole.pixels) > ALIKE


def blank(x: np.ndarray) -> bool:
    """Whether the four columns in the middle of x (C, H, W) have one colour."""
    k = x.shape[2] // 2
    return float(x[:, :, max(0, k - 2) : k + 2].std((1, 2)).max()) < BLANK


def steps(x: np.ndarray) -> tuple[float, float]:
    """Mean |difference| of the two columns in the middle of x (C, H, W), W even, and that of other
    neighbours, in levels."""
    each = np.abs(np.diff(x.astype(np.float64), axis=2)).mean((0, 1))
    k = x.shape[2] // 2 - 1
    return float(each[k]), float(np.delete(each, k).mean()) if len(each) > 1 else 0.0


def resemblance(x: np.ndarray) -> float:
    """Correlation of the edges in both halves of x (C, S, 2 S); 0 where one has none."""
    grey = x.astype(np.float64).mean(0)
    left, right = (_edges(half) for half in np.split(grey, 2, axis=1))
    spread = left.std() * right.std()
    return float(((left - left.mean()) * (right - right.mean())).mean() / spread) if spread else 0.0


def _edges(x: np.ndarray) -> np.ndarray:
    """How much each place differs from its neighbours, within a pixel or so, of grey (S, S)."""
    dy, dx = np.gradient(x)
    e = np.pad(np.hypot(dx, dy), 1)
    return np.asarray(sum(np.roll(e, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)))[1:-1, 1:-1]


def _middle(image: Image.Image, size: int) -> Image.Image:
    half = image.width // 2
    wide = min(REACH, half)
    return image.crop((half - wide, 0, half + wide, image.height))


def _shrunk(image: Image.Image, size: int) -> Image.Image:
    return image.resize((2 * SMALL, SMALL), Image.Resampling.BOX)
