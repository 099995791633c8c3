"""Convolutions that see only the pixels before, of a whole image at once or, with a memory, of one pixel
after another.

Pixels are drawn from left to right and from top to bottom.  A layer's kernel covers the rows above and the
columns about a pixel; what lies after it in that order is left out or masked.

While an image is drawn, a full pass for each pixel would compute again what is known already.  A `Memory`
keeps what each layer has been given, so that the same layer, called with the one new pixel, looks up the
rest: a pixel costs the work of a pixel (Ramachandran et al., "Fast Generation for Convolutional
Autoregressive Models", 2017).  A network is written once: with a memory its tensors are one pixel, (B, C, 1,
1), or one row, (B, C, 1, W), instead of an image.  A kernel of one pixel has nothing to look up.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Memory:
    """What the layers of a network have been given of the pixels before (row, column)."""

    def __init__(self, size: int):
        self.size = size
        """height and width of the image"""
        self.row = self.column = 0
        self.width = 1
        """pixels from there on that are asked about at once: one, or all of a row that is known"""
        self.kept: dict[Any, Any] = {}
        """anything by layer or by name; for a convolution its inputs so far, and its weights as a matrix"""

    @property
    def columns(self) -> slice:
        """Where in its row this memory stands."""
        return slice(self.column, self.column + self.width)

    def here(self, x: Tensor) -> Tensor:
        """The pixel (B, C, 1, 1) of images at which this memory stands, or the row (B, C, 1, W)."""
        return x[:, :, self.row : self.row + 1, self.columns]


class CausalConv(nn.Conv2d):
    """A kernel over the rows r - above ... r and the columns c - left ... c + right, of zeros beyond the
    image.

    mask: (outside, inside, above + 1, left + 1 + right) of 0 and 1, or anything that expands to it; None is
    all.
    """

    mask: Tensor | None

    def __init__(
        self,
        inside: int,
        outside: int,
        above: int = 0,
        left: int = 0,
        right: int = 0,
        mask: Tensor | None = None,
        bias: bool = True,
    ):
        super().__init__(inside, outside, (above + 1, left + 1 + right), bias=bias)
        self.above, self.left, self.right = above, left, right
        self.mask = None if mask is None else nn.Buffer(mask.expand_as(self.weight).clone(), persistent=False)

    @property
    def masked(self) -> Tensor:
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """(B, inside, H, W) to (B, outside, H, W); with a memory, of the row or pixel at which it stands."""
        if memory is not None:
            return self.recall(x, memory)
        if self.above or self.left or self.right:
            x = F.pad(x, (self.left, self.right, self.above, 0))
        return F.conv2d(x, self.masked, self.bias)

    def recall(self, x: Tensor, memory: Memory) -> Tensor:
        """x (B, inside, 1, w), which begins at the memory's column.  All of a window lies side by side in
        memory, so one product does it."""
        b, _, _, w = x.shape
        flat, matrix = self.window(x, memory).reshape(w * b, -1), self.matrix(memory)
        out = flat @ matrix if self.bias is None else torch.addmm(self.bias, flat, matrix)
        return out.view(w, b, -1).permute(1, 2, 0).unsqueeze(2)

    def window(self, x: Tensor, memory: Memory) -> Tensor:
        """What the kernel covers at each of the pixels x, (w, B, ...), and what it covers later is kept."""
        if self.weight.shape[2:] == (1, 1):
            return x[:, :, 0].permute(2, 0, 1)
        seen, r, c, width = self.write(x, memory), memory.row, memory.column, self.left + 1 + self.right
        # (above + 1, w, B, inside, width)
        window = seen[r : r + self.above + 1, c : c + x.shape[3] + width - 1].unfold(1, width, 1)
        return window.permute(1, 2, 0, 4, 3)

    def write(self, x: Tensor, memory: Memory) -> Tensor:
        """Take note of x (B, inside, 1, w), in place of what stood there before; returns all inputs so far,
        (rows, columns, B, inside)."""
        b, _, _, w = x.shape
        if self not in memory.kept:
            memory.kept[self] = x.new_zeros(
                memory.size + self.above, memory.size + self.left + self.right, b, self.in_channels
            )
        seen: Tensor = memory.kept[self]
        at = memory.column + self.left
        seen[memory.row + self.above, at : at + w] = x[:, :, 0].permute(2, 0, 1)
        return seen

    def matrix(self, memory: Memory) -> Tensor:
        """The weights, (window, outside), masked once for all pixels."""
        if (self, "weights") not in memory.kept:
            memory.kept[self, "weights"] = self.masked.permute(2, 3, 1, 0).reshape(-1, self.out_channels)
        result: Tensor = memory.kept[self, "weights"]
        return result


def groups(width: int, channels: int, times: int = 1) -> Tensor:
    """Which channel of the image each of times x width features belongs to: equal parts of every `width` of
    them."""
    return (torch.arange(width) * channels // width).repeat(times)


def order(outside: Tensor, inside: Tensor, kind: str) -> Tensor:
    """Masks A and B of one pixel (van den Oord et al. 2016, section 3.4), (outside, inside, 1, 1): a feature
    of a channel sees features of the channels before it, and, by B alone, those of its own."""
    seen = outside[:, None] > inside if kind == "A" else outside[:, None] >= inside
    return seen.float()[:, :, None, None]


def centre(mask: Tensor, above: int, left: int, right: int) -> Tensor:
    """The mask of a whole kernel: everything before the pixel, nothing after, and at the pixel itself what
    `mask` (.., .., 1, 1) says."""
    full = torch.ones(*mask.shape[:2], above + 1, left + 1 + right)
    full[:, :, above, left:] = 0
    full[:, :, above, left] = mask[:, :, 0, 0]
    return full


def shift_down(x: Tensor) -> Tensor:
    """Every row takes the place of the next; the first becomes zero."""
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


def shift_right(x: Tensor) -> Tensor:
    return F.pad(x, (1, 0, 0, 0))[:, :, :, :-1]
