"""Transformer blocks, and a memory with which a sequence is drawn at the cost of one token a step.

    h = x + attention(norm(x))
    y = h + mlp(norm(h))

The norm stands before each layer and not after it (Radford et al., "Language Models are Unsupervised
Multitask Learners", 2019, section 2.3), the multi-layer perceptron is gated (Shazeer, "GLU Variants Improve
Transformer", 2020, eq. 6), and attention knows positions by rotation alone (Su et al., "RoFormer", 2021,
section 3.2): the product of a query and a key then depends on how far one token lies from the other, along
each axis, and what was learned about the pixel above holds everywhere.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Past:
    """Keys and values of the tokens that a transformer has been given: `fed` so far, and room for
    `length`."""

    def __init__(self, length: int):
        self.length, self.fed = length, 0
        self.kept: dict[Any, tuple[Tensor, Tensor]] = {}

    def join(self, layer: nn.Module, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write down a layer's keys and values of new tokens, (B, heads, new, head width); returns those of
        all tokens."""
        if layer not in self.kept:
            room = (*k.shape[:2], self.length, k.shape[3])
            self.kept[layer] = k.new_empty(room), v.new_empty(room)
        keys, values = self.kept[layer]
        end = self.fed + k.shape[2]
        keys[:, :, self.fed : end], values[:, :, self.fed : end] = k, v
        return keys[:, :, :end], values[:, :, :end]


def rotation(positions: Tensor, width: int) -> Tensor:
    """Cosine and sine of the angles by which to turn each pair of features of a head, (2, T, width // 2), for
    positions (T, axes) in whole steps.

    Pairs are dealt out to the axes.  The first of an axis turns by a radian a step, each next one more
    slowly, almost down to a radian in the whole length: fast ones tell neighbours apart, slow ones near from
    far.
    """
    axes, pairs = positions.shape[1], width // 2
    axis, which = torch.arange(pairs) % axes, torch.arange(pairs) // axes
    length = (positions.amax(0) + 1)[axis]
    angle = positions[:, axis] * length ** -(which / math.ceil(pairs / axes))
    return torch.stack([angle.cos(), angle.sin()])


def turn(x: Tensor, by: Tensor) -> Tensor:
    """Rotate each pair of features (x_i, x_i+n/2) of (..., T, n) (Su et al. 2021, eq. 34)."""
    (a, b), (cos, sin) = x.chunk(2, -1), by.to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Attention(nn.Module):
    """softmax(Q K' / sqrt(head width)) V, of `heads` parts of the features each for itself (Vaswani et al.
    2017, section 3.2)."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width, bias=False)  # a bias of keys would cancel in the softmax
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, by: Tensor | None = None, past: Past | None = None, seen: Tensor | None = None
    ) -> Tensor:
        """x (B, T, width), turned `by` the rotation() of their positions; with a past, tokens that follow
        those in it.  seen: bool (B, 1, 1, T), the tokens that any may look at, where nothing is causal."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        (q, k), v = qkv[:2] if by is None else turn(qkv[:2], by), qkv[2]
        if past is None:
            result = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=self.causal)
        else:
            result = F.scaled_dot_product_attention(q, *past.join(self, k, v), attn_mask=behind(past.fed, x))
        out: Tensor = self.out(result.transpose(1, 2).flatten(2))
        return out


def behind(fed: int, x: Tensor) -> Tensor | None:
    """Which of all tokens each of the new ones x (B, new, width) may see: those fed before, and of the new
    ones none after it."""
    new = x.shape[1]
    return None if new == 1 else torch.ones(new, fed + new, dtype=torch.bool, device=x.device).tril(fed)


class Gated(nn.Module):
    """(silu(x W) * x V) U, with W and V so narrow that it is as large as the usual one of four times the
    width."""

    def __init__(self, width: int):
        super().__init__()
        hidden = 8 * math.ceil(width / 3)
        self.inside = nn.Linear(width, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.inside(x).chunk(2, -1)
        out: Tensor = self.out(F.silu(gate) * value)
        return out


class Block(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mlp = Attention(width, heads, causal), Gated(width)

    def forward(
        self, x: Tensor, by: Tensor | None = None, past: Past | None = None, seen: Tensor | None = None
    ) -> Tensor:
        h = x + self.attention(self.norm1(x), by, past, seen)
        out: Tensor = h + self.mlp(self.norm2(h))
        return out


class Transformer(nn.Module):
    """`depth` blocks and a last norm.

    causal: no token sees a later one.  The same weights then serve a whole sequence, and, with a Past, one or
    several tokens at a time that follow those given before.
    """

    def __init__(self, width: int, depth: int, heads: int, causal: bool):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, causal) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.start()

    def start(self) -> None:
        """Weights that keep the size of what they are given; those that add to the residual stream smaller
        the more of them there are (Radford et al. 2019, section 2.3)."""
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(
                    p,
                    std=p.shape[1] ** -0.5
                    / (math.sqrt(2 * len(self.blocks)) if name.endswith("out.weight") else 1),
                )

    def forward(
        self, x: Tensor, by: Tensor | None = None, past: Past | None = None, seen: Tensor | None = None
    ) -> Tensor:
        """Features (B, T, width) of tokens (B, T, width), turned `by` the rotation() of their positions.
        seen: bool (B, 1, 1, T), the tokens that any may look at, where nothing is causal."""
        for block in self.blocks:
            x = block(x, by, past, seen)
        if past is not None:
            past.fed += x.shape[1]
        out: Tensor = self.norm(x)
        return out
