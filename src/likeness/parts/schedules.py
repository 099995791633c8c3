"""How much of an image is left, and how much noise is in it, at each time of a forward process.

    x_t = alpha(t) x_0 + sigma(t) eps,   eps ~ N(0, I)

Every diffusion and every flow with a Gaussian end is of this form; they differ in the clock alone.  What has
a meaning of its own is the signal-to-noise ratio, (alpha / sigma)^2 (Kingma et al., "Variational Diffusion
Models", 2021, section 3), and so the samplers (samplers.py) ask a schedule for nothing but levels: time,
alpha, sigma.

    Steps      alpha^2 + sigma^2 = 1 in T steps of given variances beta_t (Ho et al. 2020); t = T is noise, 1 a first step, 0 the image
    Sigmas     alpha = 1, sigma = t (Karras et al. 2022)
    Straight   alpha = 1 - t, sigma = t (Lipman et al. 2023, Liu et al. 2023)

Times are float64: log-SNRs near the image differ by less than float32 can tell.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Level(NamedTuple):
    """A time, and what an image is made of then."""

    t: float
    alpha: float
    sigma: float

    @property
    def log_snr(self) -> float:
        """log (alpha / sigma)^2; infinite for the image itself, minus infinite for noise alone."""
        return (
            math.inf
            if self.sigma == 0
            else -math.inf
            if self.alpha == 0
            else 2 * math.log(self.alpha / self.sigma)
        )

    @property
    def ratio(self) -> float:
        """sigma / alpha: the noise of an image that has been brought back to its brightness."""
        return self.sigma / self.alpha if self.alpha else math.inf


class Schedule(nn.Module):
    """A forward process.  A module only so that its table goes to the device with the model; it has no
    weights."""

    noisiest: float
    """time at which drawing begins"""
    cleanest: float
    """the last time at which a network is asked; what follows is the image, at time 0"""

    def alpha(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def sigma(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def time(self, ratio: Tensor) -> Tensor:
        """The time at which sigma / alpha is `ratio`."""
        raise NotImplementedError

    def even(self, steps: int) -> Tensor:
        """`steps` times by the schedule's own clock, falling."""
        raise NotImplementedError

    def level(self, t: float) -> Level:
        return self.at([t])[0]

    def at(self, times: list[float]) -> list[Level]:
        """All at once: on a GPU every number that is asked for is waited for."""
        t = torch.tensor(times, dtype=torch.float64, device=next(self.buffers(), torch.empty(0)).device)
        return [Level(*level) for level in zip(times, self.alpha(t).tolist(), self.sigma(t).tolist())]

    def levels(self, steps: int, spacing: str = "even", rho: float = 7.0, least: float = 0.0) -> list[Level]:
        """steps + 1 levels, the last of which is the image: what a sampler walks through.

        spacing: "even" by the schedule's own clock, or "karras", in which sigma^(1/rho) falls evenly (Karras
        et al. 2022, eq. 5), down to the ratio `least` or what the schedule knows, and then to the image.
        """
        times = self.karras(steps, rho, least=least) if spacing == "karras" else self.even(steps)
        return self.at([*dict.fromkeys(times.tolist()), 0.0])

    def karras(self, steps: int, rho: float = 7.0, most: float = 80.0, least: float = 0.0) -> Tensor:
        """(EDM 5).  Of a process that ends in noise alone, or nearly so, it begins at the ratio `most`: steps
        spent beyond are wasted."""
        ends = (self.level(t).ratio for t in (self.noisiest, self.cleanest))
        first, last = (max(min(ratio, most), least) ** (1 / rho) for ratio in ends)
        return self.time(torch.linspace(first, last, steps, dtype=torch.float64) ** rho)


