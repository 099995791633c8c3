"""What is learnt in the playground: the laws of data/points.py, or wherever a drawing is dark.

A model of brightness learns the same points on a lattice of 256 values a side: the square from -REACH to
REACH is then what an image of two channels and one pixel can hold.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ... import data as datasets
from ...core import Refusal
from ...data import Data
from ...data.points import LAWS, drawn

COUNT = 8000
"""points of a law"""
REACH = 1.25
"""half the side of the square that is shown, and of the lattice"""
LEVELS = 256
DRAWING = "drawing"
NAMES = (*LAWS, DRAWING)
SIDE = 512
"""pixels of a side of a drawing, at most"""


def load(name: str, ink: np.ndarray | None = None) -> Data:
    """The points of a law; or, of the name DRAWING, as many as there is ink, uint8 (H, W), in each pixel.

    Raises Refusal for a name that is none, and for a drawing without ink."""
    if name in LAWS:
        return datasets.load(f"{name}:{COUNT}")
    if name != DRAWING:
        raise Refusal(f"there are no points called {name!r}; there are: {', '.join(NAMES)}.")
    if (
        ink is None
        or ink.dtype != np.uint8
        or ink.ndim != 2
        or not 2 <= min(ink.shape) <= max(ink.shape) <= SIDE
    ):
        raise Refusal(f"a drawing has 2 to {SIDE} pixels a side; draw one with the pen, or drop a picture.")
    if not ink.any():
        raise Refusal("the drawing is empty, and points are put where it is dark; draw something.")
    x = drawn(ink, COUNT).x
    rows = np.arange(COUNT)
    mark = hashlib.blake2b(ink.tobytes() + repr(ink.shape).encode(), digest_size=16).hexdigest()
    return Data(DRAWING, mark, x, rows[COUNT // 10 :], rows[: COUNT // 10], levels=0)


def on_lattice(data: Data) -> Data:
    """The same points as images of brightness: each at the nearest of LEVELS x LEVELS places of the
    square."""
    x = np.clip(np.rint((data.x / REACH + 1) * (LEVELS - 1) / 2), 0, LEVELS - 1).astype(np.uint8)
    return replace(data, x=x, levels=LEVELS)


def unit(data: Data) -> float:
    """What a coordinate 1 of a model of these data is in the plane."""
    return REACH if data.levels else 1.0


def plane(data: Data, rows: np.ndarray) -> Tensor:
    """Where points of these rows lie, (n, 2)."""
    return unit(data) * data.take(rows).x.flatten(1)


def lattice(side: int, reach: float = REACH) -> Tensor:
    """Middles of side x side equal cells of the square, (side^2, 2), by rows from the top, each from the
    left."""
    along = (torch.arange(side) + 0.5) * (2 * reach / side) - reach
    y, x = torch.meshgrid(-along, along, indexing="ij")
    return torch.stack([x, y], -1).view(-1, 2)
