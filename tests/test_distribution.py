"""The one hand that compares sets of images: every fault of a bad generator is flagged, and real images are
not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import small_run
from likeness import data as datasets
from likeness import models
from likeness.core import Condition, Noise, Refusal
from likeness.data import Data
from likeness.data.split import split
from likeness.evaluation import distribution, exam
from likeness.features import networks
from likeness.features.networks import Network
from likeness.inference import sampling
from likeness.metrics import doubts, neighbours
from likeness.metrics.card import Score
from likeness.training.loop import fit

BAD = str(Path(__file__).parents[1] / "benchmarks" / "bad_generators.py")


@pytest.fixture(scope="module")
def digits() -> Data:
    return datasets.load("digits")


@pytest.fixture(scope="module")
def reference(digits) -> distribution.Reference:
    """With the classifier that is trained for the data; kept in the cache of the tests."""
    return distribution.prepare(digits, networks.load("auto", digits), 10_000)


@pytest.fixture(scope="module")
def keeper(digits, tmp_path_factory) -> models.Model:
    """A bad generator that has kept every training image."""
    kind = models.load(BAD)
    run, _ = small_run(BAD, tmp_path_factory.mktemp("bad") / "run", digits, images=1664, batch=64)
    list(fit(run, digits))
    run.close()
    assert type(run.student).__name__ == kind.__name__
    return run.student


def drawn(model: models.Model, kind: str, data: Data, n: int = 400) -> np.ndarray:
    model.kind = kind
    *_, x = model.sample(Noise(range(n), 5))
    return neighbours.grid(x.numpy(), data.levels)


def flagged(cards: Iterator[Score]) -> set[str]:
    return {card.name for card in cards if card.of == "model" and card.beyond}


SEEN_BY = {
    "memory": {"AuthPct"},
    "blur": {"brightness histogram", "C2ST accuracy", "Fréchet distance", "recall"},
    "half": {"brightness histogram", "C2ST accuracy", "Fréchet distance", "recall"},
    "shift": {"sliced Wasserstein", "C2ST accuracy", "Fréchet distance", "coverage"},
    "binarised": {"brightness histogram", "C2ST accuracy"},
    "missing": {"missing classes"},
    "pixels": {"coverage", "C2ST accuracy", "Fréchet distance", "recall", "KID"},
    "pca": {"brightness histogram", "C2ST accuracy"},
    "noise": {
        "coverage",
        "brightness histogram",
        "sliced Wasserstein",
        "C2ST accuracy",
        "Gaussian MMD",
        "diversity",
    },
}


@pytest.mark.parametrize("kind", SEEN_BY)
def test_each_fault_is_seen_by_those_measures_that_can_see_it(kind, keeper, reference, digits):
    found = flagged(reference.judge(drawn(keeper, kind, digits)))
    assert SEEN_BY[kind] <= found
    if kind == "memory":
        # which is why copies are asked for by themselves
        assert not found & {"Fréchet distance", "precision", "brightness histogram", "sliced Wasserstein"}


def test_real_images_are_as_real(reference, digits):
    rng = np.random.default_rng(7)
    other = digits.x[rng.permutation(digits.train)[-len(reference.held) :]]
    assert flagged(reference.judge(other)) <= {"AuthPct"}  # they are training images, after all
    held = {card.name: card for card in reference.judge(reference.held.x) if card.of == "model"}
    assert not held["AuthPct"].beyond and held["AuthPct"].value == held["AuthPct"].floor


def test_a_card_says_whose_features_against_what_and_what_real_images_would_get(reference, digits):
    cards = list(reference.judge(reference.base.x))
    mine, real = [c for c in cards if c.of == "model"], [c for c in cards if c.of != "model"]
    assert len(mine) == len(real) == len(distribution.MEASURES)
    for a, b in zip(mine, real, strict=True):
        assert (a.name, a.floor) == (b.name, b.value) and a.n == len(reference.held)
        assert (reference.network.sha256[:12] == a.network_sha) == (
            a.name not in ("sliced Wasserstein", "brightness histogram")
        )
        if a.name not in ("AuthPct",):
            assert a.value == a.floor and a.verdict.startswith("as real")


def test_a_collapsed_generator_has_intervals_of_no_width_that_are_shown_with_a_warning(reference):
    copies = reference.base.x[:1].repeat(len(reference.held), 0)
    for x, says in (
        (copies, "samples are equal"),
        (np.concatenate([copies[:-9], reference.base.x[1:10]]), "samples are 10 different ones"),
    ):
        cards = {c.name: c for c in reference.judge(x) if c.of == "model"}
        assert all(says in c.warning for c in cards.values())
    cards = {c.name: c for c in reference.judge(copies) if c.of == "model"}
    frechet = cards["Fréchet distance"]
    assert (
        frechet.low == pytest.approx(frechet.value) == frechet.high
        and frechet.number.endswith("]")
        and frechet.beyond
    )
    assert not any(
        "different ones" in c.warning or "equal" in c.warning for c in reference.judge(reference.base.x)
    )


def test_noise_is_called_noise_whatever_a_network_thinks_of_it(reference):
    rng, real = np.random.default_rng(0), reference.held.x
    noise = rng.integers(0, 256, real.shape).astype(np.uint8)
    speckled = np.where(rng.random(real.shape) < 0.6, noise, real).astype(np.uint8)
    for x in (noise, speckled):
        assert all("mostly noise" in c.warning for c in reference.judge(x) if c.of == "model")
    slightly = np.clip(real + rng.normal(0, 12, real.shape), 0, 255).astype(np.uint8)
    for x in (real, slightly, reference.base.x, np.full_like(real, 9)):
        assert not any("mostly noise" in c.warning for c in reference.judge(x))
    assert doubts.alike(np.tile(np.arange(8, dtype=np.uint8) * 20, (3, 1, 8, 1))) > 0.9
    assert abs(doubts.alike(noise)) < 0.05


def test_coarse_noise_is_noise_as_well():
    generator = np.random.default_rng(0)
    wide = np.cumsum(np.cumsum(generator.normal(size=(32, 3, 36, 36)), 2), 3)  # box means from running sums
    coarse = wide[..., 4:, 4:] - wide[..., :-4, 4:] - wide[..., 4:, :-4] + wide[..., :-4, :-4]
    coarse = np.clip(128 + 12 * coarse, 0, 255).astype(np.uint8)
    areas = np.kron(generator.integers(0, 255, (32, 3, 4, 4)), np.ones((8, 8))).astype(np.uint8)
    assert doubts.alike(coarse) > 0.7, "the correlation of neighbours does not tell it"
    assert doubts.peaked(coarse) == pytest.approx(3, abs=0.3) and (doubts.peaked(areas) > 5).all()
    assert "neither edges nor even areas" in doubts.noisy(coarse, areas)
    assert not doubts.noisy(areas, areas) and not doubts.noisy(areas, coarse)
    assert not doubts.noisy(coarse, coarse), "real images that are of that kind themselves"
    assert (doubts.peaked(np.zeros((2, 1, 8, 8), np.uint8)) == np.inf).all()


def test_kid_is_the_same_in_features_a_hundred_times_as_large(reference):
    """The kernel's own constant is 1, so that large features make any number of it."""
    held, base = reference.held, reference.base
    far = replace(
        reference,
        held=replace(held, features=held.features * 100),
        base=replace(base, features=base.features * 100),
    )
    here, there = reference.kid(reference.base).value, far.kid(far.base).value
    unit = np.sqrt(np.square(held.features).mean())
    assert abs(there) < 1 and reference.unit == pytest.approx(max(1.0, unit))
    if unit > 1:
        assert there == pytest.approx(here, rel=1e-3, abs=1e-6)
    small = replace(reference, held=replace(held, features=held.features / (2 * unit)))
    assert small.unit == 1.0, "small features are as they are published"


