"""The probability-flow equation solved to a tolerance: the density of an image.

Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", 2021, section 4.3
and appendix D.2.  Noise is taken out of an image by a differential equation as well as by drawing, and along
such a way a density changes by the divergence of the flow alone (39).  In the clock tau = log s, s = sigma /
alpha, and for the image x' = x_t / alpha,

    dx' / dtau = x' - D(x_t, t),   D = E[x_0 | x_t]
    d log p(x') / dtau = -div = tr(dD / dx') - dims

in which a schedule has no part, except that it says at which time t the denoiser D has to be asked.  What is
solved is the equation for z = x' / c, c = sqrt(1 + s^2), which is of the size of an image from beginning to
end, so that one tolerance has one meaning:

    dz / dtau = z / (1 + s^2) - D / c,   div = dims / (1 + s^2) - alpha tr(dD / dx_t)

The trace is exact, at one gradient a dimension, or that of Hutchinson (Song et al. 2021, eq. 40; Grathwohl et
al., "FFJORD", 2019, section 3.1): tr J = E v'Jv for random signs v, which stay the same along the way, so
that each gives an estimate of log p of its own and the scatter of these is the standard error.

Each image has its own clock and its own steps: what others there are in the batch changes nothing.

The tolerance is one of a step.  What all steps together cost is told by solving again to a tenth of it
(`unsolved`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..core import Condition, Diverged, Noise
from .likelihoods import Gaussian
from .schedules import Schedule, over

STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""Dormand & Prince, "A family of embedded Runge-Kutta formulae", 1980, table 2.  The last line is the step of
order 5; the slope at its end is the first of the next step"""
DOUBT = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""order 5 minus order 4"""
FIRST, SHORTEST, MOST = 0.1, 1e-7, 5000
"""steps in tau, and calls of the denoiser after which an image is given up"""
FINER, COARSER = 0.1, 10.0
"""tolerances, in that of a solution, at which it is held against another one"""
END = 1000.0
"""the ratio s at which a process that ends in noise alone, whose ratio is infinite, is taken to have ended"""


class Density(NamedTuple):
    log_p: Tensor
    """nats of each image, (B,) float64"""
    error: Tensor
    """standard error of that, as far as it comes from chance: 0 for an exact trace, nan if one draw is all
    there is; see `unsolved` for the rest"""
    calls: Tensor
    """of the denoiser, (B,)"""


Ask = Callable[..., Tensor]
"""denoise(x_t, t), of images and their times, or one that is told a class as well"""
Rate = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""z (n, ...) at tau (n,), and which images they are (n,), to dz/dtau (n, ...) and to what is only added up on
the way, (n, k)"""


