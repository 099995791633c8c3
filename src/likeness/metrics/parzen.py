"""The Parzen-window log-likelihood, in which the tables of the first adversarial models are stated; and why
it proves nothing.

Breuleux, Bengio & Vincent, "Quickly generating representative samples from an RBM-derived process", 2011,
section 4; as used by Goodfellow et al., "Generative Adversarial Nets", 2014, section 5.

    p(x) = 1/N sum_i N(x; s_i, sigma^2 I)        s_1 ... s_N: samples; pixels in [0, 1]; sigma by its likelihood of validation images

reported as the mean of log p over test images, in nats.  Theis, van den Oord & Bethge, "A note on the
evaluation of generative models", 2016, section 3.1 and table 1: no number of samples one can draw brings it
near the log-likelihood, and its order is no
better: centres of k-means, which are no model of anything, come out above models and above real images.
"""  # noqa: E501

from __future__ import annotations

import math

import numpy as np

from ..core import Refusal
from .neighbours import centred, squared

COARSE = np.geomspace(0.05, 1.0, 9)
"""bandwidths tried first, in units of white; then as many between the neighbours of the best"""
CHUNK = 2**22
"""distances in memory"""
WORK = 2e12
"""products that k-means may take: about a minute of one core"""
ROUNDS = 5
"""of k-means; further ones change the estimate little"""


def log_density(x: np.ndarray, kernels: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """log p of each image of x, uint8 (Q, C, H, W), under Gaussians about kernels, uint8 (N, C, H, W): nats,
    float64 (len(sigmas), Q).

    sigmas in units of white.  Distances are exact (`neighbours.squared`) and taken once for all sigmas; each
    image's sum is taken relative to its nearest kernel, so nothing underflows.
    """
    if (
        not len(kernels)
        or kernels.shape[1:] != x.shape[1:]
        or {x.dtype, kernels.dtype} != {np.dtype(np.uint8)}
        or not (np.asarray(sigmas) > 0).all()
    ):
        raise Refusal(
            "a Parzen window lies about images uint8 of one shape, with widths above 0, not "
            f"{kernels.shape} for {x.shape}; give such."
        )
    middles, dims = centred(kernels), math.prod(kernels.shape[1:])
    out, size = np.empty((len(sigmas), len(x))), max(1, CHUNK // len(kernels))
    for i in range(0, len(x), size):
        apart = squared(centred(x[i : i + size]), middles) / 255**2
        least = apart.min(1)
        beyond = (apart - least[:, None]).astype(np.float32)
        for row, sigma in zip(out, sigmas):
            mass = np.exp(beyond * np.float32(-0.5 / sigma**2)).mean(1, dtype=np.float64)
            row[i : i + size] = (
                np.log(mass) - 0.5 * least / sigma**2 - dims * math.log(sigma * math.sqrt(2 * math.pi))
            )
    return out


def bandwidth(kernels: np.ndarray, validation: np.ndarray) -> float:
    """The sigma under which validation images uint8 (V, C, H, W) are likeliest, among 9 of COARSE and 9
    between the neighbours of the best of these."""
    if not len(validation):
        raise Refusal("a bandwidth is chosen on validation images, and there is none; give some.")
    best = int(log_density(validation, kernels, COARSE).mean(1).argmax())
    fine = np.geomspace(COARSE[max(0, best - 1)], COARSE[min(len(COARSE) - 1, best + 1)], 9)
    return float(fine[log_density(validation, kernels, fine).mean(1).argmax()])


def centres(x: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """Centres of k-means of images x, uint8 (n, C, H, W): uint8 (k, C, H, W).  A few rounds of Lloyd 1982
    from k of the images."""
    from sklearn.cluster import KMeans

    if x.dtype != np.uint8 or not 0 < k <= len(x):
        raise Refusal(
            f"{k} centres cannot be found among {len(x)} images {x.dtype}; give at least {max(k, 1)} "
            "images, uint8."
        )
    flat = x.reshape(len(x), -1).astype(np.float32)
    result = (
        KMeans(k, init="random", n_init=1, max_iter=ROUNDS, random_state=seed, algorithm="lloyd")
        .fit(flat)
        .cluster_centers_
    )
    return result.round().clip(0, 255).astype(np.uint8).reshape(k, *x.shape[1:])


def affordable(n: int, most: int, dims: int) -> int:
    """How many centres of n images can be found within WORK: `most` if that is no more than half of the
    images."""
    return max(1, min(most, n // 2, int(WORK / (ROUNDS * n * dims))))


def most(dims: int) -> int:
    """Images of so many pixels that a gigabyte holds as floats."""
    return max(1, 2**28 // dims)
