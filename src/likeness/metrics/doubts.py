"""What cannot be right about numbers that look good: a sentence for a card, or nothing."""

from __future__ import annotations

import math

import numpy as np

from .card import TOO_FEW, interval, short, wilson
from .likelihood import uniform


def implausible(bits: np.ndarray, learnt: np.ndarray, levels: int) -> str:
    """What cannot be right about a likelihood, or nothing.  `learnt`: the same of training images."""
    if not len(bits):
        return ""
    if (bits < 0).any():
        return "below 0 bits: this is not the probability of an image on its grid, and must not be quoted"
    if bits.mean() > uniform(levels):
        nothing = (
            (", and so are training images: the model knows nothing yet")
            if learnt.mean() > uniform(levels)
            else ""
        )
        return f"worse than giving every image the same probability{nothing}"
    return ""


def beaten(bits: np.ndarray, learnt: np.ndarray, histogram: np.ndarray, seed: int = 0) -> str:
    """Whether held-out images (n,) cost more by the model than by a histogram for each pixel, and more than
    chance explains.

    learnt: bits/dim of training images by the model; one to which these are cheap knows them by heart, see
    overfitted().
    """
    worse, free = bits - histogram, float(histogram.mean())
    if not worse.mean() > 0 or learnt.mean() < free:
        return ""
    if len(worse) >= TOO_FEW and interval(worse, seed)[0] <= 0:
        return ""
    costs = f"{short(float(bits.mean()))} bits/dim, where a histogram for each pixel has {short(free)}"
    nothing = "and knows nothing of how pixels go together: the model has not learnt what an image looks like"
    return f"{costs} {nothing}; train longer (--images), or with a lower --rate if the loss no longer falls"


def overfitted(bits: np.ndarray, learnt: np.ndarray, seed: int = 0) -> str:
    """Whether held-out images cost over a tenth more than training images, and more than chance explains."""
    if min(len(bits), len(learnt)) < TOO_FEW or not (np.isfinite(bits).all() and np.isfinite(learnt).all()):
        return ""  # of what is not finite the card itself speaks
    held, own = float(bits.mean()), float(learnt.mean())
    if held - own > 0.1 * abs(own) and interval(bits, seed)[0] > interval(learnt, seed)[1]:
        costs = f"held-out images cost {short(held)} bits/dim, training images {short(own)}"
        return (
            f"{costs}: it has learnt its training images by heart, so train shorter (--images), or on more "
            "images"
        )
    return ""


def suspicion(samples: np.ndarray, floor: np.ndarray) -> str:
    """Whether samples copy more than held-out images happen to resemble training images, by more than chance
    explains."""
    if not len(samples):
        return ""
    usual = float(floor.mean()) if len(floor) else 0.0
    noise = math.sqrt(usual * (1 - usual) * (1 / len(samples) + 1 / len(floor))) if len(floor) else 0.0
    if samples.mean() <= usual + 3 * noise + 1e-12:
        return ""
    beside = f" ({usual:.1%} of held-out images do)" if len(floor) else ""
    return (
        f"{int(samples.sum())} of {len(samples)} samples look like copies of training images{beside}: the "
        "model may have memorised"
    )


EQUAL = 1e-6
"""share of the variance of real images below which samples are called equal: what a network's rounding leaves
of it is far less"""


ALIKE, SOME = 0.3, 256
"""correlation of neighbouring pixels, at least, of images that are none of noise themselves; and images of
each side that are looked at, which are enough and take no memory"""
EVEN = 3.5
"""kurtosis of the differences of neighbouring pixels below which an image has neither edges nor even areas;
of Gaussian noise, filtered or not, it is 3, of photographs 5 to 13"""


