"""A transformer in place of a U-Net: patches of an image are tokens, and the time scales what goes through
every block.

Peebles & Xie, "Scalable Diffusion Models with Transformers", 2023 (DiT), with adaLN-zero (section 3.2):

    x = x + g1 * attention((1 + s1) * norm(x) + b1)
    x = x + g2 * mlp((1 + s2) * norm(x) + b2)

where b, s and g are linear in silu(e(t) + e(y)) and begin at zero, so that at first every block is the
identity.  Positions are fixed sinusoids of row and column.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core import Condition, Noise
from .conditioning import Labels, Text
from .text import Texts
from .unet import Cross, Heads, thin, waves, wide, zero

WAVES = 256
"""sines and cosines that a time is told by"""
MODULATIONS = 6
"""of a block: b, s and g, twice"""


def patch_size(size: int) -> int:
    """Pixels a side of a patch: the largest that makes 7 to 16 rows of an image of `size` pixels a side,
    without a rest if that can be."""
    fits = [p for p in range(1, size + 1) if 7 <= math.ceil(size / p) <= 16]
    return max([p for p in fits if size % p == 0] or fits, default=1)


def positions(rows: int, width: int) -> Tensor:
    """Sinusoids of the column and the row of each of rows x rows tokens, (rows ** 2, width); width a multiple
    of 4."""
    at = waves(torch.arange(rows), width // 2)
    return torch.cat([at.repeat(rows, 1), at.repeat_interleave(rows, 0)], 1)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(1 + s) * norm(x) + b of tokens (B, T, width), with b and s (B, width)."""
    return torch.addcmul(shift[:, None], F.layer_norm(wide(x), x.shape[-1:], eps=1e-6), 1 + scale[:, None])


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, words: int = 0):
        """words: features of a word, where texts are read ("PixArt-alpha", Chen et al. 2024, section 2.3)."""
        super().__init__()
        self.dropout = dropout
        self.attention = Heads(width, heads)
        self.cross = Cross(width, words, heads) if words else None
        self.inside, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, modulation: Tensor, noise: Noise | None, text: Text | None = None) -> Tensor:
        """Tokens (B, T, width), and b, s and g, twice, (B, 6 * width)."""
        b1, s1, g1, b2, s2, g2 = modulation.chunk(MODULATIONS, 1)
        x = x + g1[:, None] * self.attention(modulated(x, b1, s1))
        if self.cross is not None and text is not None:
            x = x + self.cross(F.layer_norm(wide(x), x.shape[-1:]), text)
        h = F.gelu(self.inside(modulated(x, b2, s2)), approximate="tanh")
        out: Tensor = x + g2[:, None] * self.out(thin(h, self.dropout, noise))
        return out


class DiT(nn.Module):
    """For square images (B, inside, size, size); what a patch exceeds the image by is zero, and cut off
    again."""

    def __init__(
        self,
        inside: int,
        outside: int,
        size: int,
        width: int,
        depth: int,
        heads: int,
        labels: int = 0,
        times: int = 1,
        dropout: float = 0.0,
        patch: int = 0,
        text: Texts | None = None,
    ):
        """patch: its pixels a side; 0 chooses.  text: those that are read beside the image."""
        super().__init__()
        self.size, self.patch, self.labels = size, patch or patch_size(size), labels
        self.rows = math.ceil(size / self.patch)
        self.first = nn.Conv2d(inside, width, self.patch, stride=self.patch)
        self.positions = nn.Buffer(positions(self.rows, width), persistent=False)
        self.time = nn.Sequential(nn.Linear(times * WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = Labels(labels, width, null=True) if labels else None
        self.text = text.encoder() if text else None
        self.pooled = nn.Linear(text.width, width) if text else None
        words = text.width if text else 0
        self.blocks = nn.ModuleList(Block(width, heads, dropout, words) for _ in range(depth))
        self.told = zero(nn.Linear(width, (MODULATIONS * depth + 2) * width))
        self.last = zero(nn.Linear(width, outside * self.patch**2))

    def forward(self, x: Tensor, t: Tensor, y: Condition | None = None, noise: Noise | None = None) -> Tensor:
        """x (B, inside, H, W), t (B,) or (B, times), y: of which classes and texts count, or None; (B,
        outside, H, W) float32.

        noise: the images' own, for dropout; without it there is none.
        """
        rest = self.rows * self.patch - self.size
        text = None if self.text is None else self.text(y, len(x))
        *modulations, last = self.when(t, y, text)
        h = self.first(F.pad(x, (0, rest, 0, rest))).flatten(2).mT + self.positions
        for block, e in zip(self.blocks, modulations):
            h = block(h, e, noise, text)
        h = self.last(modulated(h, *last.chunk(2, 1))).float()
        image = (
            h.unflatten(2, (-1, self.patch, self.patch))
            .unflatten(1, (self.rows, self.rows))
            .permute(0, 3, 1, 4, 2, 5)
        )
        return image.flatten(4).flatten(2, 3)[:, :, : self.size, : self.size]

    def when(self, t: Tensor, y: Condition | None, text: Text | None = None) -> tuple[Tensor, ...]:
        """What each block is told of time, class and the mean of a text's words, (B, 6 * width), and the last
        layer, (B, 2 * width); in float32."""
        width = self.positions.shape[1]
        with torch.autocast(t.device.type, enabled=False):
            e = self.time(waves(t.flatten(), WAVES).view(t.shape[0], -1))
            if self.label is not None:
                e = e + self.label(y, t.shape[0])
            if self.pooled is not None and text is not None:
                e = e + self.pooled(text.mean)
            return self.told(F.silu(e)).split([MODULATIONS * width] * len(self.blocks) + [2 * width], 1)
