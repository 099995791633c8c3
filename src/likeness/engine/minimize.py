"""Minimise over pixels or codes instead of weights: a generator of places.

With any optimiser a step costs one evaluation of the loss and its gradient, that of the place it starts from,
so that two optimisers are compared at equal `State.step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

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

    The rate falls to nothing along half a cosine, so that it ends at rest; LBFGS has a use for it in its
    first step only, and its places are tries, of which the best is not always the last.  hold: puts the
    tensors back to where they may be, in place, after each step.  Where the loss has a value for each row of
    the tensors, and Adam or another optimiser of single numbers moves them, every row goes its own way,
    whatever the others do. Raises Refusal where the loss does not change with what it is to be minimised
    over.
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
        mover.step(partial(float, result.detach().sum()))
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


class LBFGS(Optimizer):
    """Limited-memory BFGS (Nocedal & Wright, "Numerical Optimization", 2006, algorithm 7.4) with
    backtracking.

    A step looks at the loss and the gradient of the place where the tensors are now.  Where the loss has not
    fallen enough since the last accepted place (Armijo, their eq. 3.4), the tensors go back on the same line,
    to the minimum of the parabola through what is known of it (eq. 3.57); else the place is accepted, and
    they move on.  So no evaluation is made for a line search that is not a step, and no wild step stays:
    torch.optim.LBFGS without its line search passes through 600 times the loss.

    lr: how far the number moves in the first step that has the steepest gradient.  history: pairs of vectors,
    each of the tensors' size, that are kept.
    """

    def __init__(self, params: Any, lr: float, history: int = 8):
        super().__init__(params, dict(lr=lr))
        self.history = history
        self.pairs: list[tuple[Tensor, Tensor, float]] = []
        """s, y, 1 / (y s)"""
        self.base: tuple[Tensor, Tensor, float] | None = None
        """the last accepted place, its gradient, its loss"""
        self.line: tuple[Tensor, float, float] = (torch.zeros(0), 0.0, 0.0)
        """direction from there, its slope, and how far along it the tensors are"""
        self.tries = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> float:  # type: ignore[override]
        tensors = [p for group in self.param_groups for p in group["params"]]
        loss = float(closure())
        x, g = (torch.cat([t.reshape(-1) for t in ts]) for ts in (tensors, [p.grad for p in tensors]))
        if self.base is not None and not self._lower(loss):
            self._back(loss)
        else:
            self._remember(x, g)
            self.base, self.tries = (x, g, loss), 0
            self._ahead(g)
        direction, _, far = self.line
        at = self.base[0] + far * direction
        for p, part in zip(tensors, at.split([p.numel() for p in tensors])):
            p.copy_(part.view_as(p))
        return loss

    def _lower(self, loss: float) -> bool:
        assert self.base is not None
        return loss <= self.base[2] + ENOUGH * self.line[1] * self.line[2]

    def _back(self, loss: float) -> None:
        """A shorter step on the same line, or the steepest way once that has failed often."""
        assert self.base is not None
        direction, slope, far = self.line
        self.tries += 1
        if self.tries > TRIES and self.pairs:
            self.pairs, self.tries = [], 0
            self._ahead(self.base[1])
            return
        excess = loss - self.base[2] - slope * far
        best = -slope * far * far / (2 * excess) if math.isfinite(excess) and excess > 0 else 0.0
        self.line = direction, slope, min(max(best, 0.1 * far), 0.5 * far)

    def _remember(self, x: Tensor, g: Tensor) -> None:
        """The step that has been accepted, if the gradient has turned along it as that of a bowl does."""
        if self.base is None:
            return
        s, y = x - self.base[0], g - self.base[1]
        turned, squared = float(s @ y), float(y @ y)
        if squared and turned > 1e-10 * squared:  # a square may be too small for a number
            self.pairs = [*self.pairs, (s, y, 1 / turned)][max(0, len(self.pairs) + 1 - self.history) :]

    def _ahead(self, g: Tensor) -> None:
        """The direction -H g (algorithm 7.4), and a whole step along it."""
        d, shares = -g, list[float]()
        for s, y, rho in reversed(self.pairs):
            shares.append(rho * float(s @ d))
            d.add_(y, alpha=-shares[-1])
        if self.pairs:
            s, y, rho = self.pairs[-1]
            d.mul_(1 / (rho * float(y @ y)))
        for (s, y, rho), share in zip(self.pairs, reversed(shares)):
            d.add_(s, alpha=share - rho * float(y @ d))
        slope = float(g @ d)
        if slope >= 0 and self.pairs:  # rounding
            self.pairs = []
            self._ahead(g)
            return
        far = 1.0 if self.pairs else self.param_groups[0]["lr"] / max(float(d.abs().max()), 1e-30)
        self.line = d, slope, far


ENOUGH = 1e-4
"""share of the promised fall that a step must keep (Nocedal & Wright, c_1)"""
TRIES = 8
"""on one line, before what is remembered is forgotten"""
