"""Laws whose optimal denoiser and density are known: what every part of diffusion is held against."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from likeness.core import Condition, Noise
from likeness.parts.samplers import State
from likeness.parts.schedules import Schedule, Sigmas, Steps, Straight, cosine, linear


class Mixture:
    """sum_k w_k N(mu_k, v_k I), float64, of points (B, D)."""

    def __init__(self, w: list[float], mu: list[list[float]], v: list[float]):
        self.w, self.mu, self.v = (torch.tensor(values, dtype=torch.float64) for values in (w, mu, v))

    @property
    def mean(self) -> Tensor:
        return self.w @ self.mu

    @property
    def cov(self) -> Tensor:
        apart = self.mu - self.mean
        return torch.einsum("k,ki,kj->ij", self.w, apart, apart) + (self.w @ self.v) * torch.eye(
            self.mu.shape[1], dtype=torch.float64
        )

    def draw(self, n: int, seed: int = 0) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        k = torch.multinomial(self.w, n, replacement=True, generator=g)
        return self.mu[k] + self.v[k, None].sqrt() * torch.randn(
            n, self.mu.shape[1], generator=g, dtype=torch.float64
        )

    def _parts(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """log w_k N(x; alpha mu_k, alpha^2 v_k + sigma^2), (B, K); alpha, sigma (B,)."""
        var = (alpha.square()[:, None] * self.v + sigma.square()[:, None]).clamp(min=1e-300)
        far = (x[:, None] - alpha[:, None, None] * self.mu).square().sum(-1)
        return self.w.log() - far / (2 * var) - x.shape[1] / 2 * torch.log(2 * math.pi * var)

    def log_density(self, x: Tensor) -> Tensor:
        one = torch.ones(len(x), dtype=torch.float64)
        return self._parts(x.flatten(1).double(), one, 0 * one).logsumexp(1)

    def member(self, x: Tensor) -> Tensor:
        one = torch.ones(len(x), dtype=torch.float64)
        return self._parts(x.flatten(1).double(), one, 0 * one).argmax(1)

    def smoothed(self, s: float) -> Mixture:
        """The law of x + s eps."""
        return Mixture(self.w.tolist(), self.mu.tolist(), (self.v + s * s).tolist())

    def denoiser(self, schedule: Schedule):
        """E[x_0 | x_t] in closed form, with the signature of a model's denoise."""

        def denoise(x: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
            flat = x.flatten(1).double()
            alpha, sigma = schedule.alpha(t.double()), schedule.sigma(t.double())
            share = self._parts(flat, alpha, sigma).softmax(1)
            gain = alpha[:, None] * self.v / (alpha.square()[:, None] * self.v + sigma.square()[:, None])
            means = self.mu + gain[..., None] * (flat[:, None] - alpha[:, None, None] * self.mu)
            return torch.einsum("bk,bkd->bd", share, means).view_as(x).to(x.dtype)

        return denoise


THREE = Mixture([0.5, 0.3, 0.2], [[0.0, 0.8], [0.8, -0.4], [-0.8, -0.4]], [0.02, 0.05, 0.01])


class Correlated:
    """N(m, C) of points (B, D), float64: the simplest law in which one part of an image says something of
    another."""

    def __init__(self, m: list[float], C: list[list[float]]):
        self.m, self.C = (torch.tensor(values, dtype=torch.float64) for values in (m, C))

    def denoiser(self, schedule: Schedule):
        def denoise(x: Tensor, t: Tensor, y: Condition | None = None) -> Tensor:
            flat = x.flatten(1).double()
            alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
            cov = alpha[..., None] ** 2 * self.C + sigma[..., None] ** 2 * torch.eye(
                len(self.m), dtype=torch.float64
            )
            gain = torch.linalg.solve(cov, (flat - alpha * self.m)[..., None])[..., 0] @ self.C
            return (self.m + alpha * gain).view_as(x).to(x.dtype)

        return denoise

    def given_first(self, value: float) -> tuple[float, float]:
        """Mean and standard deviation of the second of two coordinates."""
        slope = self.C[0, 1] / self.C[0, 0]
        return (self.m[1] + slope * (value - self.m[0])).item(), (
            self.C[1, 1] - slope * self.C[0, 1]
        ).sqrt().item()


def schedules() -> dict[str, Schedule]:
    return {
        "sigmas": Sigmas(),
        "straight": Straight(),
        "linear": Steps(linear(1000)),
        "cosine": Steps(cosine(1000)),
    }


def last(states: Iterable[State]) -> Tensor:
    """The last x of a sampler."""
    *_, state = states
    return state.x


class Silent(Noise):
    """The fake that leaves the noise out."""

    def normal(self, *shape: int) -> Tensor:
        return 0 * super().normal(*shape)
