"""Telling two sets of images apart: at chance for equal laws, at Bayes' rate for shifted ones, and no better
than that."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from likeness.core import Refusal
from likeness.metrics import twosample
from likeness.metrics.card import wilson
from likeness.metrics.twosample import auroc, classifier_test, folds_of, sliced_wasserstein


def normal(n: int, d: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """N(m, I) with |m| = shift, in a slanting direction."""
    return np.random.default_rng((seed, n, d)).normal(size=(n, d)) + shift / math.sqrt(d)


def whitened(n: int, d: int, seed: int) -> np.ndarray:
    """Normal numbers whose mean and covariance are 0 and I to the last digit."""
    z = normal(n, d, seed)
    z -= z.mean(0)
    return z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / n)).T


def both(seed: int, n: int = 60, d: int = 4) -> tuple[np.ndarray, np.ndarray]:
    return normal(n, d, 2 * seed), normal(n, d, 2 * seed + 1)


# Classifier two-sample test


@pytest.mark.parametrize("by, repeats", [("line", 400), ("neighbours", 150)])
def test_equal_laws_are_told_apart_by_chance(by, repeats):
    found = [classifier_test(*both(s), by, seed=s) for s in range(repeats)]
    accuracy = [f.accuracy for f in found]
    assert np.mean(accuracy) == pytest.approx(0.5, abs=0.012)
    assert np.mean([f.p < 0.05 for f in found]) <= 0.05
    assert np.mean([f.interval[0] <= 0.5 <= f.interval[1] for f in found]) >= 0.95
    spread = np.var(accuracy) / (0.25 / 120)
    # the fake: 2n independent coins, for which it is 1, and whose interval misses too often
    assert 1.05 < spread < 2
    if by == "line":
        assert (
            np.mean([low <= 0.5 <= high for low, high in (wilson(f.correct.sum(), 120) for f in found)])
            < 0.92
        )


def test_a_classifier_tested_on_what_it_learnt_from_is_seen():
    def leaking(real, samples):
        x, y = np.concatenate([real, samples]), np.repeat([0, 1], len(real))
        return LogisticRegression().fit(x, y).score(x, y)

    fakes = [leaking(*both(s, d=30)) for s in range(10)]
    assert np.mean(fakes) > 0.7  # where the check above allows 0.5 +- 0.012


@pytest.mark.parametrize("by", ["line", "neighbours"])
def test_power_rises_with_the_shift_to_the_rate_of_bayes(by):
    shifts = [0.0, 0.5, 1.0, 2.0, 3.0]
    found = [classifier_test(normal(1500, 2), normal(1500, 2, 1, shift), by) for shift in shifts]
    accuracy, error = [f.accuracy for f in found], 0.5 / math.sqrt(3000)
    assert accuracy == sorted(accuracy)
    for shift, value in zip(shifts, accuracy):
        # never above, a little below: it had to be learnt
        assert -5 * error < value - norm.cdf(shift / 2) < 3 * error
    assert found[0].p > 0.05 and max(f.p for f in found[1:]) < 1e-4


def test_a_line_reaches_the_auroc_of_bayes():
    """REFERENCE row 24: the shift is d, the AUROC Phi(d / sqrt 2); one above it has looked at the answers."""
    for shift, value in ((0.5, 0.638), (1.0, 0.760), (2.0, 0.921)):
        assert norm.cdf(shift / math.sqrt(2)) == pytest.approx(value, abs=5e-4)
        found = classifier_test(normal(2000, 3), normal(2000, 3, 1, shift))
        assert auroc(found.score, found.fake) == pytest.approx(value, abs=0.02)
    real, samples = normal(100, 150), normal(100, 150, 1, 0.5)
    x, y = np.concatenate([real, samples]), np.repeat([0, 1], 100)
    leaking = LogisticRegression().fit(x, y).decision_function(x)
    assert auroc(leaking, y) > 0.95 > 0.638 + 0.1 > auroc(*classifier_test(real, samples))


def test_a_line_does_not_see_a_change_of_spread_and_neighbours_do():
    real, samples = normal(500, 2), 2.5 * normal(500, 2, 1)
    assert classifier_test(real, samples).p > 0.01
    votes = classifier_test(real, samples, "neighbours")
    assert votes.p < 1e-6
    assert (votes.score != 0).all()  # an odd number votes


def test_the_line_is_that_of_an_independent_implementation():
    real, samples = normal(200, 4), normal(200, 4, 1, 1.0) * [1, 2, 0.1, 5]
    found, fold = classifier_test(real, samples, seed=3), folds_of(200, 5, 3)
    x = np.concatenate([real, samples])
    here = fold == 2
    centre, scale = x[~here].mean(0), x[~here].std(0)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(
        (x[~here] - centre) / scale, found.fake[~here]
    )
    assert found.score[here] == pytest.approx(theirs.decision_function((x[here] - centre) / scale), abs=1e-3)


def test_images_held_out_together_do_not_see_each_other():
    """Neither in training nor in standardising: a monstrous image changes no score of its own fold."""
    real, samples, fold = normal(50, 3), normal(50, 3, 1, 1.0), folds_of(50, 5, 0)
    before = classifier_test(real, samples).score
    real[0] = 1e6
    after = classifier_test(real, samples).score
    mates = (fold == fold[0]) & (np.arange(100) > 0)
    assert np.array_equal(after[mates], before[mates])
    assert not np.array_equal(after[fold != fold[0]], before[fold != fold[0]])
    x = np.concatenate([real, samples])  # the fake: standardised by all images
    assert (x.std(0) > 1e4).all() and x[fold != fold[0]].std(0).max() < 3


def test_folds_are_balanced_and_the_larger_side_is_cut():
    for side in np.split(folds_of(53, 5, 0), 2):
        assert sorted(np.bincount(side)) == [10, 10, 11, 11, 11]
    found = classifier_test(normal(500, 2), normal(100, 2, 1))
    assert len(found.score) == 200 and found.fake.mean() == 0.5
    assert found.accuracy < 0.65  # the fake: saying "real" would be right five times in six


def test_features_that_do_not_vary_say_nothing():
    found = classifier_test(np.ones((50, 3)), np.ones((50, 3)))
    assert found.accuracy == 0.5 and found.p > 0.4


# AUROC


@pytest.mark.parametrize("levels", [2, 5, 10**6])
def test_auroc_equals_scikit_learn_with_ties(levels):
    rng = np.random.default_rng(levels)
    labels, scores = rng.integers(0, 2, 300), rng.integers(0, levels, 300) / 7
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    pairs = scores[labels == 1][:, None] - scores[labels == 0]
    assert auroc(scores, labels) == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean(), abs=1e-12)
    if levels == 2:
        assert abs((pairs > 0).mean() - auroc(scores, labels)) > 0.1  # the fake: ties lost


# Sliced Wasserstein


def test_a_fixed_picture_added_to_all_images_moves_them_by_its_root_mean_square():
    x, picture = normal(40, 64).reshape(40, 1, 8, 8), normal(1, 64, 5).reshape(1, 8, 8)
    moved = sliced_wasserstein(x, x + picture, 4000)
    assert math.sqrt(moved.mean()) == pytest.approx(math.sqrt((picture**2).mean()), rel=0.05)
    assert sliced_wasserstein(x, x[::-1]).max() < 1e-25  # order does not matter
    theta = np.random.default_rng((0, 0x51CE)).standard_normal((7, 64))
    exact = (theta @ picture.ravel() / np.linalg.norm(theta, axis=1)) ** 2
    assert sliced_wasserstein(x, x + picture, 7) == pytest.approx(exact, rel=1e-9)
    unsorted = ((x - (x + picture)[::-1]) ** 2).mean()  # the fake: images compared as they come
    assert unsorted > 2 * moved.mean()


def test_gaussians_have_the_closed_form():
    a, b, m = (
        np.diag([1.0, 2.0, 0.5]),
        np.array([[1.0, 0.3, 0], [0, 0.6, 0.2], [0, 0, 2.0]]),
        np.array([1.0, -1.0, 0.5]),
    )
    x, y = whitened(20_000, 3, 0) @ a, whitened(20_000, 3, 1) @ b + m
    theta = np.random.default_rng((0, 0x51CE)).standard_normal((64, 3))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    exact = (theta @ m) ** 2 + (
        np.linalg.norm(a @ theta.T, axis=0) - np.linalg.norm(b @ theta.T, axis=0)
    ) ** 2
    found = sliced_wasserstein(x, y, 64)
    assert found == pytest.approx(exact, abs=0.004)
    assert found.mean() == pytest.approx(exact.mean(), abs=0.002)
    assert abs(((theta @ m) ** 2).mean() / exact.mean() - 1) > 0.1  # the fake: means alone


@pytest.mark.parametrize("n, m", [(1, 1), (3, 5), (6, 4), (12, 6), (7, 50)])
def test_unequal_sizes_are_exact(n, m):
    x, y = normal(n, 2), normal(m, 2, 1)
    each = math.lcm(n, m)  # repeated to a common size, quantiles are sorted values
    assert sliced_wasserstein(x, y, 9) == pytest.approx(
        sliced_wasserstein(np.repeat(x, each // n, 0), np.repeat(y, each // m, 0), 9), rel=1e-9
    )
    theta = np.random.default_rng((0, 0x51CE)).standard_normal((9, 2))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    a, b = (np.sort(np.repeat(z @ theta.T, each // len(z), 0), 0) for z in (x, y))
    assert sliced_wasserstein(x, y, 9) == pytest.approx(((a - b) ** 2).mean(0), rel=1e-9)
    if n != m and min(n, m) > 1:
        cut = (np.sort(x[: min(n, m)] @ theta.T, 0) - np.sort(y[: min(n, m)] @ theta.T, 0)) ** 2
        assert cut.mean(0) != pytest.approx(((a - b) ** 2).mean(0), rel=1e-3)  # the fake: the larger side cut


def test_neither_chunks_nor_types_matter(monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (30, 3, 4, 4)).astype(np.uint8)
    y = np.random.default_rng(1).integers(0, 200, (20, 3, 4, 4)).astype(np.uint8)
    whole = sliced_wasserstein(x, y, 50)
    monkeypatch.setattr(twosample, "CHUNK", 200)
    assert sliced_wasserstein(x.astype(np.float64), y, 50) == pytest.approx(whole, rel=1e-9)
    assert sliced_wasserstein(x, y, 50, seed=1) != pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: classifier_test(normal(9, 2), normal(50, 2)),
        lambda: classifier_test(normal(50, 2), normal(50, 3)),
        lambda: auroc(np.arange(5.0), np.ones(5)),
        lambda: auroc(np.array([0.1, np.nan]), np.array([0, 1])),
        lambda: sliced_wasserstein(normal(5, 4), np.zeros((0, 1, 2, 2))),
        lambda: sliced_wasserstein(normal(5, 4), np.full((3, 4), np.inf)),
    ],
)
def test_what_cannot_be_compared_is_refused(ask):
    with pytest.raises(Refusal, match=r"take|both should|compares"):
        ask()
