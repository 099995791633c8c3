"""Residual convolutional networks between a square image and a vector, or a smaller image.

The image is halved until 4 to 7 pixels are left, or as many as `grid` says.  With a grid all layers are
convolutions: the vector is an image of grid x grid places, one channel after another, and the numbers at a
place come from what lies around it.

Residual blocks (He et al. 2016) work only where it is 16 pixels wide or less, and at the grid: above that,
one convolution a level.  There is no normalisation: on a processor it costs as much time as the convolutions
between which it stands, and a block whose last convolution starts at zero is the identity at first, which is
all that a network of this depth needs (Zhang, Dauphin & Ma, "Fixup Initialization", 2019).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Refusal


class Block(nn.Module):
    """x plus two convolutions of it."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        return x + h


class Image(nn.Module):
    """(B, channels * size * size) to (B, channels, size, size), channels last as the convolutions after it
    want them."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.shape = (channels, size, size)

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, self.shape).contiguous(memory_format=torch.channels_last)


def ladder(size: int, grid: int = 0) -> list[int]:
    """The widths in pixels that an image of `size` passes through: 28, 14, 7 or 100, 50, 25, 13, 7; down to
    `grid`, if that is not 0."""
    sizes = [size]
    while sizes[-1] > 7:
        sizes.append((sizes[-1] + 1) // 2)
    if size == 1:
        raise Refusal(
            "a convolutional network asks for images of 8 pixels or more, and these are points or codes of "
            "numbers; a model that has --net mlp takes them."
        )
    if len(sizes) == 1:
        raise Refusal(
            f"a convolutional network asks for images of at least 8 pixels a side and these have {size}; a "
            "model that has --net mlp takes any number, and images, but not the codes of a run, can be "
            "read with --size 8."
        )
    if grid and grid not in sizes[1:]:
        raise Refusal(
            f"--grid {grid} is no width that images of {size} pixels are halved to; type --grid "
            f"{' or '.join(map(str, sizes[:0:-1]))}."
        )
    return sizes[: sizes.index(grid) + 1] if grid else sizes


def check_grid(name: str, net: str, size: int, latent: int, grid: int) -> None:
    """Refuse what gives images of `size` no code of `latent` numbers at grid x grid places, in a model called
    `name`."""
    if net != "conv":
        raise Refusal(
            f"{name}: --grid {grid} asks for a convolutional network, which knows where in the image it is; "
            f"leave --net {net} out."
        )
    ladder(size, grid)
    if latent % grid**2:
        channels = max(1, latent // grid**2)
        raise Refusal(
            f"{name}: --latent {latent} numbers cannot be shared among the {grid**2} places of --grid "
            f"{grid}; type --latent {channels * grid**2} for {channels} at each, or --latent "
            f"{(channels + 1) * grid**2} for {channels + 1}."
        )


def channels_at(size: int, width: int) -> int:
    """`width` at 9 to 16 pixels, twice as many below, and fewer above, where each one costs most."""
    return max(4, 2 * width >> max(0, (size - 1).bit_length() - 3))


def halve(
    size: int, inside: int, outside: int, kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], bias: bool = True
) -> nn.Module:
    """From `size` pixels to half of it, rounded up, or the way back."""
    return kind(inside, outside, 4 - size % 2, stride=2, padding=1, bias=bias)


def _blocks(size: int, channels: int, depth: int, grid: int) -> list[nn.Module]:
    return [Block(channels) for _ in range(depth)] if size <= 16 or size == grid else []


def encoder(
    channels: int, size: int, out: int, width: int = 16, depth: int = 2, grid: int = 0
) -> nn.Sequential:
    """(B, channels, size, size) to (B, out).  Raises Refusal for a size below 8, and for a grid that it is
    not halved to."""
    layers: list[nn.Module] = []
    sizes = ladder(size, grid)
    for large, small in pairwise(sizes):
        c = channels_at(small, width)
        layers += [
            *([nn.ReLU()] if layers else []),
            halve(large, channels, c, nn.Conv2d),
            *_blocks(small, c, depth, grid),
        ]
        channels = c
    if grid:
        return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(channels, out // grid**2, 1), nn.Flatten())
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(channels * sizes[-1] ** 2, out))


def rectified(channels: int, size: int, out: int, width: int = 16, depth: int = 2) -> nn.Sequential:
    """encoder(), and what it says normalised over the batch and without what is below zero: features whose
    projections are compared."""
    return nn.Sequential(encoder(channels, size, out, width, depth), nn.BatchNorm1d(out), nn.ReLU())


def decoder(
    latent: int, channels: int, size: int, width: int = 16, depth: int = 2, grid: int = 0
) -> nn.Sequential:
    """(B, latent) to (B, channels, size, size), without a bound on the values.  Raises Refusal as encoder()
    does."""
    sizes = ladder(size, grid)[::-1]
    c = channels_at(sizes[0], width)
    if grid:
        layers: list[nn.Module] = [
            Image(latent // grid**2, grid),
            nn.Conv2d(latent // grid**2, c, 3, padding=1),
        ]
    else:
        layers = [nn.Linear(latent, c * sizes[0] ** 2), Image(c, sizes[0])]
    for small, large in pairwise(sizes):
        after = channels if large == size else channels_at(large, width)
        layers += [*_blocks(small, c, depth, grid), nn.ReLU(), halve(large, c, after, nn.ConvTranspose2d)]
        c = after
    return nn.Sequential(*layers)
