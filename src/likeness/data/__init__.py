"""Images in, batches out.

    load("photos/", size=64)   a folder, an array file, or the name of a built-in set, as `Data`
    Data.batch(seed, seen, n)  the training images number seen ... seen+n-1 of an endless shuffled walk

Which images form a batch is a function of the seed and of how many were seen before, so a run
resumes by remembering one number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core import Batch, Noise, Spec


@dataclass(frozen=True)
class Data:
    """A set of images of one shape, with what is known about each, split into train and held out."""

    source: str
    """what the user typed: a built-in name or a path"""
    fingerprint: str
    """hex digest that changes when any image, label, or the way of reading them changes"""
    x: np.ndarray
    """uint8 (N, C, H, W), in memory or memory-mapped read-only"""
    train: np.ndarray
    """int64 rows of x to learn from"""
    held_out: np.ndarray
    """int64 rows of x never trained on; no image here has an exact duplicate in train"""
    y: np.ndarray | None = None
    """int64 (N,) class of each image"""
    classes: tuple[str, ...] = ()
    texts: tuple[str, ...] | None = None
    """a caption for each image"""
    attributes: tuple[dict[str, Any], ...] | None = None
    """what was drawn, exactly (built-in set `shapes`)"""
    names: tuple[str, ...] | None = None
    """file name of each image, where it came from a file"""
    levels: int = 256
    settings: dict[str, Any] = field(default_factory=dict)
    """how it was read (size, colour, binarize ...): load(source, **settings) gives the same data again"""
    verdict: str = ""
    """one line: how many images were found, used, skipped and why"""

    @property
    def spec(self) -> Spec:
        return Spec(self.x.shape[1], self.x.shape[2], len(self.classes), self.levels)

    def batch(self, seed: int, seen: int, n: int, rows: slice = slice(None), key: int = 0) -> Batch:
        """`rows` of the n training images that come after `seen` others; each carries noise of its own place in the walk."""
        at = np.arange(seen, seen + n)[rows]
        return self.take(self.train[self.order(seed, at)], Noise(torch.from_numpy(at), key))

    def take(self, index: np.ndarray, noise: Noise | None = None) -> Batch:
        """The images of rows `index` of x, as floats in [-1, 1]."""
        y = None if self.y is None else torch.from_numpy(self.y[index])
        return Batch(picture(self.x[index]), y, noise or Noise(torch.from_numpy(index)))

    def order(self, seed: int, at: np.ndarray) -> np.ndarray:
        """Indices into `train` of places `at` of an endless walk that is shuffled anew every epoch."""
        n = len(self.train)
        out = np.empty(len(at), np.int64)
        for epoch in np.unique(at // n):
            here = at // n == epoch
            out[here] = _permutation(seed, int(epoch), n)[at[here] % n]
        return out


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(n)


def picture(x: np.ndarray) -> Tensor:
    """uint8 becomes float in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(x)).float().mul_(2 / 255).sub_(1)
