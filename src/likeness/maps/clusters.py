"""What lies in a set of images, told from their features: clusters, images that stand alone, and images that
are nearly the same.

All of it is about the features, not about the map: what a map shows as an island may be torn from another
one, and two that it shows side by side may be far apart.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core import Refusal
from ..data.near_duplicates import exact_groups, near_groups
from ..data.writer import content_hash
from . import tsne

MOST = 20
"""clusters that are tried"""
LOOKED_AT = 2000
"""images, at most, by which the number of clusters is chosen"""
EQUAL = 0.01
"""difference of silhouettes that is none: another start of k-means changes them by as much"""
CLEAR = 0.1
"""silhouette below which clusters are pieces of a whole"""
AROUND = 20
"""neighbours to which the density about an image is compared"""
ALONE = 1.5
"""factor by which the neighbours of an image must be closer to each other for it to stand alone"""


class Clusters(NamedTuple):
    of: np.ndarray
    """int64 (n,): the cluster of each image; the largest is 0"""
    middle: np.ndarray
    """int64 (k,): the row nearest to the mean of each"""
    silhouette: float
    """between -1 and 1: how much nearer images are to their own cluster than to the next (Rousseeuw 1987);
    nan of a single one"""
    rule: str
    """how their number was chosen"""

    @property
    def says(self) -> str:
        """In a sentence."""
        k = len(self.middle)
        clear = "" if not self.silhouette < CLEAR else ": no clear clusters, the colours only divide a whole"
        apart = "" if math.isnan(self.silhouette) else f"; silhouette {self.silhouette:.2f}{clear}"
        return f"{k} cluster{'s' * (k != 1)} by k-means, {self.rule}{apart}"


def clusters(x: np.ndarray, k: int = 0, seed: int = 0) -> Clusters:
    """k-means of features x (n, d); with k = 0 the smallest number from 2 to 20 whose mean silhouette on
    2,000 images is within 0.01 of the largest.

    Raises Refusal where k is more than there are different rows.
    """
    rng = np.random.default_rng((seed, 0xC1))
    some = x if len(x) <= LOOKED_AT else x[np.sort(rng.choice(len(x), LOOKED_AT, replace=False))]
    different = len(np.unique(some, axis=0))
    # all rows are sorted only where some of them leave it open
    if k > different and k > (there := len(np.unique(x, axis=0))):
        raise Refusal(f"--clusters {k} is more than the {there} different images that there are; type fewer.")
    tried = [k] if k else range(2, min(MOST, different - 1) + 1)
    scores = {j: _silhouette(some, _means(some, j, seed)[0]) for j in tried if 1 < j < different}
    best = k or next((j for j in scores if scores[j] >= max(scores.values()) - EQUAL), 1)
    of, centres = _means(x, best, seed, 4)
    order = np.argsort(-np.bincount(of, minlength=best), kind="stable")
    rank = np.argsort(order)
    middle = [np.flatnonzero(of == c)[((x[of == c] - centres[c]) ** 2).sum(1).argmin()] for c in order]
    rule = (
        "as many as were asked for"
        if k
        else (f"the fewest of 2 to {max(tried, default=2)} whose silhouette is within {EQUAL} of the largest")
    )
    return Clusters(rank[of], np.array(middle), scores.get(best, float("nan")), rule)


def _means(x: np.ndarray, k: int, seed: int, runs: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """int64 (n,) and centres (k, d); fewer may be in use where rows are equal."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = KMeans(k, n_init=runs, random_state=seed).fit(x)
    return result.labels_.astype(np.int64), result.cluster_centers_


def _silhouette(x: np.ndarray, of: np.ndarray) -> float:
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(x, of)) if 1 < len(np.unique(of)) < len(x) else -1.0


def aloneness(x: np.ndarray, k: int = AROUND, near: tuple[Tensor, Tensor] | None = None) -> np.ndarray:
    """How much closer to each other the neighbours of each row of x (n, d) are than it is to them, (n,);
    about 1 within a crowd.

    The local outlier factor (Breunig, Kriegel, Ng & Sander 2000, definition 7); with at most half of the
    others as neighbours.
    near: what tsne.nearest says of x, where somebody knows it already; of fewer than k neighbours it is no
    help.
    """
    k = max(1, min(k, (len(x) - 1) // 2))
    if near is None or near[0].shape[1] < k:
        near = tsne.nearest(torch.from_numpy(x), k)
    squared, result = (t[:, :k].numpy() for t in near)
    apart = np.sqrt(squared.astype(np.float64))
    # reachability: within the neighbour's own k nearest all are as far
    reach = np.maximum(apart, apart[result, -1])
    density = 1 / (reach.mean(1) + 1e-10 * max(1e-30, float(apart.mean())))
    return density[result].mean(1) / density


def alone(
    x: np.ndarray, most: int = 10, near: tuple[Tensor, Tensor] | None = None
) -> list[tuple[int, float]]:
    """Rows of x (n, d) that stand alone, with their local outlier factors; the farthest out first.  near: as
    for aloneness()."""
    factor = aloneness(x, near=near)
    return [
        (int(i), float(factor[i])) for i in np.argsort(-factor, kind="stable")[:most] if factor[i] > ALONE
    ]


def copies(pixels: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Groups of rows of pixels, uint8 (n, C, S, S): of equal images, and of near copies (data/near.py); the
    largest first."""
    hashes = np.fromiter((content_hash(image) for image in pixels), np.uint64, len(pixels))
    return exact_groups(hashes), near_groups(pixels, hashes)
