"""Maximum mean discrepancy of two sets of features: is there a function whose mean differs between them?

All values are *squared* discrepancies, by the unbiased U-statistic (Gretton et al. 2012, lemma 6): 0 on
average for equal laws at any n, and therefore below 0 half of the time.  Leaving in each image's comparison
with itself (the V-statistic) would add about the kernel's spread over n.  Gram matrices are looked at in
blocks of 1024 x 1024 and never held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ..core import Refusal
from .card import Z
from .moments import checked

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""float64 (a, d), (b, d) -> (a, b)"""
BLOCK = 1024
"""rows of a block; its Gram matrix takes 8 MB"""
SUBSET = 1000
"""images whose distances make up a median"""


class Discrepancy(NamedTuple):
    value: float
    """squared"""
    error: float
    """standard error over draws of both sets"""

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval, by the normal law."""
        return self.value - Z * self.error

    @property
    def high(self) -> float:
        return self.value + Z * self.error


def kid(x: np.ndarray, y: np.ndarray) -> Discrepancy:
    """Kernel inception distance of features x (n, d) and y (m, d), with the kernel (x.y / d + 1)^3 (Binkowski
    et al. 2018, section 3).

    The paper averages over random subsets of 1000 and reports their spread; this is the estimate that they
    scatter about, from all pairs, and the spread is that of the estimate itself (`discrepancy`).  Refusal
    below 2 images a side.
    """
    return discrepancy(x, y, cubic)


def mmd(x: np.ndarray, y: np.ndarray, bandwidth: float) -> Discrepancy:
    """The discrepancy of features x (n, d) and y (m, d) with a Gaussian kernel, between 0 and 2 but for its
    noise.

    bandwidth: `median_distance` of the real images, and not of both sets, or runs compared with them would
    each have a kernel of its own.
    """
    return discrepancy(x, y, gaussian(bandwidth))


def cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x.y / d + 1)^3"""
    base = x @ y.T
    base /= x.shape[1]
    base += 1
    power = base * base
    power *= base
    return power


def gaussian(bandwidth: float) -> Kernel:
    """exp(-|x - y|^2 / (2 bandwidth^2)); bandwidth in units of the features."""
    if not 0 < bandwidth < np.inf:
        raise Refusal(
            f"a Gaussian kernel has a width above 0, not {bandwidth:g}; take the median distance of real "
            "images."
        )

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        centre = y.mean(0)  # far from 0, squares would cancel
        x, y = x - centre, y - centre
        squared = np.einsum("ij,ij->i", x, x)[:, None] - 2 * x @ y.T + np.einsum("ij,ij->i", y, y)
        return np.exp(squared.clip(0) / (-2 * bandwidth**2))

    return kernel


def median_distance(features: np.ndarray, seed: int = 0) -> float:
    """The median distance of two different rows among 1000 of features (n, d), drawn by seed (Gretton et al.
    2012, section 8); 1 if all are equal."""
    from scipy.spatial.distance import pdist

    if not len(checked(features)):
        raise Refusal("a median distance is one between images, and there is none; take some.")
    rows = np.random.default_rng((seed, 0xD157)).permutation(len(features))[:SUBSET]
    apart = pdist(features[rows].astype(np.float64))
    return float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0


