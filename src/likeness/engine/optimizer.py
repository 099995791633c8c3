"""Optimisers, and the EMA of weights."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core import Player
from .device import cuda


def optimizer(player: Player, rate: float) -> Optimizer:
    params = [p for p in player.module.parameters() if p.requires_grad]
    make = player.optimizer
    inner = getattr(make, "func", make)
    fused = {"fused": True} if "fused" in inspect.signature(inner).parameters else {}
    return make(params, lr=rate * player.rate, **fused)


def may_exceed(norm: Tensor, limit: float) -> bool:
    """Whether a gradient may have to be scaled down: a GPU is not asked, since the answer would wait for the
    step."""
    return cuda() or not float(norm) < limit - 1e-5


class Average:
    """The EMA of a student's weights, kept in a module of its own.

    The pairs of weights are found once: walking through the modules takes longer than a small step.  Buffers
    may be replaced by the model, so they are looked up again, where there are any; the average may be without
    some that only training needs.
    """

    def __init__(self, average: nn.Module, student: nn.Module):
        self.average, self.student = average, student
        self.averages: list[Tensor] = list(average.parameters())
        self.weights: list[Tensor] = list(student.parameters())
        self.has_buffers = any(True for _ in average.buffers())

    @torch.no_grad()
    def fade(self, keep: float) -> None:
        """average <- keep * average + (1 - keep) * student; buffers are copied."""
        torch._foreach_lerp_(self.averages, self.weights, 1 - keep)
        if self.has_buffers:
            there = dict(self.student.named_buffers())
            named = dict(self.average.named_buffers())
            torch._foreach_copy_(list(named.values()), [there[name] for name in named])
