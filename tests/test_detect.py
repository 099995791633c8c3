"""Fake or real: no better than the closed form, blind where there is nothing, and honest about what it cannot
tell."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from scipy.stats import norm
from torch import Tensor

from conftest import small_run, toy
from likeness import __version__, figures
from likeness.core import BadData, Condition, Model, Noise, Refusal, Training, option
from likeness.data import Data, picture
from likeness.inference import sampling
from likeness.metrics.twosample import auroc
from likeness.runs.run import Config
from likeness.studies import detector as detect
from likeness.studies import image_files, real_and_generated
from likeness.studies.real_and_generated import Maker, Sides

ABOUT = dict(data=dict(source="toy", fingerprint="", reading={}))


class Shelf(Model):
    """Draws images that it has on a shelf, made brighter, or moved off the grid of levels by less than half a
    step."""

    bright: float = option(0.0, "how much brighter", -2.0, 2.0, live=True)
    off: float = option(0.0, "steps off the grid", 0.0, 0.5)
    shelf: ClassVar[Tensor] = torch.zeros(0)

    def build(self) -> None:
        pass

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        x = self.shelf[(noise.uniform(1)[:, 0] * len(self.shelf)).long()]
        step = 2 / (self.spec.levels - 1)
        yield x + self.bright + self.off * step * (2 * noise.uniform(*self.spec.shape) - 1)


def maker(name: str, data: Data, **options: float) -> Maker:
    Shelf.shelf = picture(data.x[data.train])
    model = Shelf(spec=data.spec, **options)
    config = Config(
        "shelf",
        data.spec,
        Training(),
        model.options(),
        dict(source=data.source, fingerprint=data.fingerprint),
    )
    return Maker(name, SimpleNamespace(folder=Path(name), config=config, model=model, seen=1), model)


def ends(steps):
    """What a generator returns when one has walked through it."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def gaussians(shift: float, n: int, seed: int) -> Sides:
    """N(0, I) in 64 dimensions against the same moved by `shift`, as 8x8 images of 256 levels."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((2, n, 1, 8, 8)) + np.array([0, shift / 8]).reshape(2, 1, 1, 1, 1)
    x = np.clip(np.rint(128 + 32 * z), 0, 255).astype(np.uint8)
    return Sides(x[0], x[1], np.zeros(n, np.int64))


def trained(
    folder: Path, train: Sides, calibration: Sides, images: int, error: float = 0.05
) -> detect.Detector:
    study = detect.Study(folder, "", train, calibration)
    for _ in detect._train(study, "toy", 256, images, 0):
        pass
    return detect.calibrate(study, ABOUT | dict(error=error))


# The closed form


@pytest.fixture(scope="module")
def shifted(tmp_path_factory) -> detect.Detector:
    torch.set_num_threads(1)
    return trained(
        tmp_path_factory.mktemp("gauss"), gaussians(1, 2000, 1), gaussians(1, 1000, 2), 24_000, error=0.2
    )


def test_a_detector_of_shifted_gaussians_is_as_good_as_can_be_and_no_better(shifted):
    """The best AUROC there is: Phi(d / sqrt 2) = 0.760 for d = 1."""
    best, n = norm.cdf(1 / math.sqrt(2)), 4000
    heard = shifted.both(gaussians(1, n, 3))
    found = auroc(heard.odds, heard.label)
    assert best - 0.03 < found < best + 3 * 0.0055


def test_leakage_shows_as_more_than_the_closed_form_allows(shifted, tmp_path):
    best = norm.cdf(1 / math.sqrt(2))
    few = gaussians(1, 100, 4)
    learnt = trained(tmp_path, few, gaussians(1, 100, 5), 20_000).both(few)
    assert auroc(learnt.odds, learnt.label) > best + 0.1, "images that it was trained on"
    marked = gaussians(1, 2000, 6)
    line = marked.made.reshape(2000, -1) & 1
    told = np.concatenate([(marked.real.reshape(2000, -1) & 1).mean(1), np.maximum(line, 1).mean(1)])
    assert auroc(told, np.repeat([0, 1], 2000)) == 1, "a rounding that only one side has been through"


def test_its_probabilities_are_those_of_bayes_and_its_band_keeps_its_promise(shifted):
    test = gaussians(1, 4000, 7)
    heard = shifted.both(test)
    z = (np.concatenate(test[:2]).reshape(8000, -1).astype(float) - 128) / 32
    true = 1 / (1 + np.exp(-(z.sum(1) / 8 - 0.5)))
    assert np.abs(heard.p[:, 1] - true).mean() < 0.06
    told = heard.says != -1
    assert (heard.says[told] != heard.label[told]).mean() < 0.22 and 0.05 < told.mean() < 0.9
    sure = heard.p.argmax(1) != heard.label
    assert sure.mean() > 0.25, "without the third answer it is wrong far more often"


# Nothing to be told apart


def test_what_cannot_be_told_is_not_told(tmp_path):
    detector = trained(tmp_path, gaussians(0, 600, 1), gaussians(0, 300, 2), 8_000)
    heard = detector.both(gaussians(0, 1000, 3))
    value = auroc(heard.odds, heard.label)
    assert (heard.says == -1).mean() > 0.99
    assert detect.leak(value, 1000) == "" and abs(value - 0.5) < 0.04
    assert "leaks" in detect.leak(0.56, 1000) and detect.leak(0.56, 50) == ""


def test_no_rounding_gives_a_generator_away():
    data = replace(toy(n=600, size=8, held_out=200), levels=17)
    data = replace(data, x=real_and_generated.on_grid(picture(data.x).numpy(), 17))
    off = maker("off", data, off=0.4)
    raw = sampling.samples(off.model, 64, 0).numpy()
    step = (raw + 1) / 2 * 16
    assert np.abs(step - np.rint(step)).mean() > 0.05, "the samples themselves are easily told"
    parts = ends(real_and_generated.gather([off], data, 200, 0))
    assert set(np.unique(parts.test.made)) <= set(np.unique(data.x)) and set(
        np.unique(parts.test.real)
    ) <= set(np.unique(data.x))
    rough = parts.test.treated("JPEG 50", 17)
    assert len(set(np.unique(rough.made)) | set(np.unique(rough.real))) <= 17


# Two sides


def test_every_maker_has_its_share_and_no_image_is_in_two_parts():
    data = toy(n=700, size=8, held_out=200)
    three = [maker(f"m{i}", data, bright=0.02 * i) for i in range(3)]
    parts = ends(real_and_generated.gather(three, data, 200, 0))
    for part in parts:
        assert len(part.real) == len(part.made) and (np.bincount(part.maker) == len(part.made) // 3).all()
    rows = real_and_generated._rows(data, 200, 0, 3)
    assert len(set(np.concatenate(rows))) == sum(map(len, rows))
    assert set(rows[0]) | set(rows[1]) <= set(data.train) and set(rows[2]) <= set(data.held_out)
    drawn = sampling.samples(three[1].model, 200, 0).numpy()
    assert not np.array_equal(
        real_and_generated.on_grid(drawn, 256)[:20], parts.train.made[parts.train.maker == 1][:20]
    ), "not the samples that people get"


def test_sampled_images_of_the_parts_are_different_draws():
    class Fresh(Shelf):
        def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
            yield noise.uniform(*self.spec.shape) * 2 - 1

    data = toy(n=700, size=8, held_out=200)
    one = maker("m", data)._replace(model=Fresh(spec=data.spec))
    parts = ends(real_and_generated.gather([one], data, 200, 0))
    seen = [x.tobytes() for part in parts for x in part.made]
    assert len(set(seen)) == len(seen)


def test_who_is_left_out_is_out_on_both_sides():
    data = toy(n=700, size=8, held_out=200)
    parts = ends(real_and_generated.gather([maker("a", data), maker("b", data, bright=0.5)], data, 100, 0))
    rest = parts.train.without(1)
    assert (rest.maker == 0).all() and len(rest.real) == len(rest.made) == len(parts.train.made) // 2
    mixed = parts.calibration.mixed(256, 0)
    assert sorted(np.bincount(mixed.maker)) == sorted(np.bincount(parts.calibration.maker))
    kept = sum(a.tobytes() in {b.tobytes() for b in parts.calibration.real} for a in mixed.real)
    assert 0.4 < kept / len(mixed.real) < 0.9, "half of them as they are"


def test_models_without_samples_are_known_by_their_reconstructions(tmp_path):
    run, data = small_run("ae", tmp_path / "ae", toy(n=400, size=8, held_out=100))
    parts = ends(real_and_generated.gather(real_and_generated.makers([(run, {})], data), data, 100, 0))
    with torch.no_grad():
        back = run.model.decode(run.model.encode(picture(parts.test.real)))
    assert np.array_equal(parts.test.made, real_and_generated.on_grid(back.numpy(), 256))
    run.close()


@pytest.mark.parametrize("how", real_and_generated.TREATMENTS)
def test_treatments_change_images_a_little_and_both_sides_alike(how):
    x = toy(n=40, size=16, channels=3).x
    same = Sides(x, x, np.zeros(len(x), np.int64)).treated(how, 256)
    assert np.array_equal(same.real, same.made) and same.real.shape == x.shape and same.real.dtype == np.uint8
    error = np.abs(same.real.astype(int) - x).mean()
    assert 0 < error < 40


def test_stronger_treatments_change_more():
    x = np.random.default_rng(0).integers(0, 256, (20, 1, 16, 16), np.uint8)
    errors = {
        how: np.abs(real_and_generated.treated(x, how).astype(int) - x).mean()
        for how in real_and_generated.TREATMENTS
    }
    assert (
        errors["JPEG 95"] < errors["JPEG 75"] < errors["JPEG 50"]
        and errors["resizing by 0.75"] < errors["resizing by 0.5"]
    )


# The interval


def test_the_interval_of_an_auroc_covers_it_and_never_shrinks_to_nothing():
    rng, inside, widths = np.random.default_rng(0), 0, []
    true = norm.cdf(1.5 / math.sqrt(2))
    for _ in range(400):
        scores = np.concatenate([rng.normal(1.5, 1, 60), rng.normal(0, 1, 40)])
        low, high = detect.spread(auroc(scores, np.repeat([1, 0], [60, 40])), 60, 40)
        inside += low <= true <= high
        widths.append(high - low)
    assert 0.92 < inside / 400 < 0.99 and max(widths) < 0.3
    low, high = detect.spread(1.0, 50, 50)
    assert 0.9 < low < 1 and high == 1
    low, high = detect.spread(0.5, 200, 200)
    assert low == pytest.approx(1 - high, abs=1e-6) and high - low == pytest.approx(
        2 * 1.96 * math.sqrt(401 / (12 * 200**2)), rel=0.05
    )


# From end to end


@pytest.fixture(scope="module")
def learnt(tmp_path_factory) -> SimpleNamespace:
    torch.set_num_threads(1)
    data, folder = toy(n=1300, size=8, held_out=300), tmp_path_factory.mktemp("detectors") / "detector"
    two = [maker("dim", data, bright=-0.8), maker("bright", data, bright=0.8)]
    steps = list(detect.learn(two, data, folder, n=300, images=8_000, error=0.15))
    return SimpleNamespace(
        data=data, folder=folder, makers=two, steps=steps, cards=[s.score for s in steps if s.score]
    )


def card(cards, name: str, of: str = "model"):
    (found,) = [c for c in cards if (c.name, c.of) == (name, of)]
    return found


def test_everything_is_asked_and_stands_on_cards(learnt):
    cards = learnt.cards
    assert card(cards, "AUROC").value > 0.9 and {c.of for c in cards if c.name == "AUROC"} == {
        "model",
        "dim",
        "bright",
        "real against real",
    }
    assert card(cards, "accuracy").value > 0.8
    for how in real_and_generated.TREATMENTS:
        assert {c.of for c in cards if c.name == f"AUROC after {how}"} == {"model", "trained without"}
    for name in ("dim", "bright"):
        assert (
            card(cards, f"AUROC, {name} left out").value
            < card(cards, f"AUROC, {name} left out", "met in training").value
        ), "it has never met one like it"
        assert card(cards, f"wrong among the answers, {name} left out")
    floor = card(cards, "AUROC", "real against real")
    assert floor.low <= 0.5 <= floor.high and card(cards, "AUROC").floor == floor.value
    assert card(cards, "cannot tell", "real against real").value > 0.9
    for c in cards:
        assert (
            (c.n or c.refused)
            and c.split == "samples"
            and (c.network, len(c.network_sha)) == ("classifier", 12)
            and (c.refused or c.low is None or c.low - 1e-9 <= c.value <= c.high + 1e-9)
        )
    assert json.loads((learnt.folder / "scores.json").read_text())["cards"][0]["name"] == "AUROC"


def test_progress_rises_to_the_end(learnt):
    shares = [s.share for s in learnt.steps]
    assert shares == sorted(shares) and shares[-1] == 1
    assert {"the detector", "real against real", "without dim"} <= {s.doing for s in learnt.steps}


def test_the_same_call_goes_on_and_another_is_refused(learnt):
    data = replace(learnt.data, source="where the same images have moved")
    again = list(detect.learn(learnt.makers, data, learnt.folder, n=300, images=8_000, error=0.15))
    assert [s.score for s in again if s.score] == learnt.cards and not any(
        s.doing == "the detector" for s in again
    )
    with pytest.raises(Refusal, match="holds another run"):
        list(detect.learn(learnt.makers[:1], learnt.data, learnt.folder, n=300, images=8_000, error=0.15))
    with pytest.raises(Refusal, match="holds another run"):
        list(detect.learn(learnt.makers, learnt.data, learnt.folder, n=280, images=8_000, error=0.15))


@pytest.mark.parametrize(
    "wrong, says", [(dict(n=30), "least to learn from"), (dict(error=0.6), "cannot be aimed at")]
)
def test_what_cannot_be_learnt_is_refused(learnt, tmp_path, wrong, says):
    with pytest.raises(Refusal, match=says):
        list(detect.learn(learnt.makers, learnt.data, tmp_path / "d", **wrong))
    assert not (tmp_path / "d").exists()


def test_makers_must_fit_the_data_and_make_images(tmp_path):
    run, _ = small_run("vae", tmp_path / "r")
    with pytest.raises(Refusal, match="another shape"):
        real_and_generated.makers([(run, {})], toy(size=8))
    mute = SimpleNamespace(folder=Path("m"), config=run.config, model=torch.nn.Identity(), seen=0)
    with pytest.raises(Refusal, match="cannot draw images"):
        real_and_generated.makers([(mute, {})], toy())
    assert [m.name for m in real_and_generated.makers([(run, {}), (run, {})], toy())] == [
        str(tmp_path / "r")
    ] * 2
    run.close()


# Files that people bring


def write(folder: Path, x: np.ndarray, **recipe: object) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for i, image in enumerate(x):
        figures.write_png(folder / f"{i:03}.png", image[0], dict(recipe, number=i))
    return sorted(folder.iterdir())


def test_files_are_judged_as_their_pixels_are(learnt, tmp_path):
    detector = detect.load(learnt.folder)
    real, fake = (
        learnt.data.x[learnt.data.held_out[:30]],
        real_and_generated.made(learnt.makers[1], learnt.data, np.arange(30), 9),
    )
    x = np.concatenate([real, fake])
    found = list(
        image_files.judge(detector, [tmp_path / "x"] if write(tmp_path / "x", x, run="toy", seed=5) else [])
    )
    heard = detector.hear(x, np.repeat([0, 1], 30))
    assert np.allclose([f.p for f in found], heard.p[:, 1]) and all(f.remarks == () for f in found)
    assert [f.verdict for f in found] == [
        {0: "real", 1: "generated", -1: "cannot tell"}[s] for s in heard.says.tolist()
    ]
    assert (
        np.mean([f.verdict == "generated" for f in found[30:]])
        > 0.5
        > np.mean([f.verdict == "generated" for f in found[:30]])
    )
    assert found[0].provenance == {"likeness": __version__, "number": "0", "run": "toy", "seed": "5"}
    assert (f"carries likeness' provenance: likeness {__version__}, number 0, run toy, seed 5; ") in found[
        0
    ].text


def test_a_provenance_is_read_as_if_an_enemy_had_written_it(learnt, tmp_path):
    detector, image = detect.load(learnt.folder), Image.new("L", (8, 8))
    hostile = {
        "steers": json.dumps({"run": "\x1b[2J\u202eevil\nline", "long": "x" * 10_000}),
        "deep": "[" * 50_000 + "]" * 50_000,
        "number": '{"run": ' + "9" * 6000 + "}",
        "broken": "{",
        "list": "[1]",
        "many": json.dumps({str(i): i for i in range(1000)}),
    }
    for name, text in hostile.items():
        info = PngImagePlugin.PngInfo()
        info.add_text("likeness", text)
        image.save(tmp_path / f"{name}.png", pnginfo=info)
    found = {Path(f.file).stem: f for f in image_files.judge(detector, [tmp_path])}
    assert set(found) == set(hostile)
    for finding in found.values():
        assert finding.text.isprintable() and len(finding.text) < 4000 and finding.p is not None
    assert (
        "�[2J�evil�line" in found["steers"].text and len(found["many"].provenance) == image_files.MOST_LINES
    )
    for name in ("deep", "number", "broken", "list"):
        assert found[name].remarks[0] == "carries a provenance of likeness that is damaged", name


def test_what_is_no_image_is_a_finding_and_what_is_not_there_is_one_too(learnt, tmp_path):
    detector = detect.load(learnt.folder)
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.new("RGB", (30, 20)).save(tmp_path / "wide\x07.jpg")
    found = list(image_files.judge(detector, [tmp_path]))
    assert [f.verdict for f in found][:2] == ["no image", "no image"] and found[0].p is None
    assert (
        found[2].remarks == ("scaled from 30x20 to 8x8, which hides traces of single pixels",)
        and "\x07" not in found[2].text
    )
    (none,) = image_files.judge(detector, [tmp_path / "none.png"])
    assert (none.verdict, none.remarks) == ("no image", (image_files.MISSING,))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "deep" / "er" / "x.png")
    assert len(list(image_files.judge(detector, [tmp_path / "deep"]))) == 1
    figures.write_png(
        tmp_path / "page.png", figures.grid(torch.zeros(4, 1, 8, 8)), dict(run="toy", n=4, seed=0)
    )
    (page,) = image_files.judge(detector, [tmp_path / "page.png"])
    assert page.remarks[0].startswith("a page of 4 images; have") and (page.verdict, page.p) == (
        "cannot tell",
        None,
    )


def test_a_calibration_belongs_to_its_weights(learnt, tmp_path):
    with pytest.raises(Refusal, match="is no detector"):
        detect.load(tmp_path)
    facts = learnt.folder / detect.FACTS
    before = facts.read_text()
    try:
        for wrong in (
            dict(weights="0" * 64),
            dict(temperature="hot"),
            dict(temperature=-1.0),
            dict(data=None),
        ):
            facts.write_text(json.dumps(json.loads(before) | wrong))
            with pytest.raises(BadData, match="train the detector again"):
                detect.load(learnt.folder)
    finally:
        facts.write_text(before)
    detector = detect.load(learnt.folder)
    said = json.loads(before)
    assert said["makers"][0] == dict(name="dim", model="shelf", seen=1, bright=-0.8) and said[
        "weights"
    ].startswith(detector.network["network_sha"])
