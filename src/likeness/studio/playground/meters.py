"""How far generated points are from real ones.

Kullback-Leibler and Jensen-Shannon divergences of the masses of cells, in bits:

    KL(p | q) = sum_i p_i log2(p_i / q_i),    JS = KL(p | m) / 2 + KL(q | m) / 2,   m = (p + q) / 2,   0 <=
    JS <= 1

Cells of the square and one for all that lies outside it: their masses add up to 1.  A KL between counts is
infinite where a cell has none; masses() of n points therefore shares `alpha` points out among all cells.
Neither is 0 between two finite sets of one law: js_floor() is what two sets of n real points have.
"""

from __future__ import annotations

import numpy as np

from ...metrics import modes as known_modes
from ...metrics.twosample import sliced_wasserstein
from .points import REACH

CELLS = 20
"""a side of the square that JS and KL are of"""
DIRECTIONS = 32
"""of the sliced Wasserstein-2 distance"""


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p | q) in bits, of masses that add up to 1; infinite where q is 0 and p is not."""
    there = p > 0
    with np.errstate(divide="ignore"):
        return float((p[there] * np.log2(p[there] / q[there])).sum())


def js(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence in bits, from 0 to 1."""
    m = (p + q) / 2
    return max(0.0, (kl(p, m) + kl(q, m)) / 2)


def masses(x: np.ndarray, alpha: float = 0.0, cells: int = CELLS, reach: float = REACH) -> np.ndarray:
    """Shares of points x (n, 2) in each of cells^2 squares and, last, outside: (cells^2 + 1,), 1 in all.

    alpha: points that are shared out equally besides."""
    at = np.floor((np.nan_to_num(x, nan=9e9) / reach + 1) * cells / 2)
    inside = ((at >= 0) & (at < cells)).all(1)
    flat = np.where(inside, at[:, 1].clip(0, cells - 1) * cells + at[:, 0].clip(0, cells - 1), cells * cells)
    counts = np.bincount(flat.astype(np.int64), minlength=cells * cells + 1) + alpha / (cells * cells + 1)
    return np.asarray(counts / counts.sum())


def js_floor(real: np.ndarray, n: int) -> float:
    """JS of two sets of n of these points: what even a perfect model has."""
    order = np.random.default_rng(0).permutation(len(real))
    n = min(n, len(real) // 2)
    return js(masses(real[order[:n]]), masses(real[order[n : 2 * n]]))


def sliced_w2(x: np.ndarray, y: np.ndarray) -> float:
    """Sliced Wasserstein-2 distance of points (n, 2) and (m, 2), as the library's own yardstick has it
    (metrics/twosample.py)."""
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan")
    return float(np.sqrt(sliced_wasserstein(x, y, DIRECTIONS).mean()))


def modes(x: np.ndarray, centres: np.ndarray, sigma: float) -> tuple[int, float]:
    """Modes hit by points x (n, 2), and the share of these that lies within three sigma of one."""
    found = known_modes.of_points(x, centres, sigma)
    counted = known_modes.counts(found, len(centres))
    return int(known_modes.covered(counted)), float((found != known_modes.NONE).mean())
