"""Points in the plane: their laws, pictures used as densities, how they are shown, and every verb on a run
that learnt them; stacked digits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from commands import ask, refused
from data_helpers import encoded, no_leak, photo, same
from likeness import figures
from likeness.core import BadData, Refusal, Spec
from likeness.data import load, user_images
from likeness.data.check import check
from likeness.models import load as load_model
from likeness.reports.notebook import Pictures
from likeness.runs.latent_model import make
from test_data_sets import locked_set

CENTRES = {
    "ring": (np.array([[np.cos(k * np.pi / 4), np.sin(k * np.pi / 4)] for k in range(8)]), 0.01),
    "grid": (np.array([[x / 4, y / 4] for y in (-4, -2, 0, 2, 4) for x in (-4, -2, 0, 2, 4)]), 0.0125),
}


def plane(source: str | Path, **how: object):
    data = load(str(source), **how)
    return data, data.x.reshape(-1, 2).astype(float)


def fair(counts: np.ndarray, shares: np.ndarray | None = None) -> bool:
    """Pearson's chi-square finds nothing against these shares, or equal ones, at one in a thousand."""
    expected = None if shares is None else shares / shares.sum() * counts.sum()
    return bool(stats.chisquare(counts, expected).pvalue > 1e-3)


# Laws


@pytest.mark.parametrize("law", CENTRES)
def test_modes_are_where_the_paper_has_them(law):
    data, x = plane(f"{law}:20000")
    centres, sigma = CENTRES[law]
    assert (
        np.allclose(data.modes.centres, centres)
        and data.modes.sigma == sigma
        and data.spec == Spec(2, 1, len(centres), 0)
        and data.spec.points
    )
    nearest = ((x[:, None] - centres) ** 2).sum(2).argmin(1)
    assert np.array_equal(nearest, data.y) and fair(np.bincount(data.y, minlength=len(centres)))
    away = (x - centres[data.y]) / sigma
    assert (
        abs(away.mean()) < 0.02
        and np.allclose(np.cov(away.T), np.eye(2), atol=0.04)
        and stats.kstest(away.reshape(-1), "norm").pvalue > 1e-3
    )


def test_moons_are_half_circles_that_interlock():
    data, x = plane("moons")
    assert data.modes is None and fair(np.bincount(data.y)) and data.classes == ("part 1", "part 2")
    for k, (centre, up) in enumerate((((-1 / 3, -1 / 6), 1), ((1 / 3, 1 / 6), -1))):
        to = x[data.y == k] - centre
        inner = to[to[:, 1] * up > 0.15]  # away from the ends the noise is across the arc
        r = np.hypot(*inner.T)
        assert abs(r.mean() - 2 / 3) < 0.003 and abs(r.std() - 0.03) < 0.002
        angle = np.arctan2(up * to[:, 1], to[:, 0])
        middle = angle[(angle > 0.3) & (angle < np.pi - 0.3)]
        assert stats.kstest(middle, stats.uniform(0.3, np.pi - 0.6).cdf).pvalue > 1e-3
    assert np.abs(x).max() < 1.15


def test_the_spiral_has_two_arms_with_points_evenly_along_them():
    data, x = plane("spiral:20000")
    t = np.hypot(*x.T) / 0.95
    off = np.angle(np.exp(1j * (np.arctan2(x[:, 1], x[:, 0]) - 3 * np.pi * t - np.pi * data.y)))
    # radians times radius: noise of 0.01 in r turns by 3 pi 0.01 / 0.95
    assert np.abs(off * t).max() < 0.55 and fair(np.bincount(data.y))
    along = np.linspace(np.sqrt(0.05), 1, 2000)
    length = np.concatenate(
        [[0], np.cumsum(np.hypot(np.diff(along), np.diff(along) * 3 * np.pi * (along[1:] + along[:-1]) / 2))]
    )
    assert stats.kstest(np.interp(t, along, length / length[-1]), "uniform").statistic < 0.03


def test_the_discs_are_filled_evenly_and_nothing_lies_between_them():
    data, x = plane("disjoint:20000")
    assert data.modes is None and data.classes == ("part 1", "part 2") and fair(np.bincount(data.y))
    r = np.linalg.norm(x - np.where(data.y == 0, -0.75, 0.75)[:, None], axis=1)
    assert stats.kstest((r / 0.2) ** 2, "uniform").pvalue > 1e-3


