"""Tasks made of any set of images, and photos cut into tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from likeness.core import Refusal
from likeness.data import Data, load, picture, tasks
from likeness.data.lazy import Made

TASKS = "colourise", "upscale2", "upscale4", "inpaint", "edges"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("task", TASKS)
def test_the_source_is_a_function_of_the_image_alone_whatever_is_beside_it(task, tmp_path):
    data = load("shapes:30", size=32, task=task)
    every, again = np.asarray(data.pairs), load("shapes:12", size=32, task=task)
    assert every.dtype == np.uint8 and every.shape == (30, *data.spec.source[:1], *every.shape[2:])
    assert data.spec.source == (every.shape[1], every.shape[-1])
    assert np.array_equal(np.asarray(again.pairs), every[:12])
    rows = np.array([7, 3, 7])
    assert np.array_equal(data.pairs[rows], every[rows]) and np.array_equal(data.pairs[4], every[4])
    assert np.array_equal(data.take(rows).y.image, picture(every[rows]))
    plain = load("shapes:30", size=32)
    assert np.array_equal(plain.x, data.x) and plain.fingerprint != data.fingerprint
    assert load("shapes:30", **data.settings).fingerprint == data.fingerprint
    assert f"--task {task}" in data.verdict and data.settings["task"] == task


def test_images_that_are_made_on_demand_are_indexed_as_an_array():
    x = np.random.default_rng(0).integers(0, 256, (9, 2, 4, 4)).astype(np.uint8)
    made = Made(lambda rows: x[rows], x.shape)
    mask = np.arange(9) % 2 == 0
    for rows in (3, -1, slice(2, 7, 2), [1, 5], np.array([4, 4]), mask, (slice(0, 3), 1), (2, 0, 1)):
        assert np.array_equal(made[rows], x[rows]), rows
    assert np.array_equal(np.asarray(made), x) and len(made) == 9 and made.nbytes == x.nbytes
    with pytest.raises(IndexError):
        made[9]


def test_grey_is_the_luma():
    data = load("shapes:20", size=16, task="colourise")
    want = np.stack(
        [np.asarray(Image.fromarray(x.transpose(1, 2, 0)).convert("L")) for x in np.asarray(data.x)]
    )
    assert np.array_equal(np.asarray(data.pairs)[:, 0], want)
    with pytest.raises(Refusal, match="are grey"):
        load("digits", task="colourise")


@pytest.mark.parametrize(("task", "factor"), [("upscale2", 2), ("upscale4", 4)])
def test_reduced_images_are_a_cubic_convolution_with_antialias(task, factor):
    """Held against torch's, which has the same kernel (a = -1/2); rounded after each of both axes."""
    data = load("shapes:12", size=32, task=task)
    want, few = torch.from_numpy(np.array(data.x)).double(), 32 // factor
    for size in ((32, few), (few, few)):
        want = F.interpolate(want, size, mode="bicubic", antialias=True).round().clamp(0, 255)
    got = torch.from_numpy(np.asarray(data.pairs)).double()
    assert got.shape == want.shape and (got - want).abs().max() <= 1
    with pytest.raises(Refusal, match=f"type --size {8 * factor}"):
        load("shapes:12", size=8 * factor - 1, task=task)


def test_holes_are_a_quarter_on_average_anywhere_and_grey():
    masks = np.stack([tasks.mask(seed, 32) for seed in range(3000)])
    share = masks.mean((1, 2))
    assert share.mean() == pytest.approx(0.25, abs=0.01) and share.min() > 0.05 and share.max() < 0.6
    assert abs(masks.mean(0) - 0.25).max() < 0.06, "every pixel is missing as often as any other"
    assert np.array_equal(tasks.mask(5, 32), masks[5])
    data = load("shapes:20", size=32, task="inpaint")
    sources = np.asarray(data.pairs)
    hole = sources[:, 3:] == 255
    assert set(np.unique(sources[:, 3])) == {0, 255} and hole.any((1, 2, 3)).all()
    assert np.array_equal(sources[:, :3], np.where(hole, tasks.HOLE, data.x))


def test_edges_are_thin_closed_lines_where_the_brightness_changes():
    y, x = np.mgrid[:40, :40]
    disc = np.where(np.hypot(y - 20, x - 20) < 11, 220, 40).astype(np.uint8)[None, None]
    line = tasks.edges(disc)[0, 0] == 0
    radius = np.hypot(*(np.argwhere(line) - 20).T)
    assert abs(radius - 11).max() < 1.6, "on the border"
    square = line[1:, 1:] & line[:-1, 1:] & line[1:, :-1] & line[:-1, :-1]
    assert line.sum() <= 8 * 11 and not square.any(), "one pixel thin"
    angles = np.sort(np.arctan2(*(np.argwhere(line) - 20).T))
    assert np.diff(angles).max() < 0.35
    step = np.repeat(np.where(np.arange(20) < 10, 30, 230).astype(np.uint8)[None], 20, 0)[None, None]
    assert (tasks.edges(step)[0, 0] == 0).sum(1).tolist() == [1] * 20, "of two equal ones the first"
    assert (tasks.edges(np.full((1, 3, 16, 16), 90, np.uint8)) == 255).all()
    faint = np.repeat(np.where(np.arange(20) < 10, 100, 106).astype(np.uint8)[None], 20, 0)[None, None]
    assert (tasks.edges(faint) == 255).all(), "what is hardly seen is none"


