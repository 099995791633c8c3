"""What self-supervised models share: views, signs of collapse, teachers, patches; what features know of
classes; and what the doctor sees."""

from __future__ import annotations

import colorsys
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from conftest import small_run, toy
from likeness import api, engine
from likeness import data as datasets
from likeness.core import Noise, Refusal
from likeness.evaluation import exam, representation
from likeness.metrics import probing
from likeness.models.simclr import nt_xent
from likeness.parts import views, vit
from likeness.parts.collapse import rankme, unit_spread
from likeness.parts.teacher import follow, rising, teacher
from likeness.parts.unet import waves
from likeness.runs.run import Run
from likeness.training import doctor, symptoms
from likeness.training.loop import fit


def images(n: int = 8, channels: int = 3, size: int = 16) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (n, channels, size, size))).float()


# Row by row: a loss that cannot see a collapse, and numbers that can


def test_the_contrastive_loss_of_a_collapse_is_that_of_chance_and_spread_and_rank_are_not():
    """N = 512 pairs, d = 128: log(2N - 1) = 6.9305 for points that are all the same; random ones have it up
    to 1/d."""
    rng = np.random.default_rng(0)
    random = torch.from_numpy(rng.normal(size=(1024, 128)))
    collapsed = torch.ones(1024, 128, dtype=torch.float64) + 1e-7 * torch.from_numpy(
        rng.normal(size=(1024, 128))
    )
    chance = math.log(1023)
    losses = [float(nt_xent(z, 1.0)[0]) for z in (random, collapsed)]
    assert losses == pytest.approx([chance, chance], abs=0.02) and chance == pytest.approx(6.9305, abs=1e-4)
    assert float(unit_spread(random)) == pytest.approx(1, abs=0.01) and float(unit_spread(collapsed)) < 1e-5
    assert float(rankme(random)) > 115 and float(rankme(collapsed)) < 1.01
    fake = torch.cat([random[:512, :1] * torch.ones(128)] * 2)
    assert float(nt_xent(fake, 0.1)[0]) < losses[0] - 0.5 and float(rankme(fake)) < 1.01, (
        "a loss below chance is no proof either: one dimension does it"
    )


def test_rankme_is_the_entropy_of_singular_values_that_are_known():
    q = torch.linalg.qr(torch.from_numpy(np.random.default_rng(0).normal(size=(50, 4))))[0]
    p = np.array([0.75, 0.25])
    assert float(rankme(q[:, :2] * torch.tensor([3.0, 1.0]))) == pytest.approx(
        np.exp(-(p * np.log(p)).sum()), rel=1e-4
    )


# Views


def test_a_window_lies_within_the_image_and_has_the_area_that_was_asked():
    x = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij"))[
        None
    ].repeat(2000, 1, 1, 1)
    seen = views.resized(x, Noise(range(2000)), 0.2, 0.6, size=8)
    assert seen.shape == (2000, 2, 8, 8) and float(seen.abs().max()) <= 1
    high, wide = (
        (seen[:, 0, -1, 0] - seen[:, 0, 0, 0]) * 8 / 7 / 2,
        (seen[:, 1, 0, -1] - seen[:, 1, 0, 0]) * 8 / 7 / 2,
    )
    area, shape = high * wide, wide / high
    assert (
        0.19 < float(area.min()) < 0.22
        and 0.57 < float(area.max()) < 0.65
        and float(area.mean()) == pytest.approx(0.4, abs=0.02)
    )
    assert 0.74 < float(shape.min()) < 0.8 and 1.25 < float(shape.max()) < 1.36
    assert torch.allclose(views.resized(x[:9], Noise(range(9)), 1.0, 1.0), x[:9], atol=1e-5), (
        "all of it, whatever shape was drawn"
    )


def test_half_of_the_windows_are_mirrored_where_that_is_right():
    ramp = torch.linspace(-1, 1, 16).expand(400, 1, 16, 16)
    slope = views.resized(ramp, Noise(range(400)), 0.9, flip=True).diff(dim=3).mean((1, 2, 3))
    assert 0.4 < float((slope < 0).float().mean()) < 0.6
    assert not bool((views.resized(ramp, Noise(range(400)), 0.9).diff(dim=3).mean((1, 2, 3)) < 0).any())


