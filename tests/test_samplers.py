"""Every sampler, with the best denoiser there is, against laws that are known; and each with the mistake that
is easy to make."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import cycle, pairwise

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from likeness.core import Noise
from likeness.parts import samplers
from likeness.parts.samplers import Denoise, State, ancestral, ddim, dpm2m, heun, inpaint, sde2m, start
from likeness.parts.schedules import BETAS, Level, Schedule, Sigmas, Steps, Straight, cosine
from mixture_truth import THREE, Correlated, Mixture, Silent, last, schedules

EVERY = schedules()
every = pytest.mark.parametrize("schedule", EVERY.values(), ids=EVERY)
Sampler = Callable[..., Iterator[State]]


def draw(
    sampler: Sampler,
    denoise: Denoise,
    levels: Sequence[Level],
    n: int,
    dims: int = 2,
    noise: Noise | None = None,
    **options: object,
) -> Tensor:
    """(n, dims) float64"""
    noise = Noise(range(n)) if noise is None else noise
    return last(
        sampler(denoise, levels, start(levels, noise, dims, 1, 1).double(), noise, **options)
    ).flatten(1)


def strayed(x: Tensor, law: Mixture) -> float:
    """The largest error of mean, covariance and weights, in standard errors of a sample as large as x."""
    n, d = len(x), x - x.mean(0)
    fresh = law.draw(200_000) - law.mean
    products = fresh[:, :, None] * fresh[:, None]
    off = [
        (x.mean(0) - law.mean) / (law.cov.diagonal() / n).sqrt(),
        (d.T @ d / n - law.cov) / (products.std(0) / math.sqrt(n)),
        (torch.bincount(law.member(x), minlength=len(law.w)) / n - law.w) / (law.w * (1 - law.w) / n).sqrt(),
    ]
    return max(part.abs().max().item() for part in off)


LAW = {
    "ancestral": (ancestral, 200, {}),
    "ddim": (ddim, 200, {}),
    "ddim-1": (ddim, 200, {"eta": 1.0}),
    "heun": (heun, 60, {}),
    "dpm2m": (dpm2m, 60, {}),
    "sde2m": (sde2m, 60, {}),
}


@every
@pytest.mark.parametrize("name", LAW)
def test_every_sampler_draws_from_the_law(schedule: Schedule, name: str) -> None:
    """1000 points: their mean, covariance and weights, each within 4 standard errors, and one more for the
    steps."""
    sampler, steps, options = LAW[name]
    assert (
        strayed(draw(sampler, THREE.denoiser(schedule), schedule.levels(steps), 1000, **options), THREE) < 5
    )


@every
@pytest.mark.parametrize("name", ["ancestral", "ddim-1", "sde2m"])
def test_without_its_noise_ancestral_sampling_collapses(schedule: Schedule, name: str) -> None:
    sampler, steps, options = LAW[name]
    noise = Noise(range(1000))
    levels = schedule.levels(steps)
    x = last(
        sampler(
            THREE.denoiser(schedule),
            levels,
            start(levels, noise, 2, 1, 1).double(),
            Silent(range(1000)),
            **options,
        )
    ).flatten(1)
    assert strayed(x, THREE) > 10


WALKS = dict(ancestral=ancestral, ddim=ddim, heun=heun, dpm2m=dpm2m, sde2m=sde2m)
SCHEDULES = {f"{name} {T}": Steps(make(T)) for name, make in BETAS.items() for T in (1000, 100)} | {
    "sigmas": Sigmas(),
    "straight": Straight(),
}


@pytest.mark.parametrize("spacing", ["even", "karras"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", WALKS)
def test_n_steps_are_n_steps_and_end_at_the_image(name: str, schedule: Schedule, spacing: str) -> None:
    """Of any number, whether it divides T or not: the times fall, the last is 0, and the network is asked
    once a step (by heun twice, but in the last)."""
    asked = list[float]()

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t[0].item())
        return torch.zeros_like(x)

    for n in (1, 2, 3, 7, 20, 64, 99, 100):
        asked.clear()
        levels, noise = schedule.levels(n, spacing), Noise([0])
        states = list(WALKS[name](denoise, levels, start(levels, noise, 1), noise))
        times = [levels[0].t, *(state.at.t for state in states)]
        assert len(states) == n and all(a > b for a, b in pairwise(times))
        assert states[-1].at == (0.0, 1.0, 0.0) and torch.equal(states[-1].x, torch.zeros(1, 1)), (
            "what is returned is the image expected last"
        )
        assert len(asked) == (2 * n - 1 if name == "heun" else n) and min(asked) >= schedule.cleanest
        if isinstance(schedule, Steps):
            assert all(t == round(t) and 1 <= t <= len(schedule.beta) for t in asked)


def test_more_steps_than_there_are_take_each_once() -> None:
    for spacing in ("even", "karras"):
        assert [level.t for level in Steps(cosine(10)).levels(50, spacing)] == list(range(10, -1, -1))


def geometric(schedule: Schedule, steps: int, noisy: float = 20.0, clean: float = 0.1) -> list[Level]:
    """Levels whose log-SNR falls evenly, between two that no end disturbs."""
    ratios = torch.linspace(math.log(noisy), math.log(clean), steps + 1, dtype=torch.float64).exp()
    return [schedule.level(t) for t in schedule.time(ratios).tolist()]


def order(sampler: Sampler, schedule: Schedule) -> float:
    """log2 of what twice the steps do to the error, against 8 times as many of heun: of the median, since a
    point on the ridge between two components goes to the wrong one or does not, which has no order."""
    few, many = (
        (followed(sampler, schedule, steps) - exact(schedule)).norm(dim=1).median().item()
        for steps in (50, 100)
    )
    return math.log2(few / many)


def followed(sampler: Sampler, schedule: Schedule, steps: int) -> Tensor:
    levels, noise = geometric(schedule, steps), Noise(range(60))
    x = math.hypot(levels[0].alpha, levels[0].sigma) * noise.normal(2, 1, 1).double()
    return last(sampler(THREE.denoiser(schedule), levels, x, noise)).flatten(1)


@cache
def exact(schedule: Schedule) -> Tensor:
    return followed(heun, schedule, 800)


ORDERS = {"ddim": (ddim, 1), "heun": (heun, 2), "dpm2m": (dpm2m, 2)}


@every
@pytest.mark.parametrize("name", ORDERS)
def test_order_of_convergence(schedule: Schedule, name: str) -> None:
    sampler, expected = ORDERS[name]
    assert order(sampler, schedule) == pytest.approx(expected, abs=0.15)


def deaf(denoise: Denoise) -> Denoise:
    """The fake: every second question, the one for the slope at the end of a step, gets the answer to the
    first."""
    turn, kept = cycle([True, False]), []

    def answer(x: Tensor, t: Tensor) -> Tensor:
        if next(turn):
            kept[:] = [denoise(x, t)]
        return kept[0]

    return answer


@every
def test_heun_without_its_correction_is_euler(schedule: Schedule) -> None:
    def fake(denoise: Denoise, levels: Sequence[Level], x: Tensor, noise: Noise) -> Iterator[State]:
        return heun(deaf(denoise), levels, x, noise)

    assert order(fake, schedule) == pytest.approx(1, abs=0.15)


def test_dpm2m_without_its_memory_is_ddim() -> None:
    """Step for step: both are exact where x_0 stays as it is."""
    levels, noise = Sigmas().levels(20), Noise(range(5))
    x, denoise = start(levels, noise, 2, 1, 1).double(), THREE.denoiser(Sigmas())
    for pair in pairwise(levels):
        torch.testing.assert_close(
            last(dpm2m(denoise, pair, x, noise)), last(ddim(denoise, pair, x, noise)), rtol=1e-12, atol=1e-12
        )
        x = last(ddim(denoise, pair, x, noise))


@every
def test_sde2m_without_its_memory_is_ancestral_and_with_it_needs_fewer_steps(schedule: Schedule) -> None:
    levels, denoise = schedule.levels(12, "karras"), THREE.denoiser(schedule)
    x = start(levels, Noise(range(5)), 2, 1, 1).double()
    for pair in pairwise(levels):
        one, other = (last(walk(denoise, pair, x, Noise(range(5), 3))) for walk in (sde2m, ancestral))
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        x = one
    levels = schedule.levels(40, "karras")
    apart = {walk: strayed(draw(walk, denoise, levels, 4000), THREE) for walk in (sde2m, ancestral)}
    assert apart[sde2m] < apart[ancestral] / 1.5


@every
@pytest.mark.parametrize("spacing", ["even", "karras"])
def test_ddim_with_eta_one_is_ancestral_sampling(schedule: Schedule, spacing: str) -> None:
    levels, denoise = schedule.levels(30, spacing), THREE.denoiser(schedule)
    x = start(levels, Noise(range(10)), 2, 1, 1).double()
    both = zip(
        ancestral(denoise, levels, x, Noise(range(10), 7)),
        ddim(denoise, levels, x, Noise(range(10), 7), eta=1.0),
    )
    for one, other in both:
        torch.testing.assert_close(one.x, other.x, rtol=1e-9, atol=1e-9)


@every
def test_eta_is_a_share_of_the_standard_deviation(schedule: Schedule) -> None:
    """(16) of Song, Meng & Ermon 2021."""
    pair, x = schedule.levels(10)[4:6], Noise(range(6)).normal(2, 1, 1).double()
    loud, quiet = (
        last(ddim(THREE.denoiser(schedule), pair, x, noise, eta=0.5))
        for noise in (Noise(range(6), 1), Silent(range(6), 1))
    )
    expected = 0.5 * math.sqrt(samplers.posterior(*pair).small) * Noise(range(6), 1).normal(2, 1, 1)
    torch.testing.assert_close(loud - quiet, expected.double(), rtol=1e-5, atol=1e-7)


def test_the_larger_variance_is_that_of_a_forward_step() -> None:
    """With both one draws from the law, if steps are short enough."""
    schedule = EVERY["linear"]
    assert (
        strayed(draw(ancestral, THREE.denoiser(schedule), schedule.levels(1000), 500, large=True), THREE) < 5
    )


def test_one_step_from_pure_noise_is_the_mean() -> None:
    """What a flow says of noise alone is the mean of all images; it takes steps to make one of them, and
    twice as many halve the error."""
    schedule = Straight()
    denoise = THREE.denoiser(schedule)
    torch.testing.assert_close(
        draw(ddim, denoise, schedule.levels(1), 50), THREE.mean.expand(50, 2), rtol=0, atol=1e-12
    )
    exact = draw(heun, denoise, schedule.levels(800), 50)
    ten, twenty = (
        (draw(ddim, denoise, schedule.levels(n), 50) - exact).abs().mean().item() for n in (40, 80)
    )
    assert ten / twenty == pytest.approx(2, abs=0.3)
    images = draw(ddim, lambda x_t, t: THREE.draw(len(x_t)).view_as(x_t), schedule.levels(1), 50)
    assert (images - THREE.mean).abs().mean() > 0.1, "the fake: an image, where the mean of all should be"


@every
def test_every_sampler_yields_the_way(schedule: Schedule) -> None:
    levels = schedule.levels(5)
    for sampler in (ancestral, ddim, heun, dpm2m, sde2m):
        x = start(levels, Noise(range(3)), 2, 1, 1).double()
        states = list(sampler(THREE.denoiser(schedule), levels, x, Noise(range(3), 1)))
        assert [state.at for state in states] == levels[1:]
        assert all(state.x.shape == state.x_0.shape == (3, 2, 1, 1) for state in states)
        assert all(state.x.dtype == torch.float64 for state in states)
        torch.testing.assert_close(states[-1].x, states[-1].x_0)


@every
def test_a_sample_does_not_depend_on_its_company(schedule: Schedule) -> None:
    denoise, levels = THREE.denoiser(schedule), schedule.levels(10)
    for sampler, options in [
        (ancestral, {}),
        (ddim, {"eta": 0.5}),
        (heun, {"churn": 5.0, "schedule": schedule}),
        (dpm2m, {}),
        (sde2m, {}),
    ]:
        alone = draw(sampler, denoise, levels, 1, noise=Noise([3]), **options)
        torch.testing.assert_close(
            draw(sampler, denoise, levels, 5, **options)[3:4], alone, rtol=1e-12, atol=1e-12
        )


# Guidance: row 12 of the closed forms.  Unconditional N(0, 1), conditional N(m, s^2)

M, S = 1.0, 0.5


def guided(w: float, schedule: Schedule, of: Callable[[Tensor, Tensor, float], Tensor]) -> Tensor:
    free, told = (Mixture([1.0], [[m]], [v]).denoiser(schedule) for m, v in ((0.0, 1.0), (M, S**2)))
    levels = schedule.levels(100, "karras")
    return draw(heun, lambda x, t: of(free(x, t), told(x, t), w), levels, 2000, dims=1).flatten()


def of_flow(w: float) -> tuple[float, float]:
    """Mean and standard deviation at the end of the guided flow; the law p(x)^(1-w) p(x|c)^w has others."""
    integral, _ = quad(lambda r: r * (S**2 + r**2) ** (-1 - w / 2) * (1 + r**2) ** ((w - 1) / 2), 0, math.inf)
    return w * M * S**w * integral, S**w


@pytest.mark.parametrize(("w", "mean", "std"), [(1.0, 1.0, 0.5), (2.0, 1.3802, 0.25), (4.0, 1.5176, 0.0625)])
def test_the_law_of_guided_sampling_as_it_is_known(w: float, mean: float, std: float) -> None:
    assert of_flow(w) == pytest.approx((mean, std), abs=1e-4)


@every
@pytest.mark.parametrize("w", [2.0, 4.0])
def test_guided_sampling_of_gaussians(schedule: Schedule, w: float) -> None:
    """D_u + w (D_c - D_u) has that law; the fake is the other convention, in which w = 0 is the condition and
    w = 1 is twice it."""
    mean, std = of_flow(w)
    right = guided(w, schedule, lambda u, c, w: u + w * (c - u))
    assert right.mean().item() == pytest.approx(mean, abs=4 * std / math.sqrt(2000) + 0.01)
    assert right.std().item() == pytest.approx(std, rel=0.08)
    fake = guided(w, schedule, lambda u, c, w: (1 + w) * c - w * u)
    assert fake.std().item() == pytest.approx(of_flow(w + 1)[1], rel=0.08)
    tilted = 1 / math.sqrt(1 - w + w / S**2)
    assert abs(right.std().item() - tilted) > 0.1


# From an image to its noise and back


def there_and_back(sampler: Sampler, schedule: Schedule, steps: int) -> float:
    levels, denoise, noise = (
        schedule.levels(steps, "karras")[:-1],
        THREE.denoiser(schedule),
        Noise(range(100)),
    )
    x = THREE.draw(100).view(-1, 2, 1, 1) * levels[-1].alpha
    away = last(sampler(denoise, levels[::-1], x, noise))
    return (last(sampler(denoise, levels, away, noise)) - x).abs().mean().item()


@every
@pytest.mark.parametrize(("name", "gain"), [("ddim", 4), ("heun", 16)])
def test_an_image_comes_back_from_its_noise(schedule: Schedule, name: str, gain: float) -> None:
    """With an error of the sampler's order: 4 times the steps, and it is a quarter, or a sixteenth."""
    few, many = (there_and_back(ORDERS[name][0], schedule, steps) for steps in (40, 160))
    assert few / many > gain / 1.6
    assert many < (0.05 if name == "ddim" else 2e-3)


