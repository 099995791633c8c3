"""Yardsticks against closed forms, brute force and an independent implementation; each check is seen to catch
its fake."""

from __future__ import annotations

import io
import json
import math
import sys
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.data import camera
from skimage.metrics import structural_similarity

from likeness.metrics import card, likelihood, neighbours, reconstruction
from likeness.metrics.card import Score, from_dict, interval, measure, short, wilson


def noise(n: int, *shape: int, levels: int = 256, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).integers(0, levels, (n, *shape)) * (255 // (levels - 1))).astype(
        np.uint8
    )


def pixels(x: np.ndarray) -> torch.Tensor:
    """uint8 as models see it."""
    return torch.from_numpy(x.astype(np.float32) / 127.5 - 1)


def floats(n: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# Likelihood


def test_uniform_and_nats():
    assert likelihood.uniform(256) == 8.0
    assert float(likelihood.nats(np.array([likelihood.uniform(2)]), 784)[0]) == pytest.approx(
        543.43, abs=0.005
    )
    # the fake: a mean over pixels instead of a sum
    assert math.log(2) * likelihood.uniform(2) != pytest.approx(543.43)


def test_a_card_says_how_far_single_bits_by_an_equation_are_off():
    assert likelihood.solved([None, None], 1e-4) == ""
    assert ("tolerance of 0.0001: single values are off by 0.005000 bits/dim") in likelihood.solved(
        [0.003, None, math.sqrt(41e-6)], 1e-4
    )


@pytest.mark.parametrize("levels", [2, 4, 256])
def test_independent_pixels_sum_to_one(levels):
    train = noise(7, 1, 1, 1, levels=levels)
    everything = (np.arange(levels) * 255 / (levels - 1)).round().astype(np.uint8).reshape(-1, 1, 1, 1)
    total = (2.0 ** -likelihood.histogram(train, np.arange(7), everything, levels)).sum()
    assert total == pytest.approx(1, abs=1e-6)


def test_bernoulli_with_laplace_smoothing():
    train = np.array([0, 0, 255], np.uint8).reshape(3, 1, 1, 1)
    bits = likelihood.histogram(train, np.arange(3), train[[0, 2]], levels=2)
    assert bits == pytest.approx([-math.log2(3 / 5), -math.log2(2 / 5)], abs=1e-6)
    # never seen, not impossible: 1 of 4
    assert likelihood.histogram(train, np.arange(2), train[2:], 2)[0] == pytest.approx(2.0)


def test_histogram_is_fitted_on_training_rows_alone(monkeypatch):
    x = noise(300, 3, 4, 4)
    honest = likelihood.histogram(x, np.arange(100), x[200:]).mean()
    assert honest == pytest.approx(8, abs=0.2)
    # the fake: fitted on what it is scored on
    assert likelihood.histogram(x, np.arange(200, 300), x[200:]).mean() < honest - 0.3
    monkeypatch.setattr(likelihood, "CHUNK", 100)
    monkeypatch.setattr(likelihood, "TABLE", 3 * 4 * 256 * 2)
    assert likelihood.histogram(x, np.arange(100), x[200:]).mean() == pytest.approx(honest)
    view = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert likelihood.histogram(view, np.arange(100), view[200:]).mean() == pytest.approx(honest)


def test_a_histogram_of_large_images_needs_little_memory():
    x = noise(12, 3, 128, 128)
    tracemalloc.start()
    likelihood.histogram(x, np.arange(12), x[:4])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26 < x[0].size * 256 * 8  # the counts of all pixels at once


@pytest.mark.parametrize("size, n", [(8, 32768), (28, 2674), (128, 128), (256, 100), (1024, 8), (8192, 1)])
def test_large_images_are_put_into_fewer_files(size, n):
    assert likelihood.affordable(size * size) == n


@pytest.mark.parametrize("form", ["PNG", "WebP"])
@pytest.mark.parametrize("channels", [1, 3, 2])
def test_no_codec_beats_chance_on_noise(form, channels):
    x = noise(9, channels, 32, 32)
    alone, (together, n) = likelihood.codec(x, form), likelihood.sheet(x, form)
    assert alone.shape == (9,) and n == 9
    assert alone.min() > 8 and 8 < together < alone.mean() < 9.5


def test_two_levels_cost_a_bit_in_a_png():
    x = noise(4, 1, 64, 64, levels=2)
    assert 1 < likelihood.sheet(x, "PNG", 2)[0] < likelihood.codec(x, "PNG", 2).mean() < 1.3


def test_codecs_are_lossless_and_see_every_pixel():
    image = noise(1, 3, 16, 16)[0]
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0).copy()).save(file, "PNG", optimize=True)
    assert likelihood.codec(image[None], "PNG")[0] == file.tell() * 8 / image.size
    assert np.array_equal(np.asarray(Image.open(file)).transpose(2, 0, 1), image)