def test_a_view_is_the_image_s_own_whatever_its_company():
    x = images()
    together = views.recoloured(
        views.resized(x, noise := Noise(range(8)), 0.3, flip=True), noise, 1.0, 0.5, 0.5
    )
    alone = views.recoloured(views.resized(x[5:6], noise := Noise([5]), 0.3, flip=True), noise, 1.0, 0.5, 0.5)
    assert torch.allclose(together[5:6], alone, atol=1e-6) and not torch.allclose(together, x, atol=0.1)
    assert float(together.abs().max()) <= 1


def test_colours_change_as_often_as_the_paper_says_and_a_share_of_them_goes():
    x = images(1000, size=4)
    seen = views.recoloured(x, Noise(range(1000)), 0.5)
    same, pale = (
        torch.isclose(seen, x, atol=1e-6).flatten(1).all(1),
        (seen - seen.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-5,
    )
    assert float(same.float().mean()) == pytest.approx(0.2 * 0.8, abs=0.04) and float(
        pale.float().mean()
    ) == pytest.approx(0.2, abs=0.04)
    grey = views.recoloured(x[:, :1], Noise(range(1000)), 0.5)
    assert grey.shape == (1000, 1, 4, 4) and not torch.allclose(grey, x[:, :1])


def test_a_hue_is_turned_by_the_angle_and_brightness_stays():
    x = (0.5 + 0.1 * images(4, size=2)).double()
    third = views.turned(x, torch.full((4,), 2 * math.pi / 3).double())
    assert torch.allclose(views.grey(third), views.grey(x), atol=1e-4)
    assert torch.allclose(
        views.turned(
            views.turned(third, torch.full((4,), 2 * math.pi / 3)), torch.full((4,), 2 * math.pi / 3)
        ),
        x,
        atol=1e-4,
    )
    before, after = (colorsys.rgb_to_hsv(*v[0, :, 0, 0].tolist())[0] for v in (x, third))
    assert min((after - before) % 1, (before - after) % 1) == pytest.approx(1 / 3, abs=0.08), (
        "the same circle as HSV's, whose third is no rotation"
    )


def test_a_blur_keeps_what_is_flat_and_the_sum_and_takes_contrast():
    x = images(20, size=64)
    soft = views.blurred(x, Noise(range(20)))
    assert torch.allclose(
        views.blurred(torch.full((3, 1, 64, 64), 0.3), Noise(range(3))), torch.tensor(0.3), atol=1e-5
    )
    spread = soft.flatten(1).std(1) / x.flatten(1).std(1)
    assert float(spread.max()) < 1.001 and float(spread.min()) < 0.2
    assert torch.allclose(soft.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=0.02)


def test_solarising_inverts_the_bright_half():
    x = torch.tensor([-0.5, -0.1, 0.2, 0.9]).view(1, 1, 2, 2)
    assert torch.equal(
        views.recoloured(x, Noise([0]), 0.0, 0.0, 1.0).flatten(), torch.tensor([-0.5, -0.1, -0.2, -0.9])
    )


# Teachers


def test_a_teacher_has_no_weights_to_learn_and_follows_exactly():
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    twin = teacher(student)
    assert not list(twin.parameters()) and twin.state_dict().keys() == student.state_dict().keys()
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(twin(x), student(x))
    before = {k: v.clone() for k, v in twin.named_buffers()}
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1.0)
    assert torch.equal(twin[0].weight, before["0.weight"]), "a teacher shares no memory with its student"
    follow(twin, student, 0.9)
    for name, p in student.named_parameters():
        assert torch.allclose(twin.get_buffer(name), 0.9 * before[name] + 0.1 * p, atol=1e-15)


def test_tau_rises_to_one_along_a_cosine():
    assert (
        rising(0.9, 0, 100) == pytest.approx(0.9)
        and rising(0.9, 50, 100) == pytest.approx(0.95)
        and rising(0.9, 100, 100) == 1
    )
    assert rising(0.9, 500, 100) == 1 and rising(0.9, 500, 0) == 0.9


# Patches


def test_patches_are_read_row_by_row_and_the_border_goes_on():
    x = torch.arange(2 * 16).view(1, 2, 4, 4).float()
    p = vit.patches(x, 2)
    assert p.shape == (1, 4, 8) and p[0, 1].tolist() == [2, 3, 6, 7, 18, 19, 22, 23]
    assert vit.patches(x[..., :3, :3], 2)[0, 1].tolist() == [2, 2, 6, 6, 18, 18, 22, 22]


