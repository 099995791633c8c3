"""How far the probabilities of a classifier may be trusted, and when it should rather say that it cannot
tell.

Probabilities are (n, C), labels (n,) the true classes.  Temperatures and thresholds are fitted on a
calibration
split: images on which neither the classifier was trained, nor anything will be scored.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core import Refusal
from .classes import checked
from .twosample import auroc

CANNOT_TELL = -1
BINS = 15
"""of the calibration error"""
STEPS, STARTS = 40, (5, 10, 20, 40)
"""`abstain` tries bands that leave 1/40, 2/40 ... of the calibration images decided, starting at an eighth, a
quarter, a half and all"""


class Reliability(NamedTuple):
    """The reliability curve, a bin an entry, by rising confidence."""

    confidence: np.ndarray
    """mean probability of the class that was chosen"""
    accuracy: np.ndarray
    """share of these choices that are right"""
    n: np.ndarray


class Calibration(NamedTuple):
    ece: float
    """expected calibration error, 0 to 1"""
    chance: float
    """its mean for a classifier whose every probability is right, at this n: bins are noisy, so
    it is not 0"""
    curve: Reliability


class Familiarity(NamedTuple):
    auroc: float
    """the chance that an image of the known kind scores above one of another"""
    accepted: np.ndarray
    """bool (m,): other images that pass where 95 % of the known kind do; the mean is the "FPR at 95 % TPR" """  # noqa: E501


class Band(NamedTuple):
    threshold: float
    """it decides where the probability of the chosen class is above this: 0 for always, inf for never"""
    decided: float
    """share of the calibration images that it decides"""
    wrong: float
    """share of these that it gets wrong; nan if there are none"""


# Scores, one an image


def accuracy(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 where the most likely class is the true one, else 0: (n,)."""
    return (checked(p).argmax(1) == _fitting(p, labels)).astype(np.float64)