def test_a_sheet_shows_whole_images_side_by_side():
    x = noise(6, 1, 5, 7) // 16 * 16
    page, file = np.block([[x[0, 0], x[1, 0]], [x[2, 0], x[3, 0]], [x[4, 0], x[5, 0]]]), io.BytesIO()
    Image.fromarray(page).save(file, "PNG", optimize=True)
    assert likelihood.sheet(x, "PNG") == (file.tell() * 8 / page.size, 6)


def test_a_sheet_has_no_empty_places_and_is_bounded(monkeypatch):
    assert likelihood.sheet(noise(7, 1, 8, 8), "PNG")[1] == 6  # 2 x 3
    monkeypatch.setattr(likelihood, "SHEET", 300)
    assert likelihood.sheet(noise(50, 1, 8, 8), "PNG")[1] == 4


# Reconstruction


def test_psnr_of_a_known_error():
    x = floats(3, 1, 8, 8)
    error = reconstruction.psnr(x, x + 0.1)
    assert error.tolist() == pytest.approx([10 * math.log10(4 / 0.01)] * 3, abs=1e-4)
    assert abs(float(error[0]) - 10 * math.log10(1 / 0.01)) > 6  # the fake: a data range of 1
    assert reconstruction.psnr(x, x).tolist() == [reconstruction.BEST_PSNR] * 3


def test_psnr_is_averaged_over_images_not_over_errors():
    x = torch.zeros(2, 1, 4, 4)
    y = torch.stack([x[0] + 0.01, x[1] + 0.5])
    assert (
        float(reconstruction.psnr(x, y).mean())
        > 10 * math.log10(4 / float(reconstruction.mse(x, y).mean())) + 5
    )


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 20), (3, 11, 11), (1, 8, 8), (1, 7, 9), (2, 64, 64)])
def test_ssim_is_that_of_scikit_image_on_levels(shape):
    """Of uint8 images, as everybody else takes it."""
    a = noise(2, *shape)
    b = (a + 0.2 * (noise(2, *shape, seed=1) - 128.0)).clip(0, 255).round().astype(np.uint8)
    width = len(reconstruction.gaussian(min(shape[1:])))
    how = dict(channel_axis=0, data_range=255, gaussian_weights=True, use_sample_covariance=False)
    theirs = [
        structural_similarity(one.astype(float), other.astype(float), sigma=1.5 * width / 11, **how)
        for one, other in zip(a, b)
    ]
    found = reconstruction.ssim(pixels(a), pixels(b)).tolist()
    assert found == pytest.approx(theirs, abs=1e-5)
    flat = [
        structural_similarity(
            one.astype(float), other.astype(float), channel_axis=0, data_range=255, win_size=width
        )
        for one, other in zip(a, b)
    ]
    assert found != pytest.approx(flat, abs=1e-4)  # the fake: a window without weights
    signed = [
        structural_similarity(
            one / 127.5 - 1, other / 127.5 - 1, sigma=1.5 * width / 11, **how | dict(data_range=2)
        )
        for one, other in zip(a, b)
    ]
    assert found != pytest.approx(signed, abs=1e-3)  # the fake: luminances that may be negative


def test_ssim_of_two_greys_next_to_the_middle_is_nearly_one():
    """(2ab + c1) / (a^2 + b^2 + c1): closed form, where nothing varies."""
    a, b = (np.full((1, 1, 16, 16), level, np.uint8) for level in (134, 121))
    c1 = 0.01**2 * 255**2
    expected = (2 * 134 * 121 + c1) / (134**2 + 121**2 + c1)
    assert (
        reconstruction.ssim(pixels(a), pixels(b)).item() == pytest.approx(expected, abs=1e-6)
        and expected > 0.994
    )


