"""A cascade: what one run draws of a text, another makes larger by the text; and clips that move."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import likeness
from commands import ask, refused
from likeness.core import Batch, Condition, Noise, Refusal, Spec, final
from likeness.figures import read_recipe
from likeness.models.flowmatching import FlowMatching
from likeness.parts import chance
from likeness.parts.unet import places

TEXTS = "a light square", "a dark square"
SMALL = dict(net="unet", scale=0.25, steps=2, images=16, batch=8, progress=False)


def captioned(folder: Path, size: int) -> Path:
    folder.mkdir()
    rng, lines = np.random.default_rng(0), []
    for i in range(16):
        Image.fromarray(rng.integers(0, 256, (size, size), np.uint8)).save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": TEXTS[i % 2]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def shaken(folder: Path) -> likeness.api.Trained:
    run = likeness.open(folder)
    torch.manual_seed(0)
    for p in run.model.parameters():
        torch.nn.init.normal_(p, std=0.12)
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    here = tmp_path_factory.mktemp("cascade")
    data, out = captioned(here / "data", 16), {}
    for name, options in (
        ("base", dict(size=8, text=True)),
        ("wide", dict(size=16, text=True)),
        ("up", dict(size=16, text=True, task="upscale2", augment=0.3)),
        ("blind", dict(size=16, task="upscale2")),
    ):
        out[name] = here / name
        likeness.train("flowmatching", data, out[name], **SMALL | options)
    return out


def test_a_cascade_draws_the_small_image_and_then_the_large_one_beside_it(runs):
    base, up = shaken(runs["base"]), shaken(runs["up"])
    drawn = base.imagine(TEXTS, n=2, seed=3, upscale=up)
    assert drawn.x.shape == (4, 1, 16, 16) and drawn.recipe["upscale"] == ["up"]
    small = base.imagine(TEXTS, n=2, seed=3).x
    tokens = torch.from_numpy(up.config.words.tokens(TEXTS)).long().repeat_interleave(2, 0)
    noise = likeness.engine.sampling_noise(likeness.engine.derive("cascade", 3, 1), 0, 2)
    noise = noise[torch.tensor([0, 1, 0, 1])]
    by_hand = final(up.model.sample(noise, Condition(tokens=tokens, image=small.clamp(-1, 1))))
    assert torch.allclose(drawn.x, by_hand.clamp(-1, 1), atol=1e-4)
    alone = base.imagine(TEXTS[1], n=1, seed=3, upscale=[up])
    assert torch.allclose(alone.x[0], drawn.x[2], atol=1e-4), "in any company"
    other = final(up.model.sample(noise, Condition(tokens=tokens, image=-small.clamp(-1, 1))))
    assert not torch.allclose(other.clamp(-1, 1), drawn.x, atol=1e-2), "the small image counts"
    grid = base.imagine(TEXTS[1], n=1, seed=3, upscale=up, grid=dict(guidance=[0.0, 1.0]))
    assert torch.allclose(grid.x[1], drawn.x[2], atol=1e-4) and not torch.allclose(
        grid.x[0], grid.x[1], atol=1e-6
    )


def test_an_upscaler_that_reads_no_text_does_as_well(runs):
    base, blind = shaken(runs["base"]), shaken(runs["blind"])
    assert base.imagine(TEXTS[0], n=1, upscale=blind).x.shape == (1, 1, 16, 16)


def test_stages_that_do_not_fit_are_refused_before_anything_is_drawn(runs):
    base, wide, up = (likeness.open(runs[name]) for name in ("base", "wide", "up"))
    with pytest.raises(Refusal, match="--upscale wide: it draws from no other image"):
        base.imagine("a", upscale=wide)
    with pytest.raises(Refusal, match="continues images of 1x8x8, and what is drawn before it is 1x16x16"):
        wide.imagine("a", upscale=up)
    with pytest.raises(Refusal, match="continues images of 1x8x8, and what is drawn before it is 1x16x16"):
        base.imagine("a", upscale=[up, up])
    with pytest.raises(Refusal, match="name a run that draws such an image, and this one behind --upscale"):
        up.imagine("a")


def test_the_command_draws_a_cascade(runs, tmp_path, capsys):
    out = tmp_path / "x.npy"
    asked = "imagine", str(runs["base"]), TEXTS[0], "-n", "2", "-o", str(out), "--upscale", str(runs["up"])
    assert ask(capsys, *asked)["upscale"] == ["up"] and np.load(out).shape == (2, 16, 16, 1)


# Noise on the other image


def test_the_other_image_is_noisy_in_training_and_not_when_it_draws():
    spec = Spec(1, 8, source=(1, 4))
    y = Condition(image=torch.zeros(4000, 1, 4, 4))
    batch = Batch(torch.zeros(4000, 1, 8, 8), y, Noise(range(4000)))
    plain, noisy = (
        FlowMatching(spec=spec, net="unet", scale=0.25, label_dropout=0.0, augment=a) for a in (0.0, 0.6)
    )
    assert torch.equal(plain.condition(batch).image, y.image)
    # strength uniform on [0, a]: a mean square of a^2 / 3
    assert noisy.condition(batch).image.square().mean().item() == pytest.approx(0.6**2 / 3, rel=0.05)
    assert torch.equal(noisy.drawn_for(batch.noise, y).image, y.image)


# When it is


def test_shifted_times_have_three_times_the_noise():
    spec = Spec(1, 4)
    models = {
        kind: FlowMatching(spec=spec, net="unet", scale=0.25, times=kind) for kind in ("uniform", "shifted")
    }
    u, t = (models[kind].time(Noise(range(5000))) for kind in ("uniform", "shifted"))
    assert torch.allclose(t * (1 - u), 3 * u * (1 - t), atol=1e-6)
    batch = Batch(torch.randn(64, 1, 4, 4), None, Noise(range(64)))
    even, late = (models[kind].chance(batch)["model"] for kind in ("uniform", "shifted"))
    # what is unexplained of a pixel of variance s at t: s / ((1 - t)^2 s + t^2)
    s, at = batch.x.var(0, correction=0), chance.shares()
    t = 3 * at / (1 + 2 * at)
    expected = (s / ((1 - t[:, None, None, None]) ** 2 * s + t[:, None, None, None] ** 2)).mean()
    assert late == pytest.approx(float(expected), rel=0.03) and late != pytest.approx(even, rel=0.03)


def test_the_preset_reads_texts():
    preset = FlowMatching.presets["words"]
    assert preset["text"] and preset["times"] == "shifted"
    known = set(FlowMatching(spec=Spec(1, 4)).options()) | set(vars(FlowMatching.defaults))
    assert set(preset) <= known


# Where it is


def test_places_tell_every_pixel_from_every_other():
    at = places(8, 8, torch.device("cpu"))
    apart = torch.cdist(at, at) + 9 * torch.eye(64)
    assert at.shape == (64, 12) and apart.min() > 0.1
    assert torch.allclose(
        places(8, 4, torch.device("cpu")).view(8, 4, 2, 6)[:, 1, 0], at.view(8, 8, 2, 6)[:, 5, 0]
    )


@pytest.mark.parametrize("reader", ["absolute", "relative"])
def test_a_text_can_mean_a_place_away_from_the_edge(reader):
    """What a U-Net adds for a word in the middle of an even image is the same everywhere unless it knows
    where it is."""
    torch.manual_seed(0)
    model = FlowMatching(spec=Spec(1, 8, vocabulary=4, tokens=2), net="unet", text=True, reader=reader)
    reading = next(m for m in model.modules() if type(m).__name__ == "Reading")
    for p in reading.parameters():
        torch.nn.init.normal_(p, std=0.3)
    network = model.network
    x = torch.ones(1, network.plan.channels[-1], 8, 8) * torch.randn(1, network.plan.channels[-1], 1, 1)
    seen = reading(x, network.text(Condition(tokens=torch.tensor([[2, 3]]))))
    apart = (seen - seen[:, :, :1, :1]).abs().max()
    assert (apart < 1e-4) == (reader == "absolute")


# Clips


def test_clips_of_a_text_move(tmp_path, capsys):
    data = tmp_path / "clips"
    data.mkdir()
    lines = []
    for i in range(12):
        frames = [Image.fromarray(np.full((8, 8), (40 * i + 60 * k) % 256, np.uint8)) for k in range(4)]
        frames[0].save(data / f"{i}.gif", save_all=True, append_images=frames[1:], duration=100)
        lines.append(json.dumps({"file_name": f"{i}.gif", "text": TEXTS[i % 2]}))
    (data / "metadata.jsonl").write_text("\n".join(lines))
    run = tmp_path / "run"
    likeness.train("video", data, run, frames=4, size=8, **SMALL)
    result = ask(capsys, "imagine", str(run), TEXTS[0], "-n", "2")
    usual = Path(result["path"])
    assert usual.name == "imagined.gif" and Image.open(usual).n_frames > 1
    assert read_recipe(usual)["texts"] == [TEXTS[0]]
    for ending, n in ((".webp", 4), (".apng", 4), (".png", 1)):
        out = tmp_path / f"x{ending}"
        assert ask(capsys, "imagine", str(run), TEXTS[0], "-n", "1", "-o", str(out))["path"] == str(out)
        assert (getattr(Image.open(out), "n_frames", 1) > 1) == (n > 1)
    array = tmp_path / "x.npy"
    ask(capsys, "imagine", str(run), TEXTS[0], "-n", "3", "-o", str(array))
    assert np.load(array).shape == (3, 4, 8, 8, 1)
    assert "should end in" in refused(capsys, "imagine", str(run), "a", "-o", "x.bmp")
