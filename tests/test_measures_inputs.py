"""Every public measure on what is no input: a sentence, or the right value; never a traceback, and never a
confident number; ties and units."""

from __future__ import annotations

import inspect
import math
import pkgutil
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from likeness import metrics
from likeness.core import Refusal
from likeness.metrics import (
    bayes_rule,
    card,
    classes,
    decisions,
    doubts,
    kernels,
    likelihood,
    manifold,
    modes,
    moments,
    neighbours,
    parzen,
    probing,
    reconstruction,
    returns,
    translation,
    twosample,
)
from likeness.metrics.moments import Moments

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(40, 3)), RNG.normal(size=(50, 3))
LABELS = np.arange(40) % 3
P = np.full((40, 3), 0.1) + 0.7 * np.eye(3)[LABELS]
PICTURES = RNG.integers(0, 256, (40, 1, 6, 6)).astype(np.uint8)

SETS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {  # of two sets of features
    "kid": kernels.kid,
    "mmd": lambda a, b: kernels.mmd(a, b, 1.0),
    "discrepancy": lambda a, b: kernels.discrepancy(a, b, kernels.cubic),
    "p_value": lambda a, b: kernels.p_value(a, b, kernels.cubic, permutations=5),
    "nearest": manifold.nearest,
    "prdc": manifold.prdc,
    "diversity": manifold.diversity,
    "AuthPct": manifold.authentic,
    "duplicates": manifold.duplicates,
    "frechet": lambda a, b: moments.frechet(Moments.of(a), Moments.of(b)),
    "frechet_infinity": moments.frechet_infinity,
    "frechet_interval": lambda a, b: moments.frechet_interval(Moments.of(a), b),
    "classifier_test": twosample.classifier_test,
    "classifier_test by neighbours": lambda a, b: twosample.classifier_test(a, b, "neighbours"),
    "sliced_wasserstein": lambda a, b: twosample.sliced_wasserstein(a, b, 8),
    "knn": lambda a, b: probing.knn(a, np.arange(len(a)) % 3, b),
    "linear": lambda a, b: probing.linear(a, np.arange(len(a)) % 3, 3).logits(b),
}
BAD_SETS = {
    "nan": lambda x: np.where(np.arange(len(x))[:, None] == 1, np.nan, x),
    "inf": lambda x: np.where(np.arange(len(x))[:, None] == 1, -np.inf, x),
    "more than float32 holds": lambda x: np.where(np.arange(len(x))[:, None] == 1, 1e200, x),
    "empty": lambda x: x[:0],
    "other features": lambda x: x[:, :2],
    "one axis": lambda x: x[:, 0],
}
ODD_SETS = {
    "one row": lambda x: x[:1],
    "all equal": lambda x: x[:1].repeat(len(x), 0),
    "two rows": lambda x: x[:2],
}


