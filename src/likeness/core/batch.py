"""What one example of the data is, and some of them with all that a loss may know about each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .noise import Noise


@dataclass(frozen=True)
class Spec:
    """What one example is.  A model learns nothing else about the data set."""

    channels: int
    size: int
    """height and width in pixels; 1 for points, whose coordinates are the channels"""
    labels: int = 0
    """number of classes in y, or 0"""
    levels: int = 256
    """brightness values that a pixel can take, evenly spaced: 256, 2 for black-and-white data, 17 for scikit-learn's digits; 0 for
    any number, as in the codes of an autoencoder"""
    symbols: bool = False
    """the levels are names, as in the codes of a VQ-VAE: that one lies beside another means nothing"""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.channels, self.size, self.size)

    @property
    def dims(self) -> int:
        return math.prod(self.shape)

    @property
    def points(self) -> bool:
        """Each example is a point in the plane, (2, 1, 1): neither brightness nor neighbours mean anything."""
        return self.shape == (2, 1, 1) and not self.levels


@dataclass(frozen=True)
class Batch:
    x: Tensor
    y: Tensor | None
    noise: Noise
    """all the randomness that a loss or a bound may use: then a batch may be split, or shared among processes"""
    step: int = 0
    """of a training: batches that came before.  What changes in its course is a function of this or of `seen`"""
    seen: int = 0
    """of a training: images that came before"""

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice) -> Batch:
        """Some of the examples, each with its own randomness."""
        return Batch(self.x[rows], None if self.y is None else self.y[rows], self.noise[rows], self.step, self.seen)

    def split(self, size: int) -> list[Batch]:
        return [self[i : i + size] for i in range(0, len(self), size)]
