"""Denoisers that are told a text: what they see of it, guidance in one pass, negative texts, and what
is drawn of no text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from likeness import models
from likeness.core import NONE, PAD, Batch, Condition, Noise, Refusal, Spec, final
from likeness.models.dalle import DALLE
from likeness.parts import unet
from likeness.parts.conditioning import told_and_not
from likeness.parts.denoisers import network

CAPTIONED = Spec(1, 8, vocabulary=7, tokens=4)
DENOISERS = "ddpm", "edm", "flowmatching", "meanflow"
NETS = "unet", "patches", "dit", "mlp"
TEXTS = torch.tensor([[2, 3, PAD, PAD], [4, PAD, PAD, PAD], [5, 6, 2, 3]])


def lively(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return model.eval()


def made(name: str = "edm", spec: Spec = CAPTIONED, **options) -> torch.nn.Module:
    return lively(models.load(name)(spec=spec, **dict(scale=0.25, net="unet", text=True) | options))


def drawn(n: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("net", NETS)
def test_a_network_sees_the_words_and_not_the_room_behind_them(net, monkeypatch):
    model = lively(network(net, CAPTIONED, 0.25, 1, 0, text=True)).double()
    x, t = drawn().double(), torch.tensor([10.0, 500.0, 900.0]).double()
    with torch.no_grad():
        told, other = (model(x, t, Condition(tokens=texts)) for texts in (TEXTS, TEXTS.flip(0)))
        assert not torch.allclose(told[0], other[0], atol=1e-4), "another text is another answer"
        swapped = TEXTS.clone()
        swapped[0, :2] = torch.tensor([3, 2])
        assert not torch.allclose(told[0], model(x, t, Condition(tokens=swapped))[0], atol=1e-6), (
            "order counts"
        )
        short = model(x[:2], t[:2], Condition(tokens=TEXTS[:2, :2]))
        assert torch.allclose(told[:2], short, atol=1e-9), "no more room behind the last word counts"
        longer = torch.nn.functional.pad(TEXTS, (0, 3), value=4)
        assert torch.allclose(told, model(x, t, Condition(tokens=longer)), atol=1e-9), (
            "cut where captions ended"
        )
        silent = model(x, t, Condition(tokens=torch.full_like(TEXTS, PAD)))
        assert torch.allclose(silent, model(x, t), atol=1e-9) and not torch.allclose(silent, told, atol=1e-4)
        if net != "mlp":  # which has no attention
            attend = unet.attend
            monkeypatch.setattr(unet, "attend", lambda q, k, v, there=None: attend(q, k, v))
            blind = model(x, t, Condition(tokens=TEXTS))
            assert not torch.allclose(blind[:2], told[:2], atol=1e-6), (
                "the fake, which looks behind the last word"
            )


def test_a_model_that_reads_nothing_has_the_weights_of_one_before_there_were_texts():
    """Runs of captioned images that were made before have no option `text` in their config."""
    for net in NETS:
        for spec in (Spec(1, 8, labels=2), Spec(1, 8, labels=2, vocabulary=7, tokens=4)):
            torch.manual_seed(3)
            model = models.load("edm")(spec=spec, net=net, scale=0.25, conditional=True)
            assert model.takes == ("label",) and not any("text" in name for name in model.state_dict())
            if not spec.vocabulary:
                before = model.state_dict()
        assert before.keys() == model.state_dict().keys()
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    told = Condition(torch.tensor([0, 1]), torch.ones(2, 4, dtype=torch.int64))
    batch = Batch(drawn(2), told, Noise(range(2)))
    assert model.told_of(batch).tokens is None, "and is told no text"
    assert made().takes == ("tokens",) and made(text=False).takes == ()
    with pytest.raises(Refusal, match="--text asks for images with captions"):
        models.load("ddpm")(spec=Spec(1, 8), text=True)
    with pytest.raises(Refusal, match="--coupling ot"):
        models.load("flowmatching")(spec=CAPTIONED, text=True, coupling="ot")


# Guidance


def test_both_halves_of_guidance_are_the_condition_and_nothing():
    y = Condition(torch.tensor([0, 1, 1]), TEXTS, torch.ones(3, 1, 2, 2))
    both = told_and_not(y)
    assert torch.equal(both.tokens[:3], TEXTS) and not both.tokens[3:].any()
    assert (
        both.label.tolist() == [0, 1, 1, NONE, NONE, NONE]
        and both.image.flatten(1).sum(1).tolist() == [4] * 3 + [0] * 3
    )
    words_alone = told_and_not(y, ("tokens",))
    assert words_alone.label.tolist() == [0, 1, 1] * 2 and not words_alone.tokens[3:].any()
    against = told_and_not(y, negative=torch.tensor([[6, 5]]))
    assert against.tokens[3:].tolist() == [[6, 5, PAD, PAD]] * 3 and torch.equal(against.tokens[:3], TEXTS)
    assert told_and_not(y, negative=torch.tensor([[6, 5, 4, 3, 2]])).tokens.shape == (6, 5)


@pytest.mark.parametrize("name", DENOISERS)
def test_guidance_is_one_pass_of_both_and_equals_two(name):
    model, x, y = made(name), drawn(), Condition(tokens=TEXTS)
    model.clips = False
    t = torch.full((3,), 700 if name == "ddpm" else 0.7)
    rows = []
    hear = model.network.register_forward_hook(lambda net, args, out: rows.append(len(out)))
    with torch.no_grad():
        told, untold = model.predict(x, t, y), model.predict(x, t)
        away = model.predict(x, t, Condition(tokens=torch.tensor([[6, 5, PAD, PAD]]).expand(3, -1)))
        assert not torch.allclose(told, untold, atol=1e-3) and not torch.allclose(away, untold, atol=1e-3)
        rows.clear()
        expected = {1.0: told, 0.0: untold, 2.5: untold + 2.5 * (told - untold)}
        for guidance, aim in expected.items():
            model.guidance = guidance
            assert torch.allclose(model.denoise(x, t, y), aim, atol=1e-5), guidance
        assert rows == [3, 3, 6], "no pass is made twice"
        led = model.against(torch.tensor([[6, 5]]))
        assert torch.allclose(led.denoise(x, t, y), away + 2.5 * (told - away), atol=1e-5)
        assert model.negative is None, "the model itself stays as it is"
        led.guidance = 0.0
        assert torch.allclose(led.denoise(x, t, y), away, atol=1e-5)
    hear.remove()


def test_a_weaker_model_that_reads_is_told_the_text_as_well():
    model, weak, x, y = made(), lively(made(), seed=1), drawn(), Condition(tokens=TEXTS)
    model.clips, model.guidance, t = False, 2.0, torch.full((3,), 0.7)
    with torch.no_grad():
        expected = 2 * model.predict(x, t, y) - weak.predict(x, t, y)
        assert torch.allclose(model.beside(weak).denoise(x, t, y), expected, atol=1e-5)
    with pytest.raises(Refusal, match="guided by another edm"):
        model.beside(made(text=False))


def test_dalle_is_led_away_from_a_negative_text():
    torch.manual_seed(0)
    spec = Spec(1, 2, levels=3, symbols=True, vocabulary=7, tokens=4)
    model = lively(DALLE(spec=spec, width=8, depth=1, heads=2, guidance=3.0))
    x, y, negative = torch.zeros(3, 1, 2, 2), Condition(tokens=TEXTS), torch.tensor([[6, 5]])
    told = model.predict(x, y)
    away = model.predict(x, Condition(tokens=torch.tensor([[6, 5, PAD, PAD]]).expand(3, -1)))
    with torch.no_grad():
        led = model.against(negative).guided(model.predict, x, y)
    assert torch.allclose(led, away + 3 * (told - away), atol=1e-5) and model.negative is None


def test_guidance_of_a_model_that_never_heard_nothing_is_refused():
    never = made(label_dropout=0.0, guidance=2.0)
    with pytest.raises(Refusal, match=r"without a text.*no idea of no text"):
        list(never.sample(Noise(range(3)), Condition(tokens=TEXTS)))
    with pytest.raises(Refusal, match=r"a code has no place for a text"):
        never.encode(drawn())


def test_class_and_text_are_left_out_together():
    spec = Spec(1, 8, labels=2, vocabulary=7, tokens=4)
    model = made(spec=spec, conditional=True, label_dropout=0.25)
    y = Condition(torch.ones(4000, dtype=torch.int64), torch.full((4000, 4), 3))
    told = model.condition(Batch(torch.zeros(4000, 1, 8, 8), y, Noise(range(4000))))
    without = (told.tokens == PAD).all(1)
    assert torch.equal(without, told.label == NONE)
    assert float(without.float().mean()) == pytest.approx(0.25, abs=0.03)


# What is learnt

LIGHT, DARK = 2, 3
SHARE = 0.75
"""of light images"""
N = 400


def batch_of(n: int, seed: int) -> Batch:
    """Squares of 2x2 pixels, light or dark, which a word says of most of them."""
    rng = np.random.default_rng(seed)
    light = torch.from_numpy(rng.random(n) < SHARE)
    tokens = torch.stack([torch.where(light, LIGHT, DARK), torch.zeros(n, dtype=torch.int64)], 1)
    tokens[torch.from_numpy(rng.random(n) < 0.1)] = PAD  # captions that are missing
    x = torch.where(light, 0.5, -0.5).float()[:, None, None, None].expand(-1, 1, 2, 2)
    return Batch(x.contiguous(), Condition(tokens=tokens), Noise(range(seed * n, seed * n + n)))


@pytest.fixture(scope="module")
def learnt() -> torch.nn.Module:
    torch.manual_seed(0)
    spec = Spec(1, 2, vocabulary=4, tokens=2)
    model = models.load("flowmatching")(
        spec=spec, net="mlp", scale=0.25, text=True, label_dropout=0.3, sampler="dpm2m"
    )
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(200):
        optimiser.zero_grad()
        model.loss(batch_of(64, step)).total.backward()
        optimiser.step()
    return model.eval()


def light(model: torch.nn.Module, y: Condition | None, n: int = N) -> float:
    x = final(model.sample(Noise(range(n)), y))
    return float((x.mean((1, 2, 3)) > 0).float().mean())


def test_samples_are_what_the_text_says_and_of_no_text_the_marginal(learnt):
    n = N
    for word, share in ((LIGHT, 1.0), (DARK, 0.0)):
        y = Condition(tokens=torch.tensor([[word, PAD]]).expand(n, -1))
        assert light(learnt, y) == pytest.approx(share, abs=0.02)
    deviation = (
        4 * (SHARE * (1 - SHARE) / n) ** 0.5 + 0.04
    )  # of chance, and of a model that learnt for a second
    silent = light(learnt, Condition(tokens=torch.zeros(n, 2, dtype=torch.int64)))
    assert silent == light(learnt, None) == pytest.approx(SHARE, abs=deviation)
    learnt.guidance = 0.0
    ignored = light(learnt, Condition(tokens=torch.tensor([[DARK, PAD]]).expand(n, -1)))
    learnt.guidance = 1.0
    assert ignored == pytest.approx(silent, abs=0.01), "guidance 0 ignores the text"


def test_the_likelihood_is_that_given_the_text(learnt):
    batch = batch_of(64, 9_999)
    right = learnt.bits_per_dim(batch).values.mean()
    word = batch.y.tokens[:, 0]
    wrong = torch.where(word == LIGHT, DARK, torch.where(word == DARK, LIGHT, PAD))
    other = Condition(tokens=torch.stack([wrong, torch.zeros_like(wrong)], 1))
    assert right < learnt.bits_per_dim(Batch(batch.x, other, batch.noise)).values.mean() - 0.5


def test_edits_and_completions_are_told_the_text_and_codes_are_not(learnt):
    n, x = 32, -torch.full((32, 1, 2, 2), 0.5)
    y = Condition(tokens=torch.tensor([[LIGHT, PAD]]).expand(n, -1))
    made_light = final(learnt.redraw(x, 1.0, Noise(range(n)), y))
    assert float((made_light.mean((1, 2, 3)) > 0).float().mean()) > 0.95
    assert torch.equal(learnt.encode(x, y), learnt.encode(x))
