"""Step for step what diffusers' schedulers do with the same answers of a network.

diffusers counts steps from 0 and asks at levels of its own choosing; the samplers are given the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from likeness.core import Noise
from likeness.parts.samplers import State, ancestral, ddim, dpm2m, heun, sde2m
from likeness.parts.schedules import Level, Schedule, Sigmas, Steps, cosine, linear
from mixture_truth import THREE

diffusers = pytest.importorskip(
    "diffusers", reason="these compare with diffusers' schedulers; type: pip install diffusers"
)

N = 16
BETAS = {"linear": linear(1000), "cosine": cosine(1000)}
betas = pytest.mark.parametrize("beta", BETAS.values(), ids=BETAS)


class Same(Noise):
    """Gives the sampler the noise that torch's generator gives to diffusers."""

    def __init__(self) -> None:
        super().__init__(range(N))
        self.generator = torch.Generator().manual_seed(1)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(len(self), *shape, generator=self.generator, dtype=torch.float64)


def noise_of(schedule: Schedule) -> Callable[[Tensor, Level], Tensor]:
    """What a network that predicts the noise would say."""
    denoise = THREE.denoiser(schedule)
    return lambda x, at: (
        (x - at.alpha * denoise(x, torch.full((len(x),), at.t, dtype=torch.float64))) / at.sigma
    )


def begin() -> Tensor:
    return torch.randn(N, 2, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def doubled(scheduler: object, beta: Tensor) -> object:
    """With its table in float64: in float32 the first step of a cosine schedule, where alpha is 5e-5, is only
    good to 2e-4."""
    scheduler.betas, scheduler.alphas, scheduler.alphas_cumprod = beta, 1 - beta, (1 - beta).cumprod(0)
    return scheduler


def levels_of(scheduler: object, schedule: Steps) -> list[Level]:
    return [schedule.level(float(t) + 1) for t in scheduler.timesteps] + [schedule.level(0.0)]


def theirs(
    scheduler: object, schedule: Steps, x: Tensor, noise: Noise | None = None, **options: object
) -> Iterator[Tensor]:
    """noise: of each step, where they would draw it in float32."""
    eps = noise_of(schedule)
    for t in scheduler.timesteps:
        fresh = {} if noise is None else dict(variance_noise=noise.normal(2, 1, 1))
        x = scheduler.step(eps(x, schedule.level(float(t) + 1)), t, x, **options, **fresh).prev_sample
        yield x


def agree(ours: Iterator[State], theirs: Iterator[Tensor]) -> None:
    """To 1e-4 of the largest value, after every step."""
    for state, x in zip(ours, theirs, strict=True):
        torch.testing.assert_close(state.x, x.double(), rtol=0, atol=1e-4 * x.abs().max().item())


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@betas
@pytest.mark.parametrize("steps", [1000, 50])
@pytest.mark.parametrize(("variance", "large"), [("fixed_small", False), ("fixed_large", True)])
def test_ddpm(beta: Tensor, steps: int, variance: str, large: bool) -> None:
    scheduler = doubled(
        diffusers.DDPMScheduler(variance_type=variance, clip_sample=False, timestep_spacing="leading"), beta
    )
    scheduler.set_timesteps(steps)
    schedule = Steps(beta)
    ours = ancestral(THREE.denoiser(schedule), levels_of(scheduler, schedule), begin(), Same(), large=large)
    agree(ours, theirs(scheduler, schedule, begin(), generator=seeded()))


@betas
@pytest.mark.parametrize("steps", [100, 10])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(beta: Tensor, steps: int, eta: float) -> None:
    scheduler = doubled(
        diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"), beta
    )
    scheduler.set_timesteps(steps)
    schedule = Steps(beta)
    levels = levels_of(scheduler, schedule)
    assert torch.allclose(torch.tensor(levels), torch.tensor(schedule.levels(steps)), rtol=1e-6), (
        "what they call trailing is our even"
    )
    ours = ddim(THREE.denoiser(schedule), levels, begin(), Same(), eta=eta)
    agree(ours, theirs(scheduler, schedule, begin(), generator=seeded(), eta=eta))


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("steps", [8, 40])
def test_dpm_solver(steps: int, noisy: bool) -> None:
    """Theirs, too, ends with a step of first order, since the last has no logarithm."""
    beta = BETAS["linear"]
    scheduler = diffusers.DPMSolverMultistepScheduler(
        trained_betas=beta.numpy(),
        algorithm_type="sde-dpmsolver++" if noisy else "dpmsolver++",
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    schedule = Steps(beta)
    agree(
        (sde2m if noisy else dpm2m)(
            THREE.denoiser(schedule), levels_of(scheduler, schedule), begin(), Same()
        ),
        theirs(scheduler, schedule, begin(), Same() if noisy else None),
    )


@pytest.mark.parametrize("karras", [False, True])
def test_heun(karras: bool) -> None:
    """It steps in sigma, and asks twice before it has made one step of ours."""
    scheduler = diffusers.HeunDiscreteScheduler(
        trained_betas=BETAS["linear"].numpy(), prediction_type="sample", use_karras_sigmas=karras
    )
    scheduler.set_timesteps(20)
    sigmas = [scheduler.sigmas[0].item(), *scheduler.sigmas[1::2].tolist()]
    schedule = Sigmas(sigmas[-2], sigmas[0])
    denoise = THREE.denoiser(schedule)

    def steps(x: Tensor) -> Iterator[Tensor]:
        for i, t in enumerate(scheduler.timesteps):
            x = scheduler.step(denoise(x, scheduler.sigmas[i].expand(N).double()), t, x).prev_sample
            if i % 2 or i == len(scheduler.timesteps) - 1:
                yield x

    levels = [schedule.level(sigma) for sigma in sigmas]
    agree(heun(denoise, levels, sigmas[0] * begin(), Same()), steps(sigmas[0] * begin()))
    if karras:
        assert sigmas == pytest.approx([level.sigma for level in schedule.levels(20)], rel=1e-5)


@pytest.mark.parametrize("kind", ["ddpm", "dpm"])
def test_a_step_off_is_found_out(kind: str) -> None:
    """The fake: their step t taken for ours, when theirs begin with 0."""
    beta = BETAS["linear"]
    schedule = Steps(beta)
    maker = diffusers.DDPMScheduler if kind == "ddpm" else diffusers.DPMSolverMultistepScheduler
    scheduler = maker(trained_betas=beta.numpy(), **({"clip_sample": False} if kind == "ddpm" else {}))
    scheduler.set_timesteps(20)
    levels = [schedule.level(max(float(t), 1.0)) for t in scheduler.timesteps] + [schedule.level(0.0)]
    sampler = ancestral if kind == "ddpm" else dpm2m
    more = {"generator": seeded()}
    with pytest.raises(AssertionError, match="not close"):
        agree(
            sampler(THREE.denoiser(schedule), levels, begin(), Same()),
            theirs(scheduler, schedule, begin(), **more),
        )
