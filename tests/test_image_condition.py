"""Denoisers that are told another image: Palette and SR3, by pairs whose law is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from likeness import models
from likeness.core import Batch, Condition, Noise, Refusal, Spec, final
from likeness.data import Data
from likeness.inference import sampling
from likeness.parts.conditioning import beside, planes
from likeness.parts.denoisers import Beside, network

PAIRS = Spec(1, 8, source=(1, 8))
DENOISERS = "ddpm", "edm", "flowmatching", "meanflow"


def made(name: str, spec: Spec = PAIRS, seed: int = 0, **options) -> torch.nn.Module:
    torch.manual_seed(seed)
    return models.load(name)(spec=spec, scale=0.25, **options)


def lively(model: torch.nn.Module) -> torch.nn.Module:
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return model.eval()


def source(n: int = 4, channels: int = 1, size: int = 8, seed: int = 1) -> Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch_of(n: int, channels: int = 1, size: int = 8, seed: int = 0) -> Batch:
    """Squares of one brightness each; the target is the source's negative, darker by a quarter."""
    a = (source(n, channels, 1, seed) * 0.75).expand(-1, -1, size, size).contiguous()
    return Batch(-a[:, :1] - 0.25, Condition(image=a), Noise(range(seed, seed + n)))


# What the network sees


def test_the_source_is_brought_to_the_size_of_the_target():
    x, small, large = source(2, 3, 8), source(2, 1, 4), source(2, 1, 16)
    up = F.interpolate(small, (8, 8), mode="bicubic", align_corners=False).clamp(-1, 1)
    assert torch.equal(beside(x, Condition(image=small), 1, 4)[:, 3:], up)
    down = large.view(2, 1, 8, 2, 8, 2).mean((3, 5))
    assert torch.allclose(beside(x, Condition(image=large), 1, 16)[:, 3:], down, atol=1e-6)
    for y in (None, Condition(image=source(2, 1, 8))):
        assert torch.equal(beside(x, y, 1, 8), planes(x, y, 1))
    assert torch.equal(beside(x, None, 1, 4), planes(x, None, 1)), "nothing told is a middle grey"
    with pytest.raises(Refusal, match="should be 1x4x4, and it is 1x5x5"):
        beside(x, Condition(image=source(2, 1, 5)), 1, 4)


@pytest.mark.parametrize("net", ["unet", "patches", "dit", "mlp"])
def test_every_network_depends_on_the_source_and_of_nothing_told_is_as_grey(net):
    spec = Spec(2, 8, source=(3, 4))
    model = network(net, spec, 0.25, 2, 0)
    lively(model)
    x, t, a = source(2, 2), torch.tensor([10.0, 500.0]), source(2, 3, 4)
    with torch.no_grad():
        told, other = (model(x, t, Condition(image=image)) for image in (a, a.flip(0)))
        assert told.shape == (2, 2, 8, 8) and not torch.allclose(told, other, atol=1e-4)
        assert torch.equal(model(x, t), model(x, t, Condition(image=torch.zeros_like(a))))
    assert not isinstance(network(net, replace(spec, source=(0, 0)), 0.25, 2, 0), Beside), (
        "runs without pairs keep the names of their weights"
    )


# What is learnt


@pytest.mark.parametrize("name", DENOISERS)
def test_a_known_function_of_the_source_is_learnt(name):
    """Of squares of one brightness: half a second of training; one that is told nothing has an error of the
    spread of the targets."""
    model = made(name, net="mlp", label_dropout=0.0, **({"predicts": "x0"} if name == "ddpm" else {}))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(250):
        optimiser.zero_grad()
        model.loss(batch_of(64, seed=64 * step)).total.backward()
        optimiser.step()
    model.eval()
    batch = batch_of(64, seed=10**6)
    b = final(model.sample(batch.noise, batch.y))
    bright, aim = b.mean((1, 2, 3)), batch.x.mean((1, 2, 3))
    error = float((bright - aim).square().mean().sqrt())
    assert error < 0.25 * float(aim.std()), error
    wrong = float((bright - aim.flip(0)).square().mean().sqrt())
    assert wrong > 3 * error, "what is sampled depends on its own source"


