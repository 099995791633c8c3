"""Frechet distance against closed forms and an implementation by scipy's sqrtm; each check is seen to catch
its fake."""

from __future__ import annotations

import warnings
from functools import reduce
from operator import add

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import ortho_group

from likeness.core import Refusal
from likeness.metrics import moments
from likeness.metrics.moments import (
    Moments,
    frechet,
    frechet_error,
    frechet_infinity,
    frechet_interval,
    too_few,
)


def draw(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def known(mean: np.ndarray, covariance: np.ndarray, n: int = 1000) -> Moments:
    return Moments(n, np.asarray(mean, np.float64), np.asarray(covariance, np.float64) * (n - 1))


def relu(n: int, d: int, seed: int, hidden: int = 0) -> np.ndarray:
    """Features as networks have them: correlated, not negative, some dead, in float32."""
    weights = draw(hidden or d, d, seed=7) * np.geomspace(1, 1e-3, d)
    out = np.maximum(draw(n, hidden or d, seed) @ weights, 0) * (1 + 0.1 * seed)
    out[:, 1:3] = 0
    return out.astype(np.float32)


def reference(x: np.ndarray, y: np.ndarray, ddof: int = 1, trace: bool = True, sign: float = 1.0) -> float:
    """As Heusel et al. 2017 publish it; the fakes are another ddof, a missing trace, a root of the wrong
    sign."""
    c1, c2 = (np.atleast_2d(np.cov(z.astype(np.float64), rowvar=False, ddof=ddof)) for z in (x, y))
    root = np.trace(sqrtm(c1 @ c2).real)
    gap = x.astype(np.float64).mean(0) - y.astype(np.float64).mean(0)
    return float(gap @ gap + (np.trace(c1) + np.trace(c2) if trace else 0) - 2 * sign * root)


def of(x: np.ndarray, y: np.ndarray) -> float:
    return frechet(Moments.of(x), Moments.of(y))


# Moments


def test_moments_are_those_of_numpy(monkeypatch):
    x = relu(301, 17, 1) + 100
    for chunk in (moments.CHUNK, 17 * 10):
        monkeypatch.setattr(moments, "CHUNK", chunk)
        m = Moments.of(x)
        assert m.n == 301 and m.mean.dtype == m.scatter.dtype == m.covariance.dtype == np.float64
        assert np.allclose(m.mean, x.mean(0, dtype=np.float64), rtol=1e-13)
        assert np.allclose(m.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-10, atol=1e-10)
    # the fake: ddof
    assert not np.allclose(m.covariance, np.cov(x.astype(np.float64), rowvar=False, ddof=0), rtol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_64_shards_are_one_pass(offset):
    x = draw(5003, 31) * np.geomspace(1, 1e-2, 31) + offset
    cuts = np.sort(np.random.default_rng(1).integers(0, len(x), 63))  # some are empty, some hold one image
    cuts[:3] = 0
    shards = [Moments.of(part) for part in np.split(x, cuts)]
    whole, merged = Moments.of(x), reduce(add, shards)
    backwards = reduce(add, shards[::-1])
    assert min(s.n for s in shards) == 0 and merged.n == whole.n == 5003
    for other in (merged, backwards):
        assert np.abs(other.mean - whole.mean).max() <= 1e-10 * np.abs(whole.mean).max()
        assert np.abs(other.scatter - whole.scatter).max() <= 1e-10 * np.abs(whole.scatter).max()
    reference = Moments.of(draw(400, 31, seed=2))
    assert frechet(reference, merged) == pytest.approx(frechet(reference, whole), rel=1e-10)
    # the fake: raw second moments, in float32 worse still
    naive = (x.T @ x - 5003 * np.outer(x.mean(0), x.mean(0))) / 5002
    error = np.abs(naive - whole.covariance).max() / whole.covariance.max()
    assert error > 1e-10 if offset else error < 1e-10


def test_few_or_no_images_have_no_spread():
    assert (Moments.of(draw(1, 3)).covariance == 0).all()
    none = Moments.of(np.zeros((0, 3)))
    assert none.n == 0 and (none.covariance == 0).all() and (none + none).n == 0
    one = none + Moments.of(draw(1, 3)) + none
    assert one.n == 1 and np.array_equal(one.mean, draw(1, 3)[0])


# The distance


def test_diagonal_gaussians():
    s1, s2, m = np.array([1.0, 2, 0.5]), np.array([3.0, 0.1, 0.5]), np.array([1.0, -2, 0])
    true = (m**2).sum() + ((s1 - s2) ** 2).sum()
    assert frechet(known(np.zeros(3), np.diag(s1**2)), known(m, np.diag(s2**2))) == pytest.approx(
        true, rel=1e-12
    )
    turn = ortho_group.rvs(3, random_state=0)
    a, b = known(np.zeros(3), turn * s1**2 @ turn.T), known(turn @ m, turn * s2**2 @ turn.T)
    assert frechet(a, b) == pytest.approx(true, rel=1e-12)


@pytest.mark.parametrize("angle", [0.3, np.pi / 4, 1.5])
def test_covariances_that_do_not_commute(angle):
    """In two dimensions tr (C1 C2)^(1/2) = sqrt(tr(C1 C2) + 2 sqrt(det C1 det C2)), by Cayley and
    Hamilton."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    c1, c2 = np.diag([4.0, 0.25]), turn @ np.diag([1.0, 9.0]) @ turn.T
    true = np.trace(c1 + c2) - 2 * np.sqrt(
        np.trace(c1 @ c2) + 2 * np.sqrt(np.linalg.det(c1) * np.linalg.det(c2))
    )
    assert frechet(known(np.zeros(2), c1), known(np.zeros(2), c2)) == pytest.approx(true, rel=1e-12)
    # the fake: eigenvalues alone
    commuting = ((np.sqrt(np.linalg.eigvalsh(c1)) - np.sqrt(np.linalg.eigvalsh(c2))) ** 2).sum()
    assert true > commuting * 1.01


@pytest.mark.parametrize("d", [3, 40])
def test_blocks_and_an_optimal_map(d):
    """If x has covariance C and T is positive definite, T x is transported optimally: the distance is tr (1 -
    T) C (1 - T)."""
    rng = np.random.default_rng(d)
    a, t = rng.normal(size=(2, d, d))
    c, t = a @ a.T, t @ t.T / d + 0.1 * np.eye(d)
    true = np.trace((np.eye(d) - t) @ c @ (np.eye(d) - t))
    assert frechet(known(np.zeros(d), c), known(np.zeros(d), t @ c @ t)) == pytest.approx(true, rel=1e-9)


@pytest.mark.parametrize(
    "n, m, d", [(211, 173, 7), (1009, 307, 64), (150, 131, 129), (503, 77, 1), (40, 65, 3)]
)
def test_parity_with_sqrtm(n, m, d):
    # sqrtm does not take dead features
    x, y = (np.delete(relu(k, d + 2, s), [1, 2], axis=1) for k, s in ((n, 1), (m, 2)))
    assert of(x, y) == pytest.approx(reference(x, y), rel=1e-6)
    for fake in (dict(trace=False), dict(sign=-1.0), dict(ddof=0)):
        assert of(x, y) != pytest.approx(reference(x, y, **fake), rel=1e-6)


@pytest.mark.parametrize("n, m", [(20, 500), (20, 13), (3, 2), (1, 500), (1, 1)])
def test_singular_covariances(n, m):
    """Fewer images than features, dead and doubled ones: the truth is in the space that either side spans."""
    x, y = (np.concatenate([relu(k, 48, s), relu(k, 48, s)[:, :5]], 1) for k, s in ((n, 1), (m, 2)))
    value = of(x, y)
    assert value == pytest.approx(by_gram(x, y), rel=1e-6)
    assert value == pytest.approx(of(y, x), rel=1e-6)
    turn = ortho_group.rvs(53, random_state=0)
    assert value == pytest.approx(of(x @ turn, y @ turn), rel=1e-6)
    assert np.isrealobj(value) and isinstance(value, float)


def by_gram(x: np.ndarray, y: np.ndarray) -> float:
    """From the data instead of covariances: the root's trace is the sum of singular values of X
    Y^T, centred."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = ((z - z.mean(0)) / np.sqrt(max(len(z) - 1, 1)) for z in (x, y))
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * root)


@pytest.mark.parametrize("noise", [1e-1, 1e-2, 1e-4, 1e-6])
def test_small_variances_count(noise):
    """Large variances in one plane, tiny ones about it: where roots of eigenvalues of M^T M go wrong."""
    x, y = (draw(900, 20, s) @ draw(20, 200, 5) + noise * draw(900, 200, s + 9) for s in (1, 2))
    traces = x.var(0).sum() + y.var(0).sum()
    l1, l2 = (np.linalg.svd((z - z.mean(0)) / np.sqrt(899), full_matrices=False) for z in (x, y))
    truth = np.linalg.svd((l1[2].T * l1[1]).T @ (l2[2].T * l2[1]), compute_uv=False).sum()
    factors = [moments._factor(Moments.of(z).covariance) for z in (x, y)]
    assert abs(moments._trace_of_root(*factors) - truth) < 1e-11 * traces
    if noise == 1e-4:
        m = factors[1].T @ factors[0]
        assert abs(np.sqrt(np.linalg.eigvalsh(m.T @ m).clip(0)).sum() - truth) > 1e-9 * traces  # the fake


def test_equal_sets_symmetry_and_sign():
    x, y = relu(400, 96, 1), relu(300, 96, 2)
    scale = np.trace(Moments.of(x).covariance)
    assert 0 <= of(x, x) < 1e-10 * scale
    assert 0 <= of(x, x[::-1]) < 1e-10 * scale
    assert of(x, y) == pytest.approx(of(y, x), rel=1e-12)
    assert of(10 * x, 10 * y) == pytest.approx(100 * of(x, y), rel=1e-5)
    shift = np.arange(96.0)
    assert of(x + shift, y + shift) == pytest.approx(of(x, y), rel=1e-9)
    for k in range(30):  # rounding alone would make a third of these negative
        assert of(x[:, : k + 3], x[np.random.default_rng(k).permutation(400), : k + 3]) >= 0


def test_constant_features():
    x = np.full((50, 4), 3.0)
    assert of(x, x) == 0
    assert of(x, x + 2) == pytest.approx(16)
    y = draw(500, 4)
    assert of(x, y) == pytest.approx(((y.mean(0) - 3) ** 2).sum() + y.var(0, ddof=1).sum())


@pytest.mark.parametrize(
    "features, says",
    [
        (np.array([[1.0, 2], [np.nan, 0], [np.inf, 0]]), "in 2 of 3 rows, the first is row 1"),
        (np.array([[1.0], [-1e30]]), "in 1 of 2 rows"),
        (np.zeros(5), "shape \\(5,\\)"),
        (np.zeros((2, 3, 4)), "shape"),
        (np.array([["a"]]), "not <U1"),
        (np.zeros((2, 2), np.complex128), "complex128"),
    ],
)
def test_hostile_features(features, says):
    with pytest.raises(Refusal, match=says):
        Moments.of(features)
    with pytest.raises(Refusal, match="cannot compare 0 images"):
        frechet(Moments.of(np.zeros((0, 2))), Moments.of(draw(5, 2)))
    with pytest.raises(Refusal, match="of 2 features with 5 of 3"):
        frechet(Moments.of(draw(5, 2)), Moments.of(draw(5, 3)))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int64, np.uint8, bool])
