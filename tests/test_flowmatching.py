"""Flow matching: its velocity, its couplings."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from likeness.core import Batch, Noise, Spec
from likeness.models.flowmatching import FlowMatching, paired, transport
from likeness.parts import samplers
from mixture_truth import THREE


def test_transport_is_the_best_of_all_pairings():
    g = torch.Generator().manual_seed(0)
    x, eps = torch.randn(6, 1, 2, 2, generator=g), torch.randn(6, 1, 2, 2, generator=g)
    cost = (x.flatten(1)[:, None] - eps.flatten(1)[None]).square().sum(2)
    best = min(permutations(range(6)), key=lambda rows: sum(cost[i, k] for i, k in enumerate(rows)))
    assert transport(x, eps).tolist() == list(best)


def test_optimal_transport_makes_the_flow_straighter():
    """One step of the flow that independent pairs make goes to the mean of the data; that of near pairs
    already divides it."""
    x, eps = THREE.draw(400).float().view(-1, 2, 1, 1), Noise(range(400)).normal(2, 1, 1)
    paired = eps[transport(x, eps)]

    # how much of the image its noise already says: the share of variance that a linear map explains
    def said_by_noise(noise):
        a, b = noise.flatten(1), x.flatten(1)
        a, b = a - a.mean(0), b - b.mean(0)
        fitted = a @ torch.linalg.lstsq(a, b).solution
        return float(fitted.square().sum() / b.square().sum())

    assert said_by_noise(eps) < 0.05 and said_by_noise(paired) > 0.7


def test_pairs_are_made_within_a_class():
    """Else the noise of a class is no longer N(0, I), and samples of it begin where it never was."""
    y = torch.arange(400) % 2
    x, eps = (
        torch.where(y.view(-1, 1, 1, 1) == 0, -1.0, 1.0).expand(400, 2, 1, 1),
        Noise(range(400)).normal(2, 1, 1),
    )
    told, untold = paired(x, eps, y), paired(x, eps, None)
    assert sorted(told[y == 0].flatten().tolist()) == sorted(eps[y == 0].flatten().tolist())
    assert abs(float(told[y == 0].mean())) < 0.15 and float(untold[y == 0].mean()) < -0.5


def test_times_are_drawn_by_the_law_that_is_said():
    said = []
    for law in ("uniform", "logit-normal"):
        model = FlowMatching(spec=Spec(2, 1, levels=0), scale=0.25, times=law)
        model.velocity = lambda x_t, t, y=None, noise=None: said.append(t) or torch.zeros_like(x_t)
        model.loss(Batch(torch.zeros(4000, 2, 1, 1), None, Noise(range(4000))))
    assert (
        float((said[0] < 0.05).float().mean()) == pytest.approx(0.05, abs=0.012)
        and float((said[1] < 0.05).float().mean()) < 0.01
    )


def test_only_transport_compares_the_images_of_a_batch():
    spec = Spec(1, 8)
    assert (
        not FlowMatching(spec=spec, scale=0.25).whole_batch
        and FlowMatching(spec=spec, scale=0.25, coupling="ot").whole_batch
    )


@pytest.mark.parametrize("coupling", ["independent", "ot"])
def test_the_loss_is_zero_for_the_velocity_of_its_own_pairs(coupling):
    """Data of one point: every line ends there, so that eps - x_0 = (x_t - x_0) / t is known."""
    model = FlowMatching(spec=Spec(2, 1, levels=0), scale=0.25, coupling=coupling)
    x_0 = torch.full((64, 2, 1, 1), 0.3)
    model.velocity = lambda x_t, t, y=None, noise=None: (x_t - 0.3) / t.view(-1, 1, 1, 1)
    assert float(model.loss(Batch(x_0, None, Noise(range(64)))).total) < 1e-6
    # the fake: time runs the other way
    model.velocity = lambda x_t, t, y=None, noise=None: (0.3 - x_t) / t.view(-1, 1, 1, 1)
    assert float(model.loss(Batch(x_0, None, Noise(range(64)))).total) > 1


def test_a_step_along_the_velocity_is_a_ddim_step():
    torch.manual_seed(0)
    model = FlowMatching(spec=Spec(1, 8), scale=0.25)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    levels = model.schedule.levels(4)
    x = samplers.start(levels, Noise(range(3)), 1, 8, 8)
    state = next(samplers.ddim(model.predict, levels, x, Noise(range(3))))
    with torch.no_grad():
        v = model.velocity(x, torch.ones(3))
    assert torch.allclose(state.x, x - 0.25 * v, atol=1e-5) and float(v.abs().mean()) > 0.01
