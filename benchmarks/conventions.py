"""Where the samplers here and the schedulers of diffusers take other steps of one and the same process, and
how far apart they end.

    pip install 'diffusers>=0.35'
    python benchmarks/conventions.py

Data are N(0, S^2), a number each, so that the denoiser and the end of the probability-flow equation are known
in closed form,

    E[x_0 | x_t] = alpha S^2 / (alpha^2 S^2 + sigma^2) x_t,      x_0 = S / sqrt(alpha^2 S^2 + sigma^2) x_t

and nothing but the conventions differs.  The process is that of Ho et al. 2020 (linear, T = 1000).  Prints a
table in Markdown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import diffusers
import torch
from torch import Tensor

from likeness.core import Noise, final
from likeness.parts.samplers import churned, ddim, dpm2m, heun
from likeness.parts.schedules import Level, Schedule, Sigmas, Steps, linear

N, T, S = 1000, 1000, 0.5
BETA = linear(T)
STEPS = Steps(BETA)
EVEN = "each ends where the next begins, the last at 0"


def noise() -> Tensor:
    return torch.randn(N, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def denoise(schedule: Schedule) -> Callable[[Tensor, Tensor], Tensor]:
    """The expected x_0 of x (N, 1) at times t (N,)."""

    def expected(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        return alpha * S**2 / (alpha**2 * S**2 + sigma**2) * x

    return expected


def exact(start: Level) -> Tensor:
    """Where the equation leads from the noise at a level."""
    return S / math.hypot(start.alpha * S, start.sigma) * start.sigma * noise()


def ours(sampler: Any, levels: Sequence[Level], schedule: Schedule = STEPS) -> Tensor:
    x: Tensor = final(sampler(denoise(schedule), levels, levels[0].sigma * noise(), Noise([]))).x
    return x


def theirs(scheduler: Any, steps: int) -> tuple[Tensor, list[float]]:
    """Where it ends, and at which of our times (its own and 1) it asks."""
    scheduler.set_timesteps(steps)
    x, times = noise(), [float(t) + 1 for t in scheduler.timesteps]
    for t, time in zip(scheduler.timesteps, times):
        x = scheduler.step(denoise(STEPS)(x, torch.full((N,), time)), t, x).prev_sample
    return x, times


def scheduler(kind: str, **options: object) -> Any:
    made = getattr(diffusers, kind)(trained_betas=BETA.numpy(), prediction_type="sample", **options)
    made.alphas_cumprod = (1 - BETA).cumprod(0)  # in float64
    return made


def ends(here: Tensor, there: Tensor, start: Level) -> tuple[str, str, str]:
    """Largest distance of the two ends, and of each from the exact one."""
    largest = [
        float((a - b).abs().max()) for a, b in ((here, there), (here, exact(start)), (there, exact(start)))
    ]
    return f"{largest[0]:.4f}", f"{largest[1]:.4f}", f"{largest[2]:.4f}"


def spacing() -> None:
    for steps in (10, 50):
        even = STEPS.levels(steps)
        for name in ("leading", "trailing"):
            x, times = theirs(scheduler("DDIMScheduler", clip_sample=False, timestep_spacing=name), steps)
            apart = max(abs(a.t - b) for a, b in zip(even, times))
            row(
                f"`ddim`, {steps} steps, spacing {name}",
                f"trailing: times differ by {apart:.0f}",
                *ends(ours(ddim, even), x, even[0]),
            )


def dividing() -> None:
    for steps in (10, 7, 30):
        x, times = theirs(scheduler("DDIMScheduler", clip_sample=False, timestep_spacing="trailing"), steps)
        levels = STEPS.levels(steps)
        shortfall = max(abs(a - T // steps - b.t) for a, b in zip(times, levels[1:]))
        row(
            f"`ddim`, {steps} steps, each {T // steps} long",
            f"{EVEN}: ends differ by {shortfall:.0f}",
            *ends(ours(ddim, levels), x, levels[0]),
        )


def clock() -> None:
    for steps in (10, 20, 40):
        made = scheduler("HeunDiscreteScheduler")
        made.set_timesteps(steps)
        sigmas = [made.sigmas[0].item(), *made.sigmas[1::2].tolist()]
        process = Sigmas(sigmas[-2], sigmas[0])
        x = sigmas[0] * noise()
        for i, t in enumerate(made.timesteps):
            x = made.step(denoise(process)(x, made.sigmas[i].expand(N).double()), t, x).prev_sample
        levels = STEPS.at([*STEPS.time(torch.tensor(sigmas[:-1], dtype=torch.float64)).tolist(), 0.0])
        row(
            f"`heun`, {steps} steps in sigma / alpha",
            "in sigma / (alpha + sigma)",
            *ends(ours(heun, levels), x, levels[0]),
        )
        row(
            f"`heun`, {steps} steps in sigma",
            "`edm`: the same",
            *ends(ours(heun, [process.level(s) for s in sigmas], process), x, process.level(sigmas[0])),
        )


def churning() -> None:
    made = diffusers.EulerDiscreteScheduler(trained_betas=BETA.numpy(), use_karras_sigmas=True)
    made.set_timesteps(20)
    made.is_scale_input_called = True
    first, silent, churn = made.sigmas[0].item(), torch.zeros(100_000, 1), 40.0
    x = made.step(
        silent, made.timesteps[0], silent, s_churn=churn, generator=torch.Generator().manual_seed(0)
    ).prev_sample
    there = math.hypot(first, x.std().item())
    process = Sigmas(made.sigmas[-2].item(), first)
    _, here = churned(
        process, noise(), process.level(first), min(churn / 20, math.sqrt(2) - 1), Noise(range(N))
    )
    row(
        f"first churned step: sigma {there:.0f}",
        f"no more than the process has: {here.sigma:.0f}",
        f"{there - here.sigma:.0f} in sigma",
        "",
        "",
    )


def multistep() -> None:
    for steps in (10, 7):
        x, times = theirs(
            scheduler(
                "DPMSolverMultistepScheduler", algorithm_type="dpmsolver++", timestep_spacing="trailing"
            ),
            steps,
        )
        levels = [*STEPS.at(times), STEPS.level(0.0)]
        row(f"`dpm2m`, {steps} steps", "the same", *ends(ours(dpm2m, levels), x, levels[0]))


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    row("diffusers " + diffusers.__version__, "here", "ends differ by", "error here", "error there")
    row(*["---"] * 5)
    for part in (spacing, dividing, clock, churning, multistep):
        part()
