"""What features know of classes that they were not told: by nearest neighbours, and by a linear map.

Features (n, d) of training images with labels (n,) are asked about others (m, d).  Nothing here has seen the
latter, nor chooses anything by them.  An accuracy means nothing alone: raw pixels have one, a network that
has learnt nothing has, and so has `Patches`, which takes a second to fit and which many a training of hours
does not reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Refusal
from .manifold import comparable

K, TEMPERATURE = 20, 0.07
"""neighbours that vote, and by how much nearer ones count more (Wu et al., "Unsupervised Feature Learning via
Non-Parametric Instance Discrimination", 2018, section 3.4, who take 200 of a million; Caron et al. 2021,
section 4.1)"""
CHUNK = 2**23
"""similarities in memory"""
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""that the linear probe chooses from"""
LEAST = 5
"""training images of a linear probe: a fifth of them chooses the penalty"""


def knn(
    train: np.ndarray, labels: np.ndarray, asked: np.ndarray, k: int = K, temperature: float = TEMPERATURE
) -> np.ndarray:
    """The class (m,) with most votes exp(cosine / temperature) among the k nearest, all features less the
    mean of the training ones.

    Of those that are as near as the k-th each counts for an equal part of what places are left: which of them
    come first says nothing. Raises Refusal for features that are not finite, and where labels do not fit.
    """
    comparable(train, asked)
    _labelled(train, labels)
    mean = train.mean(0, dtype=np.float64)
    least = 1e-12 * max(float(np.abs(x).max(initial=0)) for x in (train, asked))
    known, unknown = (unit(x - mean, least) for x in (train, asked))
    k, classes, out = min(k, len(known)), int(labels.max()) + 1, np.empty(len(unknown), np.int64)
    step = max(1, CHUNK // len(known))
    for i in range(0, len(unknown), step):
        cosine = unknown[i : i + step] @ known.T
        near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        last = np.take_along_axis(cosine, near, 1).min(1, keepdims=True)
        votes = np.zeros((len(cosine), classes))
        weight = np.exp((np.take_along_axis(cosine, near, 1).astype(np.float64) - 1) / temperature)
        np.add.at(votes, (np.arange(len(cosine))[:, None], labels[near]), weight)
        for row in np.flatnonzero((cosine >= last).sum(1) > k):
            votes[row] = _tied(cosine[row], labels, k, temperature, classes)
        out[i : i + step] = votes.argmax(1)
    return out


def _tied(cosine: np.ndarray, labels: np.ndarray, k: int, temperature: float, classes: int) -> np.ndarray:
    """Votes (classes,) where more than k cosines (N,) are among the k largest: those equal to the k-th share
    what the larger ones leave."""
    last = np.partition(cosine, -k)[-k]
    before, tied = cosine > last, cosine == last
    place = before + tied * ((k - before.sum()) / tied.sum())
    return np.bincount(
        labels, place * np.exp((cosine.astype(np.float64) - 1) / temperature), minlength=classes
    )


def _labelled(train: np.ndarray, labels: np.ndarray) -> None:
    y = np.asarray(labels)
    if y.shape != (len(train),) or not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise Refusal(
            f"features of {len(train)} images need as many labels, whole numbers from 0 on, not {y.dtype} "
            f"of shape {y.shape}; give those."
        )


def unit(x: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Rows of length one, float32; those no longer than `least` are zeros."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return (np.divide(x, length, out=np.zeros_like(x), where=length > least)).astype(np.float32)


# A linear map


class Linear(NamedTuple):
    """p(y|x) = softmax(W (x - mean) / scale + b)."""

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    """(d + 1, C): W, and b below it"""
    penalty: float

    def logits(self, x: np.ndarray) -> np.ndarray:
        """(m, C) of features (m, d).  Raises Refusal where these are not finite."""
        comparable(x, self.mean[None])
        return scaled(x, self.mean, self.scale) @ self.weight[:-1] + self.weight[-1]


def scaled(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return ((x - mean) / scale).astype(np.float32)


def linear(
    train: np.ndarray, labels: np.ndarray, classes: int, seed: int = 0, penalties: Sequence[float] = PENALTIES
) -> Linear:
    """Multinomial logistic regression on features that have mean 0 and standard deviation 1 each on the
    training images.

    The penalty is that of `penalties` which does best on a fifth of the training images; then all of them are
    used.  Raises Refusal for features that are not finite, labels that do not fit, fewer than 5 images, and
    fewer than 2 classes among them.
    """
    comparable(train, train)
    _labelled(train, labels)
    if len(train) < LEAST or len(np.unique(labels)) < 2 or labels.max() >= classes:
        there = f"{len(train)} of {len(np.unique(labels))} classes, the largest label {labels.max()}"
        raise Refusal(
            f"a linear probe of {classes} classes learns from {LEAST} labelled images or more, of 2 classes "
            f"or more; here are {there}: label more."
        )
    mean, std = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    scale = np.where(std > 1e-6 * max(std.max(), 1e-30), std, 1.0)  # a feature that never varies says nothing
    x, order = scaled(train, mean, scale), np.random.default_rng((seed, 0x11EA)).permutation(len(train))
    choosing, fitting = np.split(order, [len(order) // 5])
    best, fewest, weight = penalties[-1], np.inf, None
    # each starts where the stronger one has ended
    for penalty in sorted(penalties, reverse=True) if len(penalties) > 1 else ():
        weight = logistic(x[fitting], labels[fitting], classes, penalty, weight)
        errors = ((x[choosing] @ weight[:-1] + weight[-1]).argmax(1) != labels[choosing]).mean()
        if errors < fewest:
            best, fewest, start = penalty, errors, weight
    return Linear(
        mean, scale, logistic(x, labels, classes, best, start if weight is not None else None), best
    )


def logistic(
    x: np.ndarray,
    labels: np.ndarray,
    classes: int,
    penalty: float,
    start: np.ndarray | None = None,
    exact: float = 1e-3,
) -> np.ndarray:
    """(d + 1, C) at the least of mean -log p(y|x) + penalty / 2 ||W||^2, where no slope is steeper than
    `exact`; b is not penalised."""
    from scipy.optimize import minimize
    from scipy.special import logsumexp, softmax

    n, d = x.shape
    truth = np.zeros((n, classes), np.float32)
    truth[np.arange(n), labels] = 1

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(d + 1, classes)
        logits = (x @ w[:-1].astype(x.dtype)).astype(np.float64) + w[-1]
        value = (logsumexp(logits, 1) - logits[np.arange(n), labels]).mean() + penalty / 2 * np.square(
            w[:-1]
        ).sum()
        wrong = (softmax(logits, 1) - truth).astype(x.dtype)
        slope = np.concatenate(
            [
                (x.T @ wrong).astype(np.float64) / n + penalty * w[:-1],
                wrong.sum(0, dtype=np.float64)[None] / n,
            ]
        )
        return value, slope.ravel()

    begin = np.zeros((d + 1) * classes) if start is None else start.ravel()
    result = minimize(
        objective, begin, jac=True, method="L-BFGS-B", options=dict(maxiter=1000, gtol=exact, ftol=exact**2)
    )
    return np.asarray(result.x.reshape(d + 1, classes))


# What comes for free

FILTERS, SIDE, STRIDE, POOLED, LARGEST = 256, 6, 2, 2, 32
"""patches, their pixels a side, pixels from one place to the next where there are enough, places a side that
are told apart, and pixels a side of an image; a larger one is shrunk"""
PIXELS = 16
"""a side that raw pixels are shrunk to, which costs them nothing"""
SEEN = 20_000
"""patches from which the whitening is worked out"""


def raw(x: np.ndarray) -> np.ndarray:
    """Pixels of images uint8 (n, C, H, W), of at most 16 a side: float32 (n, dims)."""
    return shrunk(x, PIXELS).flatten(1).numpy()


class Patches:
    """Features that nobody has learnt: how much an image is like each of 256 patches of training images,
    whitened, in each quarter.

    Coates, Lee & Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", 2011, section
    3, with random patches in place of centres, and the soft threshold of Coates & Ng, "The Importance of
    Encoding Versus Training with Sparse Coding and Vector Quantization", 2011, section 3.
    """

    def __init__(self, train: np.ndarray, seed: int = 0, stride: int = STRIDE, threshold: float = 0.25):
        """train: uint8 (N, C, H, W), one or more.  stride: pixels from one place to the next, in images with
        room for that."""
        if not len(train):
            raise Refusal("patches are cut from training images, and there is none; give some.")
        rng = np.random.default_rng((seed, 0xC0A7E5))
        x = shrunk(train[np.sort(rng.permutation(len(train))[:SEEN])])
        self.side, self.threshold = min(SIDE, max(2, x.shape[-1] // 2)), threshold
        self.stride = stride if x.shape[-1] >= 3 * self.side else 1
        windows = x.unfold(2, self.side, 1).unfold(3, self.side, 1)
        image, down, across = (
            torch.from_numpy(rng.integers(0, most, SEEN))
            for m in [windows.shape]
            for most in (m[0], m[2], m[3])
        )
        p = contrasted(windows[image, :, down, across].flatten(1))
        self.mean = p.mean(0)
        values, axes = torch.linalg.eigh(torch.cov(p.T.double()))
        whiten = (axes * (values + 0.1).rsqrt() @ axes.T).float()
        self.filters = F.normalize((p[:FILTERS] - self.mean) @ whiten, dim=1) @ whiten

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Of images uint8 (m, C, H, W): float32 (m, 2048)."""
        # small results kept between large ones that go would cut memory to pieces
        out = np.empty((len(x), 2 * FILTERS * POOLED**2), np.float32)
        for i in range(0, len(x), 128):
            out[i : i + 128] = self._some(x[i : i + 128])
        return out

    @torch.no_grad()
    def _some(self, raw: np.ndarray) -> np.ndarray:
        x, n = shrunk(raw), self.side**2 * raw.shape[1]
        mean = F.avg_pool2d(x.mean(1, keepdim=True), self.side, self.stride)
        square = F.avg_pool2d(x.square().mean(1, keepdim=True), self.side, self.stride)
        scale = ((square - mean.square()).clamp(min=0) * (n / (n - 1)) + FLAT).rsqrt()
        centred = self.filters - self.filters.mean(1, keepdim=True)  # what takes a patch's own mean away
        like = (
            F.conv2d(x, centred.view(-1, raw.shape[1], self.side, self.side), stride=self.stride) * scale
            - (self.filters @ self.mean)[:, None, None]
        )
        both = torch.cat([F.relu(like - self.threshold), F.relu(-like - self.threshold)], 1)
        return F.adaptive_avg_pool2d(both, POOLED).flatten(1).numpy()


FLAT = 10 / 127.5**2
"""added to the variance of a patch, in [-1, 1]: 10 of 255 levels squared, as in the paper"""


def contrasted(p: Tensor) -> Tensor:
    """Patches (n, d) with mean 0 and standard deviation 1, unless they are flat."""
    return (p - p.mean(1, keepdim=True)) * (p.var(1, keepdim=True) + FLAT).rsqrt()


def shrunk(x: np.ndarray, most: int = LARGEST) -> Tensor:
    """uint8 (n, C, H, W) as floats in [-1, 1], of at most so many pixels a side."""
    if x.ndim != 4 or x.dtype != np.uint8:
        raise Refusal(
            f"these features are of images uint8 (n, channels, height, width), and here is {x.dtype} of "
            f"shape {x.shape}; give such."
        )
    out = torch.from_numpy(np.ascontiguousarray(x)).float().mul_(2 / 255).sub_(1)
    return F.adaptive_avg_pool2d(out, most) if out.shape[-1] > most else out
