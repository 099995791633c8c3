"""What share of samples looks real, and what share of real images is within the model's reach: balls about
neighbours.

All of it is about features, (n, d) floats, and in them about Euclidean distances, found exactly and in
blocks. Every measure is the mean of one number an image, which a card can resample.  Its interval then speaks
of the images of that one side, with the other side as it is.  What a perfect model would get is the same
measure of held-out images against other real images, at the same n.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..core import Refusal

ROWS, COLUMNS = 2048, 4096
"""sides of a block of distances: 64 MB"""
SLACK = 1e-12
"""of squared lengths: more than a product of float64 features loses to rounding"""
PAIRS = 2**22
"""values of pairs on the border of a ball that are looked at once more, in memory"""
LARGEST = float(np.finfo(np.float32).max)
"""features beyond it are of no network, and squares of squares would overflow"""


class Near(NamedTuple):
    distance: np.ndarray
    """float64 (Q, k), rising"""
    row: np.ndarray
    """int64 (Q, k): which row of the base"""


class Prdc(NamedTuple):
    precision: np.ndarray
    """(m,) of 0 or 1: is the sample inside a ball about a real image?"""
    recall: np.ndarray
    """(n,) of 0 or 1: is the real image inside a ball about a sample?"""
    density: np.ndarray
    """(m,): inside how many balls about real images, divided by k"""
    coverage: np.ndarray
    """(n,) of 0 or 1: is there a sample inside the real image's own ball?"""


# Neighbours


def nearest(queries: np.ndarray, base: np.ndarray, k: int = 1, own: np.ndarray | None = None) -> Near:
    """The k rows of base (N, d) nearest to each row of queries (Q, d); own (Q,): the row of base to leave
    out, the query itself.

    Candidates are found by |a|^2 + |b|^2 - 2ab about a common centre, in float64.  The distances themselves
    are then those of the differences, so equal features have distance 0, and a pair the same distance either
    way round.
    """
    comparable(queries, base)
    if k > len(base) - (own is not None):
        raise Refusal(
            f"{k} nearest images were asked for among {len(base)}; take more images, or a smaller k."
        )
    parts = [
        _nearest(queries[i : i + ROWS], base, k, None if own is None else own[i : i + ROWS])
        for i in range(0, len(queries), ROWS)
    ]
    return Near(np.concatenate([p.distance for p in parts]), np.concatenate([p.row for p in parts]))


def others(x: np.ndarray, k: int = 1) -> np.ndarray:
    """Distance of each row of x (n, d) to its k-th nearest other row, (n,)."""
    return nearest(x, x, k, np.arange(len(x))).distance[:, -1]


def _nearest(queries: np.ndarray, base: np.ndarray, k: int, own: np.ndarray | None) -> Near:
    everyone = np.arange(len(queries))
    best, row = np.full((len(queries), k), np.inf), np.full((len(queries), k), -1)
    for start, d in _blocks(queries, base, _centre(base)):
        if own is not None:
            here = (own >= start) & (own < start + d.shape[1])
            d[everyone[here], own[here] - start] = np.inf
        at = _least(d, k)
        all_d, all_row = np.hstack([best, np.take_along_axis(d, at, 1)]), np.hstack([row, at + start])
        keep = _least(all_d, k)
        best, row = np.take_along_axis(all_d, keep, 1), np.take_along_axis(all_row, keep, 1)
    return _measured(queries, base, row)


def _least(d: np.ndarray, k: int) -> np.ndarray:
    """Where the k least of each row are, in any order."""
    if k == 1:
        return d.argmin(1)[:, None]
    return (
        np.argpartition(d, k - 1, axis=1)[:, :k]
        if k < d.shape[1]
        else np.broadcast_to(np.arange(d.shape[1]), d.shape)
    )


def _measured(queries: np.ndarray, base: np.ndarray, row: np.ndarray) -> Near:
    a = queries.astype(np.float64)
    distance = np.stack([np.sqrt(((a - base[column]) ** 2).sum(1)) for column in row.T], 1)
    order = np.lexsort((row, distance), axis=1)
    return Near(np.take_along_axis(distance, order, 1), np.take_along_axis(row, order, 1))


