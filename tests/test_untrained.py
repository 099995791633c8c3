"""What the doctor says where the loss proves nothing: beside the first weights, of few images, of labels by
heart; too short a budget; too many bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist

from conftest import small_run, toy
from likeness import data, engine
from likeness.core import Noise
from likeness.data import Data
from likeness.evaluation.exam import evaluate
from likeness.metrics import doubts
from likeness.parts import collapse
from likeness.reports import terminal
from likeness.runs.run import Run
from likeness.training import doctor, symptoms
from likeness.training.loop import Step, fit


def watched(
    folder: Path, name: str, images: Data, steps: int, options: dict | None = None, **training: object
) -> Run:
    settings = dict(batch=32, warmup=0) | training
    run, _ = small_run(name, folder, images, options=options, images=steps * settings["batch"], **settings)
    for _ in doctor.watch(run, images, fit(run, images)):
        pass
    return run


def said(run: Run) -> dict[str, str]:
    return {noted.name: noted.text for noted in doctor.history(run)}


# Beside the first weights


@pytest.mark.parametrize("labels", [True, False])
def test_byol_at_a_rate_too_high_is_worth_less_than_its_first_weights(tmp_path, monkeypatch, labels):
    monkeypatch.setattr(doctor, "FIRST", 64)
    digits = data.load("digits")
    images = digits if labels else replace(digits, y=None, classes=())
    ill = said(watched(tmp_path / "ill", "byol", images, 66, rate=0.3))
    assert list(ill) == ["no better than untrained"] and "--rate 0.002" in ill["no better than untrained"]
    assert ("nearest neighbours tell" in ill["no better than untrained"]) == labels
    assert said(watched(tmp_path / "well", "byol", images, 66, rate=2e-3)) == {}


def test_a_game_at_a_rate_too_high_draws_nothing_nearer_than_its_first_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "FIRST", 128)
    digits = data.load("digits")
    game = dict(width=16, latent=16, r1=1.0)
    ill = said(watched(tmp_path / "ill", "gan", digits, 130, game, rate=3.0))
    assert (
        "--rate 0.0002" in ill["no better than untrained"]
        and "energy distance" in ill["no better than untrained"]
    )
    assert ("no better than untrained") not in said(
        watched(tmp_path / "well", "gan", digits, 130, game, rate=1e-3)
    )


def test_looking_at_the_first_weights_changes_no_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "FIRST", 4)
    digits = data.load("digits")
    alone, _ = small_run("byol", tmp_path / "a", digits, images=10 * 16)
    list(fit(alone, digits))
    seen = watched(tmp_path / "b", "byol", digits, 10, batch=16, warmup=32)
    one, two = alone.tensors(), seen.tensors()
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_the_energy_distance_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), rng.normal(1, 2, size=(50, 3))
    assert symptoms.energy(x, y) == pytest.approx(2 * cdist(x, y).mean() - pdist(x).mean() - pdist(y).mean())
    far = np.zeros((40, 2)), np.tile([3.0, 4.0], (40, 1))
    assert symptoms.energy(*far) == pytest.approx(2 * 5)


def test_no_nearer_is_said_of_the_distance_and_not_of_a_blur():
    rng = np.random.default_rng(0)
    real, grey = rng.normal(size=(200, 1, 4, 4)), np.zeros((200, 1, 4, 4))
    assert symptoms.no_nearer(grey + 0.01, grey, real).name == "no better than untrained"
    assert symptoms.no_nearer(0.5 * rng.normal(size=(200, 1, 4, 4)), grey, real) is None
    assert (
        symptoms.no_nearer(grey[:10], grey, real) is None
        and symptoms.no_nearer(grey * np.nan, grey, real) is None
    )


def test_features_are_worth_less_only_if_it_is_certain_and_dimensions_say_the_same():
    right = lambda share: np.arange(200) < 200 * share  # noqa: E731
    assert symptoms.unlearnt(20.0, 52.0, right(0.80), right(0.97)).name == "no better than untrained"
    assert symptoms.unlearnt(60.0, 52.0, right(0.80), right(0.97)) is None
    assert symptoms.unlearnt(20.0, 52.0, right(0.95), right(0.97)) is None, "four images"
    assert symptoms.unlearnt(20.0, 52.0, right(0.99), right(0.97)) is None
    assert symptoms.unlearnt(20.0, 52.0) and symptoms.unlearnt(30.0, 52.0) is None


# Few images, few dimensions


def test_two_images_are_no_line(tmp_path):
    digits = data.load("digits")
    ill = said(watched(tmp_path, "simclr", digits, 260, batch=2, rate=2e-3))
    assert (
        "one dimension" not in ill
        and "--batch 64" in ill["batch or projection too small"]
        and "of 2 at most" in ill["batch or projection too small"]
    )
    assert "--rate" not in ill["batch or projection too small"]


def test_a_line_is_a_line_among_as_many_as_there_could_be():
    def lines(most: float, rank: float = 1.4) -> list[dict]:
        return [dict(seen=i, losses={"RankMe": rank, "RankMe at most": most}) for i in range(20)]

    assert symptoms.narrow(lines(64)).name == "one dimension"
    assert (
        symptoms.narrow(lines(2)).name == "batch or projection too small"
        and "--projection 64" in symptoms.narrow(lines(2)).remedies
    )
    assert symptoms.narrow(lines(64, 1.6)) is None and symptoms.narrow(lines(8, 1.6)) is None
    health = collapse.Health().train()
    assert [float(health(torch.randn(n, 5), 0)["RankMe at most"]) for n in (2, 4, 64)] == [2, 4, 5]


@pytest.mark.parametrize("name", ["byol", "simclr", "vicreg", "dino", "mae"])
def test_of_two_images_no_collapse_is_read(tmp_path, name):
    run, images = small_run(name, tmp_path)
    twin = images.take(np.repeat(images.held_out[:1], 2), Noise(range(2)))
    told = {name: warning for name, _, warning in run.model.diagnose(engine.put(twin))}
    assert not told["spread of features"] and not told["RankMe"] and not told.get(collapse.PROJECTIONS)
    many = images.take(np.repeat(images.held_out[:1], 32), Noise(range(32)))
    assert any(warning for _, _, warning in run.model.diagnose(engine.put(many))), (
        "thirty-two that are all the same are"
    )


# Labels by heart


def test_shuffled_labels_that_are_learnt_by_heart_are_told_from_nothing_learnt(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "FIRST", 256)
    digits = data.load("digits")
    few = np.random.default_rng(0).permutation(digits.train)[:60]
    y = np.random.default_rng(1).permutation(digits.y)
    ill = said(
        watched(
            tmp_path / "ill",
            "classifier",
            replace(digits, train=few, y=y),
            520,
            dict(shift=0.0, width=16),
            rate=3e-3,
        )
    )
    assert "shuffled" in ill["memorised labels"] and "training images" in ill["memorised labels"]
    assert not any("learnt nothing" in text for text in ill.values())
    well = said(
        watched(
            tmp_path / "well",
            "classifier",
            replace(digits, train=few),
            520,
            dict(shift=0.0, width=16),
            rate=3e-3,
        )
    )
    assert "memorised labels" not in well


def test_labels_by_heart_are_known_of_training_images_alone():
    right = lambda share, n=256: np.arange(n) < n * share  # noqa: E731
    assert symptoms.labels_by_heart(right(0.78), right(0.07), 0.11).name == "memorised labels"
    assert symptoms.labels_by_heart(right(0.11), right(0.09), 0.11) is None, "loss at chance"
    assert symptoms.labels_by_heart(right(1.0), right(0.6), 0.11) is None, "too few images, and right labels"
    assert symptoms.labels_by_heart(right(1.0), right(0.0, 10), 0.11) is None


# Too many bits


def test_bits_worse_than_a_histogram_are_doubted():
    rng = np.random.default_rng(0)
    free = rng.normal(1.69, 0.3, 200)
    doubt = doubts.beaten(free + rng.normal(2.41, 0.2, 200), np.full(200, 4.1), free)
    assert (
        doubt.startswith("4.087 bits/dim, where a histogram for each pixel has 1.695")
        and "--images" in doubt
        and "--rate" in doubt
    )
    assert doubts.beaten(free - 0.1, free - 0.1, free) == ""
    assert doubts.beaten(free + 2, free - 1, free) == "", (
        "training images are cheap: learnt by heart, which overfitted() says"
    )
    assert doubts.beaten(free + rng.normal(0.01, 1.0, 200), free + 1, free) == "", "no more than chance"
    assert doubts.beaten(free * np.nan, free, free) == ""


def test_a_card_of_bits_says_so(tmp_path):
    images = toy(120, size=8, held_out=40)
    run, _ = small_run("vae", tmp_path, images, images=32)
    list(fit(run, images))
    cards = [card for card in evaluate(run, images, n=40, network="none") if card.name == "bits/dim"]
    free = next(card for card in cards if card.of == "independent pixels")
    assert cards[0].value > free.value and "has not learnt what an image looks like" in cards[0].warning


# Too short a budget


def notes_of(
    run: Run,
    images: Data,
    budget: dict,
    speed: float,
    capsys: pytest.CaptureFixture[str],
    seconds: float = 9.0,
) -> str:
    """What is said while a run makes steps at so many images a second of its own clock; the first takes three
    seconds."""
    stride = run.config.training.batch
    run.seen, run.seconds = stride, 3.0
    with terminal.training(run, images, budget) as tick:
        tick(Step(run.seen, {}))
        while run.seconds < seconds:
            run.seen, run.seconds = run.seen + stride, run.seconds + stride / speed
            tick(Step(run.seen, {}))
    return capsys.readouterr().err


def test_a_budget_of_too_few_steps_is_said_once_and_early(tmp_path, capsys):
    run, images = small_run("simclr", tmp_path / "a", toy(64, size=32), batch=64)
    heard = notes_of(run, images, dict(minutes=5.0), 64.0, capsys)
    assert heard.count("note: at 64 images a second, --minutes 5 are about 298 steps of 64 images") == 1
    assert "--batch 32" in heard and "--size 16" in heard and "--minutes 17" in heard and "--width 4" in heard
    assert "steps of" not in notes_of(run, images, dict(minutes=5.0), 64.0, capsys, 3.9), (
        "a second says too little"
    )


def test_a_budget_that_is_long_enough_is_not_talked_about(tmp_path, capsys):
    run, images = small_run("ae", tmp_path, batch=16)
    assert "steps of" not in notes_of(run, images, dict(minutes=5.0), 60.0, capsys)
    assert "steps of" not in notes_of(run, images, dict(images=64), 1.0, capsys), (
        "who counts images knows how many"
    )
    assert "steps of" in notes_of(run, images, dict(minutes=0.5), 60.0, capsys)
