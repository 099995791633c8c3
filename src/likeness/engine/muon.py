"""Muon: steps whose matrices have no direction that is preferred, for the hidden layers of a network.

Jordan, Jin, Boza, You, Cesista, Newhouse & Bernstein, "Muon: An optimizer for hidden layers in neural
networks", 2024 (kellerjordan.github.io/posts/muon).  The gradients G_t of a matrix W, r x c, are averaged,
and of the average only its singular vectors are kept:

    M_t = mu M_{t-1} + (1 - mu) G_t
    B   = mu M_t + (1 - mu) G_t                          Nesterov's look ahead
    O   = U V'   where  B = U S V'                       all that is learnt at once is learnt equally fast
    W  <- W - rate sqrt(max(r, c)) O                     so that a number moves by `rate`, root mean square

U V' comes of a polynomial, five times: with X = B / |B|, X <- a X + b (X X') X + c (X X')^2 X takes every
singular value to about 1 (.7 to 1.2).  Since all of that are products with polynomials in X X', the smaller
square matrix alone goes through the steps, and X is multiplied once, at the end.

What is no such matrix (biases, gains, embeddings, the first and the last layer of few channels) is Adam's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

A, B, C = 3.4445, -4.7750, 2.0315
"""of the polynomial: steep at 0, so that five steps do"""
MU, STEPS = 0.95, 5
TIMES = {"time", "told"}
"""names of parts that are Adam's"""
SMALLEST = 16
"""rows or columns below which a matrix is left to Adam"""


def matrices(module: nn.Module) -> list[Tensor]:
    """The weights of linear maps and convolutions that are large enough both ways, but for parts called
    `time` and `told`: these are told the time of an image and see none of it, and being the largest matrices
    of a small network they took three quarters of what Muon costs."""
    inside = (m for name, m in module.named_modules() if not TIMES & {*name.split(".")})
    layers = (m for m in inside if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd)))
    weights = (m.weight for m in layers if m.weight.requires_grad)
    return [w for w in weights if min(len(w), w[0].numel()) >= SMALLEST]


@torch.no_grad()
def orthogonal(x: Tensor) -> Tensor:
    """U V' of each x = U S V', nearly: (n, r, c) to the same in float32."""
    if x.shape[1] > x.shape[2]:
        return orthogonal(x.mT).mT
    x = x.float()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    one = torch.eye(x.shape[1], device=x.device)
    product, s = one, x @ x.mT
    for again in reversed(range(STEPS)):
        p = torch.baddbmm(A * one + B * s, s, s, alpha=C)
        product = p @ product
        if again:
            s = p @ s @ p
    return product @ x


class Muon(Optimizer):
    """A step of the weights in `hidden` as above, of all others by Adam; both at the same rate."""

    def __init__(self, params: Iterable[Tensor], lr: float, hidden: Collection[Tensor] = ()):
        known = {id(p) for p in hidden}
        both = list(params)
        inside = [p for p in both if id(p) in known]
        rest = [p for p in both if id(p) not in known]
        super().__init__(both, dict(lr=lr, fused=True))
        self.adam = Adam(rest, lr=lr, fused=True) if rest else None
        self.param_groups = [dict(params=inside, lr=lr)] if inside else []
        if self.adam is not None:
            self.param_groups += self.adam.param_groups
            self.state = self.adam.state  # one memory, so that whoever saves it sees all
        self.alike = dict[tuple[int, int], list[Tensor]]()
        for p in inside:
            self.alike.setdefault((len(p), p[0].numel()), []).append(p)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for (rows, columns), alike in self.alike.items():
            moved = [p for p in alike if p.grad is not None]
            if moved:
                self._move(moved, -float(self.param_groups[0]["lr"]) * max(rows, columns) ** 0.5)
        if self.adam is not None:
            self.adam.step()

    def _move(self, alike: list[Tensor], by: float) -> None:
        """Matrices of one shape, together: many small products cost more than one of a stack."""
        grads = [p.grad for p in alike if p.grad is not None]
        for p in alike:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        means = [self.state[p]["momentum"] for p in alike]
        torch._foreach_lerp_(means, grads, 1 - MU)
        ahead = torch._foreach_lerp(grads, means, MU)
        step = orthogonal(torch.stack([rows(x) for x in ahead]))
        torch._foreach_add_([rows(p) for p in alike], list(step.unbind()), alpha=by)


def rows(x: Tensor) -> Tensor:
    """A weight as a matrix, a row for each output, in the order in which it lies in the memory; a view."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).flatten(1)
    return x.flatten(1)