def test_ssim_hardly_minds_a_brighter_photograph_and_ranks_a_blur_above_noise():
    photograph = camera()[None, None, 100:228, 200:328]
    brighter = (photograph.astype(int) + 10).clip(0, 255).astype(np.uint8)
    assert reconstruction.ssim(pixels(photograph), pixels(brighter)).item() > 0.9
    digit = np.zeros((1, 1, 28, 28))
    digit[..., 6:22, 12:16] = 255.0
    noisy = (
        (digit + 40 * np.random.default_rng(0).normal(size=digit.shape)).clip(0, 255).round().astype(np.uint8)
    )
    blurred = gaussian_filter(digit, (0, 0, 1, 1)).round().astype(np.uint8)
    of_noise, of_blur = (
        reconstruction.ssim(pixels(digit.astype(np.uint8)), pixels(x)).item() for x in (noisy, blurred)
    )
    assert of_blur > of_noise + 0.2


def test_an_interval_of_no_width_is_shown():
    assert Score("Fréchet distance", 2.0, low=2.0, high=2.0).number == "2.000 [2.000, 2.000]"
    assert (
        measure("squared error", np.full(200, 0.25)).number == "0.2500 [0.2500, 0.2500]"
        and Score("seconds", 2.0).number == "2.000"
    )


def test_a_card_of_ssim_says_its_version():
    card_ = measure("SSIM", np.full(20, 0.5), note=reconstruction.SSIM_NOTE)
    assert card_.version == reconstruction.SSIM_VERSION == 2 and "not comparable with version 1" in card_.note
    old = card_.as_dict()
    del old["version"]
    assert (
        from_dict(old).version == 1
        and from_dict(card_.as_dict()) == card_
        and measure("PSNR", np.full(20, 0.5)).version == 1
    )


def test_ssim_of_the_same_image_is_one_even_if_tiny():
    for size in (1, 2, 5, 12):
        x = floats(2, 1, size, size)
        assert reconstruction.ssim(x, x).tolist() == pytest.approx([1, 1])


def test_pca_leaves_the_trailing_variance():
    train = floats(60, 1, 4, 4) * 0.3
    flat = train.flatten(1).double()
    eigenvalues = torch.linalg.svdvals(flat - flat.mean(0)) ** 2 / 60
    error = reconstruction.mse(train, reconstruction.pca(train, 5)(train)).mean() * 16
    assert float(error) == pytest.approx(float(eigenvalues[5:].sum()), rel=1e-4)
    assert float(reconstruction.mse(train, reconstruction.pca(train, 99)(train)).max()) < 1e-9
    mean = reconstruction.mse(train, reconstruction.mean_image(train)(train)).mean() * 16
    assert float(mean) == pytest.approx(float(eigenvalues.sum()), rel=1e-4)


@pytest.mark.parametrize("n, shape", [(12, (3, 20, 20)), (700, (1, 5, 5)), (16, (1, 4, 4)), (17, (1, 4, 4))])
def test_pca_is_exact_with_more_images_or_more_pixels(n, shape, monkeypatch):
    monkeypatch.setattr(
        reconstruction, "_slices", lambda length, others: [slice(i, i + 7) for i in range(0, length, 7)]
    )
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    train = floats(n, *shape) * 0.3
    linear, flat = reconstruction.pca(train, 6), train.flatten(1).double()
    _, _, axes = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    assert torch.allclose(linear.axes.T @ linear.axes, torch.eye(6).double(), atol=1e-6)
    # the same subspace
    assert torch.allclose(torch.linalg.svdvals(axes[:6] @ linear.axes), torch.ones(6).double(), atol=1e-6)
    assert reconstruction.pca(train, 99_999).axes.shape[1] == min(n - 1, math.prod(shape))
    assert reconstruction.affordable(3 * 256 * 256) == 341 and reconstruction.affordable(784) == 10_000


@pytest.mark.parametrize(
    "train", [torch.zeros(5, 1, 4, 4), torch.full((40, 1, 4, 4), 0.3), floats(1, 1, 4, 4)]
)
def test_pca_of_images_without_differences_is_their_mean_without_a_warning(train):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        linear = reconstruction.pca(train, 3)
        assert linear.axes.shape == (16, 0)
        assert torch.allclose(linear(train), train)


# Neighbours


