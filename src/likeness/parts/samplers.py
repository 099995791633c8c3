"""Ways from noise to an image, for anything that can say what image is hidden in a noisy one.

    denoise(x_t, t) = E[x_0 | x_t]

is all that a diffusion model has to learn: with it the noise is eps = (x_t - alpha x_0) / sigma, the score is
-eps / sigma, and the probability-flow equation (Song et al. 2021) is, in the ratio s = sigma / alpha and the
image brought back to its brightness, x' = x_t / alpha,

    dx' / ds = (x' - x_0) / s = eps                                                      (EDM 1 and 3, s(t) = 1)

Every sampler is a generator over a list of levels (schedules.py) and yields a State after each step.

    ancestral   draw x_s from q(x_s | x_t, x_0) at the denoised x_0: Ho et al. 2020, Algorithm 2
    ddim        Song, Meng & Ermon 2021, eq. 12: with eta = 1 it is ancestral sampling, with eta = 0 Euler's rule for the equation
                above, whatever the schedule, since it is linear in alpha and sigma; so there is no sampler
                called euler
    heun        the trapezoidal rule, with churn: Karras et al. 2022, Algorithms 1 and 2; two calls a step
    dpm2m       DPM-Solver++(2M): Lu et al. 2022, Algorithm 2; second order for one call a step
    sde2m       the same for the equation with noise, of the same paper: an ancestral step, at an image drawn on from the last two

None of them clamps, rounds or guides: that is up to the denoiser.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..core import Noise
from .schedules import Level, Schedule

Denoise = Callable[[Tensor, Tensor], Tensor]
"""x_t (B, ...) and times (B,) to the expected x_0 (B, ...)"""


class State(NamedTuple):
    """Where a sampler is after a step."""

    x: Tensor
    """x_t, (B, ...)"""
    x_0: Tensor
    """the image that the step was directed at, (B, ...)"""
    at: Level


def start(levels: Sequence[Level], noise: Noise, *shape: int) -> Tensor:
    """x at the first level, (B, *shape): noise alone."""
    return levels[0].sigma * noise.normal(*shape)


def ask(denoise: Denoise, x: Tensor, at: Level) -> Tensor:
    return denoise(x, torch.full((len(x),), at.t, dtype=torch.float64, device=x.device))


def eps_of(x: Tensor, x_0: Tensor, at: Level) -> Tensor:
    """The noise in x, if the image in it is x_0."""
    return (x - at.alpha * x_0) / at.sigma


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) = N(of_x x_t + of_x_0 x_0, small), s < t (Ho et al. 2020, eq. 6 and 7, between any
    two levels)."""

    of_x: float
    of_x_0: float
    small: float
    """its variance, beta tilde: right if every image were the same"""
    large: float
    """that of q(x_t | x_s), beta: right if images were noise"""


def posterior(here: Level, there: Level) -> Posterior:
    lost = -math.expm1(here.log_snr - there.log_snr)  # share of the noise at t that was not yet there at s
    kept = here.alpha / there.alpha
    if there.sigma == 0:
        return Posterior(0.0, there.alpha, 0.0, here.sigma**2 * lost)
    return Posterior(
        kept * (there.sigma / here.sigma) ** 2,
        there.alpha * lost,
        there.sigma**2 * lost,
        here.sigma**2 * lost,
    )


def ancestral(
    denoise: Denoise, levels: Sequence[Level], x: Tensor, noise: Noise, large: bool = False
) -> Iterator[State]:
    """Algorithm 2 of Ho et al. 2020.  large: the variance is that of a forward step, beta, and not beta
    tilde."""
    for here, there in pairwise(levels):
        x_0, q = ask(denoise, x, here), posterior(here, there)
        x = q.of_x * x + q.of_x_0 * x_0
        if there.sigma:
            x = x + math.sqrt(q.large if large else q.small) * noise.normal(*x.shape[1:])
        yield State(x, x_0, there)


def ddim(
    denoise: Denoise, levels: Sequence[Level], x: Tensor, noise: Noise, eta: float = 0.0
) -> Iterator[State]:
    """(12) and (16) of Song, Meng & Ermon 2021.  Levels that rise lead from an image to its noise; then eta
    must be 0."""
    for here, there in pairwise(levels):
        x_0 = ask(denoise, x, here)
        variance = eta**2 * posterior(here, there).small if eta else 0.0
        x = there.alpha * x_0 + math.sqrt(max(0.0, there.sigma**2 - variance)) * eps_of(x, x_0, here)
        if variance:
            x = x + math.sqrt(variance) * noise.normal(*x.shape[1:])
        yield State(x, x_0, there)


