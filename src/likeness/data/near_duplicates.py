"""Copies and near copies: resized, recompressed or slightly retouched versions of one picture.

Two images are near copies if their 64-bit DCT hashes (Zauner 2010, "Implementation and Benchmarking of
Perceptual Image Hash Functions", section 3.2.1) differ in at most 6 bits, and their 16x16 versions then
differ, as a root mean square, by at most a fifth of their own standard deviation.  The hash alone would call
many digits alike, and comparing all pixels would miss a copy that was once smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from .pixels import at_once

BITS, SHARE = 6, 0.2
Rows = npt.NDArray[np.int64]
Notify = Callable[[str, float], None]
"""of a search: what is being done, and what share of it is done, 0 to 1"""
SIDE, KEPT, COARSE, BANDS, CROWD = 32, 8, 16, 4, 64


def exact_groups(hashes: np.ndarray) -> list[np.ndarray]:
    """Rows that have the same hash, a group of two or more each; the largest first."""
    order = np.argsort(hashes, kind="stable")
    return _largest_first(np.split(order, np.flatnonzero(np.diff(hashes[order])) + 1))


def near_groups(x: np.ndarray, hashes: np.ndarray, notify: Notify | None = None) -> list[np.ndarray]:
    """Rows of x, uint8 (N, C, S, S), linked by near copies that are not exact ones; the largest group first.

    Pairs are found by agreeing in one of four bands of 16 bits: none that differs in 3 bits or less is
    missed, and of those that differ in 6 two in five are.  Of a crowd that agrees in a band each is compared
    with the next 64, so among very similar images more are.
    """
    notify = notify or (lambda part, share: None)
    distinct = np.unique(hashes, return_index=True)[1]
    codes = dct_hash(x, distinct, lambda share: notify("hashing images", share))
    parent, coarse = np.arange(len(distinct)), Coarse(x, distinct)
    for share, a, b in _candidates(codes):
        notify("comparing images with like hashes", share)
        apart = _tops(parent, a) != _tops(parent, b)
        a, b = a[apart], b[apart]
        alike = coarse.alike(a, b)
        for i, j in zip(a[alike], b[alike]):
            parent[_top(parent, int(i))] = _top(parent, int(j))
    tops = _tops(parent, np.arange(len(parent)))
    order = np.argsort(tops, kind="stable")
    return _largest_first([distinct[g] for g in np.split(order, np.flatnonzero(np.diff(tops[order])) + 1)])


def _largest_first(groups: list[np.ndarray]) -> list[np.ndarray]:
    return sorted((g for g in groups if len(g) > 1), key=lambda g: (-len(g), int(g.min())))


def _top(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def _tops(parent: Rows, i: Rows) -> Rows:
    """_top of each of i."""
    up = parent[i]
    while (up != i).any():
        i, up = up, parent[up]
    return up


def dct_hash(
    x: np.ndarray, rows: np.ndarray, progress: Callable[[float], None] = lambda share: None
) -> np.ndarray:
    """uint64 of each row: which of the 64 lowest frequencies of its 32x32 grey version lie above their
    median."""
    grid = np.arange(SIDE)
    cosine = np.cos(np.pi / SIDE * (grid + 0.5) * np.arange(KEPT)[:, None])
    down = (cosine @ _shrink(x.shape[2], SIDE)).astype(np.float32)
    out, step = np.empty(len(rows), np.uint64), at_once(x)
    for i in range(0, len(rows), step):
        low = (down @ x[rows[i : i + step]].mean(1, dtype=np.float32) @ down.T).reshape(-1, KEPT * KEPT)
        out[i : i + step] = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1).view(np.uint64)[
            :, 0
        ]
        progress(min(1.0, (i + step) / len(rows)))
    return out


def _shrink(size: int, to: int) -> np.ndarray:
    """(to, size): each of `to` equal stretches as an average of the pixels that it covers."""
    edges, pixels = np.linspace(0, size, to + 1), np.arange(size)
    cover = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(cover, 0, None) * (to / size)


def _candidates(codes: np.ndarray) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Pairs that differ in at most BITS bits, with the share of the search that lies behind: sorting by each
    band brings together those that agree in it."""
    for band in range(BANDS):
        part = (codes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.lexsort((codes, part))
        for step in range(1, CROWD + 1):
            a, b = order[:-step], order[step:]
            close = part[a] == part[b]
            if not close.any():
                break
            close[close] = np.bitwise_count(codes[a[close]] ^ codes[b[close]]) <= BITS
            yield (band + (step - 1) / CROWD) / BANDS, a[close], b[close]


class Coarse:
    """16x16 versions of pictures, each made once, when it is first compared: most never are."""

    def __init__(self, x: np.ndarray, rows: np.ndarray):
        self.x, self.rows, self.down = x, rows, _shrink(x.shape[2], COARSE).astype(np.float32)
        self.made = np.zeros(len(rows), bool)
        self.small = np.empty((len(rows), x.shape[1] * COARSE**2), np.float32)
        self.deviation = np.empty(len(rows), np.float32)

    def alike(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """bool of each pair of indices into rows: do the pictures agree, measured by how much they vary?"""
        both = np.unique(np.concatenate([a, b]))
        self.make(both[~self.made[both]])
        out, step = np.zeros(len(a), bool), at_once(self.small)
        for i in range(0, len(a), step):
            p, q = a[i : i + step], b[i : i + step]
            apart = np.sqrt(((self.small[p] - self.small[q]) ** 2).mean(1))
            out[i : i + step] = apart <= SHARE * np.minimum(self.deviation[p], self.deviation[q])
        return out

    def make(self, which: np.ndarray) -> None:
        step = at_once(self.x)
        for i in range(0, len(which), step):
            part = which[i : i + step]
            self.small[part] = (self.down @ self.x[self.rows[part]].astype(np.float32) @ self.down.T).reshape(
                len(part), -1
            )
            self.deviation[part] = self.small[part].std(1)
        self.made[which] = True
