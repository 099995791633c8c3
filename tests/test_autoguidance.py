"""Drawing leads away from what a run was at half of its training; the run keeps that, and resumes with it."""

from __future__ import annotations

import copy
import json

import pytest
import torch

import likeness
from conftest import small_run
from likeness.core import Batch, Noise, Refusal, Spec
from likeness.models import load
from likeness.parts.denoising import FAR, HIDDEN
from likeness.runs.run import Run
from likeness.training import loop


def shaken(name: str = "flowmatching", **options: object):
    """A model whose answer depends on its input, and its early self, which answers otherwise."""
    torch.manual_seed(0)
    model = load(name)(spec=Spec(1, 8), scale=0.25, **options).eval().requires_grad_(False)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    early = copy.deepcopy(model)
    for p in early.parameters():
        torch.nn.init.normal_(p, std=0.2)
    model.__dict__["early"] = early
    return model, early


@pytest.mark.parametrize("name", ["flowmatching", "ddpm", "edm"])
@torch.no_grad()
def test_what_is_aimed_at_lies_beyond_by_as_much_as_the_early_self_lies_back(name):
    model, early = shaken(name)
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    levels = model.schedule.levels(20, "karras")
    below = next(at for at in levels if at.ratio < HIDDEN)
    above = next(at for at in levels if at.ratio > HIDDEN)
    for at, far in ((below, FAR), (above, 1.0)):
        t = torch.full((3,), at.t)
        now, then = model.predict(x, t), early.predict(x, t)
        assert torch.allclose(model.aim(x, t), (then + far * (now - then)).clamp(-1, 1), atol=1e-6)
        assert not torch.allclose(now, then)
    model.autoguidance = 3.0
    t = torch.full((3,), below.t)
    now, then = model.predict(x, t), early.predict(x, t)
    assert torch.allclose(model.aim(x, t), (then + 3 * (now - then)).clamp(-1, 1), atol=1e-6)


@torch.no_grad()
def test_without_an_early_self_nothing_is_led_anywhere():
    model, _ = shaken()
    (*_, led), model.autoguidance = model.sample(Noise(range(2))), 1.0
    *_, plain = model.sample(Noise(range(2)))
    del model.__dict__["early"]
    *_, alone = model.sample(Noise(range(2)))
    assert torch.equal(plain, alone) and not torch.equal(led, plain)
    model.autoguidance = 2.0
    with pytest.raises(Refusal, match="has not kept that"):
        list(model.sample(Noise(range(2))))


def test_other_guidance_texts_and_translations_are_drawn_without():
    model, _ = shaken()
    assert model.far == FAR
    model.guidance = 3.0
    assert model.far == 1
    model, early = shaken()
    assert model.beside(early).far == 1
    model, _ = shaken("edm")
    assert model.far == FAR
    model.spec = Spec(1, 8, source=(1, 8))
    assert model.far == 1, "an image of another image"
    model.autoguidance = 1.5
    assert model.far == 1.5, "unless it is asked for"


def test_a_likelihood_and_a_code_are_those_of_the_model_itself():
    model, _ = shaken()
    batch = Batch(torch.zeros(2, 1, 8, 8), None, Noise(range(2)))
    led = model.bits_per_dim(batch).values, model.encode(batch.x)
    del model.__dict__["early"]
    assert all(
        torch.equal(a, b) for a, b in zip(led, (model.bits_per_dim(batch).values, model.encode(batch.x)))
    )


def trained(folder, *until: int):
    """To the last of these images, saved and opened again at the others."""
    run, data = small_run("flowmatching", folder, images=128, batch=16)
    answered: dict[str, torch.Tensor] = {}
    for end in until:
        while run.seen < end:
            loop.step(run, data)
            if run.seen == 64:
                answered = {k: v.clone() for k, v in run.model.state_dict().items()}
        run.save()
        run.close()
        if end != until[-1]:
            run = Run.resume(folder)
    return run, answered


def test_half_of_the_training_is_kept_and_goes_on_to_the_bit(tmp_path):
    whole, at_half = trained(tmp_path / "a", 128)
    early = whole.model.early.state_dict()
    assert all(torch.equal(early[k], v) for k, v in at_half.items())
    assert any(not torch.equal(early[k], v) for k, v in whole.model.state_dict().items())
    for folder, ends in (("b", (32, 128)), ("c", (96, 128)), ("d", (32, 64, 80, 128))):
        parts, _ = trained(tmp_path / folder, *ends)
        a, b = whole.tensors(), parts.tensors()
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    opened = Run.open(tmp_path / "a")
    assert all(torch.equal(opened.model.early.state_dict()[k], v) for k, v in early.items())
    *_, x = whole.model.sample(Noise(range(2)))
    *_, again = opened.model.sample(Noise(range(2)))
    assert torch.equal(x, again)


def test_a_run_that_has_not_come_so_far_draws_alone(tmp_path):
    run, _ = trained(tmp_path / "r", 48)
    assert Run.open(tmp_path / "r").model.early is None and not any(
        k.startswith("early/") for k in run.tensors()
    )
    run = likeness.open(tmp_path / "r")
    run.sample(2)
    with pytest.raises(Refusal, match="--beside"):
        run.sample(2, autoguidance=2.0)


@pytest.mark.parametrize("name", ["meanflow", "vae"])
def test_who_does_not_draw_with_it_does_not_keep_it(name, tmp_path):
    run, data = small_run(name, tmp_path / "r", images=32)
    while run.seen < 32:
        loop.step(run, data)
    assert getattr(run.model, "early", None) is None and not any(
        k.startswith("early/") for k in run.tensors()
    )
    run.close()


def test_a_run_from_before_is_drawn_as_it_was_however_long_it_goes_on(tmp_path):
    run, _ = trained(tmp_path / "r", 48)
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    del config["options"]["autoguidance"]
    (tmp_path / "r" / "config.json").write_text(json.dumps(config))
    run = Run.resume(tmp_path / "r")
    data = small_run("flowmatching", tmp_path / "other")[1]
    while run.seen < 96:
        loop.step(run, data)
    run.close()
    assert run.model.early is not None and run.model.far == 1
