"""Images that please a network: steps, frequencies, rules, and each walk against what it should come to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from likeness.backbones import catalogue
from likeness.backbones.layers import LOGITS, UNIT, Conv, Dense, Flatten, Graph, Hooked
from likeness.backbones.resize import resized
from likeness.core import Noise, Refusal
from likeness.explain import dream
from likeness.explain.dream import (
    Rules,
    Spectrum,
    Steepest,
    direction,
    moved,
    octave_sizes,
    variation,
)
from likeness.metrics.reconstruction import psnr
from tiny_probe import curved, images, probe

NONE = Rules()


def last(states) -> dream.State:
    *_, state = states
    return state


def waves(side: int) -> Tensor:
    """A smooth colour image (1, 3, side, side) in [-0.8, 0.8]."""
    down, right = torch.meshgrid(*[torch.arange(side, dtype=torch.float64) / side] * 2, indexing="ij")
    parts = [
        torch.sin(2 * math.pi * right),
        torch.cos(2 * math.pi * (right + down)),
        torch.sin(4 * math.pi * down),
    ]
    return 0.8 * torch.stack(parts)[None]


# Steps


def test_steps_have_one_length_whatever_the_slope():
    slope = images(2) * torch.tensor([1.0, 1e-6]).double().view(2, 1, 1, 1)
    for norm, length in (
        ("linf", lambda d: d.abs().amax(1)),
        ("l2", lambda d: d.norm(dim=1)),
        ("mean", lambda d: d.abs().mean(1)),
    ):
        way = direction(slope, norm)
        torch.testing.assert_close(length(way.flatten(1)), torch.ones(2).double())
        assert (way * slope >= 0).all()
    assert float(direction(torch.zeros(1, 4), "l2").abs().max()) == 0
    x = torch.zeros(2, 3, 8, 8).double()
    x.grad = slope
    Steepest([x], 0.5, "mean").step()
    torch.testing.assert_close(x, -0.5 * direction(slope, "mean"))


# Frequencies


def test_an_image_is_the_sum_of_its_waves():
    spectrum = Spectrum((6, 10), 0.0, torch.zeros(1).double())
    z = torch.randn(2, 3, 6, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f = torch.tensor(
        [[math.hypot(k / 6 if k <= 3 else (k - 6) / 6, m / 10) for m in range(6)] for k in range(6)]
    ).double()
    waves = torch.complex(z[..., 0], z[..., 1]) * f.clamp(min=1 / 10) ** -1.2
    axes = torch.nn.functional.normalize(dream.AXES, dim=1).double()
    axes = axes * torch.tensor(dream.SPREADS)[:, None].double()
    by = torch.zeros(2, 3, 6, 10).double()
    for axis in range(3):
        by += axes[axis].view(1, 3, 1, 1) * torch.fft.irfft2(waves[:, axis], s=(6, 10), norm="ortho")[:, None]
    torch.testing.assert_close(spectrum.image(z), by.clamp(-1, 1), atol=1e-5, rtol=1e-4)
    assert 0.05 < float((by.abs() > 1).double().mean()) < 0.95


def test_what_is_beyond_white_finds_its_way_back_but_goes_no_further():
    u = torch.tensor([0.5, 1.5, 1.5, -2.0, -2.0], requires_grad=True)
    x = dream.bounded(u)
    assert x.tolist() == [0.5, 1, 1, -1, -1]
    # a step goes against the slope
    (slope,) = torch.autograd.grad((x * torch.tensor([1.0, 1, -1, 1, -1])).sum(), u)
    assert slope.tolist() == [1, 1, 0, 0, -1]


def test_axes_of_colour_are_at_right_angles():
    torch.testing.assert_close(dream.AXES @ dream.AXES.T, torch.diag(torch.tensor([3.0, 2.0, 6.0])))


def test_a_blurred_image_has_no_fine_detail():
    noise = Noise([0])
    sharp, soft = (Spectrum((32, 32), blur, torch.zeros(1)) for blur in (0.0, 2.0))
    z = sharp.start(noise, 1.0)
    z[:, 0] = torch.randn(z[:, 0].shape, generator=torch.Generator().manual_seed(0)) * 0.05
    a, b = (torch.fft.rfft2(s.image(z).mean(1)).abs() for s in (sharp, soft))
    assert (
        float(b[0, 8:24, 8:].max()) < 0.01 * float(a[0, 8:24, 8:].max())
        and float(b[0, 0, 1] / a[0, 0, 1]) > 0.8
    )


def test_it_begins_grey_and_by_the_seed():
    spectrum = Spectrum((8, 8), 0.0, torch.zeros(1))
    x = spectrum.image(spectrum.start(Noise([3]), 0.1))
    torch.testing.assert_close(x[:, 0], x[:, 2])
    assert float(x.std()) > 0 and torch.equal(x, spectrum.image(spectrum.start(Noise([3]), 0.1)))
    assert not torch.equal(x, spectrum.image(spectrum.start(Noise([4]), 0.1)))


# Rules


def test_variation_is_that_of_neighbours():
    x, total = images(1, 4)[:, :1], 0.0
    for i in range(4):
        for j in range(4):
            total += float((x[0, 0, i + 1, j] - x[0, 0, i, j]) ** 2) / 12 if i < 3 else 0
            total += float((x[0, 0, i, j + 1] - x[0, 0, i, j]) ** 2) / 12 if j < 3 else 0
    assert float(variation(x)) == pytest.approx(total)
    rules = Rules(variation=2.0, bound=3.0)
    assert float(rules.penalty(x)) == pytest.approx(2 * total + 3 * float((x**6).mean()))


def test_views_move_by_what_was_drawn():
    x = images(2, 20)
    assert moved(x, 0.0, Noise([0])) is x
    down, right, zoom = (0.2 * (2 * Noise([5]).uniform(3)[0] - 1)).tolist()
    by = torch.stack(
        [torch.stack([image[:, (i - round(20 * down)) % 20] for i in range(20)], 1) for image in x]
    )
    by = torch.stack([by[..., (j - round(20 * right)) % 20] for j in range(20)], 3)
    assert torch.equal(moved(x, 0.2, Noise([5])), by) and not torch.equal(by, x)
    side = round(20 * (1 + dream.ZOOM * zoom))
    assert (
        side != 20
        and moved(x, 0.2, Noise([5]), 1).shape == (2, 3, side, side)
        and moved(x, 0.2, Noise([5]), 50).shape == (2, 3, 50, 50)
    )
    flat = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(
        moved(flat, 0.1, Noise([1]), 1), torch.full_like(moved(flat, 0.1, Noise([1]), 1), 0.3)
    )


# A class


def test_a_class_image_raises_its_class_and_is_a_function_of_the_seed():
    net = curved().float()
    a, b, c = (
        last(dream.class_image(net, 2, (8, 8), steps=30, rate=0.05, rules=Rules(jitter=0.05), seed=seed))
        for seed in (0, 0, 1)
    )
    first = next(dream.class_image(net, 2, (8, 8)))
    assert torch.equal(a.x, b.x) and not torch.equal(a.x, c.x)
    assert net.classify(a.x)[0, 2] > net.classify(first.x)[0, 2] + 0.05 and a.share == 1 and first.share == 0
    assert a.x.shape == (1, 3, 8, 8) and float(a.x.abs().max()) <= 1


def test_rules_hold_it_down():
    net, how = curved().float(), dict(steps=30, rate=0.05)
    free, even, pale = (
        last(dream.class_image(net, 2, (8, 8), rules=r, **how)).x
        for r in (NONE, Rules(variation=50), Rules(bound=50))
    )
    assert float(variation(even)) < 0.5 * float(variation(free)) and float(pale.abs().max()) < 0.8 * float(
        free.abs().max()
    )


def flat() -> Graph:
    """As VGG ends: a row of all places, and a layer that takes as many."""
    net = Graph("flat", 8, UNIT, least=4)
    net.add("conv", Conv(3, 2, 3, 2))
    net.add("flatten", Flatten())
    net.add(LOGITS, Dense(2 * 4 * 4, 3))
    return net


def test_a_network_that_takes_one_size_is_shown_no_other():
    net = probe(flat).float()
    a, b = (last(dream.class_image(net, 2, (8, 8), steps=steps, rate=0.05)) for steps in (0, 30))
    assert net.classify(b.x)[0, 2] > net.classify(a.x)[0, 2] + 0.05
    assert {s.x.shape for s in dream.dream(net, a.x, LOGITS, steps=1, octaves=3)} == {(1, 3, 8, 8)}
    assert octave_sizes(net, "conv", (8, 8), 2) == [(6, 6), (8, 8)]  # a layer before takes any
    vgg = catalogue.named("vgg16")
    assert dream.fixed(vgg, LOGITS) and dream.fixed(vgg, "flatten") and not dream.fixed(vgg, "block5_pool")
    assert not any(
        dream.fixed(catalogue.named(name), LOGITS) for name in catalogue.GRAPHS if not name.startswith("vgg")
    )


# Inversion


def test_what_a_layer_has_kept_whole_comes_back_whole():
    def build() -> Graph:
        net = Graph("mixed", 12, UNIT, least=4)
        net.add("conv", Conv(3, 3, 1))
        net.add(LOGITS, Conv(3, 1, 1))
        return net

    net, x = probe(build), waves(12)
    net.nodes["conv"].weight.copy_(torch.tensor([[1.0, 0.3, 0], [0, 1, -0.4], [0.2, 0, 1]]).view(3, 3, 1, 1))
    found = last(dream.invert(net, x, "conv", steps=400, rate=0.05, rules=NONE))
    assert float(psnr(x, found.x)) > 40 and found.loss < 1e-3
    assert dream.apart(net, x, found.x, "conv") == pytest.approx(math.sqrt(found.loss), rel=1e-6)
    # of three channels one number is left
    lost = last(dream.invert(net, x, LOGITS, steps=400, rate=0.05, rules=NONE))
    assert lost.loss < 1e-3 and float(psnr(x, lost.x)) < 20


# Dreams


def test_a_dream_raises_what_it_is_to_raise():
    net, x = curved(side=16), waves(24)
    for how in (dict(wish="l2"), dict(wish="mean"), dict(guide=images(1, 16, 5))):
        before = dream.pleased(net, x, "bend2", **how)
        states = list(dream.dream(net, x, "bend2", steps=6, octaves=3, **how))
        assert dream.pleased(net, states[-1].x, "bend2", **how) > before + 0.25 * abs(before)
        assert (
            states[-1].x.shape == x.shape and states[-1].share == 1 and float(states[-1].x.abs().max()) <= 1
        )
        assert [s.share for s in states] == sorted(s.share for s in states)


def test_wishes_are_what_they_say():
    net, x, guide = curved(), images(1), images(1, seed=2)
    a, g = net.outputs(x, ["bend2"])["bend2"], net.outputs(guide, ["bend2"])["bend2"]
    assert dream.pleased(net, x, "bend2") == pytest.approx(float(a.square().mean()))
    assert dream.pleased(net, x, "bend2", "mean") == pytest.approx(float(a.mean()))
    best = [
        max(float(a[0, :, i, j] @ g[0, :, k, m]) for k in range(4) for m in range(4))
        for i in range(4)
        for j in range(4)
    ]
    assert dream.pleased(net, x, "bend2", "l2", guide) == pytest.approx(sum(best) / 16)


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor had that was made."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.numbers = max(
            [
                self.numbers,
                *(t.numel() for t in (out if isinstance(out, tuple) else (out,)) if isinstance(t, Tensor)),
            ]
        )
        return out


def test_a_guide_is_met_some_places_at_a_time(monkeypatch):
    net, x, guide = curved(), images(1, 40).requires_grad_(), images(1, 40, 5)
    monkeypatch.setattr(dream, "PAIRS", 20_000)
    with Largest() as largest:
        (alike := dream._wish(net, "bend1", "l2", guide)(x)).sum().backward()
    assert largest.numbers <= 20_000 < 1600**2
    mine, theirs = (dream._places(net.outputs(image, ["bend1"])["bend1"]) for image in (x, guide))
    at_once = (mine @ theirs.T).amax(1).mean()
    torch.testing.assert_close(alike, at_once[None])
    torch.testing.assert_close(x.grad, torch.autograd.grad(at_once, x)[0])


def test_octaves_grow_to_the_size_and_stop_at_what_the_network_can_see():
    net = curved()
    assert octave_sizes(net, LOGITS, (40, 60), 3) == [
        (round(40 / 1.96), round(60 / 1.96)),
        (round(40 / 1.4), round(60 / 1.4)),
        (40, 60),
    ]
    assert octave_sizes(net, LOGITS, (6, 9), 9) == [(4, 6), (6, 9)]
    assert octave_sizes(net, LOGITS, (3, 3), 4) == [(3, 3)]
    module = torch.nn.Conv2d(3, 2, 3)
    fixed = Hooked("run", module, {"code": lambda x: module(x).flatten(1)}, lambda x: x, (3, 8, 8))
    assert octave_sizes(fixed, "code", (8, 8), 4) == [(8, 8)]
    sizes = {tuple(s.x.shape[2:]) for s in dream.dream(net, waves(20), "bend1", steps=1, octaves=3)}
    assert sizes == {(10, 10), (14, 14), (20, 20)}


def test_details_of_the_image_outlive_the_small_octaves():
    """Nothing is found where nothing can please: then the image comes back as it was, not as its smallest
    octave enlarged."""
    net = curved()
    net.nodes["conv1"].weight.mul_(1e-12)
    x = images(1, 20)
    states = list(dream.dream(net, x, "bend1", steps=2, rate=1e-9, octaves=3))
    assert (
        float((states[-1].x - x).abs().max())
        < 1e-6
        < float((resized(resized(x, (10, 10)), (20, 20)) - x).abs().max())
    )


def test_the_same_dream_again():
    net, x = curved(), waves(16)
    a, b, c = (last(dream.dream(net, x, "bend1", steps=3, seed=seed)).x for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_refusals():
    net = curved()
    with pytest.raises(Refusal, match="no layer 'bend3'; did you mean 'bend"):
        next(dream.dream(net, waves(16), "bend3"))
    with pytest.raises(Refusal, match="no layer 'bent2'; did you mean 'bend2'"):
        next(dream.invert(net, waves(16), "bent2"))
    with pytest.raises(Refusal, match="4 pixels a side or more"):
        next(dream.dream(net, waves(3), "bend1"))
    with pytest.raises(Refusal, match="one of l2, mean, and not as 'max'"):
        next(dream.dream(net, waves(16), "bend1", wish="max"))