@pytest.mark.parametrize("name", DENOISERS)
def test_sample_i_is_that_of_source_i_in_any_company(name):
    model, a = lively(made(name, net="unet")), source(4)
    whole = final(model.sample(Noise(range(4)), Condition(image=a)))
    alone = final(model.sample(Noise(range(2, 3)), Condition(image=a[2:3])))
    assert torch.allclose(whole[2:3], alone, atol=1e-4)
    assert not torch.allclose(
        whole, final(model.sample(Noise(range(4)), Condition(image=a.flip(0)))), atol=1e-3
    )


def test_the_source_is_dropped_for_guidance_together_with_the_class():
    model = made("edm", Spec(1, 8, labels=2, source=(1, 8)), conditional=True, label_dropout=0.25)
    assert model.takes == ("label", "image") and made("edm", Spec(1, 8)).takes == ()
    y = Condition(torch.ones(4000, dtype=torch.long), image=torch.ones(4000, 1, 8, 8))
    told = model.condition(Batch(torch.zeros(4000, 1, 8, 8), y, Noise(range(4000))))
    without = told.image.flatten(1).sum(1) == 0
    assert torch.equal(without, told.label == -1) and float(without.float().mean()) == pytest.approx(
        0.25, abs=0.03
    )


def test_guidance_draws_on_from_what_no_source_says():
    model, a, x = lively(made("edm", net="unet")), source(3), source(3, seed=2)
    t = torch.full((3,), 0.7)
    with torch.no_grad():
        told, untold = model.predict(x, t, Condition(image=a)), model.predict(x, t)
        model.guidance, model.clips = 2.5, False
        assert torch.allclose(
            model.denoise(x, t, Condition(image=a)), untold + 2.5 * (told - untold), atol=1e-5
        )
    never = made("edm", label_dropout=0.0, guidance=2.0)
    with pytest.raises(Refusal, match=r"without an image.*--label-dropout 0.*no idea of no image"):
        list(never.sample(Noise(range(3)), Condition(image=a)))


# The other questions


def test_bits_completion_and_edits_are_told_the_source_and_refuse_without():
    model, a, x = lively(made("edm", net="unet", steps=2)), source(3), source(3, seed=2)
    y, other = Condition(image=a), Condition(image=a.flip(0))
    known = torch.zeros(8, 8, dtype=torch.bool)
    known[:4] = True
    asked = {
        "bits": lambda y: model.bits_per_dim(Batch(x, y, Noise(range(3)))).values,
        "complete": lambda y: final(model.complete(x, known, Noise(range(3)), y)),
        "redraw": lambda y: final(model.redraw(x, 0.9, Noise(range(3)), y)),
        "sample": lambda y: final(model.sample(Noise(range(3)), y)),
    }
    for name, question in asked.items():
        assert not torch.allclose(question(y), question(other), atol=1e-4), name
        with pytest.raises(Refusal, match=r"learnt from pairs.*1x8x8, which is missing"):
            question(None)
    assert torch.equal(asked["complete"](y)[:, :, :4], x[:, :, :4])


def test_a_code_is_that_of_no_source():
    model, a, x = lively(made("edm", net="unet", steps=4)), source(3), source(3, seed=2)
    z = model.encode(x, Condition(image=a))
    assert z.shape == (3, 64) and torch.equal(z, model.encode(x)) and model.decode(z).shape == x.shape
    never = made("edm", label_dropout=0.0)
    for question in (lambda: never.encode(x), lambda: never.decode(z)):
        with pytest.raises(Refusal, match="no idea of no image"):
            question()


def test_optimal_transport_has_no_place_in_pairs():
    with pytest.raises(Refusal, match="--coupling ot"):
        made("flowmatching", coupling="ot")


def test_samples_of_a_run_are_of_held_out_sources_with_a_mask_as_one_more_channel():
    """As in --task inpaint: the source has a channel for the hole."""
    rng = np.random.default_rng(0)
    x, a = (rng.integers(0, 256, (24, c, 8, 8)).astype(np.uint8) for c in (3, 4))
    data = Data("mine", "mine", x, np.arange(8, 24), np.arange(8)).with_pairs(a)
    assert data.spec.source == (4, 8)
    model = lively(made("flowmatching", data.spec, net="unet", steps=2))
    by_hand = final(model.sample(sampling.engine.sampling_noise(0, 0, 8), data.take(data.held_out).y))
    assert torch.allclose(sampling.samples(model, 8, 0, data), by_hand.clamp(-1, 1), atol=1e-5)