def test_any_kind_of_number(kind):
    x = (draw(60, 3) * 3 + 20).astype(kind)
    x.flags.writeable = False
    assert of(x, draw(60, 3)) == of(x.astype(np.float64), draw(60, 3))


# Bias (REFERENCE rows 16 and 16b)


@pytest.mark.parametrize("n, repeats, expected", [(100, 20, 22.1), (500, 8, 4.42), (1000, 4, 2.21)])
def test_two_samples_of_one_law(n, repeats, expected):
    d = 64
    pairs = [(draw(n, d, 2 * i), draw(n, d, 2 * i + 1)) for i in range(repeats)]
    assert expected == pytest.approx((2 * d + d * (d + 1) / 2) / n, rel=2e-3)
    assert np.mean([of(x, y) for x, y in pairs]) == pytest.approx(expected, rel=0.03)
    for fake in (dict(trace=False), dict(sign=-1.0)):
        assert reference(*pairs[0], **fake) != pytest.approx(expected, rel=0.03)
    if n == 100:
        bessel = np.trace(np.cov(pairs[0][0].T)) - np.trace(np.cov(pairs[0][0].T, ddof=0))
        # ddof moves a trace by 2.9 % of this distance, but the distance itself by 1 %
        assert bessel / expected > 0.02


GAP, SCALES = 0.3, np.linspace(0.5, 1.6, 16)
TRUE = 16 * GAP**2 + ((SCALES - 1) ** 2).sum()
UNIT = known(np.zeros(16), np.eye(16))