def test_a_small_view_lies_where_it_is_in_the_large_one():
    full, half = vit.positions(8, 16, 8).view(8, 8, 16), vit.positions(4, 16, 8).view(4, 4, 16)
    assert torch.allclose(
        half[1, 3], torch.cat([waves(torch.tensor([place]), 8)[0] for place in (6.5, 2.5)])
    ), "column, then row"
    assert torch.allclose(full[1, 3], torch.cat([waves(torch.tensor([place]), 8)[0] for place in (3.0, 1.0)]))
    assert len(torch.unique(full.flatten(0, 1), dim=0)) == 64, "no two places have the same"


@pytest.mark.parametrize(
    "size, p, rows", [(8, 2, 4), (9, 2, 5), (16, 2, 8), (28, 4, 7), (32, 4, 8), (64, 8, 8)]
)
def test_there_are_four_to_sixteen_rows_of_patches(size, p, rows):
    assert vit.patch_size(size) == p and -(-size // p) == rows


def test_what_cannot_be_cut_into_patches_is_refused():
    with pytest.raises(Refusal, match="at least 8 pixels"):
        vit.patch_size(4)
    with pytest.raises(Refusal, match="--patch 9 does not make patches"):
        vit.patch_size(16, 9)
    with pytest.raises(Refusal, match="use 12"):
        vit.check("mae", 13, 4)


# What features know


def classes(n: int = 400, d: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three overlapping clouds."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return (rng.normal(size=(n, d)) + 1.2 * np.eye(3, d)[y]).astype(np.float32) * np.linspace(
        0.1, 5, d, dtype=np.float32
    ), y


def test_nearest_neighbours_are_those_of_scikit_learn():
    (x, y), (other, _) = classes(), classes(300, seed=1)
    mean = x.mean(0)
    theirs = KNeighborsClassifier(
        7, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.2)
    ).fit(x - mean, y)
    assert np.array_equal(probing.knn(x, y, other, 7, 0.2), theirs.predict(other - mean))
    assert np.array_equal(probing.knn(x[:5], y[:5], other, 20), probing.knn(x[:5], y[:5], other, 5)), (
        "fewer than k there are"
    )


def test_neighbours_far_away_count_less():
    x = np.array([[1, 0.0], [0.8, 0.6], [0.8, -0.6], [-1, 0], [-1, 0.1], [-1, -0.1]])
    y = np.array([0, 1, 1, 2, 2, 2])
    asked = x[:1] + 1e-3
    assert probing.knn(x, y, asked, 3, 0.07)[0] == 0 and probing.knn(x, y, asked, 3, 100.0)[0] == 1


def test_logistic_regression_is_that_of_scikit_learn():
    x, y = classes()
    x = x.astype(np.float64)
    ours = probing.logistic(x, y, 3, 0.05, exact=1e-8)
    theirs = LogisticRegression(C=1 / (0.05 * len(x)), tol=1e-10, max_iter=10_000).fit(x, y)
    assert np.allclose(ours[:-1].T, theirs.coef_, atol=1e-4)
    centred = ours[-1] - ours[-1].mean()
    assert np.allclose(centred, theirs.intercept_ - theirs.intercept_.mean(), atol=1e-3)


def test_the_linear_probe_standardises_on_training_features_alone_and_chooses_its_penalty():
    (x, y), (other, truth) = classes(600), classes(600, seed=1)
    probe = probing.linear(x, y, 3)
    assert (
        np.allclose(probe.mean, x.mean(0), atol=1e-5)
        and np.allclose(probe.scale, x.std(0), atol=1e-4)
        and probe.penalty in probing.PENALTIES
    )
    assert (probe.logits(other).argmax(1) == truth).mean() > 0.6
    stretched = probing.linear(x * 1000 + 5, y, 3)
    assert (stretched.logits(other * 1000 + 5).argmax(1) == probe.logits(other).argmax(1)).mean() > 0.99, (
        "units do not matter"
    )
    useless = np.random.default_rng(0).normal(size=(600, 200)).astype(np.float32)
    assert probing.linear(np.concatenate([x, useless], 1), y, 3).penalty > probing.PENALTIES[0], (
        "many useless features want a strong one"
    )


