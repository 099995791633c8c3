"""Measures of translations against closed forms, and baselines against laws whose map is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from likeness.core import Refusal
from likeness.metrics import translation as t


def drawn(n: int, c: int, size: int, seed: int = 0) -> Tensor:
    return torch.rand(n, c, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def levels(values: Tensor) -> Tensor:
    return values.float() * t.LEVEL - 1


# Measures


def test_the_mean_absolute_error_is_in_levels():
    x = levels(torch.randint(10, 200, (3, 2, 4, 4)))
    assert torch.allclose(t.mae(x, x + 7 * t.LEVEL), torch.full((3,), 7.0).double(), atol=1e-4)
    with pytest.raises(Refusal, match="cannot be compared pixel by pixel"):
        t.mae(x, x[:, :1])


def test_luminance_is_that_of_rgb2ycbcr():
    """MATLAB: rgb2ycbcr of black, white, red, green and blue has Y 16, 235, 81, 145 and 41."""
    colours = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).float() * 2 - 1
    y = t.luma(colours.view(5, 3, 1, 1)).flatten()
    assert y.tolist() == [16, 235, 81, 145, 41], "MATLAB rounds uint8"
    assert float(t.luma(torch.ones(1, 1, 2, 2)).mean()) == pytest.approx(235)


def test_psnr_on_y_of_a_known_offset_and_only_inside_the_border():
    """Grey that is a third of the levels off: Y is 73, a third of 219, off."""
    x = levels(torch.full((2, 3, 16, 16), 85))
    y = x + 85 * t.LEVEL
    want = 20 * math.log10(255 / 73)
    assert torch.allclose(t.psnr_y(x, y), torch.full((2,), want).double(), atol=1e-6)
    edge = x.clone()
    edge[..., :4] = 1
    edge[..., -4:] = 1
    assert torch.equal(t.psnr_y(x, edge, 4), torch.full((2,), 100.0).double())
    assert torch.allclose(t.ssim_y(x, edge, 4), torch.ones(2).double()) and float(t.ssim_y(x, edge)[0]) < 0.9
    assert float(t.psnr_y(x, edge, 3)[0]) < 30
    with pytest.raises(Refusal, match="leaves nothing"):
        t.psnr_y(x, y, 8)


def test_colour_that_luminance_does_not_see_costs_nothing_there_but_in_rgb():
    """Of a step in R against one in B that weighs as much."""
    x = levels(torch.full((1, 3, 4, 4), 100))
    y = x.clone()
    y[:, 0] += 25 * t.LEVEL
    y[:, 2] -= 66 * t.LEVEL  # 25 * 65.481 = 66 * 24.8
    assert float(t.psnr_y(x, y)) > 60 and float(t.mae(x, y)) > 25


def test_one_level_of_noise_changes_each_value_by_one_level_and_stays_in_range():
    x = levels(torch.randint(0, 256, (4, 3, 8, 8)))
    x[0], x[1] = -1, 1
    moved = t.perturbed(x)
    assert torch.allclose((moved - x).abs(), torch.full_like(x, t.LEVEL), atol=1e-6)
    assert float(moved.min()) >= -1 - 1e-6 and float(moved.max()) <= 1 + 1e-6
    share = float((moved[2:] > x[2:]).float().mean())
    assert share == pytest.approx(0.5, abs=0.1) and torch.equal(t.perturbed(x), moved)


def test_feature_distances_are_shares_of_a_typical_one():
    x = np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)
    assert t.relative(x, np.zeros_like(x), 10.0).tolist() == [0.0, 0.5]


# What costs nothing


def test_the_source_in_the_form_of_a_target():
    grey, colour, holed = drawn(2, 1, 4), drawn(2, 3, 4), drawn(2, 4, 4)
    assert torch.equal(t.identity(grey, 3, 4), grey.expand(-1, 3, -1, -1))
    assert torch.equal(t.identity(colour, 3, 4), colour) and torch.equal(
        t.identity(holed, 3, 4), holed[:, :3]
    )
    weights = torch.tensor([0.299, 0.587, 0.114])
    assert torch.allclose(t.identity(colour, 1, 4)[:, 0], torch.einsum("bchw,c->bhw", colour, weights))
    assert torch.equal(t.identity(drawn(2, 2, 4), 1, 4), drawn(2, 2, 4)[:, :1])
    assert t.identity(colour, 3, 8).shape == (2, 3, 8, 8)


def test_enlarging_keeps_what_is_constant_and_a_ramp():
    flat = levels(torch.full((1, 1, 8, 8), 77))
    ramp = levels((torch.arange(8) * 16 + 32).expand(1, 1, 8, 8))
    for kernel in ("bicubic", "lanczos"):
        assert torch.equal(t.resized(flat, 32, kernel), levels(torch.full((1, 1, 32, 32), 77)))
        wide = (t.resized(ramp, 32, kernel) + 1) / t.LEVEL
        want = ((torch.arange(32) + 0.5) / 4 - 0.5) * 16 + 32
        assert torch.allclose(wide[0, 0, 16, 12:20], want[12:20], atol=2.0), kernel
    assert not torch.equal(t.resized(drawn(1, 1, 8), 32, "bicubic"), t.resized(drawn(1, 1, 8), 32, "lanczos"))


def test_histograms_of_known_laws_are_matched_exactly():
    """Uniform on 0 ... 127 to uniform on the even levels: v becomes 2v; in a second channel the order would
    have to be reversed, which no histogram can."""
    v = torch.arange(128).view(1, 1, 8, 16).repeat(1, 2, 1, 1)
    match = t.HistogramMatch.of(levels(v), levels(torch.cat([2 * v[:, :1], 255 - v[:, 1:]], 1)))
    out = ((match(levels(v)) + 1) / t.LEVEL).round()
    assert torch.equal(out[:, 0], 2 * v[:, 0].float()) and torch.equal(out[:, 1], 128 + v[:, 1].float())
    assert torch.equal(match(levels(torch.full((1, 2, 2, 2), 5)))[0, 0], levels(torch.full((2, 2), 10)))


def test_a_colour_matrix_is_recovered_exactly_from_pairs():
    weight = torch.tensor([[0.4, 0.1, -0.3], [-0.2, 0.5, 0.1], [0.0, 0.2, -0.4]]).double()
    bias = torch.tensor([0.1, -0.1, 0.05]).double()
    true, a = t.Affine(weight, bias), drawn(5, 3, 6)
    learnt = t.Affine.of_pairs(a, true(a))
    assert torch.allclose(learnt.weight, weight, atol=1e-5) and torch.allclose(learnt.bias, bias, atol=1e-5)
    grey = drawn(5, 1, 6)
    inverse = t.Affine.of_pairs(grey.expand(-1, 3, -1, -1), -grey)
    assert torch.allclose(inverse(grey.expand(-1, 3, -1, -1)), -grey, atol=1e-5), (
        "equal channels are no trouble"
    )
    # of one channel to three, and of a hole
    more = t.Affine.of_pairs(grey, torch.cat([grey, -grey, 0.5 * grey + 0.25], 1))
    assert torch.allclose(more.weight.flatten(), torch.tensor([1, -1, 0.5]).double(), atol=1e-5)


def test_moments_of_one_domain_become_those_of_the_other_by_the_symmetric_map():
    """Of Gaussians that differ by a symmetric positive matrix, this is the map of least transport."""
    root = torch.tensor([[0.5, 0.1, 0.0], [0.1, 0.3, -0.1], [0.0, -0.1, 0.4]]).double()
    a, other = drawn(40, 3, 16) * 0.8, drawn(40, 3, 16, seed=7) * 0.8
    true = t.Affine(root, torch.tensor([0.2, -0.1, 0.0]).double())
    same = t.Affine.of_domains(a, true(a))
    assert torch.allclose(same.weight, root, atol=1e-5) and torch.allclose(same.bias, true.bias, atol=1e-5)
    unpaired = t.Affine.of_domains(a, true(other))
    assert torch.allclose(unpaired.weight, root, atol=0.02)
    inverted = t.Affine.of_domains(a, -a)
    assert torch.allclose(inverted.weight, torch.eye(3).double(), atol=0.02), (
        "no moments tell a negative from a positive"
    )


def test_the_nearest_neighbour_is_found_and_stands_for_its_own_target():
    a, b = drawn(9, 1, 32), drawn(9, 3, 16, seed=3)
    nearest = t.Nearest.of(a, b)
    order = torch.tensor([4, 0, 8])
    assert torch.equal(nearest(a[order] + 0.01), b[order])
