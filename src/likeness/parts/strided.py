"""Convolutions between resolutions that see only the pixels before; with a memory, of one row or pixel after
another.

A feature (i, j) of half the resolution sees features up to row 2i and column 2j, and gives to the four at
(2i, 2j) ... (2i + 1, 2j + 1), of which none comes before.  While an image is drawn it is due with the first
of these four, and kept for the others (Ramachandran et al., "Fast Generation for Convolutional Autoregressive
Models", 2017).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .causal import CausalConv, Memory


def half(memory: Memory) -> Memory:
    """What is kept at half the resolution, standing at the same place."""
    low: Memory = memory.kept.setdefault("half", Memory((memory.size + 1) // 2))
    low.row, low.column, low.width = memory.row // 2, memory.column // 2, (memory.width + 1) // 2
    return low


class Halve(CausalConv):
    """At every other row and column: of n pixels (n + 1) // 2 are left."""

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """With a memory: of the row or pixel at which it stands, if something is due there, else none, (B,
        outside, 1, 0)."""
        if memory is None:
            return F.conv2d(
                F.pad(x, (self.left, self.right, self.above, 0)), self.masked, self.bias, stride=2
            )
        if memory.row % 2 == 0 and memory.column % 2 == 0:
            return self.recall(x, memory)[..., ::2]
        self.write(x, memory)
        return x.new_empty(len(x), self.out_channels, 1, 0)


class Double(nn.ConvTranspose2d):
    """Each pixel gives to the four below and to the right of where it stands."""

    def __init__(self, inside: int, outside: int):
        super().__init__(inside, outside, 2, stride=2)

    def onto(self, like: Tensor, x: Tensor, memory: Memory | None = None) -> Tensor:
        """As many pixels as `like` has.  With a memory: those of its row and column, of what has been given
        so far; x may be none."""
        if memory is None:
            return self(x)[:, :, : like.shape[2], : like.shape[3]]
        r, c, w = memory.row % 2, memory.column, like.shape[3]
        if x.shape[3]:
            kept = memory.kept.setdefault(self, x.new_empty(len(x), self.out_channels, 2, memory.size + 1))
            kept[..., c : c + 2 * x.shape[3]] = self(x)
        result: Tensor = memory.kept[self][:, :, r : r + 1, c : c + w]
        return result
