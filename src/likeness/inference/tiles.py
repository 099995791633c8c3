"""A photo in overlapping tiles of one size, for models that know no other.

Each pixel of the photo has noise of its own, which every tile that covers it begins from: two tiles that
overlap draw from the same noise there, and differ by what else each of them sees.  What they draw is blended
with weights that fall to the edge of a tile, so that no edge shows (Bar-Tal et al., "MultiDiffusion", 2023,
blend after each step; here it is done once, after the last).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..core import Noise
from ..core.noise import _GOLDEN, _mix

OVERLAP = 0.5
"""share of a tile that the next one covers as well, at least"""


def places(length: int, size: int, overlap: float = OVERLAP) -> list[int]:
    """Where tiles of this size begin that cover `length` pixels, evenly spread; length >= size."""
    step = max(1, int(size * (1 - overlap)))
    count = math.ceil((length - size) / step) + 1
    return [round(i * (length - size) / max(1, count - 1)) for i in range(count)]


def weights(size: int) -> Tensor:
    """(size, size), from 1 in the middle nearly to 0 at the edges."""
    ramp = 1 - (torch.arange(size) - (size - 1) / 2).abs() / (size / 2 + 0.5)
    return ramp[:, None] * ramp


class Blend:
    """A weighted mean of tiles, and how far those that overlap are from it."""

    def __init__(self, channels: int, height: int, width: int):
        self.total = torch.zeros(channels, height, width)
        self.squares, self.weight = torch.zeros(height, width), torch.zeros(height, width)
        self.count = torch.zeros(height, width, dtype=torch.int16)

    def add(self, tile: Tensor, top: int, left: int) -> None:
        """tile: (C, S, S)"""
        size = tile.shape[-1]
        w, here = weights(size), (slice(top, top + size), slice(left, left + size))
        self.total[(slice(None), *here)] += tile * w
        self.squares[here] += tile.square().mean(0) * w
        self.weight[here] += w
        self.count[here] += 1

    @property
    def image(self) -> Tensor:
        """(C, H, W)"""
        return self.total / self.weight

    @property
    def disagreement(self) -> float:
        """Root mean square distance of tiles from their mean where several lie; 0 where none do."""
        several = self.count > 1
        if not bool(several.any()):
            return 0.0
        spread = self.squares / self.weight - self.image.square().mean(0)
        return float(spread[several].clamp(min=0).mean().sqrt())


class Field(Noise):
    """The noise of tiles of one photo: normal(C, S, S) is cut out of noise that the whole photo has, and all
    else is the same for every tile, such as the class that is drawn."""

    def __init__(
        self, seed: int, key: int, corners: Sequence[tuple[int, int]], shape: tuple[int, int], size: int
    ):
        """seed: number of the photo.  corners: top and left of each tile.  shape: height and width of the
        photo."""
        super().__init__([seed] * len(corners), key)
        self.corners = torch.tensor(list(corners), dtype=torch.int64).view(-1, 2)
        self.shape, self.size = shape, size

    def _part(self, keys: Tensor, corners: Tensor) -> Field:
        part = object.__new__(Field)
        part.keys, part.calls, part.corners, part.shape, part.size = (
            keys,
            self.calls,
            corners,
            self.shape,
            self.size,
        )
        return part

    def __getitem__(self, rows: slice | Tensor) -> Field:
        return self._part(self.keys[rows], self.corners[rows])

    def to(self, device: torch.device | str) -> Field:
        return self._part(self.keys.to(device), self.corners.to(device))

    def normal(self, *shape: int) -> Tensor:
        if len(shape) != 3 or shape[1:] != (self.size, self.size):
            return super().normal(*shape)
        self.calls += 1
        channels, height, width = shape[0], *self.shape
        down = torch.arange(self.size, device=self.device)
        rows, columns = (self.corners[:, i, None] + down for i in (0, 1))
        at = torch.arange(channels, device=self.device).view(1, -1, 1, 1) * height + rows[:, None, :, None]
        at = at * width + columns[:, None, None, :]
        stream = _mix(self.keys + self.calls * _GOLDEN % 2**62)
        bits = _mix(stream.view(-1, 1, 1, 1) + (at + 1) * _GOLDEN)
        radius = (
            (bits >> 32).bitwise_and_(0xFFFF_FFFF).float().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
        )
        angle = bits.bitwise_and_(0xFFFF_FFFF).float().mul_(2 * math.pi * 2.0**-32)
        return angle.cos_().mul_(radius)
