"""A mixture of logistics on the grid of brightness levels (Salimans et al., "PixelCNN++", 2017, sections 2.1
and 2.2).

    p(x | pi, mu, s) = sum_k pi_k prod_c [sigmoid((x_c + 1/2 - mu_ck) / s_ck) - sigmoid((x_c - 1/2 - mu_ck) /
    s_ck)]   (2)

with the open tails for the lowest and the highest level.  The channels of a pixel share the weights pi_k, and
the mean of a channel is linear in those before it (eq. 3).  Levels that are near are likely together, which
256 numbers of a softmax would have to learn one by one; and a pixel of three channels takes 100 numbers
instead of 768.

A channel given those before it is a mixture again, its weights those that the components have after these
channels are seen:

    log p(x_c | x_<c) = log sum_k w_ck p_k(x_c),        w_0 = pi,        w_{c+1,k} ~ w_ck p_k(x_c)

so each channel has its own surprise, and their sum is (2).  Arithmetic is in units of levels, as in
parts/likelihoods.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .likelihoods import FAR, NARROWEST, WIDEST

BEYOND = 2.0**24
"""levels; an edge that even at the widest scale has all the mass of any mean on one side"""
VALUES = 2**21
"""of components times levels, that are held at once"""


class LogisticMixture(nn.Module):
    """Of `components` for any number of ordered channels; see parts/conditionals.py.

    `out` is, for each pixel, the logits of the weights (K), means (C K), logarithms of scales (C K) and what
    tanh makes the coefficients of (K for each pair of channels j < c).  Zeros are means in the middle, and
    scales of an eighth of the range.
    """

    sequential = False

    def __init__(self, channels: int, levels: int, components: int = 10):
        super().__init__()
        self.channels, self.levels, self.components = channels, levels, components
        self.outputs = components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """Nats of each sub-pixel, (B, C, H, W), in the precision of x; x on the grid, out (B,
        outputs, H, W)."""
        weights, rest = self.split(x, out)
        result = []
        for c in range(self.channels):
            log_p, weights = self.see(x, c, weights, *self.component(x, c, rest))
            result.append(log_p)
        return torch.cat(result, 1)

    def logits(self, x: Tensor, out: Tensor, c: int) -> Tensor:
        """log p(x_c = each level | x_<c), (B, H, W, levels)."""
        weights, rest = self.split(x, out)
        for before in range(c):
            _, weights = self.see(x, before, weights, *self.component(x, before, rest))
        low, high = self.edges(torch.arange(self.levels, device=x.device, dtype=x.dtype))
        flat = [
            t.movedim(1, -1).reshape(-1, self.components, 1) for t in (weights, *self.component(x, c, rest))
        ]
        pieces = zip(*(t.split(max(1, VALUES // (self.components * self.levels))) for t in flat))
        result = torch.cat([(w + log_mass(low, high, mean, sharp)).logsumexp(1) for w, mean, sharp in pieces])
        return result.view(len(x), *x.shape[2:], self.levels)

    def split(self, x: Tensor, out: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logarithms of the weights, and all other numbers, each (B, K, H, W) with pixels side by side: sums
        over K are then vectorised."""
        logits, *rest = out.to(x.dtype, memory_format=torch.contiguous_format).split(self.components, 1)
        return logits.log_softmax(1), rest

    def component(self, x: Tensor, c: int, rest: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Means in levels, and inverse scales, of channel c given those before it, each (B, K, H, W)."""
        half, first = (self.levels - 1) / 2, 2 * self.channels + c * (c - 1) // 2
        mean, log_scale = rest[c] + 1, rest[self.channels + c]
        for j, coefficient in enumerate(rest[first : first + c]):
            mean = mean + coefficient.tanh() * x[:, j : j + 1]
        low, high = (math.log(4 * s / half) for s in (NARROWEST, WIDEST))
        return (mean * half).clamp(-FAR, FAR), (math.log(4 / half) - log_scale.clamp(low, high)).exp()

    def see(self, x: Tensor, c: int, weights: Tensor, mean: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x_c | x_<c), (B, 1, H, W), and the components' weights once x_c is known.

        These are differences to the likeliest component: however unlikely x_c is, they add up to one.
        """
        k = ((x[:, c : c + 1] + 1) * ((self.levels - 1) / 2)).round()
        joint = weights + log_mass(*self.edges(k), mean, sharp)
        top = joint.detach().amax(1, keepdim=True)
        joint = joint - top
        total = joint.logsumexp(1, keepdim=True)
        return total + top, joint - total

    def edges(self, k: Tensor) -> tuple[Tensor, Tensor]:
        """Where level k begins and ends."""
        return torch.where(k <= 0, -BEYOND, k - 0.5), torch.where(k >= self.levels - 1, BEYOND, k + 0.5)


def log_mass(low: Tensor, high: Tensor, mean: Tensor, sharp: Tensor) -> Tensor:
    """Of a logistic between two edges; the product of sigmoids of parts/likelihoods.py, in which nothing
    cancels."""
    return (
        F.logsigmoid((high - mean) * sharp)
        + F.logsigmoid((mean - low) * sharp)
        + torch.log(-torch.expm1((low - high) * sharp))
    )