def test_labels_that_mean_nothing_cannot_be_told():
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(1000, 20)).astype(np.float32), rng.normal(size=(1000, 20)).astype(np.float32)
    y, truth = rng.integers(0, 4, (2, 1000))
    for said in (probing.knn(x, y, other), probing.linear(x, y, 4).logits(other).argmax(1)):
        assert 0.2 < (said == truth).mean() < 0.3


def test_random_patches_by_hand_and_better_than_pixels():
    data = datasets.load("digits")
    x = np.repeat(np.repeat(data.x, 3, 2), 3, 3)  # 24 pixels
    few, held = data.train[:60], data.held_out
    patches = probing.Patches(x[data.train], stride=1)
    flat = torch.from_numpy(x[held[:2]]).float() * 2 / 255 - 1
    p = flat.unfold(2, 6, 1).unfold(3, 6, 1)[:, 0].flatten(3)  # every patch, one by one
    p = (p - p.mean(-1, keepdim=True)) / (p.var(-1, keepdim=True) + probing.FLAT).sqrt() - patches.mean
    like = p @ patches.filters.T
    both = torch.cat([torch.relu(like - 0.25), torch.relu(-like - 0.25)], -1).permute(0, 3, 1, 2)
    by_hand = torch.nn.functional.adaptive_avg_pool2d(both, 2).flatten(1)
    assert np.allclose(patches(x[held[:2]]), by_hand.numpy(), atol=1e-4)
    right = [
        (probing.linear(f(x[few]), data.y[few], 10).logits(f(x[held])).argmax(1) == data.y[held]).mean()
        for f in (patches, probing.raw)
    ]
    assert right[0] > right[1]


def test_cards_of_what_features_know_stand_beside_what_comes_for_free(tmp_path):
    data = datasets.load("digits")
    run, _ = small_run("simclr", tmp_path, data, images=64)
    list(fit(run, data))
    cards = list(representation.cards(exam.prepare(run, data, 60, 0)))
    whose = ["model", "random weights", "raw pixels", "random patches", "supervised"]
    assert [(c.name, c.of) for c in cards] == [
        (name, of) for of in whose for name in ("kNN accuracy", "linear accuracy")
    ]
    assert all(
        c.n == 60 and c.against == len(data.train) and c.split == "held out" and c.low < c.value <= c.high
        for c in cards
    )
    assert "k = 20" in cards[0].note and "penalty" in cards[1].note
    assert next(c.value for c in cards if c.of == "raw pixels") > 0.9, (
        "digits cannot judge features: their pixels say it all"
    )
    assert not [
        c for c in representation.cards(exam.prepare(run, data, 60, 0, "none")) if c.of == "supervised"
    ], "no network was asked for"
    (few,) = representation.cards(exam.prepare(run, data, 9, 0))
    assert math.isnan(few.value) and "10 at least, and there are 9" in few.warning
    untold = small_run("simclr", tmp_path / "b", bare := toy(200, held_out=60), images=16)[0]
    assert list(representation.cards(exam.prepare(untold, bare, 60, 0))) != []
    unlabelled = replace(bare, y=None, classes=())
    assert (
        list(
            representation.cards(
                exam.prepare(small_run("simclr", tmp_path / "c", unlabelled, images=16)[0], unlabelled, 60, 0)
            )
        )
        == []
    )


@pytest.mark.parametrize("name", ["byol", "simclr", "vicreg"])
def test_a_batch_of_one_is_refused_before_there_is_a_folder(tmp_path, name):
    with pytest.raises(Refusal, match="larger --batch"):
        api.train(name, "digits", tmp_path / "run", batch=1)
    assert not (tmp_path / "run").exists(), "the command that it asks for would find another run there"


# The doctor


def watched(folder: Path, name: str, batches: int, options: dict, rate: float = 2e-3, batch: int = 64) -> Run:
    data = datasets.load("digits")
    run, _ = small_run(
        name, folder, data, options=options, images=batches * batch, batch=batch, warmup=0, rate=rate
    )
    for _ in doctor.watch(run, data, fit(run, data)):
        pass
    return run


