"""Do two sets of images come from one law?  A classifier that tries to tell them apart, and distances along
random directions."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from ..core import Refusal
from .card import wilson
from .manifold import as_many, comparable, nearest

CHUNK = 2**23
"""values of a block in memory"""


class TwoSample(NamedTuple):
    """What a classifier said of each image while it was held out: n real images, then n samples."""

    score: np.ndarray
    """(2n,): above 0 where it takes the image for a sample"""
    fake: np.ndarray
    """(2n,) of 0 or 1: what the image is"""

    @property
    def correct(self) -> np.ndarray:
        """(2n,): 1 where the classifier is right, and a half where it says nothing; the mean is its accuracy,
        0.5 for equal laws."""
        return np.where(self.score == 0, 0.5, (self.score > 0) == (self.fake == 1))

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the accuracy, as of n judgements and not 2n.

        Each pair of images meets twice, one learnt from and one judged, then the other way round: under equal
        laws the accuracy varies up to twice as much as that of 2n coins (1.2 to 1.7 times, in simulations of
        both classifiers).
        """
        n = len(self.fake) // 2
        return wilson(self.accuracy * n, n)

    @property
    def p(self) -> float:
        """The chance of that accuracy or more under equal laws: that of n coins, for the same reason
        (Lopez-Paz & Oquab 2017, section 3)."""
        from scipy.stats import binom

        n = len(self.fake) // 2
        return float(binom.sf(np.ceil(self.accuracy * n - 1e-9) - 1, n, 0.5))


# Classifier two-sample test


def classifier_test(
    real: np.ndarray,
    samples: np.ndarray,
    by: Literal["line", "neighbours"] = "line",
    folds: int = 5,
    seed: int = 0,
) -> TwoSample:
    """Classifier two-sample test on features (n, d) and (m, d) (Lopez-Paz & Oquab 2017), cross-validated.

    Each image is judged by a classifier, and features are standardised by statistics, that have not seen it.
    A line is a logistic regression with a small ridge; neighbours vote as in the paper, about as many as the
    root of the number of training images.  The larger side is cut at random, so that guessing is right half
    the time.
    """
    comparable(real, samples)
    n = min(len(real), len(samples))
    if n < 2 * folds:
        raise Refusal(
            f"a classifier cannot be tested in {folds} folds on {n} images of each side; take at least "
            f"{2 * folds}."
        )
    x = np.concatenate([as_many(real, n, seed), as_many(samples, n, seed)]).astype(np.float64)
    fake, fold, score = np.repeat([0.0, 1.0], n), folds_of(n, folds, seed), np.zeros(2 * n)
    for f in range(folds):
        here, judge = fold == f, _line if by == "line" else _votes
        centre, scale = x[~here].mean(0), x[~here].std(0)
        standard = (x - centre) / np.where(scale > 0, scale, 1)
        score[here] = judge(standard[~here], fake[~here], standard[here])
    return TwoSample(score, fake)


def folds_of(n: int, folds: int, seed: int) -> np.ndarray:
    """The fold in which each of n real images, then n samples, is held out, (2n,): each holds as many of one
    as of the other."""
    rng = np.random.default_rng((seed, 0xF01D))
    return np.concatenate([rng.permutation(np.arange(n) % folds) for _ in range(2)])


def _line(x: np.ndarray, y: np.ndarray, new: np.ndarray, ridge: float = 1.0) -> np.ndarray:
    """Log odds of y = 1 for new images, by logistic regression; the constant is not penalised."""
    from scipy.optimize import minimize
    from scipy.special import expit

    def cost(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ w[1:] + w[0]
        off = expit(z) - y
        return float((np.logaddexp(0, z) - y * z).sum() + ridge / 2 * w[1:] @ w[1:]), np.concatenate(
            [[off.sum()], x.T @ off + ridge * w[1:]]
        )

    w = minimize(cost, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options=dict(maxiter=500)).x
    return np.asarray(new @ w[1:] + w[0])


def _votes(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Share of y = 1 among the nearest, an odd number of them, above one half."""
    return y[nearest(new, x, int(len(x) ** 0.5) // 2 * 2 + 1).row].mean(1) - 0.5


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The chance that an image with label 1 scores above one with label 0, equal scores counting one half;
    scores and labels (n,).

    The area under the receiver operating characteristic, by ranks (Mann & Whitney 1947).
    """
    from scipy.stats import rankdata

    if np.ndim(scores) != 1 or np.shape(scores) != np.shape(labels):
        raise Refusal(
            f"AUROC takes a score and a label of each image, not {np.shape(scores)} and {np.shape(labels)}; "
            "give one of each an image."
        )
    one = np.asarray(labels) == 1
    ones, zeros = int(one.sum()), int((~one).sum())
    lost = int(np.isnan(scores).sum())
    if not ones or not zeros or lost:
        raise Refusal(
            f"AUROC compares two kinds of images by their scores; there are {ones} and {zeros}, and {lost} "
            "scores are not numbers."
        )
    return float((rankdata(scores)[one].sum() - ones * (ones + 1) / 2) / (ones * zeros))


# Distance along random directions


def sliced_wasserstein(x: np.ndarray, y: np.ndarray, directions: int = 512, seed: int = 0) -> np.ndarray:
    """Squared Wasserstein-2 distances of x (n, ...) and y (m, ...) along random unit directions,
    (directions,).

    The root of their mean is the sliced Wasserstein-2 distance (Bonneel et al. 2015, section 3), in the unit
    of the pixels: adding a fixed picture to all images moves them by its root mean square.  For n and m that
    differ the quantile functions, which are steps, are integrated exactly.  It is not 0 between two sets of
    one law: compare it with real against real at the same n and m.
    """
    a, b = x.reshape(len(x), math.prod(x.shape[1:])), y.reshape(len(y), math.prod(y.shape[1:]))
    comparable(a, b)
    rng, dims, out = np.random.default_rng((seed, 0x51CE)), a.shape[1], []
    chunk = max(1, CHUNK // max(dims, len(a) + len(b)))
    for i in range(0, directions, chunk):
        theta = rng.standard_normal((min(chunk, directions - i), dims))
        theta /= np.linalg.norm(theta, axis=1, keepdims=True)
        out.append(_transport(np.sort(_along(a, theta)), np.sort(_along(b, theta))))
    return np.concatenate(out)


def _along(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """(directions, n)"""
    size = max(1, CHUNK // x.shape[1])
    return np.hstack([theta @ x[i : i + size].astype(np.float64).T for i in range(0, len(x), size)])


def _transport(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integral over u in (0, 1) of the squared difference of quantile functions, for rows a (L, n) and b (L,
    m) that rise.

    In units of 1 / nm both are constant between whole numbers, of which the multiples of n and of m are the
    places of their steps.
    """
    n, m = a.shape[1], b.shape[1]
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    return np.asarray(
        (a[:, (ends - 1) // m] - b[:, (ends - 1) // n]) ** 2 @ (np.diff(ends, prepend=0) / (n * m))
    )