def finite(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(finite(v) for v in value)
    return bool(np.isfinite(np.asarray(value, np.float64)).all())


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("bad", BAD_SETS)
@pytest.mark.parametrize("name", SETS)
def test_sets_that_are_none_are_refused(name, bad, side):
    pair = [A, B]
    pair[side] = BAD_SETS[bad](pair[side])
    with pytest.raises(Refusal, match=r"^[\w(].{30,}"):
        SETS[name](*pair)


@pytest.mark.parametrize("sides", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("odd", ODD_SETS)
@pytest.mark.parametrize("name", SETS)
def test_few_or_equal_images_are_refused_or_measured(name, odd, sides):
    pair = [ODD_SETS[odd](x) if side in sides else x for side, x in enumerate((A, B))]
    try:
        assert finite(SETS[name](*pair))
    except Refusal as refusal:
        assert len(str(refusal)) > 30


JUDGED: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {  # of class probabilities and labels
    "accuracy": decisions.accuracy,
    "log_loss": decisions.log_loss,
    "brier": decisions.brier,
    "calibration": decisions.calibration,
    "abstain": decisions.abstain,
    "confident": lambda p, y: classes.confident(p),
    "inception_score": lambda p, y: classes.inception_score(p),
    "inception_score of resamples": lambda p, y: classes.inception_score(np.stack([p, p]), axis=1),
    "decide": lambda p, y: decisions.decide(p, 0.5),
}
BAD_P = {
    "nan": lambda p: np.where(np.arange(len(p))[:, None] == 1, np.nan, p),
    "negative": lambda p: p - 0.2,
    "unnormalised": lambda p: 3 * p,
    "logits": lambda p: np.log(p),
    "empty": lambda p: p[:0],
    "one axis": lambda p: p[:, 0],
}


@pytest.mark.parametrize("bad", BAD_P)
@pytest.mark.parametrize("name", JUDGED)
def test_what_is_no_probability_is_refused(name, bad):
    if name.endswith("resamples") and bad == "one axis":
        return  # two of these are a table
    p = BAD_P[bad](P)
    with pytest.raises(Refusal, match="softmax"):
        JUDGED[name](p, LABELS[: len(p)])


@pytest.mark.parametrize("name", JUDGED)
def test_one_image_and_equal_images_have_probabilities(name):
    for p, y in ((P[:1], LABELS[:1]), (P[:1].repeat(40, 0), LABELS[:1].repeat(40))):
        assert finite(
            tuple(
                v for v in (JUDGED[name](p, y),) if not isinstance(v, decisions.Band | decisions.Calibration)
            )
        )


@pytest.mark.parametrize(
    "labels",
    [LABELS[:5], LABELS - 1, LABELS + 1, LABELS.astype(float), LABELS[:, None]],
    ids=["few", "negative", "too large", "floats", "table"],
)
def test_labels_that_do_not_fit_are_refused(labels):
    asked = [
        lambda: decisions.accuracy(P, labels),
        lambda: probing.knn(A, labels, B) if labels.min() < 1 else probing.linear(A, labels, 3),
        lambda: probing.linear(A, labels, 3),
        lambda: decisions.temperature(np.log(P), labels),
    ]
    for ask in asked:
        with pytest.raises(Refusal, match="label"):
            ask()


nan, one = np.full((3, 2), np.nan), np.ones((3, 2))
IMAGES = torch.zeros(2, 1, 4, 4)
OTHERS: dict[str, Callable[[], Any]] = {
    "median_distance of nothing": lambda: kernels.median_distance(A[:0]),
    "median_distance of nan": lambda: kernels.median_distance(nan),
    "a kernel of no width": lambda: kernels.mmd(A, B, 0.0),
    "a kernel of unknown width": lambda: kernels.mmd(A, B, math.nan),
    "others": lambda: manifold.others(A[:1]),
    "expected_coverage": lambda: manifold.expected_coverage(5, 10),
    "frechet_error of other features": lambda: moments.frechet_error(Moments.of(A), B[:, :2]),
    "linear of four images": lambda: probing.linear(A[:4], LABELS[:4], 3),
    "linear of one class": lambda: probing.linear(A, np.zeros(40, int), 3),
    "patches of nothing": lambda: probing.Patches(PICTURES[:0]),
    "patches of floats": lambda: probing.Patches(PICTURES / 255),
    "raw of floats": lambda: probing.raw(PICTURES / 255),
    "modes of no class": lambda: classes.modes(LABELS, 2),
    "modes of nothing": lambda: classes.modes(LABELS[:0], 2),
    "class_gap to nothing": lambda: classes.class_gap(LABELS, LABELS[:0], 3),
    "auroc of one kind": lambda: twosample.auroc(A[:, 0], np.ones(40)),
    "auroc of nan": lambda: twosample.auroc(np.full(4, np.nan), np.arange(4) % 2),
    "auroc of fewer labels": lambda: twosample.auroc(A[:, 0], np.arange(4) % 2),
    "out_of_distribution of nothing": lambda: decisions.out_of_distribution(A[:0, 0], B[:, 0]),
    "softmax of nan": lambda: decisions.softmax(nan),
    "softmax of +inf": lambda: decisions.softmax(one * np.inf),
    "softmax of -inf alone": lambda: decisions.softmax(-one * np.inf),
    "softmax at no temperature": lambda: decisions.softmax(one, 0.0),
    "temperature of nan": lambda: decisions.temperature(nan, np.zeros(3, int)),
    "temperature of nothing": lambda: decisions.temperature(one[:0], np.zeros(0, int)),
    "log_prior of nothing": lambda: bayes_rule.log_prior(LABELS[:0], 3),
    "log_prior of -1": lambda: bayes_rule.log_prior(LABELS - 1, 3),
    "posterior of nan": lambda: bayes_rule.posterior(nan, np.zeros(2)),
    "posterior with another prior": lambda: bayes_rule.posterior(one, np.zeros(3)),
    "log_odds of nan": lambda: bayes_rule.log_odds(nan),
    "of_points in other dimensions": lambda: modes.of_points(one[:, :1], one, 1.0),
    "of_points without centres": lambda: modes.of_points(one, one[:0], 1.0),
    "counts of a mode too many": lambda: modes.counts(np.array([0, 3]), 3),
    "counts of floats": lambda: modes.counts(np.array([0.5]), 3),
    "reverse_kl to other modes": lambda: modes.reverse_kl(np.array([1, 2]), np.ones(1)),
    "cards of no sample": lambda: list(modes.cards(LABELS[:0], None, np.ones(3) / 3, False)),
    "interval of nothing": lambda: card.interval(np.zeros(0)),
    "interval of nan": lambda: card.interval(np.array([1.0, np.nan])),
    "codec of floats": lambda: likelihood.codec(PICTURES / 255, "PNG"),
    "sheet of nothing": lambda: likelihood.sheet(PICTURES[:0], "PNG"),
    "histogram of other pictures": lambda: likelihood.histogram(PICTURES[..., :3], np.arange(4), PICTURES),
    "nearest of floats": lambda: neighbours.nearest(PICTURES / 255, PICTURES, np.arange(40)),
    "nearest of other pictures": lambda: neighbours.nearest(PICTURES[..., :3], PICTURES, np.arange(40)),
    "closeness to nothing": lambda: neighbours.closeness(
        *(neighbours.Nearest(d, d.astype(int)) for d in (one, one[:0]))
    ),
    "log_density about nothing": lambda: parzen.log_density(PICTURES, PICTURES[:0], np.ones(1)),
    "log_density of no width": lambda: parzen.log_density(PICTURES, PICTURES, np.zeros(1)),
    "log_density of other pictures": lambda: parzen.log_density(PICTURES[..., :3], PICTURES, np.ones(1)),
    "bandwidth for nothing": lambda: parzen.bandwidth(PICTURES, PICTURES[:0]),
    "centres of too few": lambda: parzen.centres(PICTURES[:2], 3),
    "mse of other images": lambda: reconstruction.mse(IMAGES, IMAGES[..., :3]),
    "psnr of other images": lambda: reconstruction.psnr(IMAGES, IMAGES[..., :3]),
    "ssim of other images": lambda: reconstruction.ssim(IMAGES, IMAGES[:1]),
    "mean_image of nothing": lambda: reconstruction.mean_image(IMAGES[:0]),
    "pca of nan": lambda: reconstruction.pca(IMAGES * np.nan, 1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_be_measured_is_refused(name):
    with pytest.raises(Refusal, match=r"^[\w-].{30,}"):
        OTHERS[name]()


def test_an_image_that_is_nan_spoils_its_own_reconstruction_alone():
    broken = torch.stack([IMAGES[0], IMAGES[1] * np.nan])
    for take in (reconstruction.mse, reconstruction.psnr, reconstruction.ssim):
        assert (
            take(IMAGES, broken).isnan().tolist() == [False, True]
            and take(IMAGES[:0], IMAGES[:0]).tolist() == []
        )
    told = card.measure("SSIM", reconstruction.ssim(IMAGES, broken).numpy())
    assert told.refused and "1 of 2 values are not numbers" in told.warning


def test_doubts_and_shares_of_nothing():
    nothing, bits = np.zeros(0), np.array([np.inf] * 50)
    assert (
        doubts.implausible(nothing, nothing, 256)
        == doubts.suspicion(nothing, nothing)
        == doubts.too_near(nothing, nothing)
        == ""
    )
    assert doubts.overfitted(nothing, nothing) == doubts.overfitted(bits, np.ones(50)) == ""
    assert doubts.beaten(np.ones(5), np.ones(5), np.full(5, 2.0)) == "" and doubts.beaten(
        np.full(50, 3.0), np.full(50, 3.0), np.ones(50)
    )
    assert card.wilson(0, 0) == (0.0, 1.0)
    assert modes.of_points(nan, one, 1.0).tolist() == [modes.NONE] * 3


HELPERS = {
    "sentences",  # what is no measure, or is only called by those above with what they have checked
    *(
        "short",
        "small",
        "measure",
        "from_dict",
        "wilson",
        "uniform",
        "nats",
        "affordable",
        "most",
        "cubic",
        "gaussian",
        "alike",
        "checked",
        "comparable",
        "as_many",
    ),
    *(
        "too_few",
        "folds_of",
        "unit",
        "scaled",
        "logistic",
        "contrasted",
        "shrunk",
        "centred",
        "squared",
        "distinct",
        "copied",
        "exact",
        "grid",
        "covered",
    ),
    *("bins_note", "solved", "collapsed", "repeated", "noisy", "alike", "peaked"),
}


def test_no_measure_is_forgotten():
    text = inspect.getsource(inspect.getmodule(finite))
    modules = [import_module(f"likeness.metrics.{m.name}") for m in pkgutil.iter_modules(metrics.__path__)]
    public = {
        name
        for m in modules
        for name, f in inspect.getmembers(m, inspect.isfunction)
        if f.__module__ == m.__name__ and name[0] != "_"
    }
    assert not {name for name in public - HELPERS if f".{name}" not in text}


# Neighbours that are equally near, and units


def test_which_of_equally_near_images_come_first_says_nothing_to_knn():
    """Forty copies of a picture, a quarter of class 0: class 1 has more of the twenty places, whatever the
    order."""
    x, y = (
        np.concatenate([np.tile([1.0, 0.0], (40, 1)), np.tile([-1.0, 0.5], (40, 1))]),
        np.repeat([0, 1, 2], [10, 30, 40]),
    )
    for order in (np.arange(80), np.arange(80)[::-1], RNG.permutation(80)):
        assert probing.knn(x[order], y[order], x[:1]).tolist() == [1]


@pytest.mark.parametrize("scale", [1e-24, 1e19, 1e37])
def test_probes_do_not_depend_on_the_unit(scale):
    x = np.random.default_rng(1).normal(size=(60, 4)) + 3 * np.eye(4)[np.arange(60) % 3]
    y = np.arange(60) % 3
    small, usual = (f.astype(np.float32) for f in (x * scale, x))
    assert np.array_equal(
        probing.knn(small[:40], y[:40], small[40:]), probing.knn(usual[:40], y[:40], usual[40:])
    )
    answers = [probing.linear(f[:40], y[:40], 3).logits(f[40:]).argmax(1) for f in (small, usual)]
    assert np.array_equal(*answers)


def test_a_card_of_the_calibration_error_says_its_bins():
    found = decisions.calibration(P, LABELS)
    assert decisions.bins_note(found.curve).startswith(
        "15 bins of equal mass (Nguyen & O'Connor 2015), of which 1 differ; "
    )


# Translations


def test_translations_of_another_shape_or_without_a_middle_are_refused():
    x, y = torch.full((2, 3, 8, 8), -1 + 100 * translation.LEVEL), torch.zeros(2, 3, 8, 9)
    for measure in (translation.mae, translation.psnr_y, translation.ssim_y):
        with pytest.raises(Refusal):
            measure(x, y)
        assert finite(measure(x, x + 0.1)) and (measure is not translation.mae or not measure(x, x).any())
    with pytest.raises(Refusal, match="leaves nothing"):
        translation.shaved(x, 4)
    with pytest.raises(Refusal, match="grey or RGB"):
        translation.luma(torch.zeros(1, 2, 8, 8))
    assert translation.identity(torch.zeros(1, 1, 4, 4), 3, 8).shape == (1, 3, 8, 8)
    assert translation.resized(x, 16, "lanczos").shape == (2, 3, 16, 16)
    assert float((translation.perturbed(x) - x).abs().max()) <= translation.LEVEL * 1.01
    assert finite(translation.relative(np.ones((4, 2)), np.zeros((4, 2)), 1.0))


def test_returns_that_are_none_or_no_numbers_are_refused():
    for scores in (np.zeros((0, 1)), np.full((4, 1), np.nan)):
        with pytest.raises(Refusal):
            returns.iqm(scores)
        with pytest.raises(Refusal):
            returns.stratified(scores)
    assert returns.iqm(np.arange(8.0)[:, None]) == pytest.approx(3.5)
    assert returns.stratified(np.full((5, 2), 2.0)) == (2.0, 2.0)
