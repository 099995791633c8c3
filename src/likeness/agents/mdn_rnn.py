"""MDN-RNN: what the next code may be, after a code, an action and all that came before.

Ha & Schmidhuber, "World Models", 2018, section 2.2; Bishop, "Mixture Density Networks", 1994.

    p(z' | a, z, h) = sum_k pi_k N(z'; mu_k, diag sigma_k^2)                              (Bishop 22, 23)
    pi = softmax(l / tau),   sigma^2 <- tau sigma^2          where it is drawn from (Ha & Eck 2017, (8))

The same output of the LSTM says how likely the episode ends, and what reward is to be expected if it does and
if it does not: of one expectation for both, a dream could go on from a goal and be paid for it again.

Departure: a component is one of the whole code, where the authors' code has a mixture for each of its
numbers.  Of two things that may happen, one then happens; the mixtures apart would draw half of each.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NARROWEST, WIDEST = -7.0, 3.0
"""log sigma: a density without a floor grows without end on what is deterministic"""


class Mixture(NamedTuple):
    log_weight: Tensor
    """(..., K), of sum 1 after exp"""
    mean: Tensor
    """(..., K, D)"""
    log_sigma: Tensor
    """(..., K, D)"""

    def log_prob(self, z: Tensor) -> Tensor:
        """Nats (...,) of codes z (..., D)."""
        far = (z.unsqueeze(-2) - self.mean) * (-self.log_sigma).exp()
        each = -(far.square() / 2 + self.log_sigma + math.log(2 * math.pi) / 2).sum(-1)
        return (self.log_weight + each).logsumexp(-1)

    def draw(self, uniform: Tensor, normal: Tensor, tau: float) -> Tensor:
        """A code (..., D) of one number (...,) in (0, 1), which chooses the component, and D normal ones.
        tau 0 is likeliest()."""
        if not tau:
            return self.likeliest()
        edges = (self.log_weight / tau).softmax(-1).cumsum(-1)
        k = (edges < uniform.unsqueeze(-1)).sum(-1).clamp(max=edges.shape[-1] - 1)
        return self._of(self.mean, k) + math.sqrt(tau) * self._of(self.log_sigma, k).exp() * normal

    def likeliest(self) -> Tensor:
        """The mean (..., D) of the component of the largest weight."""
        return self._of(self.mean, self.log_weight.argmax(-1))

    @staticmethod
    def _of(numbers: Tensor, k: Tensor) -> Tensor:
        index = k[..., None, None].expand(*k.shape, 1, numbers.shape[-1])
        return numbers.gather(-2, index).squeeze(-2)


class Ahead(NamedTuple):
    """What follows an action."""

    code: Mixture
    reward: Tensor
    """(..., 2) to be expected where the episode goes on, and where it terminates"""
    end: Tensor
    """(...,) logit of that the episode terminates"""

    def nats(self, z: Tensor) -> Tensor:
        return -self.code.log_prob(z)


class MDNRNN(nn.Module):
    """Memory (n, 2 hidden) is h and the cell of the LSTM, one after the other; zeros at the beginning."""

    def __init__(self, code: int, actions: int, hidden: int, mixtures: int):
        super().__init__()
        self.code, self.actions, self.hidden, self.mixtures = code, actions, hidden, mixtures
        self.lstm = nn.LSTM(code + actions, hidden, batch_first=True)
        self.out = nn.Linear(hidden, mixtures * (1 + 2 * code) + 3)

    def forward(self, z: Tensor, action: Tensor, memory: Tensor | None = None) -> tuple[Ahead, Tensor]:
        """Of sequences: z (n, T, code), action (n, T); the memory after them (n, 2 hidden)."""
        shown = torch.cat([z, F.one_hot(action, self.actions).to(z.dtype)], -1)
        before = None
        if memory is not None:
            h, c = memory.chunk(2, -1)
            before = (h.unsqueeze(0).contiguous(), c.unsqueeze(0).contiguous())
        y, (h, c) = self.lstm(shown, before)
        return self.read(self.out(y)), torch.cat([h[0], c[0]], -1)

    def read(self, out: Tensor) -> Ahead:
        k, d = self.mixtures, self.code
        logits, mean, log_sigma, heads = out.split([k, k * d, k * d, 3], -1)
        middle, half = (WIDEST + NARROWEST) / 2, (WIDEST - NARROWEST) / 2
        # begins at sigma 1, and has a gradient everywhere
        bounded = middle + half * torch.tanh(log_sigma / half + math.atanh(-middle / half))
        shape = (*out.shape[:-1], k, d)
        code = Mixture(logits.log_softmax(-1), mean.view(shape), bounded.view(shape))
        return Ahead(code, heads[..., :2], heads[..., 2])

    def step(self, z: Tensor, action: Tensor, memory: Tensor) -> tuple[Ahead, Tensor]:
        """One action: z (n, code), action (n,)."""
        ahead, memory = self(z.unsqueeze(1), action.unsqueeze(1), memory)
        code = Mixture(*(x.squeeze(1) for x in ahead.code))
        return Ahead(code, ahead.reward.squeeze(1), ahead.end.squeeze(1)), memory
