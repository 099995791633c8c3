"""DCGAN as it is commonly written, for the side of the benchmark that is not ours: from the paper (Radford,
Metz & Chintala 2016).

Convolutions without bias, batch normalisation, and a step that trains D on real images, D on drawn ones, then
G: three losses, each by a forward and a backward pass of its own, binary cross-entropy of a sigmoid, Adam
with 0.0002 and 0.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn as nn
from torch import Tensor


def generator(latent: int, width: int, channels: int = 3) -> nn.Sequential:
    """(B, latent, 1, 1) to (B, channels, 64, 64) in (-1, 1)."""
    layers: list[nn.Module] = [
        nn.ConvTranspose2d(latent, 8 * width, 4, 1, 0, bias=False),
        nn.BatchNorm2d(8 * width),
        nn.ReLU(True),
    ]
    for c in (8 * width, 4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(c, c // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(c // 2), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False), nn.Tanh())


def discriminator(width: int, channels: int = 3) -> nn.Sequential:
    """(B, channels, 64, 64) to (B, 1, 1, 1) in (0, 1)."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
    ]
    for c in (width, 2 * width, 4 * width):
        layers += [
            nn.Conv2d(c, 2 * c, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * c),
            nn.LeakyReLU(0.2, inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 0, bias=False), nn.Sigmoid())


def train(G: nn.Module, D: nn.Module, batches: Iterable[Tensor], latent: int, rate: float) -> Iterator[int]:
    """Yields images seen after each step."""
    judge = nn.BCELoss()
    of_d, of_g = (torch.optim.Adam(net.parameters(), lr=rate, betas=(0.5, 0.999)) for net in (D, G))
    seen = 0
    for x in batches:
        real, fake = (torch.full((len(x),), value, device=x.device) for value in (1.0, 0.0))
        D.zero_grad()
        judge(D(x).view(-1), real).backward()
        drawn = G(torch.randn(len(x), latent, 1, 1, device=x.device))
        judge(D(drawn.detach()).view(-1), fake).backward()
        of_d.step()
        G.zero_grad()
        judge(D(drawn).view(-1), real).backward()
        of_g.step()
        seen += len(x)
        yield seen