class Steps(Schedule):
    """T steps; step t multiplies with sqrt(1 - beta_t) and adds noise of variance beta_t (Ho et al. 2020, eq.
    2 and 4)."""

    def __init__(self, beta: Tensor):
        """beta: (T,) float64, from the first step to the last."""
        super().__init__()
        log_abar = torch.log1p(-beta).cumsum(0)
        self.beta = nn.Buffer(beta, persistent=False)
        self.log_snr = nn.Buffer(log_abar - torch.log(-torch.expm1(log_abar)), persistent=False)
        """(T,), falling, of times 1 ... T"""
        self.noisiest, self.cleanest = float(len(beta)), 1.0

    def _log_snr(self, t: Tensor) -> Tensor:
        """Between two steps it is interpolated."""
        t = (t.double() - 1).clamp(0, len(self.beta) - 1)
        below = t.floor().long().clamp(max=len(self.beta) - 2)
        return torch.lerp(self.log_snr[below], self.log_snr[below + 1], t - below)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.where(t == 0, 1.0, self._log_snr(t).sigmoid().sqrt())

    def sigma(self, t: Tensor) -> Tensor:
        return torch.where(t == 0, 0.0, (-self._log_snr(t)).sigmoid().sqrt())

    def time(self, ratio: Tensor) -> Tensor:
        """Between two steps it is interpolated, as the ratio is; of ratios that no step has, it is that of
        the first or the last."""
        log_snr = -2 * ratio.double().log().to(self.log_snr.device)
        above = torch.searchsorted(-self.log_snr, -log_snr.contiguous()).clamp(1, len(self.beta) - 1)
        high, low = self.log_snr[above - 1], self.log_snr[above]
        return above + ((high - log_snr) / (high - low)).clamp(0, 1)

    def even(self, steps: int) -> Tensor:
        return (
            (torch.arange(steps, 0, -1, dtype=torch.float64) * (len(self.beta) / steps)).round().clamp(min=1)
        )

    def karras(self, steps: int, rho: float = 7.0, most: float = 80.0, least: float = 0.0) -> Tensor:
        """Whole times, no two alike: where rounding would make one of several, the earlier ones move up, as
        far as the last time lets them."""
        times, behind = (
            super().karras(steps, rho, most, least).round(),
            torch.arange(steps, 0, -1, dtype=torch.float64),
        )
        apart = (times.cpu() - behind).flip(0).cummax(0).values.flip(0) + behind
        return torch.minimum(apart, len(self.beta) - steps + behind).clamp(min=1)


class Sigmas(Schedule):
    """Noise is added and nothing taken away; the time is its standard deviation (Karras et al. 2022, table
    1)."""

    def __init__(self, least: float = 0.002, most: float = 80.0):
        super().__init__()
        self.noisiest, self.cleanest = most, least

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t, dtype=torch.float64)

    def sigma(self, t: Tensor) -> Tensor:
        return t.double()

    def time(self, ratio: Tensor) -> Tensor:
        return ratio.double()

    def even(self, steps: int) -> Tensor:
        """The paper's own spacing is the only one that makes sense here."""
        return self.karras(steps)

    def karras(self, steps: int, rho: float = 7.0, most: float = math.inf, least: float = 0.0) -> Tensor:
        return super().karras(steps, rho, most, least)


class Straight(Schedule):
    """The straight line from noise, at time 1, to the image, at time 0 (Liu et al., "Flow Straight and Fast",
    2023, eq. 1, with time reversed)."""

    def __init__(self, least: float = 1e-3):
        super().__init__()
        self.noisiest, self.cleanest = 1.0, least

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t.double()

    def sigma(self, t: Tensor) -> Tensor:
        return t.double()

    def time(self, ratio: Tensor) -> Tensor:
        return 1 / (1 + 1 / ratio.double())

    def even(self, steps: int) -> Tensor:
        return (torch.arange(steps, 0, -1, dtype=torch.float64) / steps).clamp(min=self.cleanest)


def linear(T: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """beta_1 ... beta_T, (T,) float64, rising evenly (Ho et al. 2020, section 4).

    first, last: for 1000 steps; of fewer each takes on the variance of several.
    """
    return (torch.linspace(first, last, T, dtype=torch.float64) * (1000 / T)).clamp(max=0.999)


def cosine(T: int, s: float = 0.008) -> Tensor:
    """beta_1 ... beta_T, (T,) float64, of which abar_t = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) pi/2)
    (Nichol & Dhariwal 2021, eq. 17)."""
    f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s) * math.pi / 2).square()
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


BETAS: dict[str, Callable[[int], Tensor]] = {"linear": linear, "cosine": cosine}


def mixed(schedule: Schedule, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t of images and noise (B, ...) at times t (B,): the forward process in closed form."""
    return over(schedule.alpha(t), x_0) * x_0 + over(schedule.sigma(t), x_0) * eps


def over(values: Tensor, x: Tensor) -> Tensor:
    """One number an image, (B,), in the shape and type in which it multiplies x (B, ...)."""
    return values.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
