"""A teacher: a network whose weights are an EMA of another's, towards which that one learns.

Its weights are buffers: saved and moved with the model, known to no optimiser, and without a gradient.
"""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def teacher(student: M) -> M:
    """A copy that begins with the student's weights, as buffers of the same names."""
    twin = copy.deepcopy(student)
    for module in twin.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, p.detach())
    return twin


@torch.no_grad()
def follow(twin: nn.Module, student: nn.Module, tau: float) -> None:
    """xi <- tau xi + (1 - tau) theta.  Statistics of a batch normalisation are each network's own."""
    names, theta = zip(*student.named_parameters())
    xi = [twin.get_buffer(name) for name in names]
    torch._foreach_lerp_(xi, list(theta), 1 - tau)


def rising(tau: float, seen: int, over: int) -> float:
    """1 - (1 - tau) (cos(pi k / K) + 1) / 2 after k = seen of K = over images (Grill et al. 2020, section
    3.2); tau itself where K is 0."""
    return 1 - (1 - tau) * (math.cos(math.pi * min(1.0, seen / over)) + 1) / 2 if over else tau
