"""MeanFlow: its identity on data of which the mean velocity is known."""

from __future__ import annotations

import math

import pytest
import torch

from likeness.core import Batch, Noise, Spec
from likeness.models.meanflow import MeanFlow
from likeness.parts import samplers

MEAN, STD = 1.3, 0.4
"""of the data; the flow of a Gaussian is an affine map, and so is its mean velocity"""
POINTS = Spec(2, 1, levels=0)


def spread(t):
    """Standard deviation of x_t = (1 - t) x_0 + t eps."""
    return (((1 - t) * STD) ** 2 + t**2).sqrt()


def u(z, r, t, y=None, noise=None):
    """(z_t - z_r) / (t - r), where z_r is at the same place among its kind; at r = t its limit,
    the velocity."""
    a, b = (spread(s).view(-1, 1, 1, 1) for s in (r, t))
    r, t = (s.view(-1, 1, 1, 1) for s in (r, t))
    to = (1 - r) * MEAN + a / b * (z - (1 - t) * MEAN)
    slope = -MEAN + (t - (1 - t) * STD**2) / b.square() * (z - (1 - t) * MEAN)
    same = (t - r).abs() < 1e-12
    return torch.where(same, slope, (z - to) / torch.where(same, 1.0, t - r)).to(z.dtype)


def exact(z, t):
    """The velocity of the whole law at z, E[eps - x_0 | z]."""
    return u(z, t, t)


def model() -> MeanFlow:
    made = MeanFlow(spec=POINTS, scale=0.25)
    made.u = u
    return made


def residual(sign: float = 1.0, along: bool = True) -> float:
    """How far u is from v - (t - r) du/dt."""
    g = torch.Generator().manual_seed(0)
    t = torch.rand(200, generator=g, dtype=torch.float64) * 0.8 + 0.2
    r = t * torch.rand(200, generator=g, dtype=torch.float64) * 0.9
    z = 2 * torch.randn(200, 2, 1, 1, generator=g, dtype=torch.float64)
    v = exact(z, t)
    du = model().total_derivative(z, v if along else torch.zeros_like(v), r, t, None)
    return float((u(z, r, t) - (v - sign * (t - r).view(-1, 1, 1, 1) * du)).abs().max())


def test_the_mean_velocity_satisfies_the_identity():
    """REFERENCE row 7, with its fakes: the wrong sign, and a derivative that does not go along the flow."""
    assert residual() < 1e-12
    assert residual(sign=-1.0) > 0.5 and residual(along=False) > 0.5


def one_image_model(known) -> MeanFlow:
    """Of one image, over which the mean velocity of every flow is known: (x_t - x_0) / t, whatever r."""
    made = MeanFlow(spec=POINTS, scale=0.25, apart=1.0)
    made.u = known
    return made


def to_the_point(z, r, t, y=None, noise=None):
    return (z - 0.3) / t.view(-1, 1, 1, 1)


def test_the_loss_is_zero_for_the_mean_velocity_and_for_nothing_else():
    """Where all images are one, v = eps - x_0 is the velocity of the law, so that (9) has no error left; its
    fakes have."""
    batch = Batch(torch.full((64, 2, 1, 1), 0.3), None, Noise(range(64)))
    assert float(one_image_model(to_the_point).loss(batch).terms["error"]) < 1e-6
    wrong = one_image_model(
        lambda z, r, t, y=None, noise=None: to_the_point(z, r, t) * (1 + (t - r).view(-1, 1, 1, 1))
    )
    assert float(wrong.loss(batch).terms["error"]) > 1e-2


def test_the_target_is_the_papers():
    """v - (t - r) du/dt with the network's own derivative, found here by differences, and no gradient through
    it."""
    torch.manual_seed(0)
    made = MeanFlow(spec=Spec(1, 8), scale=0.25, apart=1.0).double()
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x, noise, h = torch.rand(16, 1, 8, 8, dtype=torch.float64) * 2 - 1, Noise(range(16)), 1e-4
    r, t = (s.double() for s in made.two_times(noise))
    eps = noise.normal(1, 8, 8).double()
    at = t.view(-1, 1, 1, 1)
    z, v = (1 - at) * x + at * eps, eps - x
    with torch.no_grad():
        du = (made.u(z + h * v, r, t + h) - made.u(z - h * v, r, t - h)) / (2 * h)
        error = (made.u(z, r, t) - (v - (t - r).view(-1, 1, 1, 1) * du)).flatten(1).square().mean(1)
        fake = (made.u(z, r, t) - (v + (t - r).view(-1, 1, 1, 1) * du)).flatten(1).square().mean(1)
    loss = made.loss(Batch(x, None, Noise(range(16))))
    assert float(loss.terms["error"]) == pytest.approx(float(error.mean()), rel=1e-3)
    assert abs(float(fake.mean()) / float(error.mean()) - 1) > 4e-3
    weights = torch.autograd.grad(loss.total, made.network.last.weight)[0]
    size = (error + 1e-3) ** 0.75
    want = torch.autograd.grad(
        (
            ((made.u(z, r, t) - (v - (t - r).view(-1, 1, 1, 1) * du)).flatten(1).square().mean(1)) / size
        ).mean(),
        made.network.last.weight,
    )[0]
    assert torch.allclose(weights, want, rtol=1e-2, atol=1e-4 * float(want.abs().max())), (
        "the weight has no gradient"
    )


