"""Captions, pairs, two domains and videos reach a model outside the package through Data, batches and exact
resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import likeness
from conftest import small_run
from likeness import engine, figures, models
from likeness.core import BadData, Noise, Refusal, Spec, final
from likeness.data import Data, load, picture
from likeness.data.captions import UNKNOWN
from likeness.runs.run import Config, Run, read_config
from likeness.training import doctor, symptoms
from likeness.training.loop import fit, mirrored

FILE = str(Path(__file__).parent / "conditioned.py")


def images(n: int = 40, channels: int = 1, size: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, channels, size, size)).astype(np.uint8)


def plain(x: np.ndarray, **more) -> Data:
    n = len(x)
    return Data("mine", f"mine-{n}", x, np.arange(8, n), np.arange(8), **more)


def captioned() -> Data:
    """The caption says the brightness, and so does the class."""
    x = images()
    bright = np.arange(len(x)) % 2
    x[bright == 1] = 255 - x[bright == 1] // 8
    texts = ["a bright picture" if b else "Something dark." for b in bright]
    return plain(x, y=bright.astype(np.int64), classes=("dark", "bright"), texts=texts)


def paired() -> Data:
    """The other side of each pair is the picture upside down."""
    x = images()
    return plain(x).with_pairs(np.ascontiguousarray(x[:, :, ::-1]))


KINDS = {
    "captions": captioned,
    "pairs": paired,
    "domains": lambda: plain(images()).with_domain(plain(images(56, 3, seed=1))),
    "videos": lambda: plain(np.random.default_rng(2).integers(0, 256, (40, 1, 3, 8, 8)).astype(np.uint8)),
}


def trained(data: Data, folder: Path, images: int = 320, seed: int = 0) -> Run:
    kind = models.load(FILE)
    config = Config(
        FILE,
        data.spec,
        replace(kind.defaults, seed=seed, precision="fp32"),
        {},
        data.identity,
        engine.facts(),
    )
    run = Run.create(folder, config) if not folder.exists() else Run.resume(folder)
    for _ in fit(run, data, images=images):
        pass
    run.close()
    return run


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_ends_in_the_same_bits(kind, tmp_path):
    data = KINDS[kind]()
    whole = trained(data, tmp_path / "whole")
    trained(data, tmp_path / "cut", images=160)
    resumed = trained(data, tmp_path / "cut")
    assert read_config(tmp_path / "cut").spec == data.spec and isinstance(
        read_config(tmp_path / "cut").spec.source, tuple
    )
    for (name, a), (_, b) in zip(whole.student.state_dict().items(), resumed.student.state_dict().items()):
        assert torch.equal(a, b), name
    x = final(resumed.model.sample(Noise(range(3)), data.take(data.held_out[:3]).y))
    assert x.shape == (3, *data.spec.shape) and figures.shown(x).ndim == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_batch_optimises_the_same(kind, tmp_path):
    data = KINDS[kind]()
    model = models.load(FILE)(spec=data.spec)
    whole = float(model.loss(data.batch(0, 0, 12)).total)
    parts = sum(float(model.loss(part).total) * len(part) for part in data.batch(0, 0, 12).split(5)) / 12
    assert parts == pytest.approx(whole, rel=1e-5)


def test_captions_are_tokens_of_the_words_of_training_captions():
    data = captioned()
    assert data.spec.vocabulary == len(data.vocabulary) == 2 + 6 and data.spec.tokens == 3
    words = data.vocabulary.words
    assert set(words) == {"a", "bright", "picture", "something", "dark", "."}
    y = data.take(np.array([0, 1])).y
    assert [words[i - 2] for i in y.tokens[0]] == ["something", "dark", "."] and y.label.tolist() == [0, 1]
    other = replace(
        data, texts=["held out words" if row < 8 else text for row, text in enumerate(data.texts)]
    )
    assert (other.take(np.array([0])).y.tokens == UNKNOWN).all(), (
        "words of held-out captions alone are unknown"
    )
    assert "'brigth'" in data.vocabulary.remark("A brigth picture") and (
        "did you mean 'bright'"
    ) in data.vocabulary.remark("brigth")
    assert data.vocabulary.remark("a dark picture") == ""


def test_a_model_learns_what_words_mean_and_knows_them_after_it_is_opened(tmp_path):
    data = captioned()
    run = trained(data, tmp_path / "run", images=3200)
    told = data.vocabulary.tokens(["bright", "dark"])
    y = data.take(np.array([0, 1])).y
    y = replace(y, label=None, tokens=torch.from_numpy(told).long())
    x = final(run.student.eval().sample(Noise(range(2)), y)).flatten(1).mean(1)
    assert float(x[0] - x[1]) > 0.5


def test_pairs_stay_together_also_when_they_are_mirrored():
    data = paired()
    batch = data.batch(3, 0, 32)
    assert torch.equal(batch.y.image, batch.x.flip(2)) and data.spec.source == (1, 8)
    seen = mirrored(batch)
    assert torch.equal(seen.y.image, seen.x.flip(2)) and not torch.equal(seen.x, batch.x)
    with pytest.raises(BadData, match="other sides"):
        plain(images()).with_pairs(images(39))


def test_two_domains_walk_in_orders_of_their_own():
    a, b = plain(images()), plain(images(56, 3, seed=1))
    data = a.with_domain(b)
    assert data.spec.source == (3, 8) and data.fingerprint not in (a.fingerprint, b.fingerprint)
    n = len(b.train)
    seen = torch.cat([data.batch(0, at, 16).y.image for at in range(0, n, 16)])
    there = {image.tobytes() for image in b.x[b.train]}
    walked = ((seen + 1) * 127.5).round().byte().numpy()
    assert {image.tobytes() for image in walked} == there, (
        "an epoch shows each image of the other domain once"
    )
    assert torch.equal(data.batch(0, 0, 16).x, a.batch(0, 0, 16).x), (
        "the first domain walks as it would alone"
    )
    first, again = data.batch(0, 16, 16), data.batch(0, 0, 32)
    assert torch.equal(first.y.image, again.y.image[16:]), "which images meet depends on the place alone"
    assert not np.array_equal(a.order(0, np.arange(32)), a.order(0, np.arange(32), 1))
    with pytest.raises(BadData, match="same --size"):
        a.with_domain(plain(images(size=16)))
    with pytest.raises(BadData, match="has no training images"):
        a.with_domain(replace(b, train=b.train[:0]))


def test_an_image_meets_the_one_at_its_place_of_the_other_domain_in_its_split():
    data = plain(images()).with_domain(plain(images(56, 3, seed=1)))
    other, few = data.other, len(data.other.held_out)
    assert len(data.train) < len(other.train) and len(data.held_out) > 2
    for here, there in ((data.train, other.train), (data.held_out, other.held_out)):
        rows, places = here[[2, 0, len(here) - 1]], np.array([2, 0, len(here) - 1]) % len(there)
        batch = data.take(rows)
        assert torch.equal(batch.y.image, picture(other.x[there[places]]))
        assert torch.equal(batch.x, picture(data.x[rows]))
    turned = replace(other, x=data.x, train=data.train, held_out=data.held_out[:2])
    image = replace(data, other=turned).take(data.held_out).y.image
    assert torch.equal(image, picture(data.x[data.held_out[np.arange(len(data.held_out)) % 2]])) and few
    alone = replace(data, other=replace(other, held_out=other.held_out[:0])).take(data.held_out).y.image
    assert torch.equal(alone, picture(other.x[other.train[: len(data.held_out)]])), "none is held out there"


def test_the_doctor_watches_a_game_between_two_domains(tmp_path, monkeypatch):
    """It asked the discriminator about images without the other side, and its error ended the training."""
    monkeypatch.setattr(doctor, "FIRST", 4)
    monkeypatch.setattr(doctor, "DRAWN", 32)
    data = plain(images(160)).with_domain(plain(images(176, 3, seed=1)))
    model = str(Path(__file__).with_name("unpaired.py"))
    run, _ = small_run(model, tmp_path, data, batch=8, images=80)
    assert [step.seen for step in doctor.watch(run, data, fit(run, data))][-1] == 80
    player = run.model.players()[0]
    ((real, fake), *_) = doctor.logits(run, data, player, data.held_out)
    some = doctor.chosen(data.held_out, 32)[: symptoms.TOGETHER]
    beside = data.other.held_out[np.searchsorted(data.held_out, some) % len(data.other.held_out)]
    D, G = run.model.D, run.model.G
    with torch.no_grad():
        assert real == pytest.approx(D(picture(data.x[some])).mean().item(), abs=1e-5)
        assert fake == pytest.approx(D(G(picture(data.other.x[beside]))).mean().item(), abs=1e-5)


def test_models_of_stills_refuse_videos():
    with pytest.raises(Refusal, match="learns still images"):
        models.load("vae")(spec=Spec(1, 16, frames=3))


def test_the_captions_of_a_built_in_set_reach_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = likeness.train(FILE, "shapes:60", tmp_path / "run", size=8, images=64, batch=16, progress=False)
    data = load("shapes:60", size=8)
    assert run.config.vocabulary == list(data.vocabulary.words) and run.config.words == data.vocabulary
    assert run.sample(4).x.shape == (4, 3, 8, 8)
