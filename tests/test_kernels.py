"""Kernel discrepancies against naive loops and closed forms; each check is seen to catch its fake."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.stats import kstest

from likeness.core import Refusal
from likeness.metrics import kernels
from likeness.metrics.kernels import (
    Discrepancy,
    cubic,
    discrepancy,
    gaussian,
    kid,
    median_distance,
    mmd,
    p_value,
)


def draw(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def relu(n: int, d: int, seed: int) -> np.ndarray:
    """Features as networks have them: correlated, not negative, some dead, in float32."""
    out = np.maximum(draw(n, d, seed) @ draw(d, d, seed=8) + 0.1 * seed, 0)
    out[:, 1:2] = 0
    return out.astype(np.float32)


def naive(x: np.ndarray, y: np.ndarray, kernel, biased: bool = False) -> float:
    """One pair after another, in Python; the fake counts each image's comparison with itself."""
    x, y = x.astype(np.float64).tolist(), y.astype(np.float64).tolist()

    def mean(a: list, b: list, within: bool) -> float:
        pairs = [
            kernel(p, q) for i, p in enumerate(a) for j, q in enumerate(b) if not within or biased or i != j
        ]
        return sum(pairs) / len(pairs)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


def naive_cubic(p: list, q: list) -> float:
    return (sum(a * b for a, b in zip(p, q, strict=True)) / len(p) + 1) ** 3


def naive_gaussian(bandwidth: float):
    return lambda p, q: float(
        np.exp(-sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / (2 * bandwidth**2))
    )


SHAPES = [(37, 53, 5), (64, 31, 1), (2, 41, 17), (3, 2, 2), (29, 29, 130)]


@pytest.mark.parametrize("block", [1024, 10])
@pytest.mark.parametrize("n, m, d", SHAPES)
def test_parity_with_loops_over_pairs(n, m, d, block, monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK", block)
    x, y = relu(n, d, 1), relu(m, d, 2)
    h = median_distance(y)
    for ours, kernel in ((kid(x, y), naive_cubic), (mmd(x, y, h), naive_gaussian(h))):
        assert ours.value == pytest.approx(naive(x, y, kernel), rel=1e-6)
        assert ours.value != pytest.approx(naive(x, y, kernel, biased=True), rel=1e-3)
        assert ours.low < ours.value < ours.high and np.isfinite(ours.error)


def test_blocks_and_order_change_nothing(monkeypatch):
    x, y = relu(90, 8, 1), relu(70, 8, 2)
    whole, turned = kid(x, y), kid(y[::-1], x)
    monkeypatch.setattr(kernels, "BLOCK", 16)
    blocks = kid(x, y)
    assert whole.value == pytest.approx(turned.value, rel=1e-9) == pytest.approx(blocks.value, rel=1e-9)
    assert whole.error == pytest.approx(turned.error, rel=1e-9) == pytest.approx(blocks.error, rel=1e-9)


# REFERENCE row 17


def biased(x: np.ndarray, y: np.ndarray) -> float:
    return float(cubic(x, x).mean() + cubic(y, y).mean() - 2 * cubic(x, y).mean())


@pytest.mark.parametrize("n, m", [(200, 200), (40, 300)])
def test_kid_of_equal_laws_is_zero_on_average(n, m):
    pairs = [(draw(n, 8, 2 * s), draw(m, 8, 2 * s + 1)) for s in range(80)]
    found = [kid(x, y) for x, y in pairs]
    values, errors = np.array([f.value for f in found]), np.array([f.error for f in found])
    noise = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean()) < 3 * noise and (values < 0).any()
    assert np.mean([biased(x, y) for x, y in pairs]) > 10 * noise  # the fake: a V-statistic
    assert 0.85 < errors.mean() / values.std(ddof=1) < 1.3
    assert np.mean([f.low <= 0 <= f.high for f in found]) >= 0.9


@pytest.mark.parametrize("shift, n, m", [(0.3, 100, 100), (1.0, 60, 200), (1.0, 200, 60)])
def test_the_standard_error_is_the_spread_over_draws(shift, n, m):
    """The jackknife's own would be up to sqrt(2) too large where laws are alike; first order alone too small,
    there and beyond."""
    for kernel in (cubic, gaussian(3.0)):
        found = [discrepancy(draw(n, 6, 2 * s), draw(m, 6, 2 * s + 1) + shift, kernel) for s in range(150)]
        values, errors = np.array([f.value for f in found]), np.array([f.error for f in found])
        assert np.sqrt((errors**2).mean()) / values.std(ddof=1) == pytest.approx(1, abs=0.2)


def test_the_jackknife_is_that_of_leaving_out_each_image():
    x, y = draw(40, 3, 1), draw(30, 3, 2) + 1
    variance = 0.0
    for side, other in ((x, y), (y, x)):
        values = np.array([kid(np.delete(side, i, 0), other).value for i in range(len(side))])
        variance += (len(side) - 1) / len(side) * ((values - values.mean()) ** 2).sum()
    xx, yy, xy = kernels._within(x, cubic), kernels._within(y, cubic), kernels._between(x, y, cubic)
    second = 2 * xx.noise / 40**2 + 2 * yy.noise / 30**2 + 4 * xy.noise / (40 * 30)
    assert kid(x, y).error ** 2 == pytest.approx(variance - second, rel=0.15)
    centred = cubic(x, y) - xy.rows[:, None] - xy.columns + xy.mean
    assert xy.noise == pytest.approx((centred**2).mean(), rel=1e-9)


# Closed forms