def test_the_network_is_told_both_times():
    torch.manual_seed(0)
    made = MeanFlow(spec=Spec(1, 8), scale=0.25)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.1)
    z, t = torch.randn(2, 1, 8, 8), torch.tensor([0.9, 0.9])
    with torch.no_grad():
        assert float((made.u(z, torch.zeros(2), t) - made.u(z, t, t)).abs().mean()) > 1e-4


def test_what_is_no_drawing_walks_the_whole_way():
    made = model()
    x = torch.full((4, 2, 1, 1), 1.0)
    z = made.encode(x)
    assert float(z.abs().mean()) > 0.1 and torch.allclose(made.decode(z), x, atol=0.05)
    *_, near = made.redraw(x, 0.2, Noise(range(4)))
    assert 0 < float((near - x).abs().max()) < 1


def test_one_step_draws_from_the_law():
    made, noise = model(), Noise(range(20_000))
    *_, x = made.sample(noise)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.01) and x.std().item() == pytest.approx(STD, abs=0.01)
    flow = [
        state.x
        for state in samplers.ddim(made.predict, made.schedule.levels(1), noise.normal(2, 1, 1), noise)
    ][-1]
    assert flow.std().item() < 1e-4, "one step by the velocity alone goes to the mean"


def test_jumps_by_any_steps_end_at_the_same_place():
    made = model()
    found = []
    for steps in (1, 3, 10):
        made.steps = steps
        *_, x = made.sample(Noise(range(50)))
        found.append(x)
    assert torch.allclose(found[0], found[1], atol=1e-4) and torch.allclose(found[0], found[2], atol=1e-4)


def test_the_derivative_along_the_flow_is_that_of_differences():
    torch.manual_seed(0)
    made = MeanFlow(spec=Spec(1, 8), scale=0.25).double()
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.1)
    z, v = torch.randn(3, 1, 8, 8, dtype=torch.float64), torch.randn(3, 1, 8, 8, dtype=torch.float64)
    r, t, h = torch.tensor([0.1, 0.2, 0.3]).double(), torch.tensor([0.5, 0.9, 0.4]).double(), 1e-4
    with torch.no_grad():
        differences = (made.u(z + h * v, r, t + h) - made.u(z - h * v, r, t - h)) / (2 * h)
        found = made.total_derivative(z, v, r, t, None)
    assert float(found.abs().mean()) > 1e-3 and torch.allclose(
        found, differences, rtol=1e-2, atol=1e-3 * float(found.abs().mean())
    )


@torch.no_grad()
def test_without_two_times_it_is_flow_matching():
    torch.manual_seed(0)
    made = MeanFlow(spec=POINTS, scale=0.25, apart=0.0)
    x, noise = torch.randn(32, 2, 1, 1), Noise(range(32))
    r, t = made.two_times(noise)
    eps = noise.normal(2, 1, 1)
    at = t.view(-1, 1, 1, 1)
    want = (made.u((1 - at) * x + at * eps, t, t) - (eps - x)).square().mean()
    assert torch.equal(r, t) and float(
        made.loss(Batch(x, None, Noise(range(32)))).terms["error"]
    ) == pytest.approx(float(want), rel=1e-5)


def test_two_times_are_in_order_and_as_often_apart_as_said():
    r, t = MeanFlow(spec=POINTS, scale=0.25, apart=0.3).two_times(Noise(range(20_000)))
    assert bool((r <= t).all()) and (r < t).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert float(torch.logit(t[r == t]).mean()) == pytest.approx(-0.4 + 2 / math.sqrt(math.pi), abs=0.06)
