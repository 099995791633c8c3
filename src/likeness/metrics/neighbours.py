"""The nearest training images: has the model learnt, or copied?

Distances are root mean squared differences of pixels in levels, 0 ... 255, and exact.  They mean something
only beside those of held-out images: `closeness` and `copied` are read as a pair, theirs and the samples'.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

EXACT = 1024
"""pixels whose products of numbers in -128 ... 127 sum to at most 2^24, which float32 counts without rounding"""
CHUNK = 2**23
"""values of a block in memory"""


class Nearest(NamedTuple):
    distance: np.ndarray
    """float64 (Q, k), rising: root mean squared difference in levels"""
    row: np.ndarray
    """int64 (Q, k): which image of train"""


def nearest(x: np.ndarray, train: np.ndarray, rows: np.ndarray, k: int = 2) -> Nearest:
    """The k nearest to each image of x, uint8 (Q, C, H, W), among train[rows], uint8 (N, C, H, W), in memory or mapped.

    Exact, whatever the size: float32 products are summed over blocks of 1024 pixels, within which integers do not
    round, and the blocks in float64.  Equal distances keep the order of `rows`.  Memory is bounded by blocks.
    """
    queries = _centred(x)
    q, dims = queries.shape
    if not len(rows) or not q:
        return Nearest(np.full((q, k), np.inf), np.full((q, k), -1, np.int64))
    best, found = np.full((q, k), np.inf), np.full((q, k), -1, np.int64)
    chunk = max(1, min(CHUNK // dims, CHUNK // q))
    for i in range(0, len(rows), chunk):
        here = np.asarray(rows[i : i + chunk], np.int64)
        best, found = _merge(best, found, squared(queries, _centred(train[here])), here)
    return Nearest(np.sqrt(best / dims), found)


def _centred(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(np.float32) - 128


def squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances, float64 (Q, N), between rows of whole numbers in -128 ... 127, float32 (Q, dims) and (N, dims); exact."""
    out = np.zeros((len(a), len(b)))
    for i in range(0, a.shape[1], EXACT):
        p, q = a[:, i : i + EXACT], b[:, i : i + EXACT]
        out += (p * p).sum(1)[:, None].astype(np.float64) + (q * q).sum(1)
        out -= 2.0 * (p @ q.T).astype(np.float64)
    return out


def _merge(best: np.ndarray, found: np.ndarray, d: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The k least of those known and those in d."""
    k, everyone = best.shape[1], np.arange(len(d))
    distances, names = [best], [found]
    for _ in range(min(k, d.shape[1])):
        at = d.argmin(1)
        distances.append(d[everyone, at][:, None])
        names.append(rows[at][:, None])
        d[everyone, at] = np.inf
    all_d, all_n = np.concatenate(distances, 1), np.concatenate(names, 1)
    order = all_d.argsort(1, kind="stable")[:, :k]
    return np.take_along_axis(all_d, order, 1), np.take_along_axis(all_n, order, 1)


def copied(found: Nearest) -> np.ndarray:
    """Whether each image is a third as far from its nearest as from its second nearest, or nearer: (Q,) of 0 or 1.

    The ratio does not fall for a mere blur, which is near to everything (Yoon et al. 2023, "Diffusion
    probabilistic models generalize when they fail to memorize").
    """
    first, second = found.distance[:, 0], found.distance[:, 1]
    return (np.isfinite(second) & (first <= second / 3)).astype(np.float64)


def exact(found: Nearest) -> np.ndarray:
    """Whether each image is, level by level, a training image: (Q,) of 0 or 1."""
    return (found.distance[:, 0] == 0).astype(np.float64)


def closeness(samples: Nearest, held_out: Nearest) -> np.ndarray:
    """Whether each sample is nearer to a training image than half of the held-out images are; a half is the mean to expect."""
    return (samples.distance[:, 0] < np.median(held_out.distance[:, 0])).astype(np.float64)


def grid(x: np.ndarray, levels: int = 256) -> np.ndarray:
    """Floats in [-1, 1] on the data's own grid, as uint8: only there can a sample equal a training image."""
    step = np.round((np.clip(np.nan_to_num(x), -1, 1) + 1) / 2 * (levels - 1))
    return np.round(step * (255 / (levels - 1))).astype(np.uint8)
