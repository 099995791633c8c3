"""A vision transformer without a task: patches of an image as tokens, and where they lie.

Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021, section 3.1, with fixed sinusoids of row and column
as positions (He et al., "Masked Autoencoders Are Scalable Vision Learners", 2022, appendix A.1), and the
blocks of transformer.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Refusal
from . import dit
from .transformer import Transformer
from .unet import waves

SMALLEST = 8
"""pixels a side of an image that has patches to compare"""


def patch_size(size: int, asked: int = 0) -> int:
    """Pixels a side of a patch: as asked, or such that there are 4 to 16 rows; two at least, since a patch of
    one pixel has nothing within it.

    Raises Refusal for images too small, and for patches too large or too small.
    """
    if size < SMALLEST:
        raise Refusal(
            f"a transformer of patches asks for images of at least {SMALLEST} pixels a side and these have "
            f"{size}; read them with --size {SMALLEST} or more."
        )
    if asked and not 2 <= asked <= size // 2:
        raise Refusal(
            f"--patch {asked} does not make patches of images of {size} pixels a side; type 2 to {size // 2}."
        )
    return asked or max(2, dit.patch_size(size))


def patches(x: Tensor, p: int) -> Tensor:
    """(B, C, H, W) to (B, T, C * p * p), row by row; what the last patches exceed the image by is its border
    again."""
    rest = -x.shape[-1] % p
    x = F.pad(x, (0, rest, 0, rest), "replicate") if rest else x
    return x.unflatten(3, (-1, p)).unflatten(2, (-1, p)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def positions(rows: int, width: int, across: int, device: torch.device | None = None) -> Tensor:
    """Sinusoids of column and row of rows x rows tokens, (rows ** 2, width), of an image that is scaled up to
    `across` rows."""
    at = (torch.arange(rows, device=device) + 0.5) * (across / rows) - 0.5
    wave = waves(at, width // 2)
    return torch.cat([wave.repeat(rows, 1), wave.repeat_interleave(rows, 0)], 1)


def check(name: str, width: int, heads: int) -> None:
    """Refuse a width that cannot be dealt out to heads, and to sines and cosines of two axes."""
    if width % (unit := math.lcm(4, heads)):
        fit = max(1, round(width / unit)) * unit
        raise Refusal(
            f"{name}: {width} features cannot be shared evenly among {heads} heads and four kinds of waves; "
            f"use {fit}."
        )


class ViT(nn.Module):
    """Images of `size` pixels, or of fewer, to features of every patch, and of one more token that belongs to
    none."""

    def __init__(self, channels: int, size: int, width: int, depth: int, heads: int, p: int):
        super().__init__()
        self.p, self.rows, self.width = p, math.ceil(size / p), width
        self.embed = nn.Linear(channels * p * p, width)
        self.token = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = Transformer(width, depth, heads, causal=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 1 + T, width), the token that belongs to no patch first."""
        h = self.embed(patches(x, self.p))
        h = h + positions(math.isqrt(h.shape[1]), self.width, self.rows, h.device)
        out: Tensor = self.blocks(torch.cat([self.token.to(h).expand(x.shape[0], 1, -1), h], 1))
        return out
