"""EDM: its scales against their purpose, its loss against the paper's form, and a network against the best
denoiser there is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from likeness.core import Batch, Noise, Spec
from likeness.models.edm import EDM
from likeness.parts import bounds
from likeness.parts.schedules import over
from mixture_truth import THREE, Mixture
from test_ddpm import entropy, on_a_grid


def batch_of(x: torch.Tensor, key: int = 0) -> Batch:
    return Batch(x, None, Noise(range(len(x)), key))


def test_scales_keep_what_the_network_sees_and_says_at_unit_variance():
    """Karras et al. 2022, appendix B.6, of data with the standard deviation it is told."""
    model = EDM(spec=Spec(1, 8), sigma_data=0.7, scale=0.25)
    g = torch.Generator().manual_seed(0)
    x_0, n = (
        0.7 * torch.randn(200_000, generator=g, dtype=torch.float64),
        torch.randn(200_000, generator=g, dtype=torch.float64),
    )
    for sigma in (0.01, 0.3, 5.0):
        c, x = model.scales(torch.tensor([sigma])), x_0 + sigma * n
        assert (c.into * x).std().item() == pytest.approx(1, abs=0.01)
        assert ((x_0 - c.skip * x) / c.out).std().item() == pytest.approx(1, abs=0.01)


def test_the_loss_is_the_papers_weighted_one():
    """(8) with lambda of table 1, computed from D, is the squared error of F."""
    torch.manual_seed(0)
    model = EDM(spec=Spec(1, 8), scale=0.25)
    for p in model.parameters():
        nn.init.normal_(p, std=0.05)
    x_0, noise = torch.rand(16, 1, 8, 8) * 2 - 1, Noise(range(16))
    sigma = (-1.2 + 1.2 * noise.normal(1)[:, 0].double()).exp()
    x = x_0 + over(sigma, x_0) * noise.normal(1, 8, 8)
    weight = (sigma.square() + 0.25) / (0.5 * sigma).square()
    with torch.no_grad():
        want = (over(weight, x_0) * (model.predict(x, sigma) - x_0).square()).mean()
        found = model.loss(batch_of(x_0)).total
    assert float(found) == pytest.approx(float(want), rel=1e-4)


def test_the_bound_of_a_perfect_denoiser_is_the_entropy():
    """In continuous time it is an equality (Kingma et al. 2021): a wrong factor or a forgotten end would
    show.  A worse denoiser lies above."""
    spec, n = Spec(2, 1, levels=8), 4000
    law = on_a_grid(spec)
    model = EDM(spec=spec, net="mlp", scale=0.25, evaluations=24)
    perfect, x = law.denoiser(model.schedule), law.draw(n).float().view(n, 2, 1, 1)
    model.predict = lambda x_t, t, y=None: perfect(x_t, t)
    terms = model.terms(batch_of(x))
    rows = ((x.flatten(1).double() + 1) * 3.5).round().long() @ torch.tensor([8, 1])
    own = -float(law.w[rows].log().mean()) / 2
    found = float(terms.total.mean()) / 2
    error = float((terms.total + law.w[rows].log()).std()) / 2 / math.sqrt(n)
    assert abs(found - own) < 4 * error + 1e-3 and error < 0.02 and entropy(law) > 0.5
    model.predict = lambda x_t, t, y=None: 0.9 * perfect(x_t, t)
    assert float(model.terms(batch_of(x)).total.mean()) / 2 > found + 0.1


def trained(law: Mixture, steps: int = 700) -> EDM:
    """A small network that has seen points of the law for a few seconds."""
    torch.manual_seed(0)
    model = EDM(spec=Spec(2, 1, levels=0), scale=0.25, p_std=1.5)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(steps):
        x = law.draw(256, step).float().view(-1, 2, 1, 1)
        loss = model.loss(batch_of(x, step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 + math.cos(math.pi * (step + 1) / steps)) / 2
    return model.eval()


def test_a_network_comes_near_the_best_denoiser():
    model, x = trained(THREE), THREE.draw(4000, 9999).float().view(-1, 2, 1, 1)
    best = THREE.denoiser(model.schedule)
    for sigma in (0.05, 0.2, 0.5, 2.0):
        t = torch.full((4000,), sigma, dtype=torch.float64)
        noisy = x + sigma * Noise(range(4000), 5).normal(2, 1, 1)
        with torch.no_grad():
            mine, least = ((d(noisy, t) - x).square().mean().item() for d in (model.predict, best))
        assert least * 0.999 < mine < 1.12 * least, (
            f"at sigma {sigma}: {mine / least:.3f} times the least possible error"
        )


def test_the_error_at_each_noise_level_is_that_of_gaussian_data():
    """Of N(0, v) the best denoiser errs by v s^2 / (v + s^2) at every level."""
    law = Mixture([1.0], [[0.0, 0.0]], [0.25])
    model, x = trained(law, 400), law.draw(3000, 9999).float().view(-1, 2, 1, 1)
    with torch.no_grad():
        log_snr, error = bounds.per_level(model.predict, model.schedule, x, Noise(range(3000), 3), 12)
    variance = torch.exp(-log_snr)
    want = 0.25 * variance / (0.25 + variance)
    seen = (variance > 1e-3) & (variance < 30)  # the levels that training dwells on
    assert seen.sum() >= 5 and torch.allclose(error[seen], want[seen], rtol=0.12)
    with torch.no_grad():
        _, shrunk = bounds.per_level(
            lambda x_t, t: 0.8 * model.predict(x_t, t), model.schedule, x, Noise(range(3000), 3), 12
        )
    assert not torch.allclose(shrunk[seen], want[seen], rtol=0.12), "the fake: an estimate pulled to zero"
