"""What one example of the data is, and some of them with all that a loss may know about each."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from torch import Tensor

from .condition import PARTS, Condition
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
    """brightness values that a pixel can take, evenly spaced: 256, 2 for black-and-white data, 17 for
    scikit-learn's digits; 0 for any number, as in the codes of an autoencoder"""
    symbols: bool = False
    """the levels are names, as in the codes of a VQ-VAE: that one lies beside another means nothing"""

    frames: int = 0
    """of a video; 0 is a still image"""
    vocabulary: int = 0
    """words that a text may be made of, those for nothing (core.PAD) and for any unknown word among them; 0
    is no text"""
    tokens: int = 0
    """words of the longest text"""
    source: tuple[int, int] = (0, 0)
    """channels and size of the other image that a Condition holds; zeros for none"""
    absent: tuple[int, ...] = field(default=(), repr=False)
    """classes that no training image has, of which a model can have learnt nothing"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", tuple(self.source))  # JSON knows lists only
        object.__setattr__(self, "absent", tuple(self.absent))

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W), or (C, T, H, W) of a video."""
        return (self.channels, *([self.frames] if self.frames else []), self.size, self.size)

    @property
    def dims(self) -> int:
        return math.prod(self.shape)

    @property
    def learnt(self) -> tuple[int, ...]:
        """The classes that training images have."""
        return tuple(k for k in range(self.labels) if k not in self.absent)

    def parts(self, takes: Collection[str]) -> tuple[str, ...]:
        """Which parts of a Condition a model that takes these has of such examples: of `Model.takes`, those
        that there are."""
        there = {"label": self.labels, "tokens": self.vocabulary, "image": self.source[0]}
        return tuple(name for name in PARTS if name in takes and there[name])

    @property
    def points(self) -> bool:
        """Each example is a point in the plane, (2, 1, 1): neither brightness nor neighbours mean
        anything."""
        return self.shape == (2, 1, 1) and not self.levels


@dataclass(frozen=True)
class Batch:
    x: Tensor
    y: Condition | None
    noise: Noise
    """all the randomness that a loss or a bound may use: then a batch may be split, or shared
    among processes"""
    step: int = 0
    """of a training: batches that came before.  What changes in its course is a function of this
    or of `seen`"""
    seen: int = 0
    """of a training: images that came before"""

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError where split() would take apart what belongs together."""
        if self.y is not None and not isinstance(self.y, Condition):
            raise TypeError(
                f"Batch.y is {type(self.y).__name__}; make it a Condition, such as Condition(label=y), or "
                "None"
            )
        rows = len(self.x) if self.y is None else len(self.y)
        if not len(self.x) == rows == len(self.noise):
            raise ValueError(
                f"a Batch has a row of each for each example, and here x has {len(self.x)}, y "
                f"{'none' if self.y is None else rows} and noise {len(self.noise)}"
            )

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice) -> Batch:
        """Some of the examples, each with its own randomness."""
        return Batch(
            self.x[rows], None if self.y is None else self.y[rows], self.noise[rows], self.step, self.seen
        )

    def split(self, size: int) -> list[Batch]:
        return [self[i : i + size] for i in range(0, len(self), size)]