def test_points_are_always_the_same_and_the_split_is_fair():
    data = load("grid:20000")
    assert (
        same(load("grid:20000"), data)
        and same(load("grid:20000", **data.settings), data)
        and no_leak(load("ring:500"))
    )
    assert len({load(s).fingerprint for s in ("grid:20000", "grid:20001", "ring:20000", "moons:20000")}) == 4
    held, x = data.held_out, data.x.reshape(-1, 2)
    assert abs(len(held) / len(x) - 0.1) < 0.01 and fair(np.bincount(data.y[held], minlength=25))
    assert all(stats.ks_2samp(x[held, k], x[data.train, k]).pvalue > 1e-3 for k in (0, 1))
    batch = data.batch(0, 0, 8)
    assert batch.x.dtype == torch.float32 and np.array_equal(
        batch.x.numpy(), data.x[data.train[data.order(0, np.arange(8))]]
    )


def test_how_many_classes_there_are_does_not_depend_on_how_many_points():
    assert (
        load("ring:2").spec.labels == 8
        and load("moons:2").spec.labels == 2
        and len(load("ring").x) == 100_000
    )


@pytest.mark.parametrize(
    "how", [dict(size=8), dict(size=1), dict(binarize=True), dict(colour="grey"), dict(colour="rgb")]
)
def test_wishes_that_only_images_can_fulfil_are_refused(how):
    with pytest.raises(Refusal, match="leave --size, --colour and --binarize out"):
        load("ring:50", **how)


@pytest.mark.parametrize("name", ["ring:x", "ring:1", "grid:-5", "ring:99999999999"])
def test_a_number_that_makes_no_sense_is_refused(name):
    with pytest.raises(Refusal, match="number of points"):
        load(name)


def test_check_counts_no_blank_points_and_no_near_copies():
    found = check("ring:300")
    assert (
        (found.blank, found.exact.groups, found.near.groups) == (0, 0, 0)
        and len(found.classes) == 8
        and sum(found.classes.values()) == 300
    )


# A picture as a density


def draw(path: Path, x: np.ndarray, mode: str | None = None) -> Path:
    Image.fromarray(x.astype(np.uint8), mode).save(path)
    return path


def test_dark_places_hold_many_points_and_white_ones_none(tmp_path):
    grey = np.full((12, 30), 255)
    grey[1:4, 2:6], grey[8:11, 20:28], grey[0, 29] = 0, 128, 230
    data, x = plane(f"density:{draw(tmp_path / 'a.png', grey)}")
    assert (
        len(x) == 100_000
        and data.y is None
        and data.modes is None
        and np.abs(x[:, 0]).max() <= 1
        and np.abs(x[:, 1]).max() <= 12 / 30
    )
    # y points up
    column, row = np.floor(x[:, 0] * 15 + 15).astype(int), np.floor(6 - x[:, 1] * 15).astype(int)
    counts, ink = np.bincount(row * 30 + column, minlength=360), (255 - grey).reshape(-1)
    assert not counts[ink == 0].any() and fair(counts[ink > 0], ink[ink > 0])
    assert stats.kstest((x[:, 0] * 15 + 15) % 1, "uniform").pvalue > 1e-3, "evenly within a pixel"
    assert same(load(data.source), data) and same(load(data.source, **data.settings), data)


def test_a_large_picture_is_scaled_down_whole(tmp_path):
    wide = np.full((600, 1500), 255)
    wide[:, :150] = 0  # a square crop would lose it
    data, x = plane(f"density:{draw(tmp_path / 'wide.png', wide)}")
    assert (
        "512x205" in data.verdict
        and x[:, 0].max() < -0.78
        and x[:, 0].min() > -1.001
        and abs(np.abs(x[:, 1]).max() - 0.4) < 0.01
    )


def test_what_is_transparent_has_the_background_s_darkness(tmp_path):
    x = np.zeros((20, 20, 4))
    x[:, :10, 3] = 255  # black on the left, nothing on the right
    path = f"density:{draw(tmp_path / 'a.png', x, 'RGBA')}"
    left, every = plane(path)[1], plane(path, background="black")[1]
    assert left[:, 0].max() <= 0 and abs((every[:, 0] < 0).mean() - 0.5) < 0.01


def test_pictures_that_are_of_no_use_are_lessons(tmp_path):
    good = encoded(photo(), "PNG")
    for name, blob in {
        "cut.png": good[:300],
        "text.png": b"hello",
        "empty.png": b"",
        "flip.png": good[:200] + bytes([good[200] ^ 255]) + good[201:],
    }.items():
        (tmp_path / name).write_bytes(blob)
        with pytest.raises(BadData, match=f"{name} cannot be used as a density"):
            load(f"density:{tmp_path / name}")
    with pytest.raises(BadData, match="white all over"):
        load(f"density:{draw(tmp_path / 'white.png', np.full((20, 20), 255))}")
    for source in (
        "density:",
        "density",
        f"density:{tmp_path}",
        f"density:{tmp_path / 'none.png'}",
        "density:\0",
        "density:PICTURE",
    ):
        with pytest.raises(Refusal, match=r"as in density:drawing\.png"):
            load(source)
    with pytest.raises(Refusal, match="leave --size"):
        load(f"density:{tmp_path / 'white.png'}", size=32)


