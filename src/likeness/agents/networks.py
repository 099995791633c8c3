"""Small networks over what is seen, with orthogonal first weights (Saxe 2014) as agents have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .world import Space


def tensor(see: np.ndarray) -> Tensor:
    """What is seen as a network takes it, float32; (n, *shape)."""
    return torch.from_numpy(see).float()


def linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def _images(space: Space, activation: type[nn.Module], hidden: int) -> list[nn.Module]:
    """MinAtar's network: one convolution of 16 channels, one layer (Young & Tian 2019)."""
    channels, high, wide = space.shape
    conv = nn.Conv2d(channels, 16, 3)
    nn.init.orthogonal_(conv.weight, math.sqrt(2))
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    inside = linear(16 * (high - 2) * (wide - 2), hidden, math.sqrt(2))
    return [conv, activation(), nn.Flatten(), inside, activation()]


class _Chain(torch.autograd.Function):
    """x -> W2 tanh(W1 tanh(W0 x + b0) + b1) + b2, and its gradient, as one node: of networks so small most of
    the time goes into the nodes.  numpy's tanh takes a seventh of torch's time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        sights = _forward(x, parameters)
        ctx.save_for_backward(*sights[:-1], *parameters)
        return sights[-1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        layers = len(ctx.saved_tensors) // 3
        hidden, parameters = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        out: list[Tensor | None] = []
        for i in range(layers - 1, -1, -1):
            h = hidden[i]
            # the product of the smaller result first: of few inputs it takes a quarter of the time
            out = [(h.t() @ g).t() if h.shape[1] < g.shape[1] else g.t() @ h, g.sum(0), *out]
            if i:
                g = g @ parameters[2 * i]
                g = torch.addcmul(g, g, h * h, value=-1)
        return None, *out


def _forward(x: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The input, the hidden layers, and the result."""
    out = [x]
    for weight, bias in zip(parameters[::2], parameters[1::2]):
        if len(out) > 1:
            h = out[-1].numpy()
            np.tanh(h, out=h)
        out.append(torch.addmm(bias, out[-1], weight.t()))
    return out


class Perceptron(nn.Module):
    """Layers with tanh between them, of a vector: the same numbers whether a gradient is wanted or not."""

    def __init__(self, widths: Sequence[int], gain: float):
        """gain: of the first weights of the last layer."""
        super().__init__()
        last = len(widths) - 2
        self.layers = nn.ModuleList(
            linear(a, b, math.sqrt(2) if i < last else gain) for i, (a, b) in enumerate(pairwise(widths))
        )

    def forward(self, x: Tensor) -> Tensor:
        parameters = [*self.parameters()]
        if not torch.is_grad_enabled():
            return _forward(x, parameters)[-1]
        out: Tensor = _Chain.apply(x, *parameters)
        return out


def torso(space: Space, activation: type[nn.Module], hidden: int, layers: int = 2) -> nn.Sequential:
    """Features (n, hidden) of what is seen: a perceptron of so many layers, or of images one convolution
    first."""
    if len(space.shape) == 3:
        return nn.Sequential(*_images(space, activation, hidden))
    parts: list[nn.Module] = []
    for i in range(layers):
        parts += [linear(hidden if i else space.numbers, hidden, math.sqrt(2)), activation()]
    return nn.Sequential(*parts)


def network(
    space: Space, outputs: int, activation: type[nn.Module], hidden: int, gain: float, layers: int = 2
) -> nn.Module:
    """gain: of the first weights of the last layer; small ones make a policy that begins near uniform."""
    if len(space.shape) == 1 and activation is nn.Tanh:
        return Perceptron([space.numbers, *[hidden] * layers, outputs], gain)
    return nn.Sequential(*torso(space, activation, hidden, layers), linear(hidden, outputs, gain))