def noisy(x: np.ndarray, real: np.ndarray) -> str:
    """Whether samples, uint8 (n, C, H, W), are noise and real images are not: a network that has seen real
    images alone may find noise as good as any."""
    if x.dtype != np.uint8 or x.ndim != 4 or min(x.shape[2:]) < 4 or not (len(x) and len(real)):
        return ""
    x, real = x[:SOME], real[:SOME]
    here, there = alike(x), alike(real)
    if there >= ALIKE and here <= there / 2:
        said = f"neighbouring pixels correlate by {short(here)}, those of real images by {short(there)}"
    else:
        flat, sharp = peaked(x), peaked(real)
        if np.median(flat) > EVEN or np.quantile(flat, 0.95) > np.quantile(sharp, 0.05):
            return ""
        said = (
            "they have neither edges nor even areas (differences of neighbouring pixels have kurtosis "
            f"{short(float(np.median(flat)))}, those of real images {short(float(np.median(sharp)))})"
        )
    return (
        f"samples are mostly noise: {said}; a network that learnt from real images cannot judge such, so "
        "look at them, and train longer"
    )


def peaked(x: np.ndarray) -> np.ndarray:
    """Kurtosis of the differences of pixels beside and above each other, of each of the images (n, C, H, W),
    (n,); infinite of one without differences.  Sparse details make it large (Field 1987)."""
    x = x.astype(np.float64)
    apart = [np.diff(x, axis=axis).reshape(len(x), -1) for axis in (2, 3)]
    square = np.square(np.concatenate(apart, 1))
    even = square.mean(1) == 0
    return np.where(even, np.inf, np.square(square).mean(1) / np.where(even, 1, square.mean(1)) ** 2)


def alike(x: np.ndarray) -> float:
    """Correlation of pixels beside and above each other, within images (n, C, H, W)."""
    x = x.astype(np.float64)
    apart = (np.square(np.diff(x, axis=2)).mean() + np.square(np.diff(x, axis=3)).mean()) / 2
    within = x.var((2, 3)).mean()
    return float(1 - apart / (2 * within)) if within else 1.0


def collapsed(samples: np.ndarray, real: np.ndarray) -> str:
    """Whether samples (n, ...) are all equal, or so nearly that an interval says nothing of a model; as
    pixels, points or features."""
    a, b = (_variance(x) for x in (samples, real))
    if not len(samples) > 1 or not a <= EQUAL * b:
        return ""
    nearly = "nearly " if a else ""
    return (
        f"all {len(samples):,} samples are {nearly}equal, so that intervals have "
        f"{'next to ' if a else ''}no width: the model has collapsed"
    )


def _variance(x: np.ndarray) -> float:
    """Of all numbers of x (n, ...) together, in pieces of at most 32 MB; nan of nothing."""
    flat = x.reshape(len(x), math.prod(x.shape[1:]))
    if not flat.size:
        return math.nan
    mean, step = flat.mean(0, dtype=np.float64), max(1, 2**22 // flat.shape[1])
    return sum(float(((flat[i : i + step] - mean) ** 2).sum()) for i in range(0, len(flat), step)) / len(flat)


def repeated(samples: np.ndarray, real: np.ndarray) -> str:
    """Whether fewer than half of the samples (n, ...) are different ones, where real images are not like
    that."""
    here, there = (len({x.tobytes() for x in side}) / max(1, len(side)) for side in (samples, real))
    if not len(samples) or here >= 0.5 or there <= 2 * here:
        return ""
    return (
        f"the {len(samples):,} samples are {round(here * len(samples)):,} different ones: their nearest "
        "neighbours are copies of them"
    )


def too_near(samples: np.ndarray, floor: np.ndarray) -> str:
    """Whether samples lie so much nearer to training images than held-out images do that a blur does not
    explain it."""
    if min(len(samples), len(floor)) < TOO_FEW:
        return ""
    typical, usual = float(np.median(samples)), float(np.median(floor))
    if wilson(float((samples < usual).sum()), len(samples))[0] <= 0.75 or typical > usual / 3:
        return ""
    return (
        f"samples lie {short(typical)} levels from a training image, held-out images {short(usual)}: the "
        "model may have memorised"
    )
