"""Balls about neighbours: closed forms, constructed cases with known answers, and brute force; each check is
seen to catch its fake."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from likeness.core import Refusal
from likeness.metrics import manifold
from likeness.metrics.card import interval
from likeness.metrics.manifold import (
    authentic,
    diversity,
    duplicates,
    expected_coverage,
    nearest,
    others,
    prdc,
)


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, n, d)).normal(size=(n, d))


def modes(counts: list[int], seed: int = 0, apart: float = 100.0) -> np.ndarray:
    """Unit Gaussians in the plane, far apart along a line, so many points in each."""
    return normal(sum(counts), 2, seed) + np.repeat(np.arange(len(counts)), counts)[:, None] * [apart, 0]


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(((a[:, None].astype(np.float64) - b[None]) ** 2).sum(2))


def means(real: np.ndarray, fake: np.ndarray, k: int = 5) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in prdc(real, fake, k)._asdict().items()}


def brute_prdc(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """Written from the published formulas, with whole matrices; of c > k copies of a picture each counts for
    k / c of a ball without radius."""
    own = np.sort(distances(real, real), 1)[:, k]
    theirs = np.sort(distances(fake, fake), 1)[:, k]
    d = distances(real, fake)
    copies = (distances(real, real) == 0).sum(1)

    def inside(radius: np.ndarray) -> np.ndarray:
        return (d < radius) | ((d == 0) & (radius == 0))

    weight = np.where(own == 0, k / copies, 1.0)
    return dict(
        precision=inside(own[:, None]).any(0).mean(),
        recall=inside(theirs[None]).any(1).mean(),
        density=(inside(own[:, None]) * weight[:, None]).sum(0).mean() / k,
        coverage=inside(own[:, None]).any(1).mean(),
    )


# Neighbours


@pytest.mark.parametrize("k", [1, 3, 40])
def test_neighbours_equal_brute_force_whatever_the_blocks(k, monkeypatch):
    a, b = normal(33, 5), normal(40, 5, 1)
    order = distances(a, b).argsort(1)[:, :k]
    for rows, columns in ((2048, 4096), (7, 3)):
        monkeypatch.setattr(manifold, "ROWS", rows)
        monkeypatch.setattr(manifold, "COLUMNS", columns)
        found = nearest(a, b, k)
        assert np.array_equal(found.row, order)
        assert found.distance == pytest.approx(np.take_along_axis(distances(a, b), order, 1), rel=1e-12)
        assert others(b, min(k, 39)) == pytest.approx(np.sort(distances(b, b), 1)[:, min(k, 39)], rel=1e-12)


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_equal_features_are_at_distance_zero_even_far_from_the_origin(far):
    x = (normal(200, 64) + far).astype(np.float32)
    near = nearest(x, x)
    assert (near.distance == 0).all() and np.array_equal(near.row[:, 0], np.arange(200))
    single = (x**2).sum(1)[:, None] + (x**2).sum(1) - 2 * x @ x.T  # the fake: the product in float32
    assert np.abs(np.diag(single)).max() > 0


def test_a_far_outlier_costs_the_others_no_digits():
    x = np.concatenate([normal(100, 3), [[1e9, 0, 0]]])
    assert others(x)[:100] == pytest.approx(np.sort(distances(x[:100], x[:100]), 1)[:, 1], rel=1e-12)


def test_memory_is_bounded():
    train, samples = normal(20_000, 2), normal(3_000, 2, 1)
    tracemalloc.start()
    authentic(train, samples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 220e6 < 8 * 20_000 * 3_000  # the fake: the whole matrix


# Precision, recall, density, coverage


@pytest.mark.parametrize("n, m, d, k", [(60, 80, 2, 5), (80, 60, 7, 3), (30, 30, 40, 1)])
def test_prdc_equals_brute_force(n, m, d, k, monkeypatch):
    real, fake = normal(n, d), normal(m, d, 1) * 1.2 + 0.3
    monkeypatch.setattr(manifold, "ROWS", 32)
    monkeypatch.setattr(manifold, "COLUMNS", 24)
    assert means(real, fake, k) == pytest.approx(brute_prdc(real, fake, k), rel=1e-9)
    swapped = brute_prdc(fake, real, k)  # the fake: sides exchanged
    assert means(real, fake, k) != pytest.approx(swapped, rel=1e-9)


def test_a_ball_excludes_its_border_so_copies_have_density_one():
    x = normal(500, 16).astype(np.float32) * 1000
    # rounding would let the border in: density 1.2
    assert means(x, x) == dict(precision=1, recall=1, density=1, coverage=1)
    d = distances(x, x)
    assert (d <= np.sort(d, 1)[:, 5:6]).sum(0).mean() / 5 == pytest.approx(1.2)


PICTURE = normal(2, 6, 3).astype(np.float32)
TIED = {
    "ones against ones": (np.ones((10, 4)), np.ones((12, 4))),
    "two pictures of ten copies each": (PICTURE.repeat(10, 0), PICTURE.repeat(10, 0)),
    "a collapsed generator": (normal(60, 6), PICTURE[:1].repeat(40, 0)),
    "one that has kept a picture": (np.concatenate([normal(60, 6), PICTURE[:1]]), PICTURE[:1].repeat(40, 0)),
    "copies among others": (
        np.concatenate([normal(30, 6), PICTURE.repeat(9, 0)]),
        np.concatenate([normal(25, 6, 1), PICTURE.repeat(3, 0)]),
    ),
    "whole numbers": tuple(np.random.default_rng(s).integers(0, 3, (80, 3)).astype(float) for s in (0, 1)),
    "minus zero": (np.zeros((9, 2)), -np.zeros((9, 2))),
}


@pytest.mark.parametrize("tied", TIED)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_prdc_of_ties_equals_brute_force(tied, k, monkeypatch):
    monkeypatch.setattr(manifold, "ROWS", 16)
    monkeypatch.setattr(manifold, "COLUMNS", 11)
    real, fake = TIED[tied]
    assert means(real, fake, k) == pytest.approx(brute_prdc(real, fake, k), rel=1e-9)


def test_what_coincides_is_covered():
    for tied in ("ones against ones", "two pictures of ten copies each", "minus zero"):
        assert means(*TIED[tied]) == dict(precision=1, recall=1, density=1, coverage=1)
    half = means(PICTURE.repeat(10, 0), PICTURE[:1].repeat(20, 0))
    assert half == dict(precision=1, recall=0.5, density=1, coverage=0.5)


@pytest.mark.parametrize("scale", [1e-30, 1e-7, 1e19, 1e37])
def test_balls_do_not_depend_on_the_unit(scale):
    """Nor on what rounding of products leaves: features of one picture in two batches differ in their last
    digits."""
    picture = 1 + np.float32(1e-7) * np.random.default_rng(0).integers(0, 4, (20, 8)).astype(np.float32)
    real, fake = (
        (scale * np.concatenate([x, normal(50, 8, s)])).astype(np.float32)
        for s, x in enumerate((picture[:10], picture[10:]))
    )
    assert means(real, fake) == pytest.approx(brute_prdc(real, fake, 5), rel=1e-9)


@pytest.mark.parametrize("d, swing", [(2, 0.06), (64, 0.15)])
def test_equal_laws_have_the_coverage_and_density_of_the_closed_form(d, swing):
    """REFERENCE row 18: coverage 1 - 2^-k, density 1.  Never in 1000 dimensions, where hubs make it swing
    from draw to draw."""
    found = [prdc(normal(1000, d, 2 * s), normal(1000, d, 2 * s + 1)) for s in range(3)]
    coverage, density = (
        float(np.mean([getattr(f, name) for f in found])) for name in ("coverage", "density")
    )
    assert expected_coverage(1000, 1000) == pytest.approx(1 - 2**-5, abs=2e-3)
    assert coverage == pytest.approx(expected_coverage(1000, 1000), abs=0.012)
    assert density == pytest.approx(1, abs=swing)
    self_counted = float(
        np.mean([prdc(normal(1000, d, 2 * s), normal(1000, d, 2 * s + 1), k=4).coverage for s in range(3)])
    )
    # the fake: oneself among the k neighbours
    assert abs(self_counted - expected_coverage(1000, 1000)) > 0.012


def test_coverage_of_unequal_sizes():
    assert expected_coverage(10, 6, 3) == pytest.approx(1 - math.comb(9, 3) / math.comb(15, 3), rel=1e-12)
    covered = np.mean([prdc(normal(300, 3, s), normal(600, 3, 100 + s), 2).coverage for s in range(10)])
    assert covered == pytest.approx(expected_coverage(300, 600, 2), abs=0.02)
    assert abs(covered - expected_coverage(600, 300, 2)) > 0.1  # the fake: sides exchanged


def test_dropped_modes_are_seen_by_recall_and_coverage_alone():
    real, samples = modes([200] * 10), modes([200] * 10, 1)
    whole, dropped = means(real, samples), means(real, samples[:1400])
    for name in ("recall", "coverage"):
        assert dropped[name] == pytest.approx(0.7 * whole[name], abs=0.01)
    assert dropped["precision"] == pytest.approx(whole["precision"], abs=0.01)
    assert dropped["density"] == pytest.approx(whole["density"], abs=0.05)


def test_invented_modes_are_seen_by_precision_and_density_alone():
    real, samples = modes([200] * 10), modes([200] * 10, 1)
    whole, invented = (
        means(real, samples),
        means(real, np.concatenate([samples, normal(857, 2) - np.array([500, 0])])),
    )
    for name, slack in (("precision", 0.01), ("density", 0.05)):
        assert invented[name] == pytest.approx(0.7 * whole[name], abs=slack)
    for name in ("recall", "coverage"):
        assert invented[name] == whole[name]


def test_one_outlier_fools_precision_and_recall_but_neither_density_nor_coverage():
    """The outlier's ball reaches across to the cluster, and so holds what lies between."""
    cluster, outlier, between = normal(300, 2), np.array([[100.0, 0]]), normal(300, 2, 1) * 0.1 + [50, 0]
    honest = prdc(cluster, between)
    assert honest.precision.mean() == 0
    fooled = prdc(np.concatenate([cluster, outlier]), between)
    assert fooled.precision.mean() == 1
    assert fooled.density.mean() == pytest.approx(1 / 5)
    assert fooled.coverage.mean() == pytest.approx(1 / 301)
    other_way = prdc(between, np.concatenate([cluster, outlier]))
    assert other_way.recall.mean() == 1 and other_way.coverage.mean() == 0


