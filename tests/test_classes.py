"""Classes seen in samples: closed forms at both ends, and what chance does to small sets."""

from __future__ import annotations

import numpy as np
import pytest

from likeness.core import Refusal
from likeness.metrics.card import interval
from likeness.metrics.classes import checked, class_gap, confident, inception_score, modes


def random_probabilities(n: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), n)


# Inception score


@pytest.mark.parametrize("classes", [2, 10])
def test_the_ends_of_the_inception_score(classes):
    assert inception_score(np.full((50, classes), 1 / classes)) == pytest.approx(1, abs=1e-12)
    sure = np.eye(classes)[np.arange(50 * classes) % classes]
    assert inception_score(sure) == pytest.approx(classes, rel=1e-12)
    # sure, of one class alone
    assert inception_score(np.eye(classes)[np.zeros(50, int)]) == pytest.approx(1, abs=1e-12)
    assert inception_score(sure[: 50 * classes // 2 * 2]) > 1.9  # zeros in it are no trouble


def test_inception_score_equals_its_formula():
    p = random_probabilities(200, 10)
    divergence = (p * (np.log(p + 1e-300) - np.log(p.mean(0)))).sum(1)
    assert inception_score(p) == pytest.approx(np.exp(divergence.mean()), rel=1e-10)
    in_bits = np.exp(divergence.mean() / np.log(2))  # the fake: another logarithm than the exponential's
    # the fake: many splits
    splits = np.mean([np.exp((q * np.log(q / q.mean(0) + 1e-300)).sum(1).mean()) for q in np.split(p, 20)])
    for fake in (in_bits, splits):
        assert fake != pytest.approx(inception_score(p), rel=1e-2)


def test_inception_score_can_be_resampled():
    p = random_probabilities(300, 10)
    assert inception_score(np.stack([p, p[::-1]]), axis=1) == pytest.approx(
        float(inception_score(p)), rel=1e-9
    )
    low, high = interval(p, 0, inception_score)
    assert low < inception_score(p) < high


# Classes


def test_modes_are_counted():
    found = modes(np.array([0, 0, 3, 4, 4, 4]), 6)
    assert found.counts.tolist() == [2, 0, 0, 1, 3, 0]
    assert found.missing == (1, 2, 5) and found.share_missing == 0.5
    assert modes(np.arange(6), 6).missing == ()


def test_the_gap_of_classes_is_half_of_what_is_out_of_place():
    real = np.repeat(np.arange(10), 1000)
    assert class_gap(real, real, 10).value == 0
    gone = class_gap(real[real != 3], real, 10)
    assert gone.value == pytest.approx(0.1) and gone.value > gone.limit
    assert class_gap(np.zeros(50, int), np.ones(70, int), 2).value == 1
    assert class_gap(np.repeat([0, 1], [75, 25]), np.repeat([0, 1], [100, 100]), 2).value == pytest.approx(
        0.25
    )


def test_the_gap_of_equal_laws_is_what_chance_says():
    rng, share = np.random.default_rng(0), np.array([0.4, 0.3, 0.2, 0.05, 0.05])
    pairs = [(rng.choice(5, 60, p=share), rng.choice(5, 300, p=share)) for _ in range(200)]
    found = [class_gap(a, b, 5, repeats=300) for a, b in pairs]
    measured = np.mean([f.value for f in found])
    assert np.mean([f.chance for f in found]) == pytest.approx(measured, rel=0.06)
    assert 0.005 <= np.mean([f.value > f.limit for f in found]) <= 0.1
    one_side = np.mean([np.abs(rng.multinomial(60, share) / 60 - share).sum() / 2 for _ in range(2000)])
    assert one_side < 0.94 * measured  # the fake: the real side taken as exact
    assert measured > 0.05  # so a gap of 0.05 is nothing at this n


def test_confident():
    assert confident(np.array([[0.95, 0.05], [0.9, 0.1], [0.5, 0.5]])).tolist() == [True, False, False]
    assert confident(np.array([[0.6, 0.4]]), 0.5).all()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: checked(np.array([[2.0, -1.0]])),
        lambda: checked(np.array([[0.7, 0.7]])),
        lambda: checked(np.array([0.5, 0.5])),
        lambda: checked(np.array([[np.nan, 1.0]])),
        lambda: checked(np.zeros((0, 3))),
        lambda: modes(np.array([0, 7]), 6),
        lambda: modes(np.array([0.5]), 6),
        lambda: class_gap(np.array([], int), np.array([1]), 6),
    ],
)
def test_what_are_no_probabilities_or_classes_is_refused(ask):
    with pytest.raises(Refusal, match="give"):
        ask()


def test_probabilities_in_single_precision_are_probabilities():
    p = random_probabilities(100, 10).astype(np.float32)
    assert checked(p).sum(1) == pytest.approx(1, abs=1e-12)