def test_every_measure_by_neighbours_says_how_many(reference):
    cards = {c.name: c for c in reference.judge(reference.base.x) if c.of == "model"}
    for name in ("precision", "recall", "density", "coverage"):
        assert f"k = {distribution.BALLS} neighbours" in cards[name].note and "et al." in cards[name].note
    assert all("k = 1" in cards[name].note for name in ("AuthPct", "duplicate samples"))


def test_points_are_told_apart_where_no_line_can():
    """A ring of modes from a cloud of its mean and covariance."""
    ring = datasets.load("ring")
    reference = distribution.prepare(ring, networks.load("auto", ring), 1000)
    held = reference.held.x.reshape(-1, 2)
    cloud = (
        np.random.default_rng(0)
        .multivariate_normal(held.mean(0), np.cov(held.T), len(held))
        .astype(np.float32)
    )
    found = {c.name: c for c in reference.judge(cloud.reshape(-1, 2, 1, 1)) if c.of == "model"}[
        "C2ST accuracy"
    ]
    assert found.value > 0.85 and abs(found.floor - 0.5) < 0.05


def test_a_gaussian_is_not_fitted_to_fewer_images_than_dimensions(reference, digits):
    wide = Network(
        "wide",
        "0" * 64,
        500,
        "none",
        "anywhere",
        lambda x: torch.randn(len(x), 500, generator=torch.Generator().manual_seed(int(x.sum()) % 99)),
    )
    cards = {
        c.name: c for c in distribution.prepare(digits, wide, 200).judge(reference.base.x) if c.of == "model"
    }
    assert (
        math.isnan(cards["Fréchet distance"].value)
        and ("too few for 500 features") in cards["Fréchet distance"].warning
    )
    assert not math.isnan(cards["sliced Wasserstein"].value) and "missing classes" not in cards


