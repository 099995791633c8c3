"""Minimise over pixels or codes instead of weights: a generator of places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from ..core import Refusal


class State(NamedTuple):
    step: int
    """steps made; 0 is the start itself"""
    at: tuple[Tensor, ...]
    loss: Tensor
    """at this place, in whatever shape the loss function gives it"""


def minimize(
    start: Sequence[Tensor],
    loss: Callable[..., Tensor],
    steps: int,
    rate: float,
    *,
    optimizer: Callable[..., Optimizer] = Adam,
    hold: Callable[..., None] | None = None,
) -> Iterator[State]:
    """Yield the start, and the place after each step down the gradient of the sum of loss(*start).

    The rate falls to nothing along half a cosine, so that it ends at rest.  hold: puts the tensors back to
    where they may be, in place, after each step.  Where the loss has a value for each row of the tensors, and
    Adam or another optimiser of single numbers moves them, every row goes its own way, whatever the others
    do. Raises Refusal where the loss does not change with what it is to be minimised over.
    """
    at = tuple(x.detach().clone() for x in start)
    mover = optimizer([x.requires_grad_() for x in at], lr=rate)
    for step in range(steps + 1):
        with torch.enable_grad():
            result = loss(*at)
            slopes = _slopes(result, at) if step < steps else ()
        yield State(step, tuple(x.detach().clone() for x in at), result.detach())
        if not slopes:
            return
        for group in mover.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        for x, slope in zip(at, slopes):
            x.grad = slope
        mover.step()
        if hold is not None:
            with torch.no_grad():
                hold(*at)


def _slopes(loss: Tensor, at: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    result = torch.autograd.grad(loss.sum(), at, allow_unused=True) if loss.requires_grad else ()
    known = tuple(slope for slope in result if slope is not None)
    if len(known) < len(at):
        raise Refusal(
            "there is no slope to walk down: a small step changes nothing, as where a code is moved to the "
            "nearest of a list; ask without steps."
        )
    return known