def _blocks(queries: np.ndarray, base: np.ndarray, centre: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Squared distances of the queries to some rows of base after another, and the number of the first of
    these."""
    a = queries.astype(np.float64) - centre
    for j in range(0, len(base), COLUMNS):
        yield j, _above(a, base[j : j + COLUMNS].astype(np.float64) - centre)


def _above(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances (Q, N), too large by a rounding error: what is on the border of a ball never counts
    as inside."""
    d = a @ b.T
    d *= -2
    d += (1 + SLACK) * np.einsum("ij,ij->i", a, a)[:, None]
    d += (1 + SLACK) * np.einsum("ij,ij->i", b, b)
    return np.maximum(d, 0, out=d)


def _centre(x: np.ndarray) -> np.ndarray:
    """A place in the middle of the data; an outlier does not move it, and so cannot cost the others their
    digits."""
    return np.median(x[:: max(1, len(x) // 1000)], axis=0).astype(np.float64)


def comparable(a: np.ndarray, b: np.ndarray) -> None:
    """Refuse what are not features of one network."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise Refusal(
            f"features of shapes {a.shape} and {b.shape} cannot be compared; both should be (images, "
            "dimensions), from one network."
        )
    if not min(len(a), len(b)) or not a.shape[1]:
        raise Refusal("two sets of images are to be compared, and one of them is empty; take more images.")
    bad = sum(int((~(np.abs(x) <= LARGEST).all(1)).sum()) for x in ((a,) if a is b else (a, b)))
    if bad:
        raise Refusal(
            f"features of {bad} images are not finite numbers that float32 holds; look at these images, or "
            "take another network."
        )


def as_many(x: np.ndarray, n: int, seed: int) -> np.ndarray:
    """A random choice of n rows, in their order: files may be sorted by class, so the first n are not like
    the rest."""
    return (
        x if len(x) <= n else x[np.sort(np.random.default_rng((seed, 0xA5)).choice(len(x), n, replace=False))]
    )


# Fidelity and diversity


def prdc(real: np.ndarray, fake: np.ndarray, k: int = 5) -> Prdc:
    """Improved precision and recall (Kynkäänniemi et al. 2019, section 3), density and coverage (Naeem et al.
    2020, section 3).

    real (n, d), fake (m, d).  A ball reaches to the k-th nearest other image of its own side, and does not
    contain its border; but where the k nearest are copies of its centre it has no radius, and contains what
    equals that, while density counts all of these balls as k: copies of real images have density 1, however
    often they occur.  k = 5 as in Naeem et al.; Kynkäänniemi et al. take 3, whose balls are smaller: values
    of different k are not comparable. Read coverage before precision: in a weak feature space noise is
    precise, and one outlier among the real images makes a ball large enough for anything; density and
    coverage are not moved by it.
    """
    comparable(real, fake)
    if min(len(real), len(fake)) <= k:
        raise Refusal(
            f"balls about {k} neighbours need more than {k} images on each side, not {len(real)} and "
            f"{len(fake)}; take more, or a smaller k."
        )
    about_real, about_fake, centre = others(real, k), others(fake, k), _centre(real)
    hits, recall, coverage = np.zeros(len(fake)), np.zeros(len(real)), np.zeros(len(real))
    for i in range(0, len(real), ROWS):
        rows = slice(i, i + ROWS)
        for j, d in _blocks(real[rows], fake, centre):
            columns = slice(j, j + d.shape[1])
            least = d - 4 * SLACK * _squares(real[rows] - centre)[:, None]
            least -= 4 * SLACK * _squares(fake[columns] - centre)
            inside = _inside(d, least, about_real[rows, None], real[rows], fake[columns])
            hits[columns] += inside.sum(0)
            coverage[rows] = np.maximum(coverage[rows], inside.any(1))
            recall[rows] = np.maximum(
                recall[rows], _inside(d, least, about_fake[columns], real[rows], fake[columns]).any(1)
            )
    if not min(about_real.min(), about_fake.min()):
        here, there = _names(real), _names(fake)
        balls, points = (
            {n for n, radius in zip(*side) if not radius}
            for side in ((here, about_real), (there, about_fake))
        )
        hits += [k * (name in balls) for name in there]
        met = set(there)
        coverage = np.maximum(
            coverage, [not radius and name in met for name, radius in zip(here, about_real)]
        )
        recall = np.maximum(recall, [name in points for name in here])
    return Prdc((hits > 0).astype(np.float64), recall, hits / k, coverage)


def _inside(
    d: np.ndarray, least: np.ndarray, radius: np.ndarray, real: np.ndarray, fake: np.ndarray
) -> np.ndarray:
    """Which squared distances (Q, N), between `least` and d, are below radius squared: where rounding
    decides, by the differences themselves.

    Features of one picture that was looked at in two batches differ in their last digits: a ball about them
    is smaller than the slack.
    """
    limit, inside = np.broadcast_to(radius, d.shape), d < radius**2
    close = least < np.where(radius > 0, radius**2, -np.inf)
    close ^= inside
    rows, columns = np.nonzero(close) if close.any() else (np.empty(0, np.int64),) * 2
    step = max(1, PAIRS // real.shape[1])
    for i in range(0, len(rows), step):
        r, c = rows[i : i + step], columns[i : i + step]
        inside[r, c] = np.sqrt(((real[r].astype(np.float64) - fake[c]) ** 2).sum(1)) < limit[r, c]
    return inside


def _squares(x: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", x, x)


def _names(x: np.ndarray) -> list[bytes]:
    """Of rows (n, d): the same for equal ones."""
    return [row.tobytes() for row in x.astype(np.float64) + 0.0]  # -0 is 0


def expected_coverage(n: int, m: int, k: int = 5) -> float:
    """Coverage of n real images by m samples of the very same law (Naeem et al. 2020, section 3.3); about 1 -
    2^-k where n = m.

    It is the chance that not all of the k neighbours nearest to an image, among the n - 1 other and m, are
    real.
    """
    if not 0 < k < n or m < 1:
        raise Refusal(
            f"coverage by {k} neighbours is that of more than {k} real images by samples, not of {n} by "
            f"{m}; take more, or a smaller k."
        )
    i = np.arange(1, k + 1)
    return float(1 - np.prod((n - i) / (n + m - i)))


def diversity(real: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """How far apart samples (m, d) lie on average, in units of how far apart real images (n, d) do: (m,), and
    its mean is the ratio.

    1 is to be expected, less means that samples resemble each other.  The numbers are jackknife pseudo-values
    of the mean over pairs (Miller 1974), in which each image takes part m - 1 times: the spread of their mean
    is that of the ratio, with the real side as it is.
    """
    comparable(real, samples)
    if min(len(real), len(samples)) < 3:
        raise Refusal(
            f"diversity needs three images on each side, not {len(real)} and {len(samples)}; take more."
        )
    usual, m, apart = _apart(real).mean(), len(samples), _apart(samples)
    if not usual:
        raise Refusal(
            "diversity is measured in units of that of real images, and these are all equal; take other "
            "images, or another network."
        )
    return np.asarray((2 * (m - 1) * apart - m * apart.mean()) / (m - 2) / usual)


def _apart(x: np.ndarray) -> np.ndarray:
    """Mean distance of each row to all others."""
    total, centre = np.zeros(len(x)), _centre(x)
    for i in range(0, len(x), ROWS):
        for j, d in _blocks(x[i : i + ROWS], x, centre):
            same = np.arange(max(i, j), min(i + ROWS, j + COLUMNS, len(x)))
            d[same - i, same - j] = 0
            total[i : i + ROWS] += np.sqrt(d).sum(1)
    return total / (len(x) - 1)


# Copies


def authentic(train: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Whether each sample (m, d) is no copy, bool (m,): AuthPct is the share (Alaa et al. 2022, section 3.3).

    A sample is a copy if it is nearer to its nearest training image, of train (N, d), than that one is to its
    own nearest other training image.  So is many an honest one: new images of the same law are authentic as
    often as two points are not each other's nearest, 37.85 % in two dimensions, more in many.  Only the value
    of held-out images, beside which this one is to be read, tells copying (lower) from poor quality (higher).
    Give each training image once: what stands twice in the data is at distance 0 from itself, and nothing but
    an exact copy is then nearer.
    """
    result = nearest(samples, train)
    originals, which = np.unique(result.row[:, 0], return_inverse=True)
    return np.asarray(
        nearest(train[originals], train, own=originals).distance[which, 0] < result.distance[:, 0]
    )


def duplicates(samples: np.ndarray, real: np.ndarray, share: float = 0.01, seed: int = 0) -> np.ndarray:
    """Whether each sample's nearest other sample is nearer than real images' ever are but for a `share` of
    them, bool (n,).

    The limit is that quantile of distances from real images (held out) to their nearest other real image;
    `share` is therefore the mean to expect.  Distances shrink with n, so the larger side is cut to the n of
    the smaller, at random.
    """
    comparable(samples, real)
    n = min(len(samples), len(real))
    limit = np.quantile(others(as_many(real, n, seed)), share)
    return np.asarray(others(as_many(samples, n, seed)) <= limit)