def test_without_held_out_images_nothing_is_compared(digits, reference):
    nothing = Data("x", "f", digits.x, digits.train, np.array([], np.int64), levels=digits.levels)
    with pytest.raises(Refusal, match="holds out no image"):
        distribution.prepare(nothing, reference.network, 100)


def test_the_evaluator_judges_samples_and_says_what_it_cost(tmp_path, digits):
    run, _ = small_run("vae", tmp_path, digits, images=256, batch=64)
    list(fit(run, digits))
    cards = {(c.name, c.of): c for c in exam.evaluate(run, digits, n=64)}
    card = cards["C2ST accuracy", "model"]
    assert card.n == 64 and card.split == "samples" and card.beyond and card.settings["seen"] == 256
    assert cards["training", "model"].value == run.seconds and 0 < cards["sampling", "model"].value < 10
    assert "samples take about" in exam.prepare(run, digits, 64, 0).outlook()
    with pytest.raises(Refusal, match="there is no network"):
        list(exam.evaluate(run, digits, n=64, network="resnet"))


def test_too_few_images_are_refused_on_a_card(tmp_path, digits):
    few = Data(
        "few",
        "g",
        digits.x,
        digits.train[:50],
        digits.held_out[:40],
        digits.y,
        digits.classes,
        levels=digits.levels,
    )
    run, _ = small_run("vae", tmp_path, few, images=64, batch=16)
    (card,) = [c for c in exam.evaluate(run, few, n=40) if c.name == "resemblance"]
    assert card.refused and "too few" in card.warning


def test_a_network_is_not_shown_the_images_of_the_floor(digits, reference):
    spared = networks.reserve(digits)
    assert len(spared) == len(digits.train) // 5 and not set(spared) & set(networks.shown(digits).train)
    assert set(np.r_[spared, networks.shown(digits).train]) == set(digits.train)
    real = {image.tobytes() for image in digits.x[spared]}
    assert all(image.tobytes() in real for image in reference.base.x) and reference.remark == ""
    flattered = distribution.prepare(digits, replace(reference.network, spares=False), 100)
    assert "flatters" in next(flattered.judge(flattered.held.x)).warning
    few = replace(digits, train=digits.train[:400])
    assert not len(networks.reserve(few)) and len(networks.shown(few).train) == 400


def test_features_that_are_all_the_same_are_refused(digits):
    dead = Network("dead", "0" * 64, 3, "none", "anywhere", lambda x: torch.zeros(len(x), 3))
    with pytest.raises(Refusal, match="the same features"):
        distribution.prepare(digits, dead, 100)


def test_classes_are_drawn_as_often_as_the_data_have_them():
    y = np.r_[np.zeros(900, np.int64), np.ones(100, np.int64)]
    data = Data(
        "two",
        "t",
        np.zeros((1000, 1, 8, 8), np.uint8),
        np.arange(1000),
        np.array([], np.int64),
        y,
        ("a", "b"),
    )
    drawn = sampling.shares(data, 500, 0)
    assert drawn is not None and 0.05 < drawn.mean() < 0.15 and len(sampling.shares(data, 3000, 0)) == 3000
    assert sampling.shares(replace(data, y=None, classes=()), 10, 0) is None


def test_samples_that_are_not_numbers_are_told_on_every_card(tmp_path, digits):
    run, _ = small_run("vae", tmp_path, digits, images=64, batch=16)
    list(fit(run, digits))
    sample = run.model.sample

    def half(noise: Noise, y: Condition | None = None) -> Iterator[torch.Tensor]:
        *_, x = sample(noise, y)
        x[::2] = math.nan
        yield x

    run.model.sample = half
    cards = [
        c for c in exam.evaluate(run, digits, n=64) if c.of == "model" and c.split == "samples" and c.network
    ]
    assert cards and all("32 of 64 samples are not numbers" in c.warning for c in cards)


def test_balls_are_found_once_for_the_images_and_once_for_the_floor(reference, digits, monkeypatch):
    asked, prdc = [], distribution.manifold.prdc
    monkeypatch.setattr(
        distribution.manifold, "prdc", lambda real, fake, k: asked.append(len(fake)) or prdc(real, fake, k)
    )
    fresh = replace(reference)
    list(fresh.judge(reference.held.x))
    assert len(asked) == 2
    list(fresh.judge(digits.x[digits.train[:100]]))
    assert len(asked) == 3


@pytest.mark.parametrize("n", [90, 100, 130, 200, 250])
def test_the_share_that_is_advised_holds_enough_images_out(n):
    share = float(distribution.more(n).rpartition(" ")[2])
    for seed in range(20):
        hashes = np.random.default_rng(seed).integers(0, 2**64, n, np.uint64)
        train, held_out = split(hashes, share=share)
        assert min(len(train), len(held_out)) >= distribution.FEWEST
    assert "90 images" in distribution.more(89)
