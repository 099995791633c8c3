"""VICReg: its three terms in closed form, its views, and the signs of collapse that its loss does
not show."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import small_run
from likeness import data as datasets
from likeness import engine
from likeness.core import Batch, Noise, Spec
from likeness.models.vicreg import EPS, VICReg, covariance, invariance, variance
from likeness.parts.collapse import rankme, unit_spread
from likeness.training.loop import fit

STILL = dict(crop=0.0, turn=0.0, light=0.0, grain=0.0, cutout=0.0)
"""views that are the image itself"""


def orthogonal(n: int = 64, d: int = 8) -> torch.Tensor:
    """Embeddings whose dimensions have mean 0, variance 1 and no correlation, exactly."""
    x = np.random.default_rng(0).normal(size=(n, d))
    q, _ = np.linalg.qr(x - x.mean(0))
    return torch.from_numpy(q * np.sqrt(n - 1))


def batch(n: int = 8, channels: int = 1, size: int = 16, key: int = 0) -> Batch:
    x = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (n, channels, size, size))).float()
    return Batch(x, None, Noise(range(n), key))


# The loss


def test_variance_and_covariance_are_nothing_for_white_embeddings_and_known_for_collapsed_ones():
    z = orthogonal()
    assert float(variance(z)) == pytest.approx(0, abs=1e-9) and float(covariance(z)) == pytest.approx(
        0, abs=1e-9
    )
    assert float(variance(0.5 * z)) == pytest.approx(1 - np.sqrt(0.25 + EPS)), (
        "a hinge at standard deviation 1"
    )
    assert float(variance(3 * z)) == 0
    point, line = torch.ones(64, 8), z[:, :1].expand(64, 8)
    assert float(variance(point)) == pytest.approx(1 - np.sqrt(EPS)) and float(covariance(point)) == 0
    assert float(variance(line)) == pytest.approx(0, abs=1e-9) and float(covariance(line)) == pytest.approx(
        8 - 1
    ), "d(d-1)/d for d equal dimensions"
    mean_of_pairs = (8 * 7) / 8**2
    biased = 7 * (63 / 64) ** 2
    assert abs(float(covariance(line)) - mean_of_pairs) > 1 and abs(float(covariance(line)) - biased) > 0.1


def test_the_terms_are_those_of_an_independent_implementation():
    rng = np.random.default_rng(2)
    z, other = rng.normal(size=(20, 5)) @ rng.normal(size=(5, 5)) * 0.3, rng.normal(size=(20, 5))
    c = np.cov(z.T)
    assert float(covariance(torch.from_numpy(z))) == pytest.approx(
        (c**2).sum() / 5 - (np.diag(c) ** 2).sum() / 5
    )
    assert float(variance(torch.from_numpy(z))) == pytest.approx(
        np.maximum(0, 1 - np.sqrt(z.var(0, ddof=1) + EPS)).mean()
    )
    assert float(invariance(torch.from_numpy(z), torch.from_numpy(other))) == pytest.approx(
        ((z - other) ** 2).sum(1).mean() / 5
    )


def test_the_loss_is_the_weighted_sum_of_its_terms_and_equal_views_have_no_invariance():
    model = VICReg(
        spec=Spec(1, 16),
        width=4,
        features=8,
        hidden=16,
        invariance=3.0,
        variance=5.0,
        covariance=7.0,
        **STILL,
    ).train()
    loss = model.loss(batch())
    terms = {k: float(v.detach()) for k, v in loss.terms.items()}
    assert terms["invariance"] == pytest.approx(0, abs=1e-8)
    assert float(loss.total.detach()) == pytest.approx(
        3 * terms["invariance"] + 5 * terms["variance"] + 7 * terms["covariance"], rel=1e-5
    )


# Views


class Fixed(Noise):
    """Noise that always draws the same number."""

    def __init__(self, n: int, value: float):
        super().__init__(range(n))
        self.value = value

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.full((len(self), *shape), self.value)


def test_without_distortions_a_view_is_the_image():
    model, b = VICReg(spec=Spec(3, 16), width=4, **STILL), batch(channels=3)
    assert torch.allclose(model.view(b), b.x, atol=1e-5)


def test_a_turn_of_90_degrees_is_one_and_a_flip_mirrors():
    x = batch().x
    turned = VICReg(spec=Spec(1, 16), width=4, **STILL | dict(turn=90.0)).view(Batch(x, None, Fixed(8, 1.0)))
    assert np.allclose(turned.numpy(), np.rot90(x.numpy(), 1, (2, 3)), atol=1e-4)
    flipped = VICReg(spec=Spec(1, 16), width=4, **STILL, flip=True)
    assert np.allclose(flipped.view(Batch(x, None, Fixed(8, 0.9))).numpy(), x.numpy()[..., ::-1], atol=1e-4)
    assert np.allclose(flipped.view(Batch(x, None, Fixed(8, 0.1))).numpy(), x.numpy(), atol=1e-4)


def test_a_crop_is_a_window_at_the_drawn_place():
    """A draw of 1 leaves out most and lies in the lower right: the upper left of the view is then the middle
    of the image."""
    ramp = torch.linspace(-1, 1, 16)[None, None, None, :].expand(2, 1, 16, 16)
    view = VICReg(spec=Spec(1, 16), width=4, **STILL | dict(crop=0.5)).view(Batch(ramp, None, Fixed(2, 1.0)))
    row = view[0, 0, 8].numpy()
    assert row[0] == pytest.approx(1 / 30, abs=1e-4) and np.allclose(np.diff(row)[:-1], 1 / 15, atol=1e-4), (
        "half a pixel a pixel, from the middle on"
    )


def test_a_square_no_larger_than_the_option_says_becomes_grey():
    ones = torch.ones(100, 3, 20, 20)
    view = VICReg(spec=Spec(3, 20), width=4, **STILL | dict(cutout=0.5)).view(
        Batch(ones, None, Noise(range(100)))
    )
    lost = view < 0.5
    wide, high = lost.any(2).sum(2), lost.any(3).sum(2)
    assert (
        7 <= int(wide.max()) <= 10
        and 7 <= int(high.max()) <= 10
        and 0.5 < float((wide > 0).float().mean()) <= 1
    )
    assert torch.equal(lost[:, 0], lost[:, 2]), "in all channels alike"


def test_two_views_differ_and_all_chance_is_the_image_s_own():
    model, b = VICReg(spec=Spec(1, 16), width=4), batch()
    torch.manual_seed(0)
    first, second = model.view(b), model.view(b)
    torch.manual_seed(1)
    alone = model.view(batch()[5:6])
    assert not torch.allclose(first, second, atol=0.05) and torch.allclose(first[5:6], alone, atol=1e-6)


# Collapse


def test_rankme_counts_dimensions_and_the_spread_tells_a_point():
    z = orthogonal(200, 32)
    assert rankme(z) == pytest.approx(32, rel=1e-3) and rankme(z[:, :1] * torch.ones(32)) == pytest.approx(
        1, abs=1e-3
    )
    half = torch.cat([z[:, :16], torch.zeros(200, 16)], 1)
    assert rankme(half) == pytest.approx(16, rel=1e-3)
    random = torch.from_numpy(np.random.default_rng(0).normal(size=(2000, 128)))
    assert unit_spread(random) == pytest.approx(1, abs=0.01), "1/sqrt(d) for directions that are uniform"
    assert unit_spread(torch.ones(50, 128) + 1e-7 * random[:50]) < 1e-4
    assert unit_spread(random * random.abs().sum(1, keepdim=True)) == pytest.approx(1, abs=0.01), (
        "lengths do not count"
    )


def test_collapsed_features_are_called_so_though_invariance_is_perfect():
    model, b = VICReg(spec=Spec(1, 16), width=4, features=32), batch(64)
    with torch.no_grad():
        for p in model.trunk.parameters():
            p.zero_()
        model.trunk[1].bias.fill_(1.0)
    (_, spread, point), (_, rank, few) = model.eval().diagnose(b)
    with torch.no_grad():
        agreed = invariance(model.encode(model.view(b)), model.encode(model.view(b)))
    assert float(agreed) == 0, "what a loss of invariance alone would call a success"
    assert spread < 1e-6 and "collapsed" in point and rank < 1.1 and "dimensions are in use" in few


def neighbours(x: np.ndarray, data: datasets.Data) -> float:
    """Share of held-out images whose nearest training image has their class."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    train, held = flat[data.train], flat[data.held_out]
    nearest = ((held[:, None] - train[None]) ** 2).sum(-1).argmin(1)
    return float((data.y[data.train][nearest] == data.y[data.held_out]).mean())


def test_without_labels_it_learns_what_digits_share_and_does_not_collapse(tmp_path):
    """Few neighbours tell features apart: 30 labelled images, where raw pixels are at a loss."""
    data = datasets.load("digits")
    run, _ = small_run(
        "vicreg", tmp_path, data, options=dict(hidden=64), images=12_800, batch=128, warmup=2_000, ema=2_000
    )
    few = datasets.Data("digits", "few", data.x, data.train[:40], data.held_out, data.y, data.classes)

    def features() -> np.ndarray:
        with torch.no_grad():
            return run.model.encode(engine.put(data.take(np.arange(len(data.x)))).x).cpu().numpy()

    untrained = neighbours(features(), few)
    list(fit(run, data))
    learnt, raw = neighbours(features(), few), neighbours(data.x, few)
    (_, spread, point), (_, rank, few_dims) = run.model.diagnose(engine.put(data.take(data.held_out)))
    assert learnt > untrained + 0.05 and learnt > raw - 0.02, (untrained, learnt, raw)
    assert not point and not few_dims and spread > 0.3 and rank > 15
