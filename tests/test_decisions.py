"""Probabilities of classifiers: right ones, overconfident ones, and when to say "cannot tell"."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import log_loss as their_log_loss
from sklearn.metrics import roc_auc_score

from likeness.core import Refusal
from likeness.metrics import decisions
from likeness.metrics.decisions import (
    CANNOT_TELL,
    abstain,
    accuracy,
    brier,
    calibration,
    decide,
    log_loss,
    out_of_distribution,
    softmax,
    temperature,
)


def logits_of(n: int, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the probabilities that they say: a perfectly calibrated classifier."""
    rng = np.random.default_rng((seed, n))
    z = rng.normal(size=(n, classes)) * 2
    return z, drawn(softmax(z), rng)


def drawn(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (rng.random((len(p), 1)) > p.cumsum(1)).sum(1).clip(0, p.shape[1] - 1)


def binary(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confidence uniform in (1/2, 1), and right as often as that."""
    rng = np.random.default_rng((seed, 0xB1))
    p = rng.random(n)
    return np.stack([1 - p, p], 1), (rng.random(n) < p).astype(int)


# Scores


def test_scores_equal_those_written_out():
    z, y = logits_of(300)
    p = softmax(z)
    assert accuracy(p, y).mean() == np.mean([row.argmax() == label for row, label in zip(p, y)])
    assert log_loss(p, y).mean() == pytest.approx(their_log_loss(y, p), rel=1e-9)
    assert brier(p, y) == pytest.approx(
        [sum((q - (c == label)) ** 2 for c, q in enumerate(row)) for row, label in zip(p, y)]
    )
    assert brier(np.eye(2), np.array([0, 0])).tolist() == [0, 2]
    # called impossible: not hidden by a small number
    assert log_loss(np.eye(2), np.array([0, 0])).tolist() == [0, math.inf]


def test_softmax_does_not_underflow():
    p = softmax(np.array([[0.0, -300.0]], np.float32))
    assert log_loss(p, np.array([1]))[0] == pytest.approx(300)


# Calibration


def test_the_error_of_perfect_probabilities_is_the_noise_of_bins():
    found = [calibration(softmax(z), y, seed=s) for s in range(20) for z, y in [logits_of(600, seed=s)]]
    ece = np.mean([f.ece for f in found])
    assert ece == pytest.approx(np.mean([f.chance for f in found]), rel=0.08)
    assert ece > 0.03  # not 0, which is why chance stands beside it
    z, y = logits_of(60_000)
    assert calibration(softmax(z), y).ece < 0.01


def test_the_error_of_an_overconfident_classifier_is_the_gap():
    rng = np.random.default_rng(0)
    y = (rng.random(4000) < 0.3).astype(int)  # says 90 % for class 0, which is right in 70 %
    p = np.tile([0.9, 0.1], (4000, 1))
    found = calibration(p, y)
    assert found.ece == pytest.approx(0.9 - (y == 0).mean(), abs=1e-12) == pytest.approx(0.2, abs=0.03)
    assert found.ece > 10 * found.chance
    assert len(found.curve.n) == 1  # equal confidences share a bin
    halves = np.array_split(np.argsort((y == 0), kind="stable"), 15)
    # the fake: cut by rank, in the order of the file
    fake = sum(abs((y[h] == 0).mean() - 0.9) * len(h) for h in halves) / 4000
    assert fake > found.ece + 0.05


def test_calibration_equals_its_formula_and_order_does_not_matter():
    z, y = logits_of(1500, seed=3)
    p = softmax(z * 1.7)
    confidence, right = p.max(1), p.argmax(1) == y
    bins = np.array_split(confidence.argsort(), 15)
    ece = sum(len(b) / 1500 * abs(right[b].mean() - confidence[b].mean()) for b in bins)
    found = calibration(p, y)
    assert found.ece == pytest.approx(ece, abs=1e-12)
    assert found.curve.n.tolist() == [100] * 15
    assert found.curve.accuracy == pytest.approx([right[b].mean() for b in bins])
    assert calibration(p[::-1], y[::-1]).ece == pytest.approx(found.ece)
    pooled = abs(right.mean() - confidence.mean())  # the fake: one bin, in which errors of both signs cancel
    assert pooled < found.ece


def test_bins_of_unequal_size_weigh_by_their_images():
    p = np.repeat([[0.9, 0.1], [0.6, 0.4]], [90, 10], axis=0)
    y = np.repeat([0, 1, 1], [60, 30, 10])
    assert calibration(p, y).ece == pytest.approx(0.9 * (0.9 - 2 / 3) + 0.1 * 0.6)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_temperature_is_the_scale_of_the_logits(scale):
    z, y = logits_of(20_000)
    found = temperature(z * scale, y)
    assert found == pytest.approx(scale, rel=0.03)
    best = log_loss(softmax(z * scale, found), y).mean()
    for other in (0.9, 1.1):
        assert log_loss(softmax(z * scale, found * other), y).mean() > best
    assert np.array_equal(softmax(z * scale, found).argmax(1), z.argmax(1))
    assert calibration(softmax(z * scale, found), y).ece < 0.015
    if scale != 1:
        assert calibration(softmax(z * scale), y).ece > 0.1  # the fake: left as it is


# Out of distribution


def test_out_of_distribution_in_closed_form():
    rng = np.random.default_rng(0)
    known, other = rng.normal(1, 1, 20_000), rng.normal(-1, 1, 10_000)
    found = out_of_distribution(known, other)
    assert found.auroc == pytest.approx(
        roc_auc_score(np.repeat([1, 0], [20_000, 10_000]), np.concatenate([known, other])), abs=1e-9
    )
    assert found.auroc == pytest.approx(0.9214, abs=0.006)  # Phi(2 / sqrt 2)
    assert found.accepted.mean() == pytest.approx(0.3612, abs=0.015)  # Phi(1.645 - 2)
    # equal by symmetry here, not where spreads differ:
    swapped = out_of_distribution(-other, -known).accepted.mean()
    assert swapped == pytest.approx(found.accepted.mean(), abs=0.03)
    wide = out_of_distribution(known, 3 * other).accepted.mean()
    # the fake: the other kind as positives
    assert abs(out_of_distribution(-3 * other, -known).accepted.mean() - wide) > 0.1


def test_exactly_95_percent_of_the_known_pass():
    known = np.arange(100.0)
    other = np.array([4.9, 5.0, 5.1])
    assert out_of_distribution(known, other).accepted.tolist() == [False, True, True]
    # all three, as two would be too few
    assert out_of_distribution(known[:3], np.array([-0.5, 0.5, 1.5])).accepted.tolist() == [False, True, True]


# Cannot tell


def test_the_share_of_wrong_decisions_stays_below_what_was_asked_for():
    """Confidence c is right with chance c: above a threshold t the share of wrong decisions is (1
    - t) / 2."""
    bands = [abstain(*binary(800, s), error=0.1, failure=0.1) for s in range(300)]
    wrong = np.array([(1 - max(0.5, b.threshold)) / 2 for b in bands if b.decided])
    assert len(wrong) > 240  # the others never decide
    assert (wrong > 0.1).sum() <= 0.1 * 300
    assert 0.05 < wrong.mean() < 0.1  # and it is not needlessly shy
    naive = []
    # the fake: the loosest threshold with at most that share wrong among the calibration images
    for s in range(300):
        p, y = binary(800, s)
        order = (-p.max(1)).argsort()
        share = (1 - accuracy(p, y)[order]).cumsum() / np.arange(1, 801)
        naive.append((1 - p.max(1)[order][np.flatnonzero(share <= 0.1).max()]) / 2)
    assert (np.array(naive) > 0.1).mean() > 0.3


def test_the_guarantee_needs_no_calibration_of_the_classifier():
    """Right in 80 % whatever it says, so nothing can be promised at 10 %; and in 98 %, so everything can."""
    rng, found = np.random.default_rng(0), []
    for right in (0.8, 0.98):
        p = binary(2000)[0]
        y = np.where(rng.random(2000) < right, p.argmax(1), p.argmin(1))
        found.append(abstain(p, y, error=0.1))
    assert found[0].threshold == math.inf and found[0].decided == 0 and math.isnan(found[0].wrong)
    assert (decide(p, found[0].threshold) == CANNOT_TELL).all()
    assert (
        found[1].threshold == 0 and found[1].decided == 1 and found[1].wrong == pytest.approx(0.02, abs=0.01)
    )
    assert np.array_equal(decide(p, found[1].threshold), p.argmax(1))


def test_trying_many_bands_does_not_loosen_the_promise():
    """A share of 0.101 is wrong, whatever the confidence: every band breaks the promise of 0.1, so it may
    decide in 20 % of draws, no more."""
    rng, p = np.random.default_rng(0), binary(400)[0]
    draws = [np.where(rng.random(400) < 0.101, p.argmin(1), p.argmax(1)) for _ in range(300)]
    assert np.mean([abstain(p, y, 0.1, 0.2).decided > 0 for y in draws]) <= 0.2


def test_a_band_is_tried_only_after_those_before_it_held():
    """Wrong are 10 of the surest 50, none of the next 130, then 12 of 20 and 20 of 200: only the surest 180
    or so would pass, between two starts."""
    p = np.stack([confidence := np.linspace(0.99, 0.6, 400), 1 - confidence], 1)
    y = np.concatenate(
        [np.arange(m) < wrong for m, wrong in ((50, 10), (130, 0), (20, 12), (200, 20))]
    ).astype(int)
    assert binom.cdf(10, 180, 0.1) < 0.2 / 4
    assert abstain(p, y, 0.1, 0.2).threshold == math.inf


def test_decisions_agree_with_the_band_that_was_fitted():
    p, y = binary(3000)
    band = abstain(p, y, 0.1)
    said = decide(p, band.threshold)
    assert (said != CANNOT_TELL).mean() == band.decided
    assert (said != y)[said != CANNOT_TELL].mean() == band.wrong <= 0.1
    assert (
        1 - band.threshold < p[said == CANNOT_TELL, 1].min()
        and p[said == CANNOT_TELL, 1].max() <= band.threshold
    )


@pytest.mark.parametrize("n", [1, 5, 30])
def test_few_images_promise_nothing(n):
    p, y = np.tile([0.01, 0.99], (n, 1)), np.ones(n, int)
    assert abstain(p, y).threshold == math.inf
    assert abstain(np.tile(p, (200 // n, 1)), np.ones(n * (200 // n), int)).threshold == 0


def test_a_stricter_promise_decides_less():
    p, y = binary(5000)
    decided = [abstain(p, y, error).decided for error in (0.02, 0.05, 0.1, 0.2, 0.4)]
    assert decided == sorted(decided) and decided[0] < 0.1 and decided[-1] == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda: accuracy(np.eye(2), np.array([0])),
        lambda: accuracy(np.eye(2), np.array([0, 2])),
        lambda: brier(np.eye(2), np.array([0.0, 1.0])),
        lambda: temperature(np.zeros((0, 3)), np.zeros(0, int)),
        lambda: temperature(np.full((2, 3), np.nan), np.zeros(2, int)),
        lambda: decisions.calibration(np.eye(3) * 2, np.arange(3)),
        lambda: abstain(np.zeros((0, 2)), np.zeros(0, int)),
    ],
)
def test_what_are_no_probabilities_is_refused(ask):
    with pytest.raises(Refusal, match="give"):
        ask()