def discrepancy(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> Discrepancy:
    """The unbiased squared discrepancy of x (n, d) and y (m, d), and its standard error.

    Leaving out one image after another (the jackknife) finds the variance of first order, and twice that of
    second order, S, which is all that remains for equal laws.  S is known from the squares of the kernel
    (Hoeffding 1948), so it is taken off once: the estimate of Sutherland 2019 up to a factor 1 + O(1/n).  The
    variance is never less than S.
    """
    _two_sides(x, y)
    xx, yy, xy = _within(x, kernel), _within(y, kernel), _between(x, y, kernel)
    jackknife = 4 * ((xx.rows - xy.rows).var(ddof=1) / len(x) + (yy.rows - xy.columns).var(ddof=1) / len(y))
    second = 2 * xx.noise / len(x) ** 2 + 2 * yy.noise / len(y) ** 2 + 4 * xy.noise / (len(x) * len(y))
    return Discrepancy(xx.mean + yy.mean - 2 * xy.mean, float(np.sqrt(max(jackknife - second, second))))


def _two_sides(x: np.ndarray, y: np.ndarray) -> None:
    if min(len(checked(x)), len(checked(y))) < 2 or x.shape[1] != y.shape[1] or not x.shape[1]:
        raise Refusal(
            f"a discrepancy needs at least 2 images a side and the same features, not {x.shape} against "
            f"{y.shape}; give such."
        )


class _Means(NamedTuple):
    """Of a kernel over all pairs from two sets, or over pairs of different images of one."""

    rows: np.ndarray
    columns: np.ndarray
    square: float

    @property
    def mean(self) -> float:
        return float(self.rows.mean())

    @property
    def noise(self) -> float:
        """Mean square of what rows and columns do not explain: of the kernel centred in both arguments."""
        return max(
            0.0,
            self.square
            - float(self.rows @ self.rows / len(self.rows) + self.columns @ self.columns / len(self.columns))
            + self.mean**2,
        )


def _within(x: np.ndarray, kernel: Kernel) -> _Means:
    n, square = len(x), 0.0
    rows = np.zeros(n)
    for i, j, gram in _triangle(x, kernel):
        rows[i] += gram.sum(1)
        square += np.vdot(gram, gram) * (1 if i == j else 2)
        if i != j:
            rows[j] += gram.sum(0)
    rows /= n - 1
    return _Means(rows, rows, square / (n * (n - 1)))


def _between(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> _Means:
    rows, columns, square = np.zeros(len(x)), np.zeros(len(y)), 0.0
    for i in _blocks(x):
        for j in _blocks(y):
            gram = kernel(x[i].astype(np.float64), y[j].astype(np.float64))
            rows[i] += gram.sum(1)
            columns[j] += gram.sum(0)
            square += np.vdot(gram, gram)
    return _Means(rows / len(y), columns / len(x), square / (len(x) * len(y)))


def _triangle(x: np.ndarray, kernel: Kernel) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """The blocks of the Gram matrix on and above its diagonal, which is set to 0."""
    for i in _blocks(x):
        for j in _blocks(x):
            if i.start <= j.start:
                gram = kernel(x[i].astype(np.float64), x[j].astype(np.float64))
                if i == j:
                    np.fill_diagonal(gram, 0)
                yield i, j, gram


def _blocks(x: np.ndarray) -> list[slice]:
    return [slice(i, i + BLOCK) for i in range(0, len(x), BLOCK)]


def p_value(x: np.ndarray, y: np.ndarray, kernel: Kernel, seed: int = 0, permutations: int = 200) -> float:
    """Share of random relabellings, drawn by seed, that set x (n, d) and y (m, d) as far apart as they are:
    the honest floor.

    Exact at any n and for any law, unlike an interval: under equal laws p <= a has probability a at most,
    where the labelling given counts as one more (Phipson & Smyth 2010).  Its least value is 1 / (permutations
    + 1).
    """
    _two_sides(x, y)
    rng, n, m = np.random.default_rng((seed, 0x9E27)), len(x), len(y)
    inputs = np.arange(n + m) < n
    labels = np.stack([inputs] + [rng.permutation(inputs) for _ in range(permutations)], 1).astype(np.float64)
    in_x, of_x, total = _sums(np.concatenate([x, y]), labels, kernel)
    across, in_y = of_x - in_x, total - 2 * of_x + in_x
    values = in_x / (n * (n - 1)) + in_y / (m * (m - 1)) - 2 * across / (n * m)
    rounding = 1e-12 * abs(total) / (n + m) ** 2
    return float((values >= values[0] - rounding).mean())


def _sums(both: np.ndarray, labels: np.ndarray, kernel: Kernel) -> tuple[np.ndarray, np.ndarray, float]:
    """Sums of the kernel over pairs of different images of `both`: z.K z and z.K 1 for each column z of
    labels, and 1.K 1."""
    inside, rows = np.zeros(labels.shape[1]), np.zeros(len(both))
    for i, j, gram in _triangle(both, kernel):
        inside += np.einsum("ik,ik->k", labels[i], gram @ labels[j]) * (1 if i == j else 2)
        rows[i] += gram.sum(1)
        if i != j:
            rows[j] += gram.sum(0)
    return inside, rows @ labels, float(rows.sum())