def shifted(n: int, seed: int) -> np.ndarray:
    return draw(n, 16, seed) * SCALES + GAP


def test_extrapolation_finds_the_truth():
    for true, sets in (
        (TRUE, [shifted(200, s) for s in range(60)]),
        (0.0, [draw(200, 16, s) for s in range(60)]),
    ):
        raw = np.array([frechet(UNIT, Moments.of(x)) for x in sets])
        found, errors = np.array([frechet_infinity(UNIT, x, seed=s) for s, x in enumerate(sets)]).T
        mean, noise = found.mean(), found.std(ddof=1) / np.sqrt(60)
        assert abs(mean - true) < 3 * noise + 0.03
        assert abs(raw.mean() - true) > 0.3  # the fake: the plain distance
        assert 0.8 < errors.mean() / found.std(ddof=1) < 2.0


def test_extrapolation_on_both_sides():
    pairs = [(draw(150, 16, s), shifted(150, s + 1000)) for s in range(60)]
    one = np.mean([frechet_infinity(Moments.of(x), y)[0] for x, y in pairs])
    both = np.array([frechet_infinity(x, y)[0] for x, y in pairs])
    assert frechet_infinity(pairs[0][0], pairs[0][0])[0] == pytest.approx(0, abs=1e-9)
    assert abs(both.mean() - TRUE) < 3 * both.std(ddof=1) / np.sqrt(60) + 0.05 < abs(one - TRUE)


