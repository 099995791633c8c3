"""Small networks over what is seen, with orthogonal first weights (Saxe 2014) as agents have them."""

from __future__ import annotations

import math

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
    nn.init.zeros_(conv.bias)
    inside = linear(16 * (high - 2) * (wide - 2), hidden, math.sqrt(2))
    return [conv, activation(), nn.Flatten(), inside, activation()]


def torso(space: Space, activation: type[nn.Module], hidden: int, layers: int = 2) -> nn.Sequential:
    """Features (n, hidden) of what is seen: a perceptron of so many layers, or of images one convolution first."""
    if len(space.shape) == 3:
        return nn.Sequential(*_images(space, activation, hidden))
    parts: list[nn.Module] = []
    for i in range(layers):
        parts += [linear(hidden if i else space.numbers, hidden, math.sqrt(2)), activation()]
    return nn.Sequential(*parts)


def network(
    space: Space, outputs: int, activation: type[nn.Module], hidden: int, gain: float, layers: int = 2
) -> nn.Sequential:
    """gain: of the first weights of the last layer; small ones make a policy that begins near uniform."""
    return nn.Sequential(*torso(space, activation, hidden, layers), linear(hidden, outputs, gain))