def test_kid_of_known_laws():
    """In one dimension E (x x' + 1)^3 - ... is a sum over moments: 3 (m1 - m1')^2 + 3 (m2 - m2')^2 + (m3 -
    m3')^2."""
    a, b = np.array([0.0, 1.0, 0.0]), np.array([0.5, 1.25, 0.5**3 + 3 * 0.5])  # N(0, 1) and N(0.5, 1)
    true = float(np.array([3, 3, 1]) @ (a - b) ** 2)
    found = [kid(draw(500, 1, 2 * s), draw(400, 1, 2 * s + 1) + 0.5) for s in range(40)]
    values = np.array([f.value for f in found])
    assert abs(values.mean() - true) < 3 * values.std(ddof=1) / np.sqrt(40)
    assert values.std() < true / 2
    assert np.mean([f.low <= true <= f.high for f in found]) >= 0.8


def test_mmd_of_known_laws():
    """E k(x, y) of N(0, 1) and N(t, 1) in d dimensions is (h^2 / (h^2 + 2))^(d / 2) exp(-d t^2 / (2 (h^2 +
    2)))."""
    d, h, t = 3, 1.5, 0.6
    true = 2 * (h**2 / (h**2 + 2)) ** (d / 2) * (1 - np.exp(-d * t**2 / (2 * (h**2 + 2))))
    values = np.array([mmd(draw(300, d, 2 * s), draw(300, d, 2 * s + 1) + t, h).value for s in range(30)])
    assert abs(values.mean() - true) < 3 * values.std(ddof=1) / np.sqrt(30) < true / 5


def test_two_points():
    assert kid(np.zeros((5, 2)), np.ones((4, 2))).value == pytest.approx(1 + 8 - 2 * 1)
    assert mmd(np.zeros((5, 2)), np.ones((4, 2)), 1.0).value == pytest.approx(2 - 2 * np.exp(-1))
    assert mmd(np.zeros((5, 2)), np.ones((4, 2)), 1.0).error == pytest.approx(0, abs=1e-7)


def test_far_from_zero_squares_do_not_cancel():
    x, y = draw(80, 4, 1), draw(80, 4, 2) + 0.5
    assert mmd(x + 1e6, y + 1e6, 2.0).value == pytest.approx(mmd(x, y, 2.0).value, rel=1e-5)


# Bandwidth


def test_median_distance():
    assert median_distance(np.array([[0.0], [0.0], [0.0], [3.0]])) == 3.0  # of rows that differ
    assert median_distance(np.full((9, 2), 4.0)) == 1.0 == median_distance(np.zeros((1, 2)))
    x = draw(3000, 100)
    assert median_distance(x) == median_distance(x) != median_distance(x, seed=1)
    assert median_distance(x) == pytest.approx(np.sqrt(200), rel=0.01)
    assert median_distance(x.astype(np.float32)) == pytest.approx(median_distance(x), rel=1e-6)


# The permutation test


@pytest.mark.parametrize("kernel", [cubic, gaussian(2.0)])
def test_p_values_of_equal_laws_are_uniform(kernel):
    values = [
        p_value(draw(12, 3, 2 * s), draw(17, 3, 2 * s + 1), kernel, seed=s, permutations=99)
        for s in range(200)
    ]
    assert kstest(values, "uniform").pvalue > 0.01
    assert min(values) >= 0.01 and np.mean(np.array(values) <= 0.05) < 0.1


def test_p_value_of_laws_that_differ():
    x = draw(60, 3)
    assert (
        p_value(x, draw(50, 3, 1) + 1.5, cubic) == 1 / 201 == p_value(x, draw(50, 3, 1) + 1.5, gaussian(2.0))
    )
    assert p_value(x, draw(50, 3, 1) * 2, gaussian(2.0), permutations=50) == 1 / 51
    assert p_value(np.ones((5, 2)), np.ones((7, 2)), cubic) == 1.0
    assert p_value(x, x, gaussian(2.0)) > 0.9


def test_relabelled_sums_are_those_of_the_statistic(monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK", 7)
    x, y = relu(11, 3, 1), relu(13, 3, 2)
    both, rng = np.concatenate([x, y]), np.random.default_rng((4, 0x9E27))
    values = [kid(x, y).value]
    for _ in range(40):
        chosen = rng.permutation(np.arange(24) < 11)
        values.append(kid(both[chosen], both[~chosen]).value)
    assert p_value(x, y, cubic, seed=4, permutations=40) == np.mean(np.array(values) >= values[0] - 1e-9)


# Borders


@pytest.mark.parametrize("measure", [kid, lambda x, y: mmd(x, y, 1.0), lambda x, y: p_value(x, y, cubic)])
def test_hostile_features(measure):
    good = draw(5, 3)
    for bad in (np.where(np.eye(5, 3), np.nan, 0), np.where(np.eye(5, 3), np.inf, 0)):
        with pytest.raises(Refusal, match="in 3 of 5 rows, the first is row 0"):
            measure(good, bad)
    for bad in (draw(1, 3), np.zeros((0, 3)), draw(5, 2)):
        with pytest.raises(Refusal, match="at least 2 images a side and the same features"):
            measure(bad, good)
    with pytest.raises(Refusal, match="table"):
        measure(good[0], good)


def test_constant_and_huge_features():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (0.0, 3.0, 1e19):
            same = kid(np.full((5, 2), value), np.full((6, 2), value))
            assert abs(same.value) <= 1e-9 * cubic(np.full((1, 2), value), np.full((1, 2), value))[0, 0]
            assert isinstance(same, Discrepancy) and np.isfinite(same.error)
        assert abs(mmd(np.full((5, 2), 3.0), np.full((6, 2), 3.0), 1.0).value) < 1e-12


def test_memory_is_bounded():
    x, y = (draw(3000, 4, s).astype(np.float32) for s in (1, 2))
    tracemalloc.start()
    kid(x, y)
    mmd(x, y, 2.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6 < 3000 * 3000 * 8