def density(
    denoise: Ask,
    schedule: Schedule,
    x: Tensor,
    noise: Noise | None = None,
    probes: int = 0,
    tol: float = 1e-5,
    y: Condition | None = None,
) -> Density:
    """log p of images x (B, ...) as points of a continuous space, under the law of x_0 + s eps at the
    schedule's cleanest time.

    It is that of the images which a sampler draws that follows the equation from N(0, s^2 I) at the noisiest
    time (of a Straight schedule from s = 1000): it integrates to one whatever the denoiser.  That law has
    forgotten the mean m of the images, which costs them
    |m|^2 / 2 s^2 nats, 8e-5 a dimension where all of them are white and s = 80, and scatters those of a single one by |m| / s.

    denoise: differentiable by x.  y: classes (B,) that it is told, if any.
    probes: signs for each image, drawn from noise; 0 is the exact trace, for few dimensions.
    tol: error allowed in a step, both in z and in nats a dimension.
    """  # noqa: E501
    dims, (clean, end) = x[0].numel(), ends(schedule)
    signs = (
        unit_vectors(x)
        if noise is None or not probes
        else 2.0 * (noise.uniform(probes, *x.shape[1:]) < 0.5).to(x.dtype) - 1
    )

    def rate(z: Tensor, tau: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x_t, alpha, x_0 = hidden(
                denoise, schedule, z.detach().requires_grad_(), tau, None if y is None else y[rows]
            )
            trace = quadratic(x_0, x_t, signs if not probes else signs[rows])
        div = dims * torch.sigmoid(-2 * tau)[:, None] - alpha[:, None] * (
            trace if probes else trace.sum(1, keepdim=True)
        )
        return flow(z, x_0.detach(), tau), div

    sums = x.new_zeros(len(x), probes or 1, dtype=torch.float64)
    z, gained, calls = integrate(
        rate, x * math.cos(math.atan(clean)), sums, math.log(clean), math.log(end), tol
    )
    variance = 1 / (1 + end**-2)
    last = -z.double().square().flatten(1).sum(1) / (2 * variance) - dims / 2 * math.log(
        2 * math.pi * variance
    )
    each = last[:, None] + gained - dims / 2 * math.log1p(clean**2)
    return Density(each.mean(1), standard_error(each) if probes else torch.zeros_like(last), calls)


def unsolved(solve: Callable[[float], Tensor], solution: Tensor, tol: float) -> float:
    """Root mean square of what solution (n,) = solve(tol), in nats, is off by its steps: its distance from
    solve at a tenth of the tolerance.

    solve must meet the same noise each time.  Where the equation cannot be followed so closely, since the
    denoiser itself rounds, it is the distance from the solution at ten times the tolerance, which is several
    times too large.
    """
    try:
        other = solve(FINER * tol)
    except Diverged:
        other = solve(COARSER * tol)
    return float((other - solution).square().mean().sqrt())


def nats(
    denoise: Ask,
    schedule: Schedule,
    x: Tensor,
    noise: Noise,
    levels: int,
    draws: int = 2,
    probes: int = 1,
    tol: float = 1e-5,
    y: Condition | None = None,
) -> Density:
    """log P of images (B, C, H, W) on the grid of `levels` values: an estimate, of something that is nowhere
    above it; for levels = 0, log p.

    By the variational bound with one latent variable, the image at the cleanest time, y = x + s eps (the last
    step of Ho et al. 2020, eq. 13):

        log P(x) >= E_q(y|x) [log p(y) + log P(x|y) - log q(y|x)]

    P(x|y) is a Gaussian of standard deviation s around D(y), summed over each level: right where brightness
    is fine beside s, and where it is so coarse that D(y) is the image.  Of `draws` of y each has signs of its
    own, and the scatter is that of both.
    """
    if not levels:
        return density(denoise, schedule, x, noise, probes, tol, y)
    s, grid, each, calls = (
        schedule.level(schedule.cleanest).ratio,
        Gaussian(levels),
        [],
        torch.zeros(len(x), dtype=torch.long, device=x.device),
    )
    for _ in range(draws):
        eps = noise.normal(*x.shape[1:]).to(x.dtype)
        noisy = x + s * eps
        with torch.no_grad():
            x_0 = hidden(
                denoise,
                schedule,
                noisy * math.cos(math.atan(s)),
                torch.full((len(x),), math.log(s), dtype=torch.float64, device=x.device),
                y,
            ).x_0
        log_q = -eps.double().square().flatten(1).sum(1) / 2 - x[0].numel() * math.log(
            s * math.sqrt(2 * math.pi)
        )
        p = density(denoise, schedule, noisy, noise, probes, tol, y)
        each.append(
            p.log_p + grid.log_prob(x, torch.cat([x_0, torch.full_like(x_0, math.log(4 * s))], 1)) - log_q
        )
        calls += p.calls + 1
    log_p = torch.stack(each, 1)
    return Density(log_p.mean(1), standard_error(log_p), calls)


def ends(schedule: Schedule) -> tuple[float, float]:
    """The ratios between which the equation is solved."""
    clean, noisy = (schedule.level(t).ratio for t in (schedule.cleanest, schedule.noisiest))
    return clean, min(noisy, END)


class Hidden(NamedTuple):
    x_t: Tensor
    alpha: Tensor
    """(n,)"""
    x_0: Tensor


def hidden(denoise: Ask, schedule: Schedule, z: Tensor, tau: Tensor, y: Condition | None = None) -> Hidden:
    """What the denoiser finds in z."""
    ratio = tau.exp()
    t = schedule.time(ratio)
    alpha = schedule.alpha(t)
    x_t = over(alpha * torch.hypot(ratio, torch.ones_like(ratio)), z) * z
    return Hidden(x_t, alpha, denoise(x_t, t) if y is None else denoise(x_t, t, y))


def flow(z: Tensor, x_0: Tensor, tau: Tensor) -> Tensor:
    """dz / dtau"""
    share = torch.sigmoid(-2 * tau)  # 1 / (1 + s^2)
    return over(share, z) * z - over(share.sqrt(), z) * x_0


def unit_vectors(x: Tensor) -> Tensor:
    """(1, dims, ...)"""
    return torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).view(1, -1, *x.shape[1:])


