"""A consistency model: every point of a way from noise to an image is taken to its end at once.

    likeness train benchmarks/consistency.py fashion-mnist runs/consistency --minutes 6

Song & Dhariwal, "Improved Techniques for Training Consistency Models", 2024, which needs no teacher.  With
the noise levels sigma_1 < ... < sigma_N of Karras et al. 2022, of which there are ever more,

    f(x, sigma)  = c_skip(sigma) x + c_out(sigma) F(x, sigma),   f(x, sigma_1) = x                       (Song et al. 2023, eq. 5)
    minimise E lambda(sigma_i) d(f(x_0 + sigma_{i+1} z, sigma_{i+1}), sg f(x_0 + sigma_i z, sigma_i))    (4)
    lambda(sigma_i) = 1 / (sigma_{i+1} - sigma_i),   d(x, y) = sqrt(||x - y||^2 + c^2) - c               section 3.2 and 3.3
    N = min(s_0 2^k, s_1) + 1, where k counts the doublings                                             section 3.4
    P(i) ~ erf((log sigma_{i+1} - P_mean) / sqrt(2) P_std) - erf((log sigma_i - P_mean) / sqrt(2) P_std)
    section 3.5

It stands beside meanflow, with the same networks, and outside the package: that is where a model lies that
was tried and not chosen.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from likeness.core import Batch, Condition, Loss, Noise, Training, option
from likeness.parts.denoising import Denoiser
from likeness.parts.samplers import State
from likeness.parts.schedules import Level, Sigmas, over


class Pair(NamedTuple):
    """Neighbouring noise levels, (B,) each."""

    low: Tensor
    high: Tensor


class Consistency(Denoiser):
    sampler: str = option(
        "jump",
        "to the end at once, and for more steps back into noise and again",
        choices=("jump",),
        live=True,
    )
    steps: int = option(1, "of the sampler", 1, 100, live=True)
    doubling: int = option(40_000, "images after which there are twice as many noise levels", 1, 10**9)
    fewest_levels: int = option(10, "s_0, noise levels at first", 2, 10_000)
    most_levels: int = option(1280, "s_1, noise levels at last", 2, 10_000)
    p_mean: float = option(-1.1, "mean of ln sigma in training", -20.0, 20.0)
    p_std: float = option(2.0, "and its standard deviation", 1e-3, 20.0)

    defaults = Training(batch=32, rate=1e-3, images=300_000, warmup=2_000, ema=50_000)

    def build(self) -> None:
        self.schedule: Sigmas = Sigmas()
        self.network = self.make()
        self.std = 0.5 if self.spec.levels else 1.0

    def predict(self, x_t: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
        return self.f(x_t, t, y)

    def f(self, x: Tensor, sigma: Tensor, y: Condition | None = None, noise: Noise | None = None) -> Tensor:
        sigma, least = sigma.double(), self.schedule.cleanest
        total = (sigma.square() + self.std**2).sqrt()
        skip, out = self.std**2 / ((sigma - least).square() + self.std**2), self.std * (sigma - least) / total
        said = self.network(over(1 / total, x) * x, (250 * sigma.log()).float(), y, noise).float()
        return over(skip, x) * x + over(out, x) * said

    def loss(self, batch: Batch) -> Loss:
        """(4)"""
        x_0, y = batch.x, self.told(batch)
        sigma = self.neighbours(batch)
        z = batch.noise.normal(*self.spec.shape)
        with torch.no_grad():
            target = self.f(x_0 + over(sigma.low, x_0) * z, sigma.low, y)
        apart = (
            (self.f(x_0 + over(sigma.high, x_0) * z, sigma.high, y, batch.noise) - target)
            .flatten(1)
            .square()
            .sum(1)
        )
        c = 0.00054 * math.sqrt(self.spec.dims)
        return Loss((((apart + c**2).sqrt() - c) / (sigma.high - sigma.low)).mean().float())

    def neighbours(self, batch: Batch) -> Pair:
        n = min(self.fewest_levels * 2 ** (batch.seen // self.doubling), self.most_levels) + 1
        levels = self.schedule.karras(n).flip(0).to(batch.x.device)
        share = torch.erf((levels.log() - self.p_mean) / (math.sqrt(2) * self.p_std)).diff().cumsum(0)
        i = torch.searchsorted(share / share[-1], batch.noise.uniform().double()).clamp(max=n - 2)
        return Pair(levels[i], levels[i + 1])

    def walk(
        self, levels: Sequence[Level], x: Tensor, noise: Noise, y: Condition | None = None
    ) -> Iterator[State]:
        """Algorithm 1 of Song et al. 2023."""
        least = self.schedule.cleanest
        for here, there in pairwise(levels):
            x_0 = self.denoise(x, torch.full((len(x),), here.t, device=x.device), y)
            x = (
                x_0 + math.sqrt(there.sigma**2 - least**2) * noise.normal(*x.shape[1:])
                if there.sigma
                else x_0
            )
            yield State(x, x_0, there)
