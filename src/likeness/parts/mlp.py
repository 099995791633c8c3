"""Fully connected networks between an image and a vector."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn


def mlp(*sizes: int) -> nn.Sequential:
    """Linear maps through `sizes`, with a rectifier between each two."""
    layers: list[nn.Module] = []
    for inside, outside in pairwise(sizes):
        layers += [nn.Linear(inside, outside), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def encoder(shape: tuple[int, int, int], out: int, hidden: int = 400, depth: int = 2) -> nn.Sequential:
    """(B, *shape) to (B, out); with depth 0 a linear map."""
    return nn.Sequential(nn.Flatten(), mlp(math.prod(shape), *[hidden] * depth, out))


def decoder(latent: int, shape: tuple[int, int, int], hidden: int = 400, depth: int = 2) -> nn.Sequential:
    """(B, latent) to (B, *shape), without a bound on the values."""
    return nn.Sequential(mlp(latent, *[hidden] * depth, math.prod(shape)), nn.Unflatten(1, shape))