def test_each_measure_is_the_mean_of_an_array_that_can_be_resampled():
    found = prdc(normal(200, 4), normal(300, 4, 1))
    assert [len(values) for values in found] == [300, 200, 300, 200]
    low, high = interval(found.density)
    assert low < found.density.mean() < high


# Diversity


def test_diversity_is_the_ratio_of_mean_distances():
    real, samples = normal(150, 3), normal(120, 3, 1) * 0.5
    mean_pair = [distances(x, x).sum() / (len(x) * (len(x) - 1)) for x in (real, samples)]
    assert diversity(real, samples).mean() == pytest.approx(mean_pair[1] / mean_pair[0], rel=1e-9)
    assert diversity(normal(2000, 3), 0.5 * normal(2000, 3)).mean() == pytest.approx(0.5, rel=1e-9)


def test_the_interval_of_diversity_is_as_wide_as_repeats_are():
    real, draws = normal(500, 2), [normal(100, 2, 10 + s) for s in range(300)]
    spread = float(np.std([diversity(real, x).mean() for x in draws]))
    claimed = float(np.mean([diversity(real, x).std() / 10 for x in draws[:50]]))
    assert claimed == pytest.approx(spread, rel=0.15)
    usual = distances(real, real).sum() / (500 * 499)
    # plain means of rows: half as wide
    fake = float(np.mean([(distances(x, x).sum(1) / 99 / usual).std() / 10 for x in draws[:50]]))
    assert fake < 0.6 * spread


