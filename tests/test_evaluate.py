"""The evaluator: known answers of toy models come out as cards, by chance never by order, and asking changes
nothing."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from likeness.core import BadData, Batch, Bits, Condition, Model, Noise, Refusal, Spec, Training, option
from likeness.data import Data
from likeness.evaluation import exam as evaluation
from likeness.evaluation import memorisation
from likeness.evaluation.scores import load_scores, save_scores
from likeness.inference import sampling
from likeness.metrics import doubts, likelihood, neighbours
from likeness.metrics.card import Score
from likeness.runs.run import Config


def evaluate(run, data, *args, **live) -> Iterator[Score]:
    """Without what takes a feature network, and without the clock."""
    return (
        s
        for s in evaluation.evaluate(run, data, *args, network="none", **live)
        if s.name not in ("training", "sampling")
    )


class Uniform(Model):
    """Every image equally likely, plus whatever noise it is given."""

    k: int = option(1, "importance samples", 1, 1000, live=True)
    width: int = option(8, "channels", 1, 64)

    def build(self) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def bits_per_dim(self, batch: Batch) -> Bits:
        jitter = batch.noise.normal(1)[:, 0] * 0.01
        return Bits(math.log2(self.spec.levels) * self.k + jitter - 0.05, "upper bound")


class Mean(Model):
    """Sees one number of an image: its mean."""

    latent = 1

    def build(self) -> None:
        pass

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(1, keepdim=True)

    def decode(self, z: Tensor) -> Tensor:
        return z[:, :, None, None].expand(len(z), *self.spec.shape) * 1.0

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        yield noise.uniform(*self.spec.shape) * 2 - 1

    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        yield "active units", float(self.encode(batch.x).var() > 0.01), "" if len(batch) > 10 else "collapsed"


class Symbols(Mean):
    """A code of 4 symbols of 2^16 each: 64 bits, whatever the floats that stand for it."""

    latent = 1000

    @property
    def code(self) -> Spec:
        return Spec(1, 2, levels=2**16, symbols=True)

    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x).expand(-1, 1000)

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z[:, :1])

    def compress(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), *self.code.shape)

    def expand(self, z: Tensor) -> Tensor:
        return torch.zeros(len(z), *self.spec.shape)


class Copier(Mean):
    shelf: ClassVar[Tensor] = torch.zeros(0)

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        yield self.shelf[(noise.uniform(1)[:, 0] * len(self.shelf)).long()]


class Rote(Model):
    known: ClassVar[Tensor] = torch.zeros(0)

    def build(self) -> None:
        pass

    def bits_per_dim(self, batch: Batch) -> Bits:
        seen = (batch.x[:, None] == self.known).flatten(2).all(2).any(1)
        return Bits(torch.where(seen, 4.0, 9.4) + batch.noise.normal(1)[:, 0] * 0.01, "exact")


class Near(Copier):
    """Samples near to the shelf."""

    def sample(self, noise: Noise, y: Condition | None = None) -> Iterator[Tensor]:
        (x,) = super().sample(noise, y)
        yield x + 0.02 * noise.normal(*self.spec.shape)


class Refusing(Model):
    def build(self) -> None:
        pass

    def bits_per_dim(self, batch: Batch) -> Bits:
        raise Refusal("cross-entropy on grey levels is no likelihood.")


def photos(n: int = 400, levels: int = 256, held: int = 150) -> Data:
    """Sorted by class: dark images first, bright ones after."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (n, 1, 6, 6)) + np.repeat([0, 150], n // 2)[:, None, None, None]
    x = (np.where(x > 120, 255, 0) ^ (rng.random(x.shape) < 0.05) * 255 if levels == 2 else x).astype(
        np.uint8
    )
    rows = np.sort(rng.permutation(n)[:held])
    return Data(
        "photos",
        "abc",
        x,
        np.setdiff1d(np.arange(n), rows),
        rows,
        y=np.repeat([0, 1], n // 2),
        classes=("dark", "bright"),
        levels=levels,
    )


def trained(kind: type[Model], data: Data, folder=None, **options) -> SimpleNamespace:
    class Known(Config):
        """Of a model of this file, which has no name by which it could be found."""

        def build(self, folder, first=None):
            return kind(spec=self.spec, **self.options)

    model = kind(spec=data.spec, **options).eval().requires_grad_(False)
    config = Known(
        "toy",
        data.spec,
        Training(precision="fp32"),
        model.options(),
        dict(source=data.source, fingerprint=data.fingerprint),
    )
    return SimpleNamespace(
        folder=folder, config=config, model=model, seen=6400, seconds=12.5, weights="EMA", log=lambda: []
    )


def named(scores, name: str, of: str = "model") -> Score:
    (found,) = [s for s in scores if s.name == name and s.of == of]
    return found


# Features


def test_a_measure_of_features_that_is_refused_takes_no_other_with_it():
    """Of four labelled training images there is no linear map, but there are neighbours."""
    data = photos()
    few = replace(data, train=data.train[[0, 1, -2, -1]])
    scores = [s for s in evaluate(trained(Mean, few), few) if s.group == "representation"]
    whose = ("model", "random weights", "raw pixels", "random patches")
    for of in whose:
        near, linear = (named(scores, f"{kind} accuracy", of) for kind in ("kNN", "linear"))
        assert not near.refused and linear.refused and "5 labelled images or more" in linear.warning
    assert named(scores, "kNN accuracy").value == 1, "the mean tells dark from bright"
    assert named(scores, "linear accuracy", "raw pixels").settings == {}


def test_features_that_are_not_numbers_leave_those_beside_them():
    class Lost(Mean):
        def encode(self, x: Tensor) -> Tensor:
            return super().encode(x) * math.nan

    data = photos()
    scores = [s for s in evaluate(trained(Lost, data), data) if s.group == "representation"]
    assert all(named(scores, f"{kind} accuracy").refused for kind in ("kNN", "linear"))
    assert named(scores, "linear accuracy", "raw pixels").value > 0.9


# Likelihood


def test_known_bits_stand_beside_their_baselines():
    data = photos()
    scores = list(evaluate(trained(Uniform, data), data))
    mine = named(scores, "bits/dim")
    assert (
        mine.value == pytest.approx(7.95, abs=0.01)
        and mine.kind == "upper bound"
        and mine.n == 150
        and mine.split == "held out"
    )
    assert mine.low < mine.value < mine.high and mine.settings == {"seen": 6400, "k": 1}
    assert named(scores, "bits/dim", "uniform").value == 8.0
    honest = likelihood.histogram(data.x, data.train, data.x[data.held_out]).mean()
    assert named(scores, "bits/dim", "independent pixels").value == pytest.approx(honest)
    assert {s.of for s in scores} == {
        "model",
        "training images",
        "uniform",
        "independent pixels",
        "PNG",
        "PNG sheet",
        "WebP",
        "WebP sheet",
    }
    assert scores[0] is mine and not mine.warning


def test_two_levels_are_told_in_nats_too():
    data = photos(levels=2)
    scores = list(evaluate(trained(Uniform, data), data))
    for of in ("model", "uniform", "independent pixels"):
        assert named(scores, "nats an image", of).value == pytest.approx(
            named(scores, "bits/dim", of).value * 36 * math.log(2)
        )
    assert named(scores, "nats an image", "uniform").value == pytest.approx(36 * math.log(2))


def test_what_cannot_be_is_flagged():
    data = photos()
    assert "the model knows nothing yet" in next(evaluate(trained(Uniform, data, k=2), data)).warning
    assert "below 0 bits" in doubts.implausible(np.array([1.0, -0.1]), np.ones(2), 256)


def test_a_model_that_learnt_by_heart_is_seen():
    data = photos()
    Rote.known = data.take(data.train).x
    scores = list(evaluate(trained(Rote, data), data))
    mine, learnt = named(scores, "bits/dim"), named(scores, "bits/dim", "training images")
    assert (mine.split, learnt.split, mine.n, learnt.n) == ("held out", "train", 150, 150)
    assert learnt.value == pytest.approx(4, abs=0.02) and mine.value == pytest.approx(9.4, abs=0.02)
    assert "by heart" in mine.warning and "9.4" in mine.warning and "--images" in mine.warning
    assert "worse than giving every image" in mine.warning and "knows nothing" not in mine.warning
    assert next(evaluate(trained(Rote, photos(held=0)), photos(held=0))).split == "train"
    assert not any(s.of == "training images" for s in evaluate(trained(Rote, photos(held=0)), photos(held=0)))


def test_only_a_clear_difference_is_overfitting():
    rng = np.random.default_rng(0)
    learnt = rng.normal(2, 0.3, 100)
    assert "by heart" in doubts.overfitted(learnt + 0.4, learnt)
    sharp = rng.normal(2, 0.05, 100)
    # 5 %, 15 %
    assert doubts.overfitted(sharp + 0.1, sharp) == "" and doubts.overfitted(sharp + 0.3, sharp) != ""
    assert doubts.overfitted(learnt[:5] + 0.4, learnt) == ""  # too few
    assert doubts.overfitted(rng.normal(2.4, 3, 100), rng.normal(2, 3, 100)) == ""  # chance
    assert doubts.overfitted(learnt * np.nan, learnt) == ""


def test_only_as_many_files_are_made_as_can_be_afforded(monkeypatch):
    data = photos()
    monkeypatch.setattr(likelihood, "SHEET", 36 * 20)
    scores = list(evaluate(trained(Uniform, data), data))
    assert named(scores, "bits/dim", "WebP").n == 80 and named(scores, "bits/dim", "PNG sheet").n == 20
    rows = evaluation.prepare(trained(Uniform, data), data, 1000, 0).rows
    assert named(scores, "bits/dim", "PNG").value == pytest.approx(
        likelihood.codec(data.x[rows[:80]], "PNG").mean()
    )


def test_a_refused_likelihood_is_a_refused_card():
    data = photos()
    score, *_ = evaluate(trained(Refusing, data), data)
    assert score.refused and "cross-entropy" in score.warning


def test_live_options_hold_for_this_evaluation_only():
    data = photos()
    run = trained(Uniform, data)
    assert next(evaluate(run, data, k=3)).value == pytest.approx(24, abs=0.1)
    assert run.model.k == 1
    for wrong, words in (
        (dict(width=9), "k"),
        (dict(nonsense=1), "live options are: k"),
        (dict(k=0), "must be between"),
    ):
        with pytest.raises(Refusal, match=words):
            next(evaluate(run, data, **wrong))


# Which images


def test_images_are_chosen_by_chance_not_from_the_front():
    data = photos()
    rows = evaluation.prepare(trained(Uniform, data), data, n=40, seed=0).rows
    assert (
        0.25 < (data.y[rows] == 1).mean() < 0.75
        and len(np.unique(rows)) == 40
        and set(rows) <= set(data.held_out)
    )
    assert (data.y[data.held_out[:40]] == 1).mean() == 0  # the fake: the first n of a sorted folder
    assert not np.array_equal(rows, evaluation.prepare(trained(Uniform, data), data, n=40, seed=1).rows)


def test_the_seed_decides_the_noise_too():
    data = photos()
    run = trained(Uniform, data)
    # of the same 150 images
    assert next(evaluate(run, data, seed=0)).value != next(evaluate(run, data, seed=1)).value


def test_all_images_if_fewer_and_training_images_only_with_a_warning():
    data = photos()
    assert next(evaluate(trained(Uniform, data), data, n=10_000)).n == 150
    none_held = photos(held=0)
    score = next(evaluate(trained(Uniform, none_held), none_held))
    assert score.split == "train" and "flatters" in score.warning


@pytest.mark.parametrize("n", [0, -3])
def test_no_images_are_refused(n):
    data = photos()
    with pytest.raises(Refusal, match="1 or more"):
        next(evaluate(trained(Uniform, data), data, n=n))


def test_other_data_is_refused_or_noted():
    data = photos()
    with pytest.raises(Refusal, match="2 levels"):
        next(evaluate(trained(Uniform, data), photos(levels=2)))
    run = trained(Uniform, data)
    run.config.data["fingerprint"] = "other"
    assert "not, or no longer" in next(evaluate(run, data)).warning


# Reconstruction, copies, diagnosis


def test_reconstructions_stand_beside_the_mean_image_and_pca():
    data = photos()
    scores = list(evaluate(trained(Mean, data), data))
    errors = {of: named(scores, "squared error", of).value for of in ("model", "PCA", "mean image")}
    assert errors["PCA"] < errors["mean image"] and errors["model"] < errors["mean image"]
    x = torch.from_numpy(data.x[data.held_out]).float() * 2 / 255 - 1
    assert errors["model"] == pytest.approx(float(x.flatten(1).var(1, correction=0).mean()), rel=1e-5)
    assert (
        named(scores, "PSNR", "PCA").settings == {"code": 1} and named(scores, "PSNR").settings["code"] == 1
    )
    assert named(scores, "SSIM").better == "higher" and named(scores, "PSNR").unit == "dB"


def test_a_code_of_symbols_stands_beside_principal_components_of_as_many_bits():
    data = photos()
    scores = list(evaluate(trained(Symbols, data), data))
    assert (
        named(scores, "PSNR", "PCA").settings == {"code": 2} and named(scores, "PSNR").settings["code"] == 2
    )


def test_copies_are_found_and_new_images_are_not_accused():
    data = photos()
    Copier.shelf = torch.from_numpy(data.x[data.train]).float() * 2 / 255 - 1
    copied = list(evaluate(trained(Copier, data), data))
    assert (
        named(copied, "exact duplicates").value == 1
        and named(copied, "near-duplicates").value > 0.9
        and "memorised" in named(copied, "exact duplicates").warning
    )
    assert named(copied, "exact duplicates", "held-out images").value == 0
    fresh = list(evaluate(trained(Mean, data), data))
    assert named(fresh, "near-duplicates").value == 0 and not any(s.warning for s in fresh)
    assert (
        named(fresh, "distance to nearest training image").value
        > named(fresh, "distance to nearest training image", "held-out images").value
    )
    few = list(evaluate(trained(Mean, photos(held=3)), photos(held=3), n=1000))
    assert named(few, "near-duplicates").n == memorisation.DRAWN  # samples cost nobody a held-out image
    assert (
        named(copied, "nearer than held-out images").value == 1
        and named(fresh, "nearer than held-out images").value < 0.5
    )


def test_copies_are_seen_where_the_data_hold_each_image_twice():
    once = photos()
    Near.shelf = torch.from_numpy(once.x[once.train]).float() * 2 / 255 - 1
    twice = replace(
        once,
        x=np.concatenate([once.x, once.x]),
        train=np.r_[once.train, once.train + 400],
        y=None if once.y is None else np.r_[once.y, once.y],
    )
    for data in (once, twice):
        scores = list(evaluate(trained(Near, data), data))
        assert (
            named(scores, "near-duplicates").value > 0.9
            and "memorised" in named(scores, "near-duplicates").warning
        )
        assert (
            named(scores, "near-duplicates").against == 250
            and named(scores, "near-duplicates", "held-out images").value == 0
        )
        assert "memorised" in named(scores, "nearer than held-out images").warning


def test_blurred_samples_are_not_accused_of_copying():
    assert doubts.too_near(np.full(50, 30.0), np.full(50, 50.0)) == ""
    assert "samples lie 10.00 levels" in doubts.too_near(np.full(50, 10.0), np.full(50, 50.0))
    assert (
        doubts.too_near(np.full(5, 1.0), np.full(50, 50.0)) == ""
        and doubts.too_near(np.ones(50), np.zeros(0)) == ""
    )
    assert doubts.too_near(np.r_[np.full(60, 1.0), np.full(40, 99.0)], np.full(50, 50.0)) == ""


def test_cards_of_samples_say_so():
    data = photos()
    for score in evaluate(trained(Mean, data), data):
        about_samples = score.of == "model" and score.name in (
            "distance to nearest training image",
            "near-duplicates",
            "exact duplicates",
            "nearer than held-out images",
        )
        assert score.split == ("samples" if about_samples else "held out") and about_samples == (
            "samples, n=256" in score.text
        )


def test_neighbours_are_looked_up_once(monkeypatch):
    data, asked = photos(), []
    found = neighbours.nearest
    monkeypatch.setattr(neighbours, "nearest", lambda x, *rest: asked.append(len(x)) or found(x, *rest))
    list(evaluate(trained(Mean, data), data, n=40))
    assert asked == [80]


@pytest.mark.parametrize(
    "x", [np.full((30, 3, 9, 9), 128, np.uint8), np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1)]
)
@pytest.mark.parametrize("train", [1, 2, 20])
def test_poor_data_give_cards_and_no_warnings_of_numpy(x, train):
    data = Data("poor", "f", x, np.arange(train), np.arange(20, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = list(evaluate(trained(Mean, data), data))
    assert all(math.isfinite(s.value) for s in scores)
    assert named(scores, "PSNR", "PCA").settings["code"] <= train - 1


def test_numbers_are_what_their_labels_say():
    """Recomputed by hand, from the labels alone, on data like scikit-learn's digits."""
    rng = np.random.default_rng(3)
    steps = np.clip(
        rng.integers(0, 17, (10, 1, 8, 8)).repeat(30, 0) + rng.integers(-3, 4, (300, 1, 8, 8)), 0, 16
    )
    data = Data(
        "like digits",
        "f",
        np.rint(steps * 255 / 16).astype(np.uint8),
        np.arange(200),
        np.arange(200, 300),
        levels=17,
    )
    run = trained(Mean, data)
    scores = list(evaluate(run, data))
    x = data.x.reshape(300, 64) / 127.5 - 1
    held, train = x[200:], x[:200]
    errors = ((held - held.mean(1, keepdims=True)) ** 2).mean(1)
    assert named(scores, "squared error").value == pytest.approx(errors.mean(), rel=1e-5)
    assert named(scores, "PSNR").value == pytest.approx((10 * np.log10(4 / errors)).mean(), rel=1e-5)
    assert named(scores, "squared error", "mean image").value == pytest.approx(
        ((held - train.mean(0)) ** 2).mean(), rel=1e-5
    )
    _, _, axes = np.linalg.svd(train - train.mean(0))
    rest = (held - train.mean(0)) @ (np.eye(64) - np.outer(axes[0], axes[0]))
    # but for the clamp
    assert named(scores, "squared error", "PCA").value == pytest.approx((rest**2).mean(), rel=1e-2)
    assert named(scores, "squared error", "PCA").note == "principal components of 200 training images"
    on_grid = np.rint((sampling.samples(run.model, 256, 0).numpy().reshape(256, 1, 64) + 1) * 8)
    gaps = (np.rint(on_grid * 255 / 16) - data.x[:200].reshape(200, 64)) ** 2
    assert named(scores, "distance to nearest training image").value == pytest.approx(
        np.sqrt(gaps.mean(2)).min(1).mean(), rel=1e-6
    )
    run = trained(Uniform, data)
    flat = steps.reshape(300, 64)
    bits = [
        -math.log2(((flat[:200, j] == v).sum() + 1) / (200 + 17))
        for row in flat[200:]
        for j, v in enumerate(row)
    ]
    assert named(evaluate(run, data), "bits/dim", "independent pixels").value == pytest.approx(
        np.mean(bits), rel=1e-5
    )


def test_duplicates_in_the_data_are_no_memorisation():
    rare, common = np.zeros(200), np.r_[np.ones(80), np.zeros(120)]
    assert doubts.suspicion(rare, rare) == "" and doubts.suspicion(common, common) == ""
    assert "80 of 200" in doubts.suspicion(common, rare)


def test_a_model_may_diagnose_itself():
    data = photos()
    score = named(evaluate(trained(Mean, data), data), "active units")
    assert score.value == 1 and score.warning == ""
    assert named(evaluate(trained(Mean, data), data, n=5), "active units").warning == "collapsed"


# Promises


@pytest.mark.parametrize("kind", [Uniform, Mean])
def test_the_same_seed_gives_the_same_scores(kind, monkeypatch):
    data = photos()
    run = trained(kind, data)
    first = [s.as_dict() for s in evaluate(run, data, n=60, seed=3)]
    assert first == [s.as_dict() for s in evaluate(run, data, n=60, seed=3)]
    assert first != [s.as_dict() for s in evaluate(run, data, n=60, seed=4)]
    monkeypatch.setattr(evaluation, "CHUNK", 36 * 7)  # other batches, same answers
    for a, b in zip(first, evaluate(run, data, n=60, seed=3), strict=True):
        assert a["value"] == pytest.approx(b.value, rel=1e-5)


def test_asking_changes_nothing():
    data = photos()
    run = trained(Mean, data)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002  that of others
    before = data.x.copy()
    for _ in evaluate(run, data):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert np.array_equal(before, data.x) and not run.model.training


# scores.json


def test_names_that_are_no_text_survive_the_disk(tmp_path):
    score = Score("bits/dim", 1.0, warnings=("ü/bad\udcff is not what it was trained on",))
    save_scores(tmp_path, [score])
    assert load_scores(tmp_path) == [score]


def test_scores_survive_the_disk(tmp_path):
    data = photos()
    scores = [*evaluate(trained(Mean, data), data, n=30), Score("bits/dim", math.nan, warnings=("refused",))]
    path = save_scores(tmp_path, scores)
    assert [s.as_dict() for s in load_scores(tmp_path)] == [s.as_dict() for s in scores]
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]
    json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_damaged_scores_are_a_sentence(tmp_path):
    assert load_scores(tmp_path) == []
    for text in ("{", '[{"name": 3}]', "[3]", '{"a": 1}'):
        (tmp_path / "scores.json").write_text(text)
        with pytest.raises(BadData, match="evaluate the run again"):
            load_scores(tmp_path)
