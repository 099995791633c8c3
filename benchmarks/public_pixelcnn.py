"""PixelCNN as it is commonly written, for the side of the benchmark that is not ours: from the papers, for
one channel.

Every kernel is a full k x k (or 1 x k) one whose later half is set to zero before each pass, and multiplied
all the same.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class MaskedConv2d(nn.Conv2d):
    """kind A: all before the pixel; B: and itself; above: all rows before its own; rows: and its own."""

    mask: Tensor

    def __init__(self, kind: str, inside: int, outside: int, height: int, width: int):
        super().__init__(inside, outside, (height, width), padding=(height // 2, width // 2))
        mask = torch.zeros(height, width)
        mask[: height // 2] = 1
        if kind == "rows":
            mask[height // 2] = 1
        if kind in "AB":
            mask[height // 2, : width // 2 + (kind == "B")] = 1
        self.register_buffer("mask", mask.expand_as(self.weight).clone())

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return super().forward(x)


class ResidualBlock(nn.Module):
    """van den Oord et al. 2016, figure 5 left."""

    def __init__(self, h: int, kernel: int):
        super().__init__()
        self.down = nn.Conv2d(2 * h, h, 1)
        self.conv = MaskedConv2d("B", h, h, kernel, kernel)
        self.up = nn.Conv2d(h, 2 * h, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.down(F.relu(x))
        h = self.conv(F.relu(h))
        return x + self.up(F.relu(h))


class PixelCNN(nn.Module):
    """van den Oord et al. 2016, table 1."""

    def __init__(self, width: int, depth: int, kernel: int, first: int, levels: int):
        super().__init__()
        self.first = MaskedConv2d("A", 1, 2 * width, first, first)
        self.blocks = nn.Sequential(*[ResidualBlock(width, kernel) for _ in range(depth)])
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(2 * width, 2 * width, 1), nn.ReLU(), nn.Conv2d(2 * width, levels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.first(x)))


def gated(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedBlock(nn.Module):
    """van den Oord et al. 2016b, figure 2."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.vertical = MaskedConv2d("rows", width, 2 * width, kernel, kernel)
        self.vertical_to_horizontal = nn.Conv2d(2 * width, 2 * width, 1)
        self.horizontal = MaskedConv2d("B", width, 2 * width, 1, kernel)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a = self.vertical(v)
        b = self.horizontal(h) + self.vertical_to_horizontal(a)
        return gated(a), h + self.out(gated(b))


class GatedPixelCNN(nn.Module):
    def __init__(self, width: int, depth: int, kernel: int, first: int, levels: int):
        super().__init__()
        self.first_vertical = MaskedConv2d("above", 1, width, first, first)
        self.first_horizontal = MaskedConv2d("A", 1, width, 1, first)
        self.blocks = nn.ModuleList(GatedBlock(width, kernel) for _ in range(depth))
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, levels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        v, h = self.first_vertical(x), self.first_horizontal(x)
        for block in self.blocks:
            v, h = block(v, h)
        return self.head(h)