# Copies


RECIPROCAL = 6 * math.pi / (8 * math.pi + 3 * math.sqrt(3))
"""chance that a point of a Poisson process in the plane is its nearest neighbour's nearest neighbour"""


def test_authentic_equals_brute_force():
    train, samples = normal(80, 4), normal(50, 4, 1)
    d, between = distances(samples, train), distances(train, train)
    np.fill_diagonal(between, np.inf)
    assert np.array_equal(authentic(train, samples), between.min(1)[d.argmin(1)] < d.min(1))


def test_authentic_of_honest_samples_in_the_plane():
    """REFERENCE row 19: 37.85 %, not 100."""
    rng = np.random.default_rng(0)
    found = np.mean([authentic(rng.random((4000, 2)), rng.random((4000, 2))).mean() for _ in range(3)])
    assert pytest.approx(0.3785, abs=5e-5) == 1 - RECIPROCAL
    assert found == pytest.approx(1 - RECIPROCAL, abs=0.015)


def test_authentic_of_copies():
    train = normal(1000, 16).astype(np.float32)
    assert authentic(train, train[:300]).mean() == 0
    blurred = train[:300] + 1e-3 * normal(300, 16, 1)
    assert authentic(train, blurred).mean() == 0
    new, half = normal(300, 16, 2), np.concatenate([train[:300], normal(300, 16, 2)])
    assert authentic(train, half).mean() == pytest.approx(authentic(train, new).mean() / 2)
    # the fake: a training image's nearest is taken to be itself, so nothing is a copy
    own = distances(train[:300], train)
    assert (own.min(1) == 0).all()


