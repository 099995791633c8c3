"""Randomness without a state: every number is a function of (key, seed of the image, call, position)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .eager import eagerly


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


_GOLDEN, _A, _B = (_signed(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _mix(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014), in place: a bijection of int64 that leaves no
    pattern."""
    for shift, mask, factor in ((30, 0x3_FFFF_FFFF, _A), (27, 0x1F_FFFF_FFFF, _B), (31, 0x1_FFFF_FFFF, 1)):
        z ^= (z >> shift).bitwise_and_(mask)
        z *= factor
    return z


def _bits(keys: Tensor, call: int, n: int) -> Tensor:
    stream = _mix(keys + call * _GOLDEN % 2**62)
    return _mix(stream[:, None] + torch.arange(1, n + 1, device=keys.device) * _GOLDEN)


_bits_eagerly = eagerly(_bits)
"""a compiled loss draws its noise outside of what is compiled on a GPU: Triton (torch 2.11) has no code for
these constants"""


class Noise:
    """Randomness for a batch, in which image i depends on (key, seeds[i]) alone.

    Numbers come from a counter, not from a state: whatever the batch, the process, the order or the
    device, image i meets the same numbers, and there is no random state that a run could forget to save.
    Each call draws afresh.  `key` names the stream, so that training and sampling do not share numbers.
    """

    def __init__(self, seeds: Sequence[int] | Tensor, key: int = 0, device: torch.device | str = "cpu"):
        wide = torch.as_tensor(seeds if isinstance(seeds, Tensor) else list(seeds), dtype=torch.int64).to(
            device
        )
        self.keys = _mix(_mix(wide * _GOLDEN) + _signed(key % 2**64))
        self.calls = 0

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: slice | Tensor) -> Noise:
        """The same randomness for some of the images."""
        part = object.__new__(Noise)
        part.keys, part.calls = self.keys[rows], self.calls
        return part

    def to(self, device: torch.device | str) -> Noise:
        """The same numbers, drawn on another device."""
        part = object.__new__(Noise)
        part.keys, part.calls = self.keys.to(device), self.calls
        return part

    @property
    def device(self) -> torch.device:
        return self.keys.device

    def bits(self, *shape: int) -> Tensor:
        """64 random bits for each of len(self) x shape numbers."""
        self.calls += 1
        draw = _bits_eagerly if self.keys.is_cuda else _bits
        return draw(self.keys, self.calls, math.prod(shape)).view(len(self), *shape)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on the open interval (0, 1)."""
        return (
            self.bits(*shape)
            .bitwise_right_shift_(41)
            .bitwise_and_(0x7F_FFFF)
            .float()
            .add_(0.5)
            .mul_(2.0**-23)
        )

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, two from each 64 bits by the transform of Box and Muller."""
        n = math.prod(shape)
        bits = self.bits((n + 1) // 2)
        radius = (
            (bits >> 32).bitwise_and_(0xFFFF_FFFF).float().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
        )
        angle = bits.bitwise_and_(0xFFFF_FFFF).float().mul_(2 * math.pi * 2.0**-32)
        return torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)], 1)[:, :n].reshape(
            len(self), *shape
        )

    def choose(self, logits: Tensor) -> Tensor:
        """Draw from softmax(logits) over the last axis, by the Gumbel trick."""
        return (logits - torch.log(-torch.log(self.uniform(*logits.shape[1:])))).argmax(-1)