def test_somebody_s_own_points(tmp_path):
    data, image = load("ring:50"), draw(tmp_path / "a.png", np.zeros((9, 9)))
    assert np.array_equal(user_images.images("ring:50", data.spec, data.settings, 7).x.numpy(), data.x[:7])
    assert user_images.images(f"density:{image}", data.spec, data.settings, 5).x.shape == (5, 2, 1, 1)
    for source, spec in ((str(image), data.spec), ("digits", data.spec), ("ring:50", Spec(1, 8))):
        with pytest.raises(Refusal, match=r"does not fit a run that has learnt (points|images); name"):
            user_images.images(source, spec, {}, 3)


# Stacked digits


def test_stacked_digits_are_three_digits_pixel_by_pixel(tmp_path, monkeypatch):
    x, y, tx, ty = locked_set(monkeypatch, tmp_path / "sets" / "mnist")
    monkeypatch.setenv("LIKENESS_DATA", str(tmp_path / "sets"))
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("likeness.data.named.STACKED_TESTS", 500)
    data = load("stacked-mnist:3000")
    assert (
        data.x.shape == (3500, 3, 8, 8)
        and isinstance(data.x, np.memmap)
        and data.spec.labels == 1000
        and data.classes[7] == "007"
    )
    assert data.train.tolist() == list(range(3000)) and data.held_out.tolist() == list(range(3000, 3500))
    for rows, digits, labels in ((data.train, x, y), (data.held_out, tx, ty)):
        known = {
            digit.astype(np.uint8).tobytes(): (int(label), i)
            for i, (digit, label) in enumerate(zip(digits, labels))
        }
        found = np.array([[known[channel.tobytes()] for channel in image] for image in data.x[rows]])
        assert np.array_equal(found[..., 0] @ [100, 10, 1], data.y[rows])
        assert all(fair(np.bincount(found[:, c, 1], minlength=len(digits))) for c in range(3))
        assert fair(np.bincount(found[:, 0, 0] * 10 + found[:, 2, 0], minlength=100)), (
            "channels are independent"
        )
    fewer = load("stacked-mnist:1000")
    assert np.array_equal(fewer.x[:1000], data.x[:1000]) and np.array_equal(fewer.x[1000:], data.x[3000:]), (
        "its judges stay the same"
    )
    assert same(load("stacked-mnist:3000", **data.settings), data) and fewer.fingerprint != data.fingerprint
    small = load("stacked-mnist:1000", size=4)
    assert small.x.shape[1:] == (3, 4, 4) and np.array_equal(small.y, fewer.y)
    with pytest.raises(Refusal, match="by their colours"):
        load("stacked-mnist:1000", colour="grey")


# How points are shown

BLUE, REAL = np.array(figures.ON_TOP[0]), np.array(figures.BENEATH[0])


def place(x: float, y: float, reach: float = 1.15) -> tuple[int, int]:
    return int((1 - y / reach) / 2 * figures.PLOT), int((1 + x / reach) / 2 * figures.PLOT)


def near(colour: np.ndarray, other: np.ndarray, by: float = 12) -> bool:
    return bool(np.abs(colour.astype(float) - other).max() <= by)


def test_dots_are_where_the_points_are():
    points = torch.tensor([[0.5, 0.8]]).repeat(20, 1)
    page = figures.scatter(points, torch.tensor([[-0.4, 0.3]]).repeat(20, 1))
    assert page.shape == (figures.PLOT, figures.PLOT, 3) and page.dtype == np.uint8
    assert (
        near(page[place(0.5, 0.8)], BLUE)
        and near(page[place(-0.4, 0.3)], REAL)
        and near(page[place(0.5, -0.8)], np.full(3, 255))
    )
    cover = 1 - figures.grids._dots(points.numpy(), 1.15, 0.5, 3.0)
    assert abs((1 - cover).sum() - np.pi * 9) < 2 and ((cover > 0.1) & (cover < 0.9)).sum() > 4, (
        "a disc with soft edges"
    )


def test_samples_lie_on_top_and_many_dots_are_darker_than_one():
    one, many = torch.zeros(1, 2) + 0.3, torch.zeros(50, 2) + 0.3
    assert near(figures.scatter(many, many)[place(0.3, 0.3)], BLUE)
    assert figures.scatter(one)[place(0.3, 0.3)].sum() > figures.scatter(many)[place(0.3, 0.3)].sum() + 50


