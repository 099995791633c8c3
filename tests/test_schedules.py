"""The forward process: the tables are those of the papers, times and ratios lead into each other, and lists
of levels are what a sampler can walk through."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from likeness.core import Noise
from likeness.parts.samplers import posterior
from likeness.parts.schedules import Level, Schedule, Sigmas, Steps, Straight, cosine, linear, mixed
from mixture_truth import schedules

EVERY = schedules()
every = pytest.mark.parametrize("schedule", EVERY.values(), ids=EVERY)


def inside(schedule: Schedule, n: int = 50) -> torch.Tensor:
    """Times from the cleanest to one at which there still is some image."""
    most = min(schedule.noisiest, 0.99) if isinstance(schedule, Straight) else schedule.noisiest
    return torch.linspace(schedule.cleanest, most, n, dtype=torch.float64)


def test_a_table_is_the_product_of_its_steps() -> None:
    beta = linear(1000)
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    steps = Steps(beta)
    for t in (1, 2, 500, 999, 1000):
        level = steps.level(float(t))
        assert level.alpha == pytest.approx(math.sqrt(abar[t - 1]), rel=1e-12)
        assert level.sigma == pytest.approx(math.sqrt(1 - abar[t - 1]), rel=1e-12)


@pytest.mark.parametrize(
    "beta",
    [linear(1000), cosine(1000), linear(20), cosine(20), linear(1)],
    ids=["linear", "cosine", "linear 20", "cosine 20", "one step"],
)
def test_steps_keep_the_variance(beta: torch.Tensor) -> None:
    t = torch.linspace(0, len(beta), 301, dtype=torch.float64)
    t = t[(t == 0) | (t >= 1)]
    steps = Steps(beta)
    torch.testing.assert_close(
        steps.alpha(t) ** 2 + steps.sigma(t) ** 2, torch.ones_like(t), rtol=0, atol=1e-14
    )
    assert steps.level(0.0) == Level(0.0, 1.0, 0.0)


def test_cosine_is_the_formula_up_to_where_beta_is_cut_off() -> None:
    def f(t: int) -> float:
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (1, 10, 500, 900, 999):
        assert Steps(cosine(1000)).level(float(t)).alpha ** 2 == pytest.approx(f(t) / f(0), rel=1e-9)
    assert cosine(1000)[-1] == 0.999


def test_fewer_steps_reach_the_same_end() -> None:
    """The fake: 100 steps with the variances of 1000, which end in an image that is half there."""
    ends = [Steps(linear(T)).level(float(T)).alpha for T in (100, 1000)]
    assert max(ends) < 0.01
    assert Steps(torch.linspace(1e-4, 0.02, 100, dtype=torch.float64)).level(100.0).alpha > 0.5


@every
def test_time_inverts_the_ratio(schedule: Schedule) -> None:
    t = inside(schedule)
    torch.testing.assert_close(schedule.time(schedule.sigma(t) / schedule.alpha(t)), t, rtol=1e-9, atol=0)


@every
def test_noise_only_grows(schedule: Schedule) -> None:
    ratio = schedule.sigma(inside(schedule)) / schedule.alpha(inside(schedule))
    assert (ratio.diff() > 0).all()


def test_ratios_that_no_step_has_are_those_of_the_ends() -> None:
    assert Steps(linear(1000)).time(torch.tensor([1e-9, 1e9], dtype=torch.float64)).tolist() == [1.0, 1000.0]


@every
@pytest.mark.parametrize("spacing", ["even", "karras"])
@pytest.mark.parametrize("n", [1, 2, 7, 50, 999, 3000])
def test_levels_fall_to_the_image_and_none_comes_twice(schedule: Schedule, spacing: str, n: int) -> None:
    levels = schedule.levels(n, spacing)
    times, ratios = [level.t for level in levels], [level.ratio for level in levels]
    assert times == sorted(set(times), reverse=True) and ratios == sorted(set(ratios), reverse=True)
    assert levels[-1] == Level(0.0, 1.0, 0.0) and times[-2] >= schedule.cleanest * (1 - 1e-9)
    assert 2 <= len(levels) <= n + 1
    if spacing == "even":
        assert times[0] == pytest.approx(schedule.noisiest)
    if isinstance(schedule, Steps):
        assert all(t == int(t) for t in times), "a network has been trained on whole steps"
        assert len(levels) <= len(schedule.beta) + 1


def test_as_many_levels_as_were_asked_for() -> None:
    for n in (1, 10, 333, 667, 1000):
        assert [len(s.levels(n)) for s in EVERY.values()] == [n + 1] * 4
    assert len(EVERY["linear"].levels(4000)) == 1001


def test_the_spacing_of_karras() -> None:
    """Table 1 and eq. 5 of the paper, written out."""
    n, rho = 18, 7
    want = [(80 ** (1 / rho) + i / (n - 1) * (0.002 ** (1 / rho) - 80 ** (1 / rho))) ** rho for i in range(n)]
    assert [level.sigma for level in Sigmas().levels(n)] == pytest.approx([*want, 0.0], rel=1e-9)
    assert [level.ratio for level in Straight(least=0.002 / 1.002).levels(n, "karras")] == pytest.approx(
        [*want, 0.0], rel=1e-9
    )


@every
def test_two_steps_forward_are_one(schedule: Schedule) -> None:
    """q(x_t | x_s) after q(x_s | x_0) is q(x_t | x_0), and the posterior has the mean and the variance of
    Bayes' rule."""
    ts = inside(schedule)
    there, here = schedule.level(ts[10].item()), schedule.level(ts[40].item())
    q, kept = posterior(here, there), here.alpha / there.alpha
    assert q.large == pytest.approx(here.sigma**2 - kept**2 * there.sigma**2, rel=1e-9)
    precision = kept**2 / q.large + 1 / there.sigma**2
    assert q.small == pytest.approx(1 / precision, rel=1e-9)
    assert q.of_x == pytest.approx(kept / q.large / precision, rel=1e-9)
    assert q.of_x_0 == pytest.approx(there.alpha / there.sigma**2 / precision, rel=1e-9)


def test_the_variances_are_those_of_the_table() -> None:
    """beta_t and beta tilde_t of Ho et al. 2020, section 2 and eq. 7."""
    beta = linear(1000)
    abar, steps = np.cumprod(1 - beta.numpy()), Steps(beta)
    for t in (2, 500, 1000):
        q = posterior(steps.level(float(t)), steps.level(t - 1.0))
        assert q.large == pytest.approx(beta[t - 1].item(), rel=1e-9)
        assert q.small == pytest.approx((1 - abar[t - 2]) / (1 - abar[t - 1]) * beta[t - 1].item(), rel=1e-9)
    assert posterior(steps.level(1.0), steps.level(0.0)) == (0.0, 1.0, 0.0, pytest.approx(beta[0].item()))


@every
def test_the_closed_form_has_the_moments_of_the_process(schedule: Schedule) -> None:
    noise = Noise(range(20_000), 1)
    x_0, eps = 0.3 + 0.1 * noise.normal(1, 1, 1).double(), noise.normal(1, 1, 1).double()
    level = schedule.level(inside(schedule)[25].item())
    x = mixed(schedule, x_0, eps, torch.full((20_000,), level.t, dtype=torch.float64))
    std = math.hypot(level.alpha * 0.1, level.sigma)
    assert x.mean().item() == pytest.approx(0.3 * level.alpha, abs=4 * std / math.sqrt(20_000))
    assert x.std().item() == pytest.approx(std, rel=0.02)
