"""Adam over one vector: Kingma & Ba 2015, algorithm 1, with the order of operations of torch.optim.Adam.

Networks of agents are so small that most of a step is the overhead of its calls.  All weights are views of
one vector, and so are their gradients: zeroing, clipping and the step are a dozen calls of numpy, each of a
third of torch's overhead, however many layers there are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import adam


class Adam:
    def __init__(
        self,
        modules: nn.Module,
        eps: float = 1e-8,
        betas: tuple[float, float] = (0.9, 0.999),
        fused: bool = False,
    ):
        """fused: by the one kernel of torch, which takes a third of the time where weights are 100,000, and
        rounds otherwise."""
        parameters = list(modules.parameters())
        self.flat = torch.cat([p.detach().flatten() for p in parameters])
        self.gradient = torch.zeros_like(self.flat)
        at = 0
        for p in parameters:
            p.data = self.flat[at : at + p.numel()].view_as(p)
            p.grad = self.gradient[at : at + p.numel()].view_as(p)
            at += p.numel()
        self.first, self.second = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self._scale = torch.zeros_like(self.flat)
        self.number, self.eps, self.betas, self.fused = 0, eps, betas, fused

    def step(self, loss: Tensor, rate: float, clip: float) -> None:
        """One step down the loss; the norm of the gradient is cut to `clip`."""
        self.gradient.zero_()
        loss.backward()
        self.descend(rate, clip)

    def descend(self, rate: float, clip: float) -> None:
        """One step by the gradient that is there."""
        g, first, second, scale = (x.numpy() for x in (self.gradient, self.first, self.second, self._scale))
        norm = float(torch.linalg.vector_norm(self.gradient))  # numpy's has threads of its own
        if norm > clip:
            g *= np.float32(clip / (norm + 1e-6))
        b1, b2 = self.betas
        self.number += 1
        if self.fused:
            return self._at_once(rate)
        np.subtract(g, first, out=scale)
        scale *= np.float32(1 - b1)
        first += scale
        g *= g
        g *= np.float32(1 - b2)
        second *= np.float32(b2)
        second += g
        np.sqrt(second, out=scale)
        scale *= np.float32(1 / math.sqrt(1 - b2**self.number))
        scale += np.float32(self.eps)
        np.divide(first, scale, out=scale)
        scale *= np.float32(-rate / (1 - b1**self.number))
        self.flat.numpy()[:] += scale

    def _at_once(self, rate: float) -> None:
        b1, b2 = self.betas
        before = torch.tensor(float(self.number - 1))  # the kernel counts on
        with torch.no_grad():
            adam(
                [self.flat], [self.gradient], [self.first], [self.second], [], [before], fused=True,
                amsgrad=False, beta1=b1, beta2=b2, lr=rate, weight_decay=0.0, eps=self.eps, maximize=False,
            )  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        return dict(weights=self.flat, first=self.first, second=self.second)

    def restore(self, tensors: dict[str, Any], number: int) -> None:
        with torch.no_grad():
            for own, name in ((self.flat, "weights"), (self.first, "first"), (self.second, "second")):
                own.copy_(tensors[name])
        self.number = number