def test_the_axes_double_when_points_lie_outside_and_what_is_left_out_is_said():
    at = torch.tensor([[1.0, 1.0]]).repeat(1000, 1)
    inside, stray = (
        figures.scatter(at),
        figures.scatter(torch.cat([at, torch.tensor([[9.0, 0], [np.nan, 0], [np.inf, 0]])])),
    )
    assert near(inside[place(1, 1)], BLUE) and near(stray[place(1, 1)], BLUE)
    changed = np.argwhere((inside != stray).any(2))
    assert len(changed) > 50 and changed[:, 0].max() < 20, "only words, in the upper corner"
    assert near(figures.scatter(3 * at)[place(3, 3, 4.6)], BLUE)
    assert (
        figures.scatter(torch.full((5, 2), np.nan)).shape == inside.shape
        and figures.scatter(1e30 * at).shape == inside.shape
    )
    with pytest.raises(Refusal):
        figures.scatter(torch.zeros(0, 2))


def test_one_helper_shows_images_and_points():
    x, image = torch.rand(9, 2, 1, 1), torch.rand(4, 3, 8, 8)
    assert np.array_equal(figures.shown(x), figures.scatter(x.flatten(1))) and np.array_equal(
        figures.shown(image), figures.grid(image)
    )


def test_points_are_saved_as_they_are(tmp_path):
    x = 3 * torch.randn(9, 2, 1, 1)
    found = Pictures(x, dict(run="r", seen=1))
    assert np.array_equal(np.load(found.save(tmp_path / "a.npy")), x.numpy().reshape(9, 2)) and repr(
        found
    ).startswith("<9 points")
    assert np.array_equal(np.asarray(Image.open(found.save(tmp_path / "a.png"))), figures.shown(x))
    with pytest.raises(Refusal, match="no picture of its own"):
        found.save(tmp_path / "folder")


# Models, and the command line


def test_models_of_images_name_those_that_learn_points():
    spec = Spec(2, 1, 0, 0)
    for name in ("vae", "ae", "vqvae", "pixelcnn", "classifier", "vicreg"):
        with pytest.raises(
            Refusal,
            match=f"{name} learns images, and these are points in the plane; models that learn points: .*gan",
        ):
            make(load_model(name), spec, {}, None)
    with pytest.raises(Refusal, match="--augment"):  # a lesson about options stays what it is
        make(load_model("gan"), spec, dict(augment="full"), None)


def test_a_run_of_points_from_training_to_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "cat.png", np.tri(9) * 255)
    small = ["--hidden", "16", "--depth", "1", "--precision", "fp32", "--images", "640"]
    assert ask(capsys, "train", "gan", "ring:2000", "r", *small, "--no-report")["seen"] == 640
    assert ask(capsys, "train", "gan", "density:cat.png", "d", *small, "--no-report")["seen"] == 640
    shots = sorted((tmp_path / "r" / "samples").glob("*.png"))
    assert len(shots) > 3 and all(np.asarray(Image.open(p)).shape == (400, 400, 3) for p in shots)
    assert ask(capsys, "sample", "r", "-n", "30", "-o", "x.npy")["n"] == 30 and np.load("x.npy").shape == (
        30,
        2,
    )
    assert ask(capsys, "sample", "r", "-o", "x.png")["n"] == 2000
    assert "no picture of its own" in refused(capsys, "sample", "r", "-o", "folder")
    assert "a detector looks at images" in refused(capsys, "detect", "r", "-o", "detector")
    assert ("bayes compares ways to tell images apart") in refused(
        capsys, "bayes", "ring:2000", "--minutes", "0.01"
    )
    for verb in ("complete", "score", "field"):
        assert "gan cannot" in refused(capsys, verb, "r")
    monkeypatch.chdir(tmp_path / "d")  # where cat.png is not
    assert (
        json.loads((tmp_path / "d" / "config.json").read_text())["data"]["source"]
        == f"density:{tmp_path / 'cat.png'}"
    )
    for run in ("../r", "../d"):
        assert ask(capsys, "evaluate", run, "-n", "60")
        page = Path(run, "report.html").read_text()
        assert "training points in the plane" in page and 'class="plane"' in page and "Over time" in page
        assert (
            "Nearest training" not in page
            and "2×1×1" not in page
            and "nan" not in re.sub(r"base64,[^\"]*", "", page)
        )
    assert ask(capsys, "check", "density:../cat.png")["cost"][0]["model"] == "gan"