def brute(x: np.ndarray, train: np.ndarray, k: int) -> np.ndarray:
    a, b = x.reshape(len(x), -1).astype(np.int64), train.reshape(len(train), -1).astype(np.int64)
    return np.sqrt(np.sort(np.array([((b - row) ** 2).sum(1) for row in a]), 1)[:, :k] / a.shape[1])


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 20, 20), (3, 33, 33)])
def test_nearest_is_exact(shape, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", 20_000)
    np.save(tmp_path / "x.npy", noise(120, *shape))
    train = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows, x = np.arange(0, 120, 2), np.concatenate([noise(9, *shape, seed=1), train[:3]])
    found = neighbours.nearest(x, train, rows, k=3)
    assert np.array_equal(found.distance, brute(x, np.asarray(train)[rows], 3))
    assert set(found.row.ravel()) <= set(rows)
    again = brute(x[:1], np.asarray(train)[found.row[0]], 3)
    assert np.array_equal(again[0], found.distance[0])


def test_a_copy_with_one_pixel_changed_by_one_level_is_no_copy():
    """Where the usual |a|^2 + |b|^2 - 2ab in float32 is off by hundreds of levels squared."""
    train = np.clip(noise(50, 3, 64, 64) // 8 + 224, 0, 254)
    x = train[[3, 4]].copy()
    x[0, 0, 0, 0] += 1
    found = neighbours.nearest(x, train, np.arange(50))
    assert found.row[:, 0].tolist() == [3, 4]
    assert found.distance[:, 0].tolist() == [math.sqrt(1 / 12288), 0.0]
    assert neighbours.exact(found).tolist() == [0, 1]
    a, b = (i.reshape(len(i), -1).astype(np.float32) for i in (x, train))
    fake = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    assert fake[0, 3] != 1 or fake[1, 4] != 0


def test_an_image_from_behind_is_as_near_as_it_is():
    train = noise(30, 3, 8, 8, seed=4)
    x = np.concatenate([train[5:10, :, :, ::-1], train[10:12], noise(4, 3, 8, 8, seed=5)])
    found = neighbours.nearest(x, train, np.arange(30), 2, mirror=True)
    assert found.row[:7, 0].tolist() == [5, 6, 7, 8, 9, 10, 11] and not found.distance[:7, 0].any()
    sides = [neighbours.nearest(side, train, np.arange(30), 2).distance[7:, 0] for side in (x, x[..., ::-1])]
    assert (
        np.array_equal(found.distance[7:, 0], np.minimum(*sides))
        and neighbours.nearest(x, train, np.arange(30)).distance[:5].min() > 0
    )


def test_ties_keep_their_order_and_missing_neighbours_are_infinitely_far(monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", 4)
    train = np.zeros((5, 1, 2, 2), np.uint8)
    assert neighbours.nearest(train[:1], train, np.array([4, 2, 3])).row.tolist() == [[4, 2]]
    lonely = neighbours.nearest(train[:1], train, np.array([1]))
    assert lonely.distance.tolist() == [[0, np.inf]] and neighbours.copied(lonely, train).tolist() == [0]
    assert neighbours.nearest(train[:1], train, np.zeros(0, np.int64)).row.tolist() == [[-1, -1]]


def test_a_blur_is_near_but_not_copied():
    train = np.array([0, 100], np.uint8).reshape(2, 1, 1, 1)
    d = np.array([[1.0, 3.1], [1.0, 3.0], [1.0, 2.9], [0.0, 0.1]])
    found = neighbours.Nearest(d, np.tile([0, 1], (4, 1)))
    assert neighbours.copied(found, train).tolist() == [1, 1, 0, 1]
    held_out = neighbours.Nearest(d + 0.5, found.row)
    assert neighbours.closeness(found, held_out).tolist() == [1, 1, 1, 1]
    assert neighbours.closeness(held_out, held_out).mean() == 0.5


def test_held_out_images_are_nearer_than_half_of_themselves_by_a_half_whatever_ties_there_are():
    for distances in ([0, 0, 0, 1, 2], [0] * 4, [1, 2, 2, 2, 3, 9], [5], [1, 2], [1, 2, 3]):
        held = neighbours.Nearest(np.array(distances, float)[:, None], np.zeros((len(distances), 1), int))
        assert neighbours.closeness(held, held).mean() == pytest.approx(0.5)
    copies = neighbours.Nearest(np.zeros((9, 1)), np.zeros((9, 1), int))
    assert (
        neighbours.closeness(copies, neighbours.Nearest(np.arange(1.0, 8)[:, None], copies.row[:7])).mean()
        == 1
    )


def test_copies_of_pictures_that_the_data_hold_several_times_are_seen():
    pictures, rng = noise(40, 1, 8, 8), np.random.default_rng(5)
    train = np.concatenate([pictures] * 12)
    x = np.clip(pictures[:20].astype(int) + rng.integers(-3, 4, (20, 1, 8, 8)), 0, 255).astype(np.uint8)
    known = neighbours.distinct(train, np.arange(480)[::-1])
    assert len(known) == 40 and sorted(known % 40) == list(range(40))
    assert neighbours.copied(neighbours.nearest(x, train, known, 8), train).tolist() == [1] * 20
    # the fake: equal pictures counted each
    assert neighbours.copied(neighbours.nearest(x, train, np.arange(480), 8), train).sum() == 0


@pytest.mark.parametrize("spread", [1, 3, 10])
def test_copies_of_pictures_that_the_data_hold_in_versions_are_seen(spread):
    pictures, rng = noise(40, 1, 8, 8), np.random.default_rng(5)
    train, x = (
        np.clip(p.astype(int) + rng.integers(-s, s + 1, p.shape), 0, 255).astype(np.uint8)
        for p, s in ((pictures.repeat(4, 0), spread), (pictures, 3))
    )
    found = neighbours.nearest(x, train, np.arange(160), 8)
    assert neighbours.copied(found, train).mean() == 1
    # the fake: the second nearest, whatever it is
    assert neighbours.copied(neighbours.nearest(x, train, np.arange(160), 2), train).mean() < 0.2
    assert (
        neighbours.copied(
            neighbours.nearest(noise(40, 1, 8, 8, seed=9), train, np.arange(160), 8), train
        ).sum()
        == 0
    )
    mean = train.mean(0, keepdims=True).astype(np.uint8)
    assert neighbours.copied(neighbours.nearest(mean, train, np.arange(160), 8), train).tolist() == [0]


@given(st.sampled_from([2, 4, 16, 256]), st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=9))
def test_grid_keeps_what_is_on_it(levels, values):
    once = neighbours.grid(np.array(values), levels)
    assert np.array_equal(neighbours.grid(once / 127.5 - 1, levels), once)
    assert len(np.unique(neighbours.grid(np.linspace(-1, 1, 5000), levels))) == levels


# Cards


def test_bootstrap_covers_the_truth():
    rng = np.random.default_rng(1)
    hits = [
        low < 0 < high
        for low, high in (interval(rng.normal(size=60), seed=i, repeats=400) for i in range(300))
    ]
    assert 0.90 < np.mean(hits) < 0.985


def test_bootstrap_is_the_normal_interval_for_a_large_sample_and_needs_no_state():
    values = np.random.default_rng(2).normal(5, 2, 4000)
    before = np.random.get_state()[1].copy()  # noqa: NPY002  the global generator must be left alone
    low, high = interval(values, seed=3)
    half = 1.96 * 2 / math.sqrt(4000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.015)
    assert (low, high) == interval(values, seed=3) != interval(values, seed=4)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    spread = np.quantile(values, [0.025, 0.975])
    assert spread[1] - spread[0] > 10 * (high - low)  # the fake: quantiles of the data


def test_bootstrap_of_another_statistic():
    values = np.random.default_rng(2).normal(5, 2, 501)
    low, high = interval(values, statistic=np.median)
    assert low < np.median(values) < high


def test_wilson_at_nothing():
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    score = measure("near-duplicates", np.zeros(50), unit="share")
    assert score.low == 0 and score.high is not None and score.high > 0.05  # a bootstrap of zeros says [0, 0]


@pytest.mark.parametrize("n, words", [(3, "too few"), (40, "doubtful"), (100, "")])
def test_few_images_are_said_to_be_few(n, words):
    score = measure("bits/dim", np.linspace(0, 1, n))
    assert (score.low is None) == (n < card.TOO_FEW)
    assert (words in score.warning) if words else score.warning == ""
    assert ("Warning" in score.text) == bool(words)


def test_a_card_survives_json():
    score = measure("PSNR", np.arange(200.0), 7, unit="dB", better="higher", against=5, settings={"k": 500})
    assert from_dict(json.loads(json.dumps(score.as_dict(), allow_nan=False))) == score
    refused = Score("bits/dim", math.nan, warnings=("no likelihood",))
    back = from_dict(json.loads(json.dumps(refused.as_dict(), allow_nan=False)) | {"added_later": 1})
    assert back.refused and back.warning == "no likelihood" and "refused" in str(back)


def test_what_is_not_a_number_is_refused():
    score = measure("bits/dim", np.array([1.0, np.nan, 2.0]))
    assert score.refused and "1 of 3" in score.warning
    assert measure("bits/dim", np.zeros(0)).refused


@settings(max_examples=200)
@given(st.floats(-1e300, 1e300))
def test_short_numbers_are_near(value):
    assert float(short(value).replace(",", "")) == pytest.approx(value, rel=6e-3, abs=1e-300)