def test_byol_without_its_stopped_gradient_collapses_and_is_named_while_it_trains(tmp_path):
    ill = watched(tmp_path, "byol", 260, dict(target="joint"))
    (noted,) = doctor.history(ill)
    assert (
        noted.name == ("spread of projections")
        and "collapsed" in noted.text
        and "--target average" in noted.text
        and noted.until is None
    )
    line = ill.log()[-1]["losses"]
    assert line["model"] < 0.02 and line["spread"] < symptoms.POINT, "a loss that could hardly be better"
    data = datasets.load("digits")
    said = {f.name: f for f in doctor.examine(ill, data, ill.model)}
    assert list(said) == ["spread of projections"] and len(ill.notes) == 1, "said once"
    *_, (name, spread, warning) = ill.model.diagnose(engine.put(data.take(data.held_out)))
    assert name == "spread of projections" and spread < symptoms.POINT and "--target average" in warning


def test_dino_without_its_centre_gives_every_image_one_answer_and_is_named(tmp_path):
    ill = watched(tmp_path / "ill", "dino", 260, dict(centring=1.0), rate=1e-3)
    (noted,) = doctor.history(ill)
    assert noted.name == "teacher collapse" and "--centring 0.5" in noted.text
    assert doctor.history(watched(tmp_path / "well", "dino", 260, dict(centring=0.5), rate=1e-3)) == []


def test_vicreg_without_its_covariance_lies_on_a_line_and_with_it_does_not(tmp_path):
    ill = watched(tmp_path / "ill", "vicreg", 400, dict(covariance=0.0), rate=0.05)
    noted = doctor.history(ill)[0]
    assert noted.name == "one dimension" and "RankMe is 1." in noted.text and "--covariance 1" in noted.text
    well = watched(tmp_path / "well", "vicreg", 400, dict(covariance=1.0), rate=0.05)
    assert doctor.history(well) == [] and well.log()[-1]["losses"]["RankMe"] > 5


def test_rotation_at_a_rate_too_high_learns_nothing_and_at_a_third_of_it_does(tmp_path):
    ill = watched(tmp_path / "ill", "rotation", 900, {}, rate=0.3, batch=16)
    said = {noted.name: noted.text for noted in doctor.history(ill)}
    assert "--rate 0.002" in said["loss at chance"]
    assert doctor.history(watched(tmp_path / "well", "rotation", 900, {}, rate=0.1, batch=16)) == []


@pytest.mark.parametrize(
    "name, options",
    [
        ("byol", {}),
        ("byol", dict(target="stopped")),
        ("simclr", {}),
        ("vicreg", {}),
        ("rotation", {}),
        ("mae", {}),
    ],
)
def test_healthy_runs_are_left_alone(tmp_path, monkeypatch, name, options):
    monkeypatch.setattr(doctor, "FIRST", 128)
    well = watched(tmp_path, name, 210, options)
    assert doctor.history(well) == [] and well.notes == []


def lines(**terms: float) -> list[symptoms.Line]:
    return [dict(seen=3200 * (i + 1), losses=dict(terms)) for i in range(20)]


def test_rules_of_the_log_ask_for_what_lasts():
    assert symptoms.alike(lines(model=0.1, spread=0.05)).name == "spread of projections"
    assert symptoms.alike(lines(model=0.1, spread=0.5)) is None and symptoms.alike(lines(model=0.1)) is None
    assert symptoms.alike(lines(model=0.1, spread=0.5)[:-2] + lines(model=0.1, spread=0.05)[-2:]) is None
    assert symptoms.narrow(lines(RankMe=1.2)).name == "one dimension"
    assert symptoms.narrow(lines(RankMe=4.0)) is None and symptoms.narrow(lines(spread=1.0)) is None
    one = dict(chance=4.85, divergence=0.02)
    assert symptoms.dominated(lines(entropy=0.01, **one)).name == "teacher collapse"
    assert (
        symptoms.dominated(lines(entropy=0.2, **one)) is None
        and symptoms.dominated(lines(entropy=0.01, chance=4.85, divergence=1.0)) is None
    )
    said = symptoms.nothing_learnt(lines(model=5.54, chance=5.545))
    assert said.name == "loss at chance" and "5.54" in said.evidence
    assert (
        symptoms.nothing_learnt(lines(model=5.0, chance=5.545)) is None
        and symptoms.nothing_learnt(lines(model=5.54)) is None
    )
    assert symptoms.nothing_learnt(lines(model=5.54, chance=5.545)[:15]) is None, "too early"
