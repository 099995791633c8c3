"""What a classifier sees in samples: which classes, how evenly, how clearly.

All of it is worth what the classifier is worth: read each measure beside that of held-out images, by the same
classifier. A weak one is sure of noise too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core import Refusal


class Modes(NamedTuple):
    counts: np.ndarray
    """(C,): how many images of each class"""
    missing: tuple[int, ...]
    """the classes without any"""

    @property
    def share_missing(self) -> float:
        return len(self.missing) / len(self.counts)


class Gap(NamedTuple):
    value: float
    """0 where the shares of all classes agree, 1 where no class occurs on both sides"""
    chance: float
    """its mean, if both sides were drawn from the same law"""
    limit: float
    """exceeded by chance in 5 % of such draws"""


def checked(p: np.ndarray) -> np.ndarray:
    """Class probabilities (n, C) as float64, or a refusal of what are none."""
    q = np.asarray(p, np.float64)
    if (
        q.ndim != 2
        or not len(q)
        or not np.isfinite(q).all()
        or (q < 0).any()
        or (np.abs(q.sum(1) - 1) > 1e-3).any()
    ):
        raise Refusal(
            "class probabilities should be (images, classes), none negative, with sum 1; these, of shape "
            f"{q.shape}, are not: give softmax(logits)."
        )
    return q / q.sum(1, keepdims=True)


def inception_score(p: np.ndarray, axis: int = 0) -> np.ndarray:
    """exp of the mean divergence of class probabilities p (n, C) from their mean (Salimans et al. 2016,
    section 4): from 1 to C.

    Of all images at once, not the mean over ten splits of the original code, which depends on the number of
    splits (Barratt & Sharma 2018).  It looks at no real image, and so cannot see copies, nor classes without
    variety.  `axis` is that of the images, and classes are the last: resamples (repeats, n, C) are scored
    with axis=1.  Raises Refusal for what are no probabilities.
    """
    from scipy.special import entr

    shape = np.shape(p)
    if len(shape) < 2:
        raise Refusal(
            f"class probabilities should be (images, classes), and these are of shape {shape}: give "
            "softmax(logits)."
        )
    q = checked(np.asarray(p, np.float64).reshape(-1, shape[-1])).reshape(shape)
    return np.asarray(np.exp(entr(q.mean(axis)).sum(-1) - entr(q).sum(-1).mean(axis)))


def confident(p: np.ndarray, least: float = 0.9) -> np.ndarray:
    """Whether the most likely class has more than that probability, bool (n,)."""
    return np.asarray(checked(p).max(1) > least)


def modes(labels: np.ndarray, classes: int) -> Modes:
    """How many images there are of each of the classes 0 ... classes-1, given the class of each, (n,)."""
    counts = _counts(labels, classes)
    return Modes(counts, tuple(np.flatnonzero(counts == 0).tolist()))


def class_gap(labels: np.ndarray, real: np.ndarray, classes: int, seed: int = 0, repeats: int = 2000) -> Gap:
    """Total variation distance between the shares of classes among samples, labels (n,), and among real
    images, real (m,).

    Small sets differ by chance.  How much is found by drawing both sides, at their sizes, from the shares of
    the two together.
    """
    a, b = _counts(labels, classes), _counts(real, classes)
    rng, pooled = np.random.default_rng((seed, 0x6A9)), (a + b) / (a + b).sum()
    draws = _variation(rng.multinomial(a.sum(), pooled, repeats), rng.multinomial(b.sum(), pooled, repeats))
    return Gap(float(_variation(a, b)), float(draws.mean()), float(np.quantile(draws, 0.95)))


def _variation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(a / a.sum(-1, keepdims=True) - b / b.sum(-1, keepdims=True)).sum(-1) / 2)


def _counts(labels: np.ndarray, classes: int) -> np.ndarray:
    y = np.asarray(labels)
    if (
        not y.size
        or y.ndim != 1
        or not np.issubdtype(y.dtype, np.integer)
        or y.min() < 0
        or y.max() >= classes
    ):
        raise Refusal(
            f"labels should be whole numbers from 0 to {classes - 1}, one an image, and at least one; give "
            "the classes that a classifier says."
        )
    return np.bincount(y, minlength=classes)
