"""A bound on the likelihood of whatever denoises, in continuous time.

Kingma, Salimans, Poole & Ho, "Variational Diffusion Models", 2021, equations 11, 15 and 17: with SNR = (alpha
/ sigma)^2

    -log P(x) <= KL(q(z_1|x) || N(0, sigma_1^2))  -  E log P(x|z_0)  +  1/2 int E ||x - D(z)||^2 dSNR

where z_0 is the image at the cleanest level of the schedule, z_1 at the noisiest, and D the denoiser.  It is
the variational bound of Ho et al. 2020 with infinitely many steps, so one number for all models, whatever
loss and clock they were trained with.  P(x|z_0) is a Gaussian around D(z_0) of which each brightness level
takes the mass of its bin.

The integral is an average over log SNR: there the integrand is SNR ||x - D||^2 / 2, which a good denoiser
keeps below dims / 2 at every level.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..core import Noise
from .likelihoods import Gaussian
from .samplers import Denoise
from .schedules import Schedule, mixed

MOST = 1000.0
"""ratio of noise to image that is noise alone for all purposes"""


class Terms(NamedTuple):
    """Nats of each image, (B,) each."""

    prior: Tensor
    """what is left of the image at the noisiest level"""
    diffusion: Tensor
    """told on the way: with the prior, the rate"""
    reconstruction: Tensor
    """told at the end, from the cleanest level: the distortion"""

    @property
    def total(self) -> Tensor:
        return self.prior + self.diffusion + self.reconstruction


def ends(schedule: Schedule) -> tuple[float, float]:
    """The lowest and the highest log SNR that the bound goes through."""
    low, high = (
        -2 * math.log(min(schedule.level(t).ratio, MOST)) for t in (schedule.noisiest, schedule.cleanest)
    )
    return low, high


def prior(x: Tensor, log_snr: float) -> Tensor:
    """KL of q(z_1|x) and N(0, sigma_1^2), (B,)."""
    return x.flatten(1).double().square().sum(1) * (math.exp(log_snr) / 2)


def reconstruction(p: Gaussian, x: Tensor, x_0: Tensor, ratio: float) -> Tensor:
    """-log P(x|z_0), (B,), where the denoised x_0 is `ratio` off: an output of zero is, to p, a deviation of
    a quarter."""
    return -p.log_prob(x, torch.cat([x_0, torch.full_like(x_0, math.log(4 * ratio))], 1)).double()


def bound(denoise: Denoise, schedule: Schedule, p: Gaussian, x: Tensor, noise: Noise, draws: int) -> Terms:
    """The three terms for images x (B, C, H, W) on the grid of p.  draws: levels at which each image is
    denoised, one from each of as many equal parts of the range of log SNR."""
    low, high = ends(schedule)
    total, width = torch.zeros(len(x), dtype=torch.float64, device=x.device), (high - low) / draws
    for i in range(draws):
        log_snr = low + width * (i + noise.uniform().double())
        t = schedule.time(torch.exp(-log_snr / 2))
        error = (
            (x - denoise(mixed(schedule, x, noise.normal(*x.shape[1:]), t), t))
            .flatten(1)
            .double()
            .square()
            .sum(1)
        )
        total += error * (log_snr.exp() * width / 2)
    cleanest = torch.full((len(x),), schedule.cleanest, dtype=torch.float64, device=x.device)
    x_0 = denoise(mixed(schedule, x, noise.normal(*x.shape[1:]), cleanest), cleanest)
    return Terms(prior(x, low), total, reconstruction(p, x, x_0, schedule.level(schedule.cleanest).ratio))


def per_level(
    denoise: Denoise, schedule: Schedule, x: Tensor, noise: Noise, levels: int
) -> tuple[Tensor, Tensor]:
    """log SNR, (levels,), and the mean over images x of E ||x - D||^2 / dims there, (levels,): the curve of
    which the rate is the integral."""
    low, high = ends(schedule)
    log_snrs, errors = torch.linspace(low, high, levels, dtype=torch.float64), []
    for log_snr in log_snrs:
        t = schedule.time(torch.exp(-log_snr / 2)).to(x.device).expand(len(x))
        errors.append(
            (x - denoise(mixed(schedule, x, noise.normal(*x.shape[1:]), t), t)).double().square().mean().cpu()
        )
    return log_snrs, torch.stack(errors)