def quadratic(y: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """v' (dy/dx) v for each of k vectors an image, v (n, k, ...): (n, k)."""
    along = []
    for direction in v.unbind(1):
        (grad,) = torch.autograd.grad(y, x, direction.expand_as(y), retain_graph=True)
        along.append((grad * direction).double().flatten(1).sum(1))
    return torch.stack(along, 1)


def standard_error(each: Tensor) -> Tensor:
    """Of the mean of independent estimates (B, k): (B,), nan for k = 1."""
    return (
        each.std(1) / math.sqrt(each.shape[1]) if each.shape[1] > 1 else torch.full_like(each[:, 0], math.nan)
    )


def integrate(
    rate: Rate, z: Tensor, sums: Tensor, start: float, stop: float, tol: float
) -> tuple[Tensor, Tensor, Tensor]:
    """z (B, ...) and sums (B, k) at time stop, given those at time start, and the calls of rate that each
    image took (B,).

    Each image takes steps as long as the error of order 4 allows, and leaves when it has arrived.
    """
    ended_z, ended_sums, calls = (
        torch.empty_like(z),
        torch.empty_like(sums),
        torch.ones(len(z), dtype=torch.long, device=z.device),
    )
    rows = torch.arange(len(z), device=z.device)
    tau = torch.full((len(z),), start, dtype=torch.float64, device=z.device)
    step = torch.full_like(tau, math.copysign(FIRST, stop - start))
    slope = rate(z, tau, rows)
    while len(rows):
        last = (tau + step - stop) * (stop - start) >= 0
        h = torch.where(last, stop - tau, step)
        slopes = [slope]
        for stage in STAGES:
            there = ahead(z, h, stage, [dz for dz, _ in slopes])
            slopes.append(rate(there, tau + sum(stage) * h, rows))
        calls[rows] += len(STAGES)
        summed = ahead(sums, h, STAGES[-1], [ds for _, ds in slopes])
        wrong = error(h, slopes, z, there, tol)
        if not wrong.isfinite().all() or ((h.abs() < SHORTEST) & (wrong > 1)).any() or calls.amax() > MOST:
            raise Diverged(
                "the probability-flow equation of this denoiser cannot be followed: its answers are not "
                "finite, or leap; train it longer, or more slowly."
            )
        fine = wrong <= 1
        step = h * (0.9 * wrong.clamp(min=1e-6) ** -0.2).clamp(0.2, 5)
        tau = torch.where(fine, tau + h, tau)
        z, sums = chosen(fine, there, z), chosen(fine, summed, sums)
        slope = chosen(fine, slopes[-1][0], slope[0]), chosen(fine, slopes[-1][1], slope[1])
        ended = fine & last
        ended_z[rows[ended]], ended_sums[rows[ended]] = z[ended], sums[ended]
        z, sums, tau, step, rows = (part[~ended] for part in (z, sums, tau, step, rows))
        slope = slope[0][~ended], slope[1][~ended]
    return ended_z, ended_sums, calls


def ahead(x: Tensor, h: Tensor, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """x and h times the weighted sum of its slopes."""
    move = sum(weight * slope for weight, slope in zip(weights, slopes) if weight)
    return x + over(h, x) * move


def error(h: Tensor, slopes: list[tuple[Tensor, Tensor]], z: Tensor, there: Tensor, tol: float) -> Tensor:
    """Of a step, (n,), in units of what is allowed: the root mean square in z, and in nats a dimension."""
    of_z, of_sums = (ahead(torch.zeros_like(s[0]), h, DOUBT, list(s)) for s in zip(*slopes))
    relative = of_z / (1 + torch.maximum(z.abs(), there.abs()))
    parts = [relative.double().square().flatten(1).mean(1).sqrt()]
    if of_sums.shape[1]:
        parts.append(of_sums.square().mean(1).sqrt() / z[0].numel())
    return torch.stack(parts).amax(0) / tol


def chosen(which: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Images of a where `which` (n,), else of b."""
    return torch.where(which.view(-1, *[1] * (a.ndim - 1)), a, b)
