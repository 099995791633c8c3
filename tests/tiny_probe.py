"""Networks that are small enough to be looked through, for the tests of what is made of their slopes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from likeness.backbones.layers import LOGITS, UNIT, Conv, Dense, Graph, MeanPool


class Tanh(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()


def probe(build: Callable[[], Graph], labels: tuple[str, ...] = ()) -> Graph:
    """Weights drawn from a fixed seed, in double precision."""
    with torch.device("meta"):
        shapes = build().measured()
    torch.manual_seed(1)
    net = build()
    net.layers, net.labels = shapes, labels
    return net.double().eval().requires_grad_(False)


def curved(classes: int = 4, side: int = 8, width: int = 6) -> Graph:
    """Smooth everywhere."""

    def build() -> Graph:
        net = Graph("curved", side, UNIT, least=4)
        net.add("conv1", Conv(3, width, 3))
        net.add("bend1", Tanh())
        net.add("conv2", Conv(width, width, 3, 2))
        net.add("bend2", Tanh())
        net.add("pool", MeanPool())
        net.add(LOGITS, Dense(width, classes))
        return net

    return probe(build, tuple(f"kind {i}" for i in range(classes)))


def linear(classes: int = 3, side: int = 4) -> Graph:
    """Logits that are products with the image: one convolution as large as that."""

    def build() -> Graph:
        net = Graph("linear", side, UNIT, least=side)
        net.add("conv", Conv(3, classes, side, pad=0))
        net.add(LOGITS, MeanPool())
        return net

    return probe(build)


def images(n: int, side: int = 8, seed: int = 0) -> Tensor:
    """(n, 3, side, side) in [-0.9, 0.9], double."""
    return (
        torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.8
        - 0.9
    )