def test_an_edge_goes_on_along_weak_places_but_begins_at_a_strong_one():
    fading = np.full((30, 30), 100.0)
    fading[:, 15:] += np.linspace(100, 30, 30)[:, None]  # strong above, weak below
    both = tasks.edges(np.rint(fading).astype(np.uint8)[None, None])[0, 0] == 0
    weak = tasks.edges(np.rint(fading[20:]).astype(np.uint8)[None, None])[0, 0] == 0
    assert both[24:28].any(1).all() and not weak.any()


def test_points_have_no_task():
    with pytest.raises(Refusal, match="is for images"):
        load("ring:50", task="edges")


# Tiles


def photo(folder, name: str, h: int, w: int, seed: int) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    x = np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)
    Image.fromarray(x).save(folder / name)
    return x


def test_photos_are_cut_at_full_resolution_and_split_by_photo(tmp_path):
    sizes = [(50, 70), (32, 32), (16, 90), (33, 47), (40, 40), (20, 64)]
    photos = {f"{i}.png": photo(tmp_path / "p", f"{i}.png", *size, i) for i, size in enumerate(sizes)}
    photo(tmp_path / "p", "small.png", 15, 60, 9)
    data = load(tmp_path / "p", size=16, tiles=True)
    want = sum((h // 16) * (w // 16) for h, w in sizes)
    assert len(data.x) == want and f"cut into {want} tiles of 16 x 16" in data.verdict
    assert "7 images: 6 used, 1 skipped" in data.verdict and "1 smaller than a tile" in data.verdict
    for name, whole in photos.items():
        h, w = whole.shape[:2]
        top, left = h % 16 // 2, w % 16 // 2
        tiles = [
            whole[y : y + 16, x : x + 16].transpose(2, 0, 1)
            for y in range(top, h - 15, 16)
            for x in range(left, w - 15, 16)
        ]
        assert np.array_equal(data.x[[i for i, n in enumerate(data.names) if n == name]], np.stack(tiles))
    sides = [{data.names[row] for row in rows} for rows in (data.train, data.held_out)]
    assert not sides[0] & sides[1] and sides[0] | sides[1] == set(photos)
    assert len(data.train) + len(data.held_out) == want
    assert load(tmp_path / "p", **data.settings).fingerprint == data.fingerprint
    scaled = load(tmp_path / "p", size=16)
    assert len(scaled.x) == 7 and load(tmp_path / "p", size=16, tiles=True).fingerprint == data.fingerprint
    with pytest.raises(Refusal, match="such as --size 64"):
        load(tmp_path / "p", tiles=True)


def test_a_jpeg_is_cut_as_it_is_and_not_at_an_eighth(tmp_path):
    x = np.repeat(np.repeat(np.random.default_rng(1).integers(0, 256, (4, 4, 3)), 128, 0), 128, 1)
    for i in range(2):
        (tmp_path / "p").mkdir(exist_ok=True)
        Image.fromarray(np.roll(x, i, 1).astype(np.uint8)).save(tmp_path / "p" / f"{i}.jpg", quality=95)
    data = load(tmp_path / "p", size=16, tiles=True)
    assert len(data.x) == 2 * 32 * 32


def test_tiles_of_pairs_are_cut_alike(tmp_path):
    for i in range(4):
        one, other = photo(tmp_path / "d", "x.png", 40, 50, i), photo(tmp_path / "d", "x.png", 40, 50, 9 + i)
        for side, x in (("A", one), ("B", other)):
            (tmp_path / "q" / side).mkdir(parents=True, exist_ok=True)
            Image.fromarray(x).save(tmp_path / "q" / side / f"{i}.png")
    data = load(tmp_path / "q", size=16, tiles=True)
    assert len(data.x) == len(data.pairs) == 24
    assert np.array_equal(
        data.pairs[0], np.asarray(Image.open(tmp_path / "q/A/0.png"))[4:20, 1:17].transpose(2, 0, 1)
    )
    assert np.array_equal(
        data.x[0], np.asarray(Image.open(tmp_path / "q/B/0.png"))[4:20, 1:17].transpose(2, 0, 1)
    )
    photo(tmp_path / "q" / "B", "2.png", 60, 50, 5)
    with pytest.raises(Refusal, match="not of one size"):
        load(tmp_path / "q", size=16, tiles=True)


def test_a_task_of_tiles(tmp_path):
    for i in range(3):
        photo(tmp_path / "p", f"{i}.png", 40, 50, i)
    data = load(tmp_path / "p", size=16, tiles=True, task="upscale2")
    assert data.pairs.shape == (18, 3, 8, 8) and isinstance(data, Data) and replace(data).pairs is data.pairs