def heun(
    denoise: Denoise,
    levels: Sequence[Level],
    x: Tensor,
    noise: Noise,
    churn: float = 0.0,
    schedule: Schedule | None = None,
) -> Iterator[State]:
    """Algorithm 1 of Karras et al. 2022, and with churn (S_churn, at all noise levels, S_noise = 1) Algorithm
    2, which asks for the schedule.

    The rule is not the same in every clock.  Where alpha stays as it is, this is the paper's: sigma.
    Elsewhere it is that of the straight line, sigma / (alpha + sigma), which remains finite where nothing is
    left of the image.  Rising levels lead from an image to its noise.
    """
    if churn and schedule is None:
        raise ValueError("churn puts the clock back, and only the schedule says where it then stands")
    gamma = min(churn / (len(levels) - 1), math.sqrt(2) - 1)
    for here, there in pairwise(levels):
        if gamma and here.alpha and schedule is not None:
            x, here = churned(schedule, x, here, gamma, noise)
        x_0 = ask(denoise, x, here)
        eps = eps_of(x, x_0, here)
        guess = there.alpha * x_0 + there.sigma * eps
        if there.sigma == 0:
            yield State(guess, x_0, there)
            return
        again = ask(denoise, guess, there)
        x = corrected(x, here, there, (x_0 + again) / 2, (eps + eps_of(guess, again, there)) / 2)
        yield State(x, again, there)


def corrected(x: Tensor, here: Level, there: Level, x_0: Tensor, eps: Tensor) -> Tensor:
    """From here to there along the mean of two slopes."""
    if here.alpha == there.alpha:
        return x + (there.sigma - here.sigma) * eps
    (a, t), (b, u) = (
        (level.alpha + level.sigma, level.sigma / (level.alpha + level.sigma)) for level in (here, there)
    )
    return b * (x / a + (u - t) * (eps - x_0))


def churned(schedule: Schedule, x: Tensor, here: Level, gamma: float, noise: Noise) -> tuple[Tensor, Level]:
    """Some noise is added, and the clock put back to where there is as much; no further than to the
    beginning."""
    most = schedule.level(schedule.noisiest).ratio
    ratio = min(here.ratio * (1 + gamma), most)
    back = schedule.level(schedule.time(torch.tensor([ratio], dtype=torch.float64)).item())
    added = math.sqrt(max(0.0, back.ratio**2 - here.ratio**2))
    return back.alpha * (x / here.alpha + added * noise.normal(*x.shape[1:])), back


def dpm2m(denoise: Denoise, levels: Sequence[Level], x: Tensor, noise: Noise) -> Iterator[State]:
    """DPM-Solver++(2M), Lu et al. 2022, Algorithm 2: x_0 is drawn on from its last two values, linearly in
    lambda = log(alpha / sigma).

    The first step and the last are of first order, and so is the second where the first begins with noise
    alone.
    """
    ahead = drawn_on()
    for here, there in pairwise(levels):
        x_0, h = ask(denoise, x, here), (there.log_snr - here.log_snr) / 2
        x = (there.sigma / here.sigma) * x - there.alpha * math.expm1(-h) * ahead(x_0, h)
        yield State(x, x_0, there)


def sde2m(denoise: Denoise, levels: Sequence[Level], x: Tensor, noise: Noise) -> Iterator[State]:
    """SDE-DPM-Solver++(2M), Lu et al. 2022: an ancestral step, but at the image drawn on as in dpm2m.

    What earlier steps of a network that errs have done wrong fades with the noise that is taken away, where
    the equation without noise keeps it (docs/results).
    """
    ahead = drawn_on()
    for here, there in pairwise(levels):
        x_0, q = ask(denoise, x, here), posterior(here, there)
        x = q.of_x * x + q.of_x_0 * ahead(x_0, (there.log_snr - here.log_snr) / 2)
        if there.sigma:
            x = x + math.sqrt(q.small) * noise.normal(*x.shape[1:])
        yield State(x, x_0, there)


def drawn_on() -> Callable[[Tensor, float], Tensor]:
    """ahead(x_0, h): x_0 half a step h in lambda further, on the line through it and the one before; x_0
    itself where there is none before, or one of the two steps is infinite."""
    before: Tensor | None = None
    h_before = math.inf

    def ahead(x_0: Tensor, h: float) -> Tensor:
        nonlocal before, h_before
        there = x_0
        if before is not None and math.isfinite(h) and math.isfinite(h_before):
            r = h_before / h
            there = x_0 + (x_0 - before) / (2 * r)
        before, h_before = x_0, h
        return there

    return ahead


def inpaint(
    denoise: Denoise, levels: Sequence[Level], image: Tensor, known: Tensor, noise: Noise, repeats: int = 4
) -> Iterator[State]:
    """Draw what is not known of images (B, C, H, W); known: bool (H, W).  RePaint: Lugmayr et al. 2022,
    Algorithm 1 with jumps of one step.

    At each level what is known is the image itself with fresh noise, and the rest comes from an ancestral
    step.  The rest has then not heard of that noise; so the step is taken back, by adding noise, and done
    again, `repeats` times in all.
    """
    x = start(levels, noise, *image.shape[1:])
    for here, there in pairwise(levels):
        q = posterior(here, there)
        for again in reversed(range(repeats if there.sigma else 1)):
            x_0 = ask(denoise, x, here)
            drawn = q.of_x * x + q.of_x_0 * x_0
            if there.sigma:
                drawn = drawn + math.sqrt(q.small) * noise.normal(*x.shape[1:])
                inputs = there.alpha * image + there.sigma * noise.normal(*x.shape[1:])
            else:
                inputs = image
            x = torch.where(known, inputs, drawn)
            if again:
                x = (here.alpha / there.alpha) * x + math.sqrt(q.large) * noise.normal(*x.shape[1:])
        yield State(x, x_0, there)
