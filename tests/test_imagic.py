"""Imagic's three steps on a model of light and dark squares: what moves, what stays, and what is kept."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from commands import ask, refused
from likeness import models
from likeness.core import Condition, Refusal, Spec
from likeness.inference import imagic
from likeness.inference.imagic import Fixed, How, reader
from test_text_condition import DARK, LIGHT, PAD, batch_of

TARGET = torch.tensor([[DARK, PAD]])
IMAGE = torch.tensor([[0.8, 0.6], [0.3, 0.3]])[None, None]
"""a light square, not all over alike, as the training has none"""


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    spec = Spec(1, 2, vocabulary=4, tokens=2)
    made = models.load("flowmatching")(
        spec=spec, net="mlp", scale=0.25, text=True, label_dropout=0.1, steps=8
    )
    optimiser = torch.optim.Adam(made.parameters(), 1e-2)
    for step in range(150):
        optimiser.zero_grad()
        made.loss(batch_of(64, step)).total.backward()
        optimiser.step()
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def edits(model) -> dict[str, imagic.Edit]:
    settings = dict(embedding_rate=3e-2, tuning_rate=3e-3)
    return {
        "both": imagic.edit(model, IMAGE, TARGET, How(100, 150, **settings)),
        "embedding": imagic.edit(model, IMAGE, TARGET, How(100, 0, **settings)),
        "neither": imagic.edit(model, IMAGE, TARGET, How(0, 0)),
    }


def error(x: Tensor) -> float:
    return float((x - IMAGE).square().mean().sqrt())


def test_the_text_that_is_fixed_is_what_the_encoder_says(model):
    twin = imagic._twin(model, TARGET)
    x, t = torch.randn(3, 1, 2, 2), torch.tensor([0.2, 0.5, 0.9])
    for told in (TARGET.expand(3, -1), torch.tensor([[DARK, PAD], [PAD, PAD], [DARK, PAD]])):
        y = Condition(tokens=told)
        assert torch.allclose(twin.predict(x, t, y), model.predict(x, t, y), atol=1e-6)
    assert torch.allclose(twin.predict(x, t), model.predict(x, t), atol=1e-6)
    assert torch.equal(
        twin.predict(x, t, Condition(tokens=torch.full((3, 2), LIGHT))), twin.predict(x, t, only(3))
    )


def only(n: int) -> Condition:
    return Condition(tokens=TARGET.expand(n, -1))


def test_the_first_step_moves_the_embedding_alone(model, edits):
    before = {k: v for k, v in model.network.state_dict().items() if not k.startswith("text.")}
    after = edits["embedding"].model.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not torch.allclose(edits["embedding"].optimised, edits["embedding"].target, atol=0.1)
    assert torch.equal(edits["neither"].optimised, edits["neither"].target)
    near, far = edits["embedding"].at(0.0, 32), edits["neither"].at(0.0, 32)
    assert float(near.mean()) > 0.2 > -0.2 > float(far.mean()), (
        "the embedding of dark comes to draw a light square"
    )


def test_the_second_step_moves_the_model_and_the_image_itself_is_drawn(model, edits):
    assert torch.equal(edits["both"].optimised, edits["embedding"].optimised)
    weight = "first.weight"
    assert not torch.equal(
        edits["both"].model.network.state_dict()[weight], model.network.state_dict()[weight]
    )
    with_both, without = error(edits["both"].at(0.0, 16)), error(edits["embedding"].at(0.0, 16))
    assert with_both < 0.13 and without > 1.5 * with_both, (with_both, without)


def test_the_third_step_is_a_line_from_the_image_to_the_text(edits):
    done = edits["both"]
    brightness = [float(done.at(s, 16).mean()) for s in (0.0, 1.0)]
    assert brightness[0] == pytest.approx(0.5, abs=0.08) and brightness[1] < 0.2
    done.at(0.25)
    expected = 0.25 * done.target + 0.75 * done.optimised
    assert torch.allclose(reader(done.model).text.words, expected, atol=1e-6)
    assert torch.equal(done.at(0.5, 2, seed=3), done.at(0.5, 2, seed=3))
    with pytest.raises(Refusal, match="--strength -1"):
        done.at(-1.0)


def test_what_was_learnt_is_kept_for_another_strength(model, edits, tmp_path):
    facts = imagic.identity(IMAGE, "dark", 100, How())
    imagic.keep(edits["both"], tmp_path / "kept", facts)
    again = imagic.kept(model, tmp_path / "kept", facts)
    assert again is not None and isinstance(reader(again.model).text, Fixed)
    for s in (0.0, 0.7):
        assert torch.equal(again.at(s, 3), edits["both"].at(s, 3))
    guided = [e.at(1.0, 3, guidance=2.0) for e in (again, edits["both"])]
    assert torch.equal(*guided), "nothing is still known as well"
    for other in (
        imagic.identity(-IMAGE, "dark", 100, How()),
        imagic.identity(IMAGE, "light", 100, How()),
        imagic.identity(IMAGE, "dark", 101, How()),
        imagic.identity(IMAGE, "dark", 100, How(seed=1)),
    ):
        assert imagic.kept(model, tmp_path / "kept", other) is None
    assert imagic.kept(model, tmp_path / "none", facts) is None


def test_other_models_and_texts_without_words_are_refused(model):
    with pytest.raises(Refusal, match="has no word"):
        imagic.edit(model, IMAGE, torch.tensor([[PAD, PAD]]))
    spec = Spec(1, 2, levels=4, vocabulary=4, tokens=2)
    with pytest.raises(Refusal, match="a ddpm, edm, flowmatching or meanflow"):
        imagic.edit(models.load("dalle")(spec=spec, width=8, depth=1, heads=2), IMAGE, TARGET)
    with pytest.raises(Refusal, match="has learnt nothing of texts"):
        imagic.edit(models.load("edm")(spec=Spec(1, 2), net="mlp"), IMAGE, TARGET)


def test_the_command_keeps_and_takes_up_again(tmp_path, capsys, monkeypatch):
    import likeness
    from test_imagine import captioned

    data, run = captioned(tmp_path / "data"), tmp_path / "run"
    options = dict(text=True, net="mlp", scale=0.25, steps=2)
    likeness.train("edm", data, run, images=16, batch=16, progress=False, size=8, **options)
    command = ["imagic", str(run), str(data / "1.png"), "a dark square", "-o", str(tmp_path / "x.png")]
    few = ["--embedding-steps", "2", "--tuning-steps", "2"]
    first = ask(capsys, *command, *few, "--strength", "0,1")
    assert first["strengths"] == [0, 1] and first["text"] == "a dark square"
    monkeypatch.setattr(imagic, "editing", lambda *_: pytest.fail("it was kept"))
    again = ask(capsys, *command, *few, "--strength", "0.5")
    assert again["kept"] == first["kept"] and json.dumps(again["strengths"]) == "[0.5]"
    assert "no list of numbers" in refused(capsys, *command, *few, "--strength", "x")
