"""Small networks over what is seen, with orthogonal first weights (Saxe 2014) as agents have them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


def _images(space: Space, activation: type[nn.Module], hidden: int, norm: bool) -> list[nn.Module]:
    """MinAtar's network: one convolution of 16 channels, one layer (Young & Tian 2019)."""
    channels, high, wide = space.shape
    conv = nn.Conv2d(channels, 16, 3)
    nn.init.orthogonal_(conv.weight, math.sqrt(2))
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    inside = linear(16 * (high - 2) * (wide - 2), hidden, math.sqrt(2))
    over = [nn.GroupNorm(1, 16)] if norm else []
    return [conv, *over, activation(), nn.Flatten(), inside, *_over(hidden, norm), activation()]


def _over(width: int, norm: bool) -> list[nn.Module]:
    return [nn.LayerNorm(width)] if norm else []


class _Chain(torch.autograd.Function):
    """A perceptron and its gradient as one node: of networks so small most of the time goes into the
    nodes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        sights = layers(x, parameters)
        ctx.save_for_backward(*sights[:-1], *parameters)
        return sights[-1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        many = len(ctx.saved_tensors) // 3
        hidden, parameters = ctx.saved_tensors[:many], ctx.saved_tensors[many:]
        out = [torch.empty_like(p) for p in parameters]
        gradients(hidden, parameters, g, out)
        return None, *out


def layers(x: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """x -> W2 tanh(W1 tanh(W0 x + b0) + b1) + b2: the input, the hidden layers, and the result.

    numpy's tanh takes a seventh of torch's time."""
    out = [x]
    for weight, bias in zip(parameters[::2], parameters[1::2]):
        if len(out) > 1:
            h = out[-1].numpy()
            np.tanh(h, out=h)
        out.append(torch.addmm(bias, out[-1], weight.t()))
    return out


def answers(net: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """What the network says (n, outputs) of what is seen, until its weights move; under inference mode."""
    if not isinstance(net, Perceptron):
        return lambda see: net(tensor(see)).numpy()
    pairs = [(w.t(), b) for w, b in zip(net.weights[::2], net.weights[1::2])]

    def answer(see: np.ndarray) -> np.ndarray:
        x = tensor(see)
        for at, (weight, bias) in enumerate(pairs):
            if at:
                h = x.numpy()
                np.tanh(h, out=h)
            x = torch.addmm(bias, x, weight)
        return x.numpy()

    return answer


def gradients(
    hidden: Sequence[Tensor], parameters: Sequence[Tensor], g: Tensor, out: Sequence[Tensor]
) -> None:
    """Of a number whose gradient at the result is g (n, outputs): that of each parameter, written to `out`.

    hidden: the input and the hidden layers, as layers() has them.
    """
    ones = g.new_ones(len(g))
    for i in range(len(hidden) - 1, -1, -1):
        h = hidden[i]
        if h.shape[1] < g.shape[1]:  # the product of the smaller result first: it takes a quarter of the time
            out[2 * i].copy_(torch.mm(h.t(), g).t())
        else:
            torch.mm(g.t(), h, out=out[2 * i])
        torch.mv(g.t(), ones, out=out[2 * i + 1])
        if i:
            g = torch.mm(g, parameters[2 * i])
            g.addcmul_(g, h * h, value=-1)


class Perceptron(nn.Module):
    """Layers with tanh between them, of a vector: the same numbers whether a gradient is wanted or not."""

    def __init__(self, widths: Sequence[int], gain: float):
        """gain: of the first weights of the last layer."""
        super().__init__()
        last = len(widths) - 2
        self.layers = nn.ModuleList(
            linear(a, b, math.sqrt(2) if i < last else gain) for i, (a, b) in enumerate(pairwise(widths))
        )
        self.weights = [*self.parameters()]
        """weight and bias of each layer; to walk through modules for them takes as long as a layer"""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return layers(x, self.weights)[-1]
        out: Tensor = _Chain.apply(x, *self.weights)
        return out


def torso(
    space: Space, activation: type[nn.Module], hidden: int, layers: int = 2, norm: bool = False
) -> nn.Sequential:
    """Features (n, hidden) of what is seen: a perceptron of so many layers, or of images one convolution
    first.  norm: with the mean and deviation of each layer taken out (Ba, Kiros & Hinton 2016)."""
    if len(space.shape) == 3:
        return nn.Sequential(*_images(space, activation, hidden, norm))
    parts: list[nn.Module] = []
    for i in range(layers):
        inside = linear(hidden if i else space.numbers, hidden, math.sqrt(2))
        parts += [inside, *_over(hidden, norm), activation()]
    return nn.Sequential(*parts)


def network(
    space: Space, outputs: int, activation: type[nn.Module], hidden: int, gain: float, layers: int = 2
) -> nn.Module:
    """gain: of the first weights of the last layer; small ones make a policy that begins near uniform."""
    if len(space.shape) == 1 and activation is nn.Tanh:
        return Perceptron([space.numbers, *[hidden] * layers, outputs], gain)
    return nn.Sequential(*torso(space, activation, hidden, layers), linear(hidden, outputs, gain))
