"""The density by the probability-flow equation: against the exact one, with its standard error, and image by
image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from likeness.core import Diverged, Noise
from likeness.parts import ode
from likeness.parts.schedules import Schedule, Sigmas, Steps, Straight, linear
from mixture_truth import THREE, Mixture, schedules

EVERY = {**schedules(), "sigmas": Sigmas(most=1000.0)}
every = pytest.mark.parametrize("schedule", EVERY.values(), ids=EVERY)
POINTS = THREE.draw(40).view(-1, 2, 1, 1)


def wrong(density: ode.Density, schedule: Schedule, x: Tensor = POINTS) -> Tensor:
    """Error in nats a dimension, under the law at the schedule's cleanest time."""
    return (density.log_p - THREE.smoothed(schedule.level(schedule.cleanest).ratio).log_density(x)) / 2


@every
def test_density_of_a_mixture(schedule: Schedule) -> None:
    d = ode.density(THREE.denoiser(schedule), schedule, POINTS)
    assert wrong(d, schedule).abs().mean().item() < 1e-3
    assert d.error.tolist() == [0.0] * 40
    assert d.calls.min() > 50 and d.calls.max() < 300 and (d.calls % 6 == 1).all()


def test_the_density_is_that_of_an_independent_integrator_and_of_the_closed_form() -> None:
    """N(m, v I): dx/ds = s (x - m) / (v + s^2), so that x - m grows by sqrt((v + s^2) / (v + clean^2)) in
    each dimension."""
    m, v, schedule = torch.tensor([0.7, -0.3], dtype=torch.float64), 0.09, Sigmas()
    law, (clean, end) = Mixture([1.0], [m.tolist()], [v]), ode.ends(schedule)
    x = law.draw(5)
    growth = math.sqrt((v + end**2) / (v + clean**2))
    last = m + growth * (x - m)
    closed = -last.square().sum(1) / (2 * end**2) - math.log(2 * math.pi * end**2) + 2 * math.log(growth)

    def rate(s: float, state: np.ndarray) -> np.ndarray:
        return np.append((state[:2] - m.numpy()) * s / (v + s * s), 2 * s / (v + s * s))

    ours = ode.density(law.denoiser(schedule), schedule, x.view(5, 2, 1, 1), tol=1e-9).log_p
    for i, point in enumerate(x.numpy()):
        ended = solve_ivp(rate, (clean, end), np.append(point, 0.0), rtol=1e-10, atol=1e-12).y[:, -1]
        theirs = -(ended[:2] ** 2).sum() / (2 * end**2) - math.log(2 * math.pi * end**2) + ended[2]
        assert theirs == pytest.approx(closed[i].item(), abs=1e-6) and ours[i].item() == pytest.approx(
            theirs, abs=1e-6
        )


@pytest.mark.parametrize("tol", [1e-3, 1e-4, 1e-5])
def test_the_error_that_is_told_is_that_of_the_solution(tol: float) -> None:
    schedule = EVERY["straight"]

    def solve(tol: float) -> Tensor:
        return ode.density(THREE.denoiser(schedule), schedule, POINTS, tol=tol).log_p

    off = (solve(tol) - solve(1e-8)).square().mean().sqrt().item()
    assert ode.unsolved(solve, solve(tol), tol) == pytest.approx(off, rel=0.3) and off > 0


def test_where_nothing_finer_can_be_solved_the_error_is_told_from_above() -> None:
    def solve(tol: float) -> Tensor:
        if tol < 1e-4:
            raise Diverged("it rounds")
        return torch.tensor([1.0, 2.0]) + tol

    assert ode.unsolved(solve, solve(1e-4), 1e-4) == pytest.approx(9e-4, rel=1e-3)