@pytest.mark.parametrize("name", ["linear", "sigmas"])
def test_the_noise_of_an_image_is_noise(name: str) -> None:
    schedule = EVERY[name]
    levels = schedule.levels(100, "karras")[:-1]
    x = THREE.draw(2000).view(-1, 2, 1, 1) * levels[-1].alpha
    z = last(heun(THREE.denoiser(schedule), levels[::-1], x, Noise(range(2000)))).flatten(1) / levels[0].sigma
    assert z.mean(0).abs().max().item() < 4 / math.sqrt(2000)
    torch.testing.assert_close(z.T.cov(), torch.eye(2, dtype=torch.float64), rtol=0, atol=0.15)


# Churn


@every
def test_churn_keeps_the_law(schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake adds the noise and does not put back the clock."""

    def go() -> float:
        return strayed(
            draw(heun, THREE.denoiser(schedule), schedule.levels(100), 1000, churn=20.0, schedule=schedule),
            THREE,
        )

    assert go() < 5
    honest = samplers.churned
    monkeypatch.setattr(
        samplers,
        "churned",
        lambda schedule, x, here, gamma, noise: (honest(schedule, x, here, gamma, noise)[0], here),
    )
    assert go() > 10


def test_churn_really_adds_noise() -> None:
    schedule = Sigmas()
    x = torch.zeros(4000, 1, 1, 1, dtype=torch.float64)
    x, back = samplers.churned(schedule, x, schedule.level(2.0), 0.25, Noise(range(4000)))
    assert back.sigma == pytest.approx(2.5) and x.std().item() == pytest.approx(1.5, rel=0.05)
    assert samplers.churned(schedule, x, schedule.level(79.0), 0.4, Noise(range(4000)))[
        1
    ].sigma == pytest.approx(80)


# Inpainting

PAIR = Correlated([0.2, -0.1], [[0.25, 0.2], [0.2, 0.25]])


def filled_in(schedule: Schedule, repeats: int, n: int = 1500) -> Tensor:
    image, known = torch.full((n, 1, 1, 2), 0.9, dtype=torch.float64), torch.tensor([[True, False]])
    x = last(inpaint(PAIR.denoiser(schedule), schedule.levels(40), image, known, Noise(range(n)), repeats))
    assert torch.equal(x[..., 0], image[..., 0]), "what is known is left as it is"
    return x[:, 0, 0, 1]


@pytest.mark.parametrize("name", EVERY)
def test_what_is_drawn_has_heard_of_what_is_known(name: str) -> None:
    """p(second | first) of a Gaussian.  One pass alone does not reach half the way to its mean from that of
    all images."""
    mean, std = PAIR.given_first(0.9)
    way = mean - PAIR.m[1].item()
    once, often = filled_in(EVERY[name], 1), filled_in(EVERY[name], 16)
    assert (mean - once.mean().item()) / way > 0.35
    assert abs(mean - often.mean().item()) / way < 0.12
    assert often.std().item() == pytest.approx(std, rel=0.25)
