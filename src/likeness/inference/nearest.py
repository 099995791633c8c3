"""Samples, and beside the last of each row the training image that is nearest to it: has the model learnt by
heart?

The rightmost column of Goodfellow et al., "Generative Adversarial Nets", 2014, figure 2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import figures
from ..core import Refusal
from ..data import Data
from ..metrics import neighbours

FRAME = (240, 180, 0)


class Beside(NamedTuple):
    page: np.ndarray
    """uint8 (height, width, 3)"""
    row: list[int]
    """of data.x, for each framed image"""
    distance: list[float]
    """root mean squared difference from the sample to its left, in levels"""


def beside(x: Tensor, data: Data, mirror: bool = False) -> Beside:
    """Samples (B, C, H, W), nearly as many rows as columns; at the end of each row, framed, the training
    image nearest to its last one.

    mirror: or to that one's mirror image.
    """
    columns = math.ceil(math.sqrt(len(x)))
    rows = x.split(columns)
    result = of(torch.stack([row[-1] for row in rows]), data, mirror)
    others = data.take(result.row[:, 0]).x
    page = figures.grid(
        torch.cat([torch.cat([row, near[None]]) for row, near in zip(rows, others)]), columns + 1
    )
    for i, row in enumerate(rows):
        _frame(page, i, len(row), *x.shape[2:])
    return Beside(page, result.row[:, 0].tolist(), result.distance[:, 0].tolist())


def of(x: Tensor, data: Data, mirror: bool = False) -> neighbours.Nearest:
    """The training image nearest to each sample (B, C, H, W): distances (B, 1) in levels, and rows of data.x.

    Raises Refusal for points, and where there is no training image.
    """
    if data.spec.points:
        raise Refusal(
            "points have no picture of their own to be looked at beside another; leave --nearest out."
        )
    if not len(data.train):
        raise Refusal(f"{data.source} has no training image; leave --nearest out.")
    return neighbours.nearest(neighbours.grid(x.numpy(), data.levels), data.x, data.train, 1, mirror)


def _frame(page: np.ndarray, row: int, column: int, high: int, wide: int) -> None:
    """Colour the gap around one tile of a page made by pictures.grid."""
    scale, gap = figures.enlargement(high, wide), figures.GAP
    high, wide = high * scale + gap, wide * scale + gap
    around = page[row * high : (row + 1) * high + gap, column * wide : (column + 1) * wide + gap]
    tile = around[gap:-gap, gap:-gap].copy()
    around[:] = FRAME
    around[gap:-gap, gap:-gap] = tile
