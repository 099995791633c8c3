"""The nearest training images: has the model learnt, or copied?

Distances are root mean squared differences of pixels in levels, 0 ... 255, and exact.  They mean something
only beside those of held-out images: `closeness` and `copied` are read as a pair, theirs and the samples'.
Training images are searched once each (`distinct`): a copy of a picture that the data hold twice is a copy
too.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from ..core import Refusal

EXACT = 1024
"""pixels whose products of numbers in -128 ... 127 sum to at most 2^24, which float32 counts
without rounding"""
CHUNK = 2**23
"""values of a block in memory"""


class Nearest(NamedTuple):
    distance: np.ndarray
    """float64 (Q, k), rising: root mean squared difference in levels"""
    row: np.ndarray
    """int64 (Q, k): which image of train; -1 where there are fewer than k"""

    def of(self, queries: slice) -> Nearest:
        return Nearest(self.distance[queries], self.row[queries])


def distinct(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The first of all equal images among train[rows], for each such set."""
    first: dict[bytes, int] = {}
    for row in rows.tolist():
        first.setdefault(blake2b(train[row].tobytes(), digest_size=16).digest(), row)
    return np.fromiter(first.values(), np.int64, len(first))


def nearest(x: np.ndarray, train: np.ndarray, rows: np.ndarray, k: int = 2, mirror: bool = False) -> Nearest:
    """The k nearest to each image of x, uint8 (Q, C, H, W), among train[rows], uint8 (N, C, H, W), in memory
    or mapped.

    Exact, whatever the size: float32 products are summed over blocks of 1024 pixels, within which integers do
    not round, and the blocks in float64.  Equal distances keep the order of `rows`.  Memory is bounded by
    blocks.
    mirror: an image may as well be like one seen from behind; its neighbours are then those of the nearer of
    its two sides.
    """
    if x.dtype != np.uint8 or train.dtype != np.uint8 or x.shape[1:] != train.shape[1:]:
        raise Refusal(
            f"images {x.dtype} {x.shape[1:]} have no neighbours among {train.dtype} {train.shape[1:]}; give "
            "both as uint8, of one shape."
        )
    if mirror:
        front, behind = (nearest(side, train, rows, k) for side in (x, x[..., ::-1]))
        nearer = behind.distance[:, :1] < front.distance[:, :1]
        return Nearest(
            np.where(nearer, behind.distance, front.distance), np.where(nearer, behind.row, front.row)
        )
    queries = centred(x)
    q, dims = queries.shape
    if not len(rows) or not q:
        return Nearest(np.full((q, k), np.inf), np.full((q, k), -1, np.int64))
    best, result = np.full((q, k), np.inf), np.full((q, k), -1, np.int64)
    chunk, norms = max(1, min(CHUNK // dims, CHUNK // q)), _norms(queries)
    for i in range(0, len(rows), chunk):
        here = np.asarray(rows[i : i + chunk], np.int64)
        best, result = _merge(best, result, squared(queries, centred(train[here]), norms), here)
    return Nearest(np.sqrt(best / dims), result)


def centred(x: np.ndarray) -> np.ndarray:
    """uint8 (n, ...) as rows of whole numbers in -128 ... 127, float32 (n, dims)."""
    return x.reshape(len(x), -1).astype(np.float32) - 128


def squared(a: np.ndarray, b: np.ndarray, norms: np.ndarray | None = None) -> np.ndarray:
    """Squared distances, float64 (Q, N), between rows of whole numbers in -128 ... 127, float32 (Q, dims) and
    (N, dims); exact.

    norms: the squared lengths of the rows of a, float64 (Q,), where they are known already.
    """
    out = np.add.outer(_norms(a) if norms is None else norms, _norms(b))
    for i in range(0, a.shape[1], EXACT):
        product = a[:, i : i + EXACT] @ b[:, i : i + EXACT].T
        product *= 2
        out -= product
    return out


def _norms(a: np.ndarray) -> np.ndarray:
    blocks = (a[:, i : i + EXACT] for i in range(0, a.shape[1], EXACT))
    return np.stack([np.einsum("ij,ij->i", p, p) for p in blocks]).sum(0, dtype=np.float64)


def _merge(
    best: np.ndarray, known_rows: np.ndarray, d: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The k least of those known and those in d."""
    k, everyone = best.shape[1], np.arange(len(d))
    distances, names = [best], [known_rows]
    for _ in range(min(k, d.shape[1])):
        at = d.argmin(1)
        distances.append(d[everyone, at][:, None])
        names.append(rows[at][:, None])
        d[everyone, at] = np.inf
    all_d, all_n = np.concatenate(distances, 1), np.concatenate(names, 1)
    order = all_d.argsort(1, kind="stable")[:, :k]
    return np.take_along_axis(all_d, order, 1), np.take_along_axis(all_n, order, 1)


def copied(near: Nearest, train: np.ndarray) -> np.ndarray:
    """Whether each image is a third as far from its nearest as from the next other picture, or nearer: (Q,)
    of 0 or 1.

    The ratio does not fall for a mere blur, which is near to everything (Yoon et al. 2023, "Diffusion
    probabilistic models generalize when they fail to memorize").  Of the k found those are passed over that
    lie about the nearest as closely as this image does, within three times its distance: nearly the same
    picture again.  Where all k do, nothing is said to be a copy.
    """
    first, far = near.distance[:, :1], np.isfinite(near.distance)
    other = far & (_apart(near, train) > 3 * first)
    next_one = np.where(other.any(1), other.argmax(1), 0)
    second = near.distance[np.arange(len(first)), next_one]
    return (other.any(1) & (first[:, 0] <= second / 3)).astype(np.float64)


def _apart(near: Nearest, train: np.ndarray) -> np.ndarray:
    """How far the k found for an image lie from the nearest of them, (Q, k)."""
    out = np.zeros(near.distance.shape)
    for i, row in enumerate(near.row):
        images = centred(train[row])
        out[i] = np.sqrt(squared(images[:1], images)[0] / images.shape[1])
    return out


def exact(near: Nearest) -> np.ndarray:
    """Whether each image is, level by level, a training image: (Q,) of 0 or 1."""
    return (near.distance[:, 0] == 0).astype(np.float64)


def closeness(samples: Nearest, held_out: Nearest) -> np.ndarray:
    """Whether each sample is nearer to a training image than half of the held-out images are, (Q,); a half is
    the mean to expect.

    What lies as far as their median counts for as much as makes that of the held-out images one half,
    whatever ties there are: data may hold so many copies that this median is 0.
    """
    if not len(held_out.distance):
        raise Refusal(
            "samples are nearer than held-out images or not, and there is no held-out image; give some."
        )
    own, usual = samples.distance[:, 0], held_out.distance[:, 0]
    median = np.median(usual)
    level = float((usual == median).mean())
    share = (0.5 - float((usual < median).mean())) / level if level else 0.5
    return (own < median) + share * (own == median)


def grid(x: np.ndarray, levels: int = 256) -> np.ndarray:
    """Floats in [-1, 1] on the data's own grid, as uint8: only there can a sample equal a training image.
    What is nan becomes the middle."""
    step = np.round((np.clip(np.nan_to_num(x), -1, 1) + 1) / 2 * (levels - 1))
    return np.round(step * (255 / (levels - 1))).astype(np.uint8)