def log_loss(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of the true class in nats, (n,); infinite where it was called impossible."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(checked(p)[np.arange(len(p)), _fitting(p, labels)]))


def brier(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared error of the probabilities, summed over classes, (n,): 0 to 2 (Brier 1950)."""
    return np.asarray(((checked(p) - np.eye(np.shape(p)[1])[_fitting(p, labels)]) ** 2).sum(1))


def _fitting(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    y = np.asarray(labels)
    if (
        y.shape != (len(p),)
        or not np.issubdtype(y.dtype, np.integer)
        or (len(y) and (y.min() < 0 or y.max() >= np.shape(p)[1]))
    ):
        raise Refusal(
            f"labels should be {len(p)} whole numbers from 0 to {np.shape(p)[1] - 1}, one an image; give "
            "the true classes."
        )
    return y


# Calibration


def calibration(
    p: np.ndarray, labels: np.ndarray, bins: int = BINS, seed: int = 0, repeats: int = 200
) -> Calibration:
    """Expected calibration error: mean over images of |accuracy - confidence| of their bin (Guo et al. 2017,
    section 2).

    Bins hold equally many images (Nguyen & O'Connor 2015), not equal ranges of confidence, of which most
    would be empty; images of equal confidence share one.  That of a classifier with perfect probabilities is
    found by drawing what it gets right.
    """
    # equal ones stay equal, whatever normalising has rounded
    right, confidence = accuracy(p, labels), checked(p).max(1).round(12)
    bin_of = np.searchsorted(
        np.unique(np.quantile(confidence, np.arange(1, bins) / bins)), confidence, side="right"
    )
    curve = _curve(confidence, right, bin_of)
    draws = np.random.default_rng((seed, 0xECE)).random((repeats, len(p))) < confidence
    return Calibration(
        _gap(curve), float(np.mean([_gap(_curve(confidence, draw, bin_of)) for draw in draws])), curve
    )


def bins_note(curve: Reliability, bins: int = BINS) -> str:
    """What must stand on a card of the calibration error: its bins."""
    fewer = f", of which {len(curve.n)} differ" if len(curve.n) < bins else ""
    return (
        f"{bins} bins of equal mass (Nguyen & O'Connor 2015){fewer}; that of bins of equal width, as in Guo "
        "et al. 2017, is another number"
    )


def _curve(confidence: np.ndarray, right: np.ndarray, bin_of: np.ndarray) -> Reliability:
    n = np.bincount(bin_of)
    sums = [np.bincount(bin_of, weights)[n > 0] for weights in (confidence, right)]
    return Reliability(sums[0] / n[n > 0], sums[1] / n[n > 0], n[n > 0])


def _gap(curve: Reliability) -> float:
    return float(np.average(np.abs(curve.accuracy - curve.confidence), weights=curve.n))


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Class probabilities (n, C), in float64 so that none is rounded to 0.  Raises Refusal where logits are
    nan or +inf, or a whole row -inf."""
    from scipy.special import log_softmax

    z = np.asarray(logits, np.float64)
    if (
        z.ndim != 2
        or not temperature > 0
        or np.isnan(z).any()
        or not (z.max(1, initial=-np.inf) < np.inf).all()
        or (z == -np.inf).all(1).any()
    ):
        raise Refusal(
            "softmax takes logits (images, classes) that are numbers, and a temperature above 0; these, of "
            f"shape {z.shape}, are not such."
        )
    return np.asarray(np.exp(log_softmax(z / temperature, axis=1)))


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The number by which to divide logits (n, C) so that the true classes become most likely (Guo et al.
    2017, section 4.2).

    Fitted on a calibration split, between 1/100 and 100.  It changes no choice of class.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    z, rows = np.asarray(logits, np.float64), np.arange(len(logits))
    if not len(z) or not np.isfinite(z).all():
        raise Refusal(
            "a temperature is fitted to logits, (images, classes), all finite numbers; give those of a "
            "calibration split."
        )
    y = _fitting(z, labels)
    result = minimize_scalar(
        lambda t: -log_softmax(z / np.exp(t), axis=1)[rows, y].mean(),
        bounds=(-np.log(100), np.log(100)),
        method="bounded",
    )
    return float(np.exp(result.x))


# Knowing that one does not know


def out_of_distribution(known: np.ndarray, other: np.ndarray, pass_known: float = 0.95) -> Familiarity:
    """How well a score, high for familiar images, tells known ones (n,) from others (m,) (Hendrycks & Gimpel
    2017, section 2).

    The score may be the probability of the chosen class, or a log-likelihood.  Known images are the
    positives: the second figure is how many others are let in by the strictest threshold that still lets in
    95 % of the known.
    """
    area = auroc(np.concatenate([known, other]), np.repeat([1, 0], [len(known), len(other)]))
    threshold = np.sort(known)[::-1][int(np.ceil(pass_known * len(known) - 1e-9)) - 1]
    return Familiarity(area, np.asarray(other >= threshold))


def abstain(p: np.ndarray, labels: np.ndarray, error: float = 0.05, failure: float = 0.05) -> Band:
    """The narrowest band of "cannot tell" outside of which at most a share `error` of decisions is wrong.

    Guarantee: but for a chance of `failure` in the draw of the calibration images, at most `error` of the
    decisions on new images of the same law are wrong.  It holds for any classifier, calibrated or not, and
    says nothing of another law: a generator that was not among the calibration images, another share of
    fakes, JPEG.  Where so few images promise nothing, it never decides. With two classes the band is that
    between 1 - threshold and threshold.

    Learn then test (Angelopoulos et al. 2021, fixed sequence with several starts): bands are numbered
    beforehand, by the share that they decide; from each start they are made narrower for as long as an exact
    binomial test at failure / 4 excludes more errors.
    """
    from scipy.stats import binom

    confidence, wrong = checked(p).max(1), 1 - accuracy(p, labels)
    borders = [*np.sort(confidence)[::-1][np.arange(1, STEPS) * len(p) // STEPS].tolist(), 0.0]
    threshold = np.inf
    for start in STARTS:
        for border in borders[start - 1 :]:
            decided = confidence > border
            if binom.cdf(wrong[decided].sum(), decided.sum(), error) > failure / len(STARTS):
                break
            threshold = min(threshold, border)
    decided = confidence > threshold
    return Band(threshold, float(decided.mean()), float(wrong[decided].mean()) if decided.any() else np.nan)


def decide(p: np.ndarray, threshold: float) -> np.ndarray:
    """The most likely class of each image, (n,), or CANNOT_TELL where its probability is not above the
    threshold."""
    q = checked(p)
    return np.where(q.max(1) > threshold, q.argmax(1), CANNOT_TELL)