def test_extrapolation_knows_its_seed_and_its_limits():
    x = draw(50, 3)
    assert (
        frechet_infinity(UNIT, shifted(50, 1), 3)
        == frechet_infinity(UNIT, shifted(50, 1), 3)
        != frechet_infinity(UNIT, shifted(50, 1), 4)
    )
    in_order = np.sort(shifted(500, 1), axis=0)  # as of a folder sorted by class
    mixed = np.random.default_rng(0).permutation(in_order)
    assert frechet_infinity(UNIT, in_order)[0] == pytest.approx(frechet_infinity(UNIT, mixed)[0], rel=0.05)
    with pytest.raises(Refusal, match="at least 5 images a side, not 4"):
        frechet_infinity(Moments.of(x), x[:4])
    with pytest.raises(Refusal, match="at least 5 images a side, not 4"):
        frechet_infinity(x[:4], x)


# Interval


def test_the_interval_holds_the_mean_of_other_draws():
    mean = np.mean([frechet(UNIT, Moments.of(shifted(300, s))) for s in range(150)])
    intervals = np.array([frechet_interval(UNIT, shifted(300, s)) for s in range(150)])
    hits = (intervals[:, 0] <= mean) & (mean <= intervals[:, 1])
    assert 0.9 <= np.mean(hits) <= 1.0
    resampled = []
    for s in range(30):  # the fake: a bootstrap, which lies above
        x, rng = shifted(60, s), np.random.default_rng(s)
        value = frechet(UNIT, Moments.of(x))
        resampled.append(
            np.mean([frechet(UNIT, Moments.of(x[rng.integers(0, 60, 60)])) > value for _ in range(20)])
        )
    assert np.mean(resampled) > 0.8


def test_the_error_is_that_of_leaving_out_each_image():
    x = shifted(80, 3)
    without = np.array([frechet(UNIT, Moments.of(np.delete(x, i, 0))) for i in range(80)])
    jackknife = np.sqrt(79 / 80 * ((without - without.mean()) ** 2).sum())
    # images weigh on their own covariance: less as n grows
    assert frechet_error(UNIT, x) == pytest.approx(jackknife, rel=0.35)
    many = shifted(4000, 3)
    some = np.array([frechet(UNIT, Moments.of(np.delete(many, i, 0))) for i in range(60)])
    influence = moments._influence(UNIT, many)[:60] / 3999
    assert np.corrcoef(influence, -some)[0, 1] > 0.999
    assert np.std(influence) == pytest.approx(np.std(some), rel=0.02)


def test_the_error_where_the_covariance_is_singular():
    turn = ortho_group.rvs(40, random_state=0)
    x = np.concatenate([shifted(300, 1), np.zeros((300, 24))], 1) @ turn
    real = known(np.zeros(40), turn.T @ np.diag([1.0] * 16 + [0.0] * 24) @ turn)
    assert frechet_error(real, x) == pytest.approx(frechet_error(UNIT, shifted(300, 1)), rel=1e-6)
    assert np.isfinite(frechet_error(UNIT, shifted(9, 1)))
    assert np.isnan(frechet_error(UNIT, shifted(1, 1)))
    assert frechet_error(UNIT, np.full((50, 16), 2.0)) == 0


def test_too_few_images():
    assert "span 99" in too_few(100, 128) and "take at least 256" in too_few(100, 128)
    assert "27% of their variance" in too_few(127, 64) and too_few(128, 64) == "" == too_few(10, 5)
    assert "can span 0" in too_few(0, 4) and too_few(64, 64).startswith(
        "n = 64 images are too few for 64 features"
    )
    said = float(too_few(100, 64).split("%")[0].split()[-1]) / 100
    assert np.mean([of(draw(100, 64, s), draw(100, 64, s + 50)) for s in range(5)]) / 64 == pytest.approx(
        said, rel=0.05
    )


def test_nothing_is_printed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of(relu(20, 30, 1), relu(10, 30, 2))
        frechet_infinity(Moments.of(relu(20, 30, 1)), relu(10, 30, 2))
        of(np.zeros((5, 3)), np.zeros((5, 3)))
