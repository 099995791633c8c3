"""pix2pix against its formulas, and pairs whose rule can be learnt in seconds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import likeness
from conftest import small_run
from likeness.core import Batch, Condition, Noise, Refusal, Spec
from likeness.data import Data, picture
from likeness.models.pix2pix import Pix2Pix, depth_for
from likeness.training.loop import fit

SPEC = Spec(3, 16, source=(1, 16))


def model(spec: Spec = SPEC, **options: object) -> Pix2Pix:
    torch.manual_seed(0)
    m = Pix2Pix(spec=spec, **(dict(width=4) | options))
    for p in m.parameters():
        nn.init.normal_(p, std=0.3)
    return m


def batch(n: int = 4, spec: Spec = SPEC) -> Batch:
    noise = Noise(range(n), key=1)
    x = noise.uniform(spec.channels, spec.size, spec.size) * 2 - 1
    return Batch(x, Condition(image=noise.uniform(*spec.source[:1], 16, 16) * 2 - 1), Noise(range(n)))


def logits(m: Pix2Pix, source: Tensor, x: Tensor) -> Tensor:
    return m.D(torch.cat([source, x], 1) if m.adversarial == "cgan" else x)


@pytest.mark.parametrize("l1", [0.0, 100.0])
@pytest.mark.parametrize("adversarial", ["cgan", "gan", "none"])
def test_the_loss_and_its_gradient_are_the_formulas_for_every_part(adversarial, l1):
    if adversarial == "none" and not l1:
        with pytest.raises(Refusal, match="nothing to learn"):
            model(adversarial=adversarial, l1=l1)
        return
    m, b = model(adversarial=adversarial, l1=l1), batch()
    fake = m.G(b.y.image).tanh()
    right = l1 * (b.x - fake).abs().mean()
    if adversarial != "none":
        right = right - F.logsigmoid(logits(m, b.y.image, fake)).mean()
    ours, weights = m.generator_loss(b).total, list(m.G.parameters())
    assert torch.allclose(ours, right, rtol=1e-5)
    for one, other in zip(*(torch.autograd.grad(t, weights) for t in (ours, right)), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()) + 1e-7)
    assert len(m.players()) == 1 + (adversarial != "none")


@pytest.mark.parametrize("adversarial", ["cgan", "gan"])
def test_the_discriminator_minimises_half_of_equation_1_or_2(adversarial):
    m, b = model(adversarial=adversarial), batch()
    real, fake = logits(m, b.y.image, b.x), logits(m, b.y.image, m.G(b.y.image).tanh())
    right = -(F.logsigmoid(real).mean() + torch.log1p(-torch.sigmoid(fake)).mean()) / 2
    loss = m.discriminator_loss(b)
    assert torch.allclose(loss.total, right, rtol=1e-4)
    assert torch.allclose(loss.terms["on fake"], fake.mean(), atol=1e-5)
    other = Batch(b.x, Condition(image=b.y.image.flip(0)), Noise(range(4)))
    blind = torch.allclose(m.discriminator_loss(other).terms["on real"], loss.terms["on real"], atol=1e-6)
    assert blind == (adversarial == "gan"), "only cgan sees the source"


def test_the_discriminator_meets_what_the_generator_drew_before_its_move():
    m, b = model().train(), batch()
    calls = []
    m.G.register_forward_hook(lambda *_: calls.append(1))
    before = m.discriminator_loss(b).total
    m.generator_loss(b)
    for p in m.G.parameters():
        nn.init.zeros_(p)
    assert torch.allclose(m.discriminator_loss(b).total, before, rtol=1e-5) and len(calls) == 2
    assert not torch.allclose(m.discriminator_loss(b).total, before, rtol=1e-3)


def test_dropout_is_drawn_from_the_noise_of_each_image():
    m, b = model(spec=Spec(3, 16, source=(1, 16)), dropout=0.5, depth=3), batch()
    (one,), (again,), (other,) = (list(m.sample(Noise(range(4), key=key), b.y)) for key in (0, 0, 1))
    assert torch.equal(one, again) and not torch.allclose(one, other, atol=1e-3)
    assert torch.equal(m.translate(b.y.image), m.translate(b.y.image)), "translations have nothing of chance"


def pairs(n: int = 64, size: int = 8) -> Data:
    """Blocks of random grey levels, and what is right beside them: 1 - A."""
    blocks = np.random.default_rng(0).integers(0, 256, (n, 1, size // 4, size // 4), dtype=np.uint8)
    a = blocks.repeat(4, 2).repeat(4, 3)
    return Data("pairs", "pairs", 255 - a, np.arange(16, n), np.arange(16)).with_pairs(a)


def test_a_negative_is_learnt_from_pairs(tmp_path):
    data = pairs()
    run, _ = small_run("pix2pix", tmp_path, data, batch=8, images=2400, rate=2e-3, warmup=0)
    list(fit(run, data))
    made = run.model.translate(picture(data.pairs[data.held_out]))
    error = (made - picture(data.x[data.held_out])).abs().mean()
    assert error < 0.1, "identity has 1.0, a constant 0.5"


@pytest.mark.parametrize(
    "spec, options, match",
    [
        (Spec(3, 16), {}, "needs pairs"),
        (Spec(3, 16, source=(3, 8)), {}, "their sources of 8; superres enlarges"),
        (Spec(3, 18, source=(3, 18)), dict(depth=2), "--size 16"),
        (SPEC, dict(layers=4), "images of 48 pixels and more"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_reason(spec, options, match):
    with pytest.raises(Refusal, match=match):
        Pix2Pix(spec=spec, **options)


def test_it_translates_one_way():
    with pytest.raises(Refusal, match="--swap"):
        model().translate(torch.zeros(1, 1, 16, 16), back=True)
    assert model(depth=3).translate(torch.zeros(1, 1, 24, 40)).shape == (1, 3, 24, 40)
    with pytest.raises(Refusal, match="multiples of 8"):
        model(depth=3).translate(torch.zeros(1, 1, 20, 40))


def test_the_depth_is_what_the_size_allows():
    assert [depth_for(size) for size in (8, 16, 28, 32, 50, 64, 128, 256)] == [1, 2, 2, 3, 1, 4, 5, 6]


def test_it_refuses_data_in_which_nobody_knows_what_belongs_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match=r"pix2pix learns from pairs.*train cyclegan"):
        likeness.train("pix2pix", "day-night:80", tmp_path / "run", size=8, progress=False)
    with pytest.raises(Refusal, match="two images at a time, and shapes:80 holds single ones") as told:
        likeness.train("pix2pix", "shapes:80", tmp_path / "run", size=8, progress=False)
    assert "trainA" not in str(told.value), "two domains would be refused next"
    with pytest.raises(Refusal, match=r"A --to B\), .*trainA/"):
        likeness.train("cyclegan", "shapes:80", tmp_path / "run", size=8, progress=False)