def test_authentic_lets_nothing_but_exact_copies_be_copies_of_what_stands_twice():
    train = np.concatenate([normal(50, 4)] * 2)
    assert not authentic(train, train).any()
    assert authentic(train, train + 1e-6).all()


def test_duplicates_occur_as_often_as_asked_for_among_honest_samples():
    found = np.mean([duplicates(normal(1000, 8, s), normal(1000, 8, 50 + s)).mean() for s in range(5)])
    assert found == pytest.approx(0.01, abs=0.006)
    more = duplicates(normal(4000, 8, 1), normal(500, 8, 2), share=0.05)
    assert len(more) == 500 and more.mean() == pytest.approx(0.05, abs=0.04)
    limit = np.quantile(others(normal(500, 8, 2)), 0.05)  # the fake: a limit from few images, used on many
    assert (others(normal(4000, 8, 1)) <= limit).mean() > 0.15


def test_duplicates_of_a_generator_that_knows_few_images():
    few = normal(100, 8)[np.random.default_rng(0).integers(0, 100, 1000)]
    assert duplicates(few + 1e-3 * normal(1000, 8, 2), normal(1000, 8, 1)).mean() > 0.99


def test_a_file_sorted_by_class_is_not_cut_at_the_front():
    chosen = manifold.as_many(np.arange(1000), 100, 0)
    assert len(chosen) == 100 and 400 < chosen.mean() < 600 and (np.diff(chosen) > 0).all()


# Refusals


@pytest.mark.parametrize(
    "ask",
    [
        lambda: prdc(normal(5, 2), normal(50, 2)),
        lambda: prdc(normal(50, 2), normal(50, 3)),
        lambda: prdc(normal(50, 2), np.full((50, 2), np.nan)),
        lambda: authentic(normal(1, 2), normal(5, 2)),
        lambda: authentic(np.zeros((0, 2)), normal(5, 2)),
        lambda: duplicates(normal(1, 2), normal(5, 2)),
        lambda: diversity(np.zeros((9, 2)), normal(5, 2)),
        lambda: diversity(normal(2, 2), normal(5, 2)),
        lambda: nearest(normal(5, 2)[0], normal(5, 2)),
    ],
)
def test_what_cannot_be_measured_is_refused(ask):
    with pytest.raises(Refusal, match=r"take|both should|finite"):
        ask()
