"""Fully connected networks between an image and a vector."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


def mlp(*sizes: int) -> nn.Sequential:
    """Linear maps through `sizes`, with a rectifier between each two."""
    layers: list[nn.Module] = []
    for inside, outside in pairwise(sizes):
        layers += [nn.Linear(inside, outside), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def encoder(
    shape: tuple[int, ...], out: int, hidden: int = 400, depth: int = 2, octaves: int = 0
) -> nn.Sequential:
    """(B, *shape) to (B, out); with depth 0 a linear map.  octaves: of the waves of each number that it is
    told as well."""
    first, dims = Waves(octaves) if octaves else nn.Flatten(), math.prod(shape)
    return nn.Sequential(first, mlp(dims * (1 + 2 * octaves), *[hidden] * depth, out))


def decoder(latent: int, shape: tuple[int, ...], hidden: int = 400, depth: int = 2) -> nn.Sequential:
    """(B, latent) to (B, *shape), without a bound on the values."""
    return nn.Sequential(mlp(latent, *[hidden] * depth, math.prod(shape)), nn.Unflatten(1, shape))


class Waves(nn.Module):
    """Coordinates x, then sin(2^k pi x) and cos(2^k pi x) for k below `octaves`: (B, ...) to (B, (1 + 2
    octaves) F).

    By itself a network of few layers is far too smooth in them (Tancik et al., "Fourier Features Let Networks
    Learn High Frequency Functions in Low Dimensional Domains", 2020).
    """

    def __init__(self, octaves: int):
        super().__init__()
        self.frequencies = [math.pi * 2.0**k for k in range(octaves)]

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        angle = torch.cat([f * x for f in self.frequencies], 1)
        return torch.cat([x, angle.sin(), angle.cos()], 1)

    def slopes(self, x: Tensor) -> Tensor:
        """The derivative of each of these numbers with respect to its own coordinate, at x (B, F): in the
        same places."""
        angle = torch.cat([f * x for f in self.frequencies], 1)
        rate = torch.cat([torch.full_like(x, f) for f in self.frequencies], 1)
        return torch.cat([torch.ones_like(x), rate * angle.cos(), -rate * angle.sin()], 1)