def test_a_tolerance_is_kept() -> None:
    schedule = EVERY["straight"]
    errors = [
        wrong(ode.density(THREE.denoiser(schedule), schedule, POINTS, tol=tol), schedule).abs().mean().item()
        for tol in (1e-3, 1e-4, 1e-5)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


def test_the_usual_80_costs_single_points_but_not_their_mean() -> None:
    """The law at the end has forgotten the mean m: |m| / s nats of scatter, |m|^2 / 2 s^2 on average."""
    schedule, x = Sigmas(), THREE.draw(400).view(-1, 2, 1, 1)
    off = wrong(ode.density(THREE.denoiser(schedule), schedule, x), schedule, x)
    assert off.std().item() == pytest.approx(THREE.mean.norm().item() / 80 / 2, rel=0.5)
    assert abs(off.mean().item()) < 4e-4


def test_the_wrong_end_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake: noise alone is said to begin where there still is an image."""
    monkeypatch.setattr(ode, "END", 1.0)
    assert (
        wrong(ode.density(THREE.denoiser(EVERY["straight"]), EVERY["straight"], POINTS), EVERY["straight"])
        .abs()
        .mean()
        > 0.02
    )


def test_without_the_divergence_there_is_no_density(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ode, "quadratic", lambda y, x, v: torch.zeros(len(x), v.shape[1], dtype=torch.float64)
    )
    assert (
        wrong(ode.density(THREE.denoiser(EVERY["sigmas"]), EVERY["sigmas"], POINTS), EVERY["sigmas"])
        .abs()
        .mean()
        > 1
    )


def test_hutchinson_is_as_wrong_as_it_says() -> None:
    """In many dimensions, whose gradients are not those of each for itself: the scatter of its errors is its
    standard error."""
    schedule, dims = EVERY["sigmas"], 12
    g = torch.Generator().manual_seed(0)
    law = Mixture([0.6, 0.4], (0.4 * torch.randn(2, dims, generator=g)).tolist(), [0.05, 0.1])
    x, denoise = law.draw(150).view(-1, 3, 2, 2), law.denoiser(schedule)
    exact = ode.density(denoise, schedule, x, tol=1e-4)
    for probes in (4, 16):
        d = ode.density(denoise, schedule, x, Noise(range(150)), probes, tol=1e-4)
        off, said = d.log_p - exact.log_p, d.error
        assert off.square().mean().sqrt().item() == pytest.approx(
            said.square().mean().sqrt().item(), rel=0.25
        )
        assert abs(off.mean().item()) < 4 * off.std().item() / math.sqrt(150)
        assert off.std().item() > 0.01, "a few signs do not make a trace"
    assert ode.density(denoise, schedule, x[:5], Noise(range(5)), 1, tol=1e-3).error.isnan().all(), (
        "one draw says nothing of its scatter"
    )


def test_probes_are_fair_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, seen = ode.quadratic, []
    monkeypatch.setattr(ode, "quadratic", lambda y, x, v: (seen.append(v), honest(y, x, v))[1])
    ode.density(THREE.denoiser(EVERY["sigmas"]), EVERY["sigmas"], POINTS, Noise(range(40)), 50, tol=1e-2)
    assert seen[0].abs().unique().tolist() == [1.0] and all(torch.equal(seen[0], v) for v in seen[:7]), (
        "the same all the way"
    )
    assert abs(seen[0].mean().item()) < 4 / math.sqrt(4000)
    assert abs(seen[0].prod(2).mean().item()) < 4 / math.sqrt(2000), "independent of one another"


def test_enough_probes_are_the_trace() -> None:
    """All signs of two dimensions, as often as one another: here their mean is the trace itself."""
    y = torch.tensor([[[[1.0, 2.0]]]], dtype=torch.float64, requires_grad=True)
    out = torch.stack([y[..., 0] * y[..., 1], y[..., 0] ** 2 + 5 * y[..., 1]], -1)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64).view(1, 2, 1, 1, 2)
    assert ode.quadratic(out, y, signs).tolist() == [[7.0 + 1.0 + 2.0, 7.0 - 1.0 - 2.0]]
    assert ode.quadratic(out, y, ode.unit_vectors(y.detach())).tolist() == [[2.0, 5.0]]


@every
def test_an_image_does_not_depend_on_its_company(schedule: Schedule) -> None:
    denoise, noise = THREE.denoiser(schedule), Noise(range(40), 2)
    for options in ({}, {"noise": noise, "probes": 2}):
        together = ode.density(denoise, schedule, POINTS, **options)
        some = {**options, "noise": Noise(range(7, 9), 2)} if options else {}
        alone = ode.density(denoise, schedule, POINTS[7:9], **some)
        torch.testing.assert_close(alone.log_p, together.log_p[7:9], rtol=1e-9, atol=1e-9)
        assert torch.equal(alone.calls, together.calls[7:9])
    assert len(together.calls.unique()) > 1, "each has its own steps"


def test_float32_is_enough() -> None:
    schedule, x = EVERY["linear"], POINTS.float()
    asked: list[torch.dtype] = []

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        asked.append(x_t.dtype)
        return THREE.denoiser(schedule)(x_t, t)

    d = ode.density(denoise, schedule, x)
    assert d.log_p.dtype == torch.float64 and set(asked) == {torch.float32}
    assert wrong(d, schedule).abs().mean().item() < 1e-3


@pytest.mark.parametrize("answer", [math.nan, math.inf])
def test_a_denoiser_that_is_broken_is_refused(answer: float) -> None:
    def broken(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.where((t < 1.0)[:, None, None, None], x_t, answer * x_t)

    with pytest.raises(Diverged, match="probability-flow"):
        ode.density(broken, Sigmas(), POINTS)


def test_a_denoiser_that_leaps_is_refused() -> None:
    with pytest.raises(Diverged):
        ode.density(
            lambda x_t, t: torch.where((t < 1.0)[:, None, None, None], 0.0, 1e12).to(x_t) * x_t,
            Sigmas(),
            POINTS,
        )


# The probability of an image on its grid


def on_a_grid(levels: int, n: int) -> tuple[Mixture, Tensor, Tensor]:
    """A law of images of two pixels with all its mass on the grid, some of them, and the logarithm of their
    probabilities."""
    g = torch.Generator().manual_seed(0)
    value = torch.linspace(-1, 1, levels, dtype=torch.float64)
    law = Mixture([1.0], [[0.0, 0.0]], [0.0])
    law.mu, w = (
        torch.cartesian_prod(value, value),
        torch.rand(levels**2, generator=g, dtype=torch.float64) ** 3,
    )
    law.w, law.v = w / w.sum(), torch.zeros_like(w)
    rows = torch.multinomial(law.w, n, replacement=True, generator=g)
    return law, law.mu[rows].view(-1, 1, 1, 2), law.w[rows].log()


@pytest.mark.parametrize(
    ("levels", "schedule"),
    [(5, EVERY["linear"]), (17, EVERY["linear"]), (5, EVERY["cosine"]), (5, Steps(linear(100)))],
)
def test_probabilities_on_the_grid(levels: int, schedule: Schedule) -> None:
    """Where the last noise is fine beside the grid, the estimate is the probability itself."""
    law, x, log_p = on_a_grid(levels, 15)
    d = ode.nats(law.denoiser(schedule), schedule, x, Noise(range(15)), levels, draws=3, probes=0)
    torch.testing.assert_close(d.log_p.mean(), log_p.mean(), rtol=0, atol=5e-3)
    assert (d.log_p - log_p).abs().max() < 0.1


def test_where_the_noise_is_coarse_it_lies_below() -> None:
    law, x, log_p = on_a_grid(17, 40)
    schedule = Straight(least=0.06)
    d = ode.nats(law.denoiser(schedule), schedule, x, Noise(range(40)), 17, draws=8, probes=0, tol=1e-4)
    below = (log_p - d.log_p).mean().item()
    assert 0.05 < below < 1 and below > 3 * d.error.square().mean().sqrt().item() / math.sqrt(40)


def test_a_density_is_worth_its_bin() -> None:
    """One pixel of 256 levels, a smooth law: P is the density times the width of a level.  The fake forgets
    what a level has of it."""
    value = torch.linspace(-1, 1, 256, dtype=torch.float64)
    law = Mixture([1.0], [[0.1]], [0.09])
    schedule, x = EVERY["linear"], value[[100, 140, 180]].view(-1, 1, 1, 1)
    d = ode.nats(law.denoiser(schedule), schedule, x, Noise(range(3)), 256, draws=12, probes=0, tol=1e-4)
    density = law.log_density(x)
    torch.testing.assert_close(d.log_p, density + math.log(2 / 255), rtol=0, atol=0.05)
    assert (d.log_p - density).abs().min() > 1


def test_points_have_a_density_alone() -> None:
    schedule = EVERY["straight"]
    one, other = (
        f(THREE.denoiser(schedule), schedule, POINTS[:5], Noise(range(5)), *more)
        for f, more in ((ode.nats, (0, 2, 3)), (ode.density, (3,)))
    )
    assert torch.equal(one.log_p, other.log_p) and torch.equal(one.error, other.error)


def test_the_error_on_the_grid_is_that_of_the_mean() -> None:
    law, x, _ = on_a_grid(5, 1)
    many, schedule = x.expand(60, -1, -1, -1), EVERY["linear"]
    d = ode.nats(law.denoiser(schedule), schedule, many, Noise(range(60)), 5, draws=4, probes=1, tol=1e-4)
    assert d.log_p.std().item() == pytest.approx(d.error.square().mean().sqrt().item(), rel=0.35)


class Small(nn.Module):
    """A network, not a formula."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 1, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x).tanh()


def test_with_a_network_in_float32() -> None:
    """No weight gets a gradient, and Hutchinson's estimate agrees with the exact trace."""
    net, schedule, x = Small(), Straight(), 2 * Noise(range(4)).uniform(1, 3, 3) - 1
    exact = ode.density(net, schedule, x)
    d = ode.density(net, schedule, x, Noise(range(4)), 20)
    assert ((d.log_p - exact.log_p).abs() < 5 * d.error).all()
    assert all(p.grad is None for p in net.parameters()) and not d.log_p.requires_grad


def test_it_integrates_to_one_whatever_the_network() -> None:
    net, x = Small(), torch.linspace(-4, 4, 300, dtype=torch.float64).view(-1, 1, 1, 1)
    d = ode.density(lambda x_t, t: 3 * net(2 * x_t.float(), t).double(), Straight(least=0.2), x)
    assert torch.trapezoid(d.log_p.exp(), x.flatten()).item() == pytest.approx(1, abs=2e-3)
