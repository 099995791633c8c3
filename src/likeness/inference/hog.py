"""Histograms of oriented gradients that can be differentiated: what a sketch says, and no more.

Dalal & Triggs, "Histograms of Oriented Gradients for Human Detection", 2005.  Each pixel votes for the
direction in which brightness changes there, as strongly as it changes; the votes of a cell are added up, and
divided by what there is around it.  What is left says where edges run, and not of what colour or how strong
they are, nor exactly where within a cell: all that a hand-drawn line means.

    J = sum over channels of (g_x, g_y)(g_x, g_y)^T                            of a pixel
    m = sqrt(tr J),  theta = atan2(2 J_xy, J_xx - J_yy) / 2 in [0, pi)         strength and direction, unsigned
    v_k = mean over the cell of m max(0, 1 - |theta - theta_k| / (pi / K))     linear interpolation between two bins
    h_k = v_k / sqrt(mean over 3 x 3 cells of |v|^2 + e^2)

Of one channel theta is the direction of the gradient itself.  Everything but the angle of a flat pixel has a
gradient, and that pixel votes with strength 0.

Departures: J in place of the channel with the largest gradient; one normalisation by the 3 x 3 cells around
in place of four by blocks of 2 x 2, without their clipping.
"""  # noqa: E501

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 9
FAINT = 0.03
"""e: strength of gradients, in units of [-1, 1] a pixel, below which they are noise"""
FLAT = 1e-8


def votes(x: Tensor, bins: int = BINS) -> Tensor:
    """m max(0, ...) of each pixel of images (B, C, H, W): (B, bins, H, W), which add up to m."""
    edge = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across = (edge[:, :, 1:-1, 2:] - edge[:, :, 1:-1, :-2]) / 2
    down = (edge[:, :, 2:, 1:-1] - edge[:, :, :-2, 1:-1]) / 2
    xx, yy, xy = ((a * b).sum(1) for a, b in ((across, across), (down, down), (across, down)))
    m = (xx + yy + FLAT).sqrt() - math.sqrt(FLAT)
    even, odd = xx - yy, 2 * xy
    flat = even.abs() + odd.abs() < FLAT
    theta = torch.atan2(torch.where(flat, 0.0, odd), torch.where(flat, 1.0, even)) / 2
    at = (theta / math.pi * bins) % bins
    middle = torch.arange(bins, device=x.device, dtype=x.dtype)[:, None, None]
    apart = (at[:, None] - middle + bins / 2) % bins - bins / 2
    return m[:, None] * (1 - apart.abs()).clamp(min=0)


def hog(x: Tensor, cell: int, bins: int = BINS) -> Tensor:
    """h of images (B, C, H, W): (B, bins, ceil(H / cell), ceil(W / cell))."""
    v = F.avg_pool2d(votes(x, bins), cell, ceil_mode=True, count_include_pad=False)
    energy = F.avg_pool2d(v.square().sum(1, keepdim=True), 3, 1, 1, count_include_pad=False)
    return v / (energy + FAINT**2).sqrt()


def cell_of(size: int) -> int:
    """Pixels a side of a cell on an image of `size`: so small that a line has one side in it."""
    return max(2, size // 12)


def agreement(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    """Cosine between histograms a and b (B or 1, bins, h, w) in the cells `where`, bool (h, w), all of them
    as one vector: (B,) from 0, no edge in common, to 1."""
    a, b = (part[:, :, where].flatten(1) for part in torch.broadcast_tensors(a, b))
    return F.cosine_similarity(a, b, dim=1)
