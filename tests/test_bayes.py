"""Bayes' rule against closed forms, and the comparison of a generative with a discriminative classifier."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from conftest import small_run, toy
from likeness.core import Batch, Bits, Condition, Loss, Model, Noise, Refusal, Spec
from likeness.data import Data
from likeness.evaluation import exam
from likeness.figures import read_recipe
from likeness.metrics.bayes_rule import log_odds, log_prior, posterior
from likeness.metrics.card import Score
from likeness.studies import bayes

# Bayes' rule itself


def test_a_posterior_by_hand() -> None:
    likelihood, prior = np.array([[0.2, 0.5, 0.1], [0.0, 0.0, 0.3]]), np.array([0.5, 0.2, 0.3])
    with np.errstate(divide="ignore"):
        found = posterior(np.log(likelihood), np.log(prior))
    assert np.exp(found.evidence) == pytest.approx([0.23, 0.09])
    assert np.exp(found.log_p) == pytest.approx(np.array([[10 / 23, 10 / 23, 3 / 23], [0, 0, 1]]))
    assert found.choice.tolist() == [0, 2]  # the first of equals
    forgotten = np.log(likelihood[0])  # the fake: no prior
    assert forgotten.argmax() == 1


def test_impossible_classes_images_and_numbers() -> None:
    inf, prior = math.inf, np.log([0.25, 0.75])
    found = posterior(np.array([[-inf, -inf], [-4.0, -inf], [-1e6, -1e6 - 1]]), prior)
    assert found.log_p[0] == pytest.approx(prior) and found.evidence[0] == -inf and found.choice[0] == 1
    assert np.exp(found.log_p[1]) == pytest.approx([1, 0])
    assert np.exp(found.log_p[2]).sum() == pytest.approx(1) and found.evidence[2] == pytest.approx(
        -1e6, abs=2
    )
    naive = np.exp([-1e6, -1e6 - 1]) * [0.25, 0.75]  # the fake: not in logarithms
    assert naive.sum() == 0
    never = posterior(np.array([[-9.0, -1.0]]), log_prior(np.zeros(5, int), 2))
    assert never.choice[0] == 0, "a class without training images is never chosen"
    for wrong in (math.nan, math.inf):
        with pytest.raises(Refusal, match="1 of 2 images is no number"):
            posterior(np.array([[0.0, 0.0], [wrong, 0.0]]), prior)
    for labels in (np.array([], int), np.array([0, 5])):
        with pytest.raises(Refusal, match="labels 0 to 1"):
            log_prior(labels, 2)


def test_odds_rank_where_probabilities_are_rounded_to_one() -> None:
    log_p = posterior(-np.array([[0.0, 50.0, 80.0], [0.0, 60.0, 80.0], [0.0, 0.1, 0.2]]), np.zeros(3)).log_p
    assert np.exp(log_p).max(1)[0] == np.exp(log_p).max(1)[1] == 1
    odds = log_odds(log_p)
    assert odds[1] > odds[0] > odds[2] and odds[0] == pytest.approx(50)


# A model whose p(x|y) is known: one pixel, a table of 256 probabilities for each class.


class Table(Model):
    """N(128 -+ 10 distance, 20^2) of one pixel, discretised: classes lie `distance` standard deviations
    apart."""

    conditional = True

    def build(self) -> None:
        self.register_buffer("log_p", torch.zeros(2, 256))
        self.unused = nn.Parameter(torch.zeros(1))

    def loss(self, batch: Batch) -> Loss:
        return Loss(self.unused.square().sum())

    def fill(self, distance: float) -> np.ndarray:
        middles = 127.5 + np.array([-10, 10]) * distance
        edges = np.concatenate([[-np.inf], np.arange(255) + 0.5, [np.inf]])
        p = np.diff(norm.cdf((edges - middles[:, None]) / 20), axis=1)
        self.log_p = torch.from_numpy(np.log(p)).float()
        return p

    def at(self, batch: Batch) -> Tensor:
        assert batch.y is not None
        return self.log_p[batch.y.label, ((batch.x.flatten() + 1) * 127.5).round().long()]

    def bits_per_dim(self, batch: Batch) -> Bits:
        return Bits(-self.at(batch) / math.log(2), "exact")


class Noisy(Table):
    """The same, known only up to noise."""

    def bits_per_dim(self, batch: Batch) -> Bits:
        return Bits(-(self.at(batch) + 3 * batch.noise.normal()) / math.log(2), "estimate")


def pixels(p: np.ndarray, share: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = (rng.random(n) < share).astype(int)
    x = np.array([rng.choice(256, p=p[c]) for c in y], np.uint8)
    return x.reshape(-1, 1, 1, 1), y


@pytest.mark.parametrize(("distance", "share"), [(1.0, 0.5), (2.0, 0.5), (3.0, 0.5), (2.0, 0.1)])
def test_a_known_model_reaches_the_bayes_error_and_no_rule_is_better(distance: float, share: float) -> None:
    """REFERENCE 27: N(-+D/2, 1) with equal classes has Bayes error Phi(-D/2)."""
    model = Table(spec=Spec(1, 1, 2))
    p = model.fill(distance)
    x, y = pixels(p, share)
    prior = np.array([1 - share, share])
    least = np.minimum(*(p * prior[:, None])).sum()
    if share == 0.5:
        assert least == pytest.approx(norm.cdf(-distance / 2), abs=1e-3)
    wrong = bayes.ByBayes(model, np.log(prior))(x).log_p.argmax(1) != y
    spread = math.sqrt(least * (1 - least) / len(y))
    assert wrong.mean() == pytest.approx(least, abs=3 * spread)
    # the fake: a wrong prior
    worse = (
        bayes.ByBayes(model, np.log(prior[::-1]) if share != 0.5 else np.log([0.99, 0.01]))(x).log_p.argmax(1)
        != y
    )
    assert worse.mean() > least + 3 * spread


def test_its_probabilities_are_calibrated_and_its_evidence_is_the_mixture() -> None:
    model = Table(spec=Spec(1, 1, 2))
    p = model.fill(1.5)
    x, y = pixels(p, 0.5)
    said = bayes.ByBayes(model, np.log([0.5, 0.5]))(x)
    assert said.familiar["log p(x)"] == pytest.approx(np.log(p.mean(0))[x.ravel()], abs=1e-3)
    found = bayes.decisions.calibration(np.exp(said.log_p), y)
    assert found.ece < 2.5 * found.chance + 0.01
    overconfident = bayes.decisions.calibration(bayes.decisions.softmax(said.log_p, 0.2), y)  # the fake
    assert overconfident.ece > 0.1
    assert bayes.decisions.temperature(said.log_p / 0.2, y) == pytest.approx(5, rel=0.15)


def test_every_class_meets_the_same_noise() -> None:
    exact, noisy = Table(spec=Spec(1, 1, 2)), Noisy(spec=Spec(1, 1, 2))
    x, _ = pixels(exact.fill(2.0), 0.5, 600)
    noisy.fill(2.0)
    prior = np.log([0.5, 0.5])
    right, mine = (bayes.ByBayes(m, prior)(x) for m in (exact, noisy))
    assert mine.log_p == pytest.approx(right.log_p, abs=1e-4)
    assert np.std(mine.familiar["log p(x)"] - right.familiar["log p(x)"]) > 2
    batch = next(bayes.batches(x[:256], 0))
    # the fake
    apart = [
        noisy.bits_per_dim(Batch(batch.x, Condition(torch.full((256,), c)), Noise(range(256), c))).values
        for c in (0, 1)
    ]
    changed = (torch.stack(apart, 1).argmin(1).numpy() != right.log_p[:256].argmax(1)).mean()
    assert changed > 0.1
    again = bayes.ByBayes(noisy, prior, seed=1)(x).familiar["log p(x)"]
    assert not np.array_equal(again, mine.familiar["log p(x)"])


def test_chunks_do_not_show_and_classes_that_cannot_be_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Noisy(spec=Spec(1, 1, 2))
    x, _ = pixels(model.fill(2.0), 0.5, 50)
    whole = bayes.log_likelihoods(model, x, np.array([1]))
    assert bool((whole[:, 0] == -np.inf).all()) and np.isfinite(whole[:, 1]).all()
    monkeypatch.setattr(exam, "CHUNK", 7)
    assert np.array_equal(whole, bayes.log_likelihoods(model, x, np.array([1])))


# Ng & Jordan 2002, Efron 1975: linear discriminant analysis is the generative twin of logistic regression.


def gaussian_rule(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """The line at which posterior() of two fitted Gaussians with one covariance has odds 1, found by asking
    it."""
    means, prior = np.stack([x[y == c].mean(0) for c in (0, 1)]), log_prior(y, 2)
    precision = np.linalg.inv((x - means[y]).T @ (x - means[y]) / len(x))

    def odds(points: np.ndarray) -> np.ndarray:
        away = points[:, None] - means
        log_p = posterior(-np.einsum("ncd,de,nce->nc", away, precision, away) / 2, prior).log_p
        return np.asarray(log_p[:, 1] - log_p[:, 0])

    zero = odds(np.zeros((1, x.shape[1])))[0]
    return odds(np.eye(x.shape[1])) - zero, float(zero)


def excess(w: np.ndarray, b: float, mean: np.ndarray) -> float:
    """Error of the rule w x + b > 0 beyond Phi(-D/2), exactly, for N(-+mean, I)."""
    size = np.linalg.norm(w)
    return float(
        (norm.cdf((b - w @ mean) / size) + norm.cdf((-b - w @ mean) / size)) / 2
        - norm.cdf(-np.linalg.norm(mean))
    )


def both(distance: float, dims: int, n: int, repeats: int) -> tuple[float, float]:
    """Mean excess errors of the two rules."""
    mean, out = np.eye(dims)[0] * distance / 2, []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        y = np.arange(n) % 2
        x = rng.normal(size=(n, dims)) + np.where(y[:, None] == 1, mean, -mean)
        line = LogisticRegression(C=1e6, max_iter=1000).fit(x, y)
        out.append(
            (excess(*gaussian_rule(x, y), mean), excess(line.coef_[0], float(line.intercept_[0]), mean))
        )
    return tuple(np.mean(out, 0))  # type: ignore[return-value]


def efficiency(distance: float) -> float:
    """Efron 1975: what logistic regression needs fewer labels in, as a share; many dimensions,
    equal classes."""
    inner = integrate.quad(lambda t: math.exp(-t * t / 2) / math.cosh(distance * t / 2), -12, 12)[0]
    return (1 + distance**2 / 4) * math.exp(-(distance**2) / 8) * inner / math.sqrt(2 * math.pi)


def test_the_generative_twin_needs_fewer_labels() -> None:
    # his table 1
    assert [efficiency(d) for d in (0, 1, 2, 3, 4)] == pytest.approx(
        [1, 0.995, 0.899, 0.641, 0.343], abs=1e-3
    )
    assert both(3.0, 20, 75, 40)[0] < both(3.0, 20, 100, 40)[1], "with a quarter fewer labels it errs less"
    generative, discriminative = both(3.0, 20, 3000, 40)
    assert generative / discriminative == pytest.approx(efficiency(3.0), abs=0.15)
    assert abs(1 - efficiency(3.0)) > 0.3, "the fake, both alike, is told apart"


# Familiarity


def test_area_under_the_curve_of_two_gaussians() -> None:
    """REFERENCE 24: Phi(d / sqrt 2)."""
    rng = np.random.default_rng(0)
    card = bayes.separation(rng.normal(size=2000), rng.normal(size=2000) - 1, "a", "b", 0)
    assert card.low is not None and card.high is not None
    assert card.low < norm.cdf(1 / math.sqrt(2)) < card.high
    cards = [
        bayes.separation(rng.normal(size=200), rng.normal(size=100) - 1, "a", "b", 0) for _ in range(300)
    ]
    assert np.mean([c.spread for c in cards]) == pytest.approx(np.std([c.value for c in cards]), rel=0.2)


def test_too_likely_is_told_by_typicality_and_not_by_likelihood() -> None:
    rng = np.random.default_rng(0)
    own, known, other = ({"log p(x)": rng.normal(m, 1, 500)} for m in (0, 0, 4))
    areas = [
        bayes.separation(*(bayes.with_typicality(f, own)[m] for f in (known, other)), m, "", 0).value
        for m in ("log p(x)", "typicality")
    ]
    assert areas[0] < 0.05 and areas[1] > 0.95


# The comparison


def kinds(n: int = 240) -> Data:
    """Three kinds of 8x8 images: bright above, bright below, bright all over; noise in each."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    x = rng.integers(0, 90, (n, 1, 8, 8))
    x[:, :, :4] += np.where(y == 1, 0, 120)[:, None, None, None]
    x[:, :, 4:] += np.where(y == 0, 0, 120)[:, None, None, None]
    return Data(
        "kinds",
        "kinds-1",
        x.astype(np.uint8),
        np.arange(60, n),
        np.arange(60),
        y=y,
        classes=("up", "down", "all"),
    )


def test_a_plan_keeps_what_is_judged_apart_and_its_subsets_are_nested_and_balanced() -> None:
    data = kinds()
    chosen = bayes.plan(data, 0)
    assert data.y is not None and sorted([*chosen.aside, *chosen.order]) == data.train.tolist()
    assert (
        set(chosen.test) == set(data.held_out)
        and chosen.sizes == (10, 30, len(chosen.order))
        and chosen.left_out.tolist() == [2]
    )
    for m in chosen.sizes[:2]:
        counts = np.bincount(data.y[chosen.order[:m]], minlength=3)
        assert counts.max() - counts.min() <= 1
    subsets = chosen.subsets(data.y)
    assert list(subsets) == ["labels-10", "labels-30", f"labels-{len(chosen.order)}", bayes.OTHERS]
    assert set(subsets["labels-10"]) < set(subsets["labels-30"]) and 2 not in data.y[subsets[bayes.OTHERS]]
    assert not np.array_equal(bayes.plan(data, 1).order, chosen.order)
    rare = bayes.nested(np.array([0] * 10 + [1] * 2), np.arange(12))
    assert sorted(rare[:4].tolist()) == [0, 1, 10, 11] and len(set(rare)) == 12


def test_sizes() -> None:
    assert bayes.sizes(1456, 10) == (10, 30, 100, 300, 1456)
    assert bayes.sizes(59500, 10) == (10, 100, 1000, 10000, 59500)
    assert bayes.sizes(50, 26) == (30, 50) and bayes.sizes(20, 15) == (20,)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"net": "mlp", "hidden": 32, "depth": 1, "latent": 2}
    monkeypatch.setattr(
        bayes, "OPTIONS", {"vae": {"conditional": True} | small, "classifier": {"width": 4, "features": 8}}
    )
    monkeypatch.setattr(
        bayes, "elsewhere", lambda data, rng: iter([("constant", np.full((40, 1, 8, 8), 128, np.uint8))])
    )


def walk(folder: Path, seed: int = 0, passes: int = 20) -> list[object]:
    return list(bayes.run(kinds(), folder, math.inf, seed, passes=passes))


def test_both_sides_are_compared_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    found = walk(tmp_path)
    cards = [at for at in found if isinstance(at, Score)]
    shares = [at.share for at in found if isinstance(at, bayes.Moment)]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] < 1
    right = {(c.settings["labels"], c.of): c.value for c in cards if c.name == "accuracy"}
    assert {of for _, of in right} == {"vae", "classifier", "nearest neighbour"} and len(right) == 9
    most = max(m for m, _ in right)
    assert right[most, "vae"] > 0.9 and right[most, "classifier"] > 0.9
    assert {c.name for c in cards} == {"accuracy", "log loss", "calibration error", "AUROC"}
    noise = {c.of: c.value for c in cards if c.name == "AUROC" and c.note == "noise"}
    assert noise["vae, log p(x)"] > 0.95 and len(noise) == 4
    said = json.loads((tmp_path / "bayes.json").read_text())
    assert (
        said["left_out"] == ["all"]
        and len(said["cards"]) == len(cards)
        and set(said["reliability"]) == {str(m) for m in said["sizes"]}
    )
    assert read_recipe(tmp_path / "bayes.png")["data"] == "kinds"
    page = (tmp_path / "bayes.html").read_text()
    assert (
        ("Bayes' rule is right in") in page.replace("&#x27;", "'")
        and "<script" not in page
        and "http" not in page.replace("http-equiv", "")
    )
    again = [at for at in walk(tmp_path) if isinstance(at, Score)]
    assert [c.as_dict() for c in again] == [c.as_dict() for c in cards], "trained once, judged alike"
    with pytest.raises(Refusal, match="another comparison, made with --seed 0, not --seed 1"):
        walk(tmp_path, 1)


def test_stopped_anywhere_it_ends_in_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    straight = [at.as_dict() for at in walk(tmp_path / "a", passes=3) if isinstance(at, Score)]
    for steps in (3, 30):
        whole = bayes.run(kinds(), tmp_path / "b", math.inf, 0, passes=3)
        list(islice(whole, steps))
        whole.close()  # type: ignore[attr-defined]
    assert [at.as_dict() for at in walk(tmp_path / "b", passes=3) if isinstance(at, Score)] == straight


def test_a_signal_ends_it_without_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    stop = bayes.loop.Stop()
    for number, _ in enumerate(bayes.run(kinds(), tmp_path, math.inf, 0, passes=30, stop=stop)):
        assert number < 3
        stop.signal = 2 if number == 2 else 0
    assert not (tmp_path / "bayes.json").exists()


def test_minutes_are_shared_so_that_every_training_sees_as_many_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick(monkeypatch)
    assert bayes.speed("classifier", kinds(), 0.02) > 10
    rates = {"a": 100.0, "b": 50.0}  # 3 s for 100 images on both sides
    for seconds, most in ((3.0, 33), (30.0, 450), (3000.0, 10_000)):
        assert bayes.afforded([10_000, 100, 10_000], seconds, rates) == most
    assert "too early" in bayes.Budget(100, True, 0, 1, bayes.loop.Stop()).remark("vae") and not bayes.Budget(
        100, False, 0, 1, bayes.loop.Stop()
    ).remark("vae")


def test_other_kinds_have_the_shape_and_the_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    data = kinds()
    data = replace(data, x=(data.x > 100).astype(np.uint8) * 255, levels=2)
    monkeypatch.setattr(
        bayes.named,
        "listed",
        lambda: [dict(name="digits", here="yes"), dict(name="mnist", here="after a download")],
    )
    found = dict(bayes.others(data, bayes.plan(data, 0), 0))
    assert list(found) == ["left out: all", "digits", "inverted", "pixels shuffled", "noise"]
    for x in found.values():
        assert x.dtype == np.uint8 and x.shape[1:] == (1, 8, 8) and set(np.unique(x)) <= {0, 255}
    shuffled, real = found["pixels shuffled"], data.x[bayes.plan(data, 0).test]
    assert np.array_equal(
        np.sort(shuffled.reshape(60, -1)), np.sort(real.reshape(60, -1))
    ) and not np.array_equal(shuffled, real)


def test_refusals(tmp_path: Path) -> None:
    for classes, word in (((), "has no classes"), (("a",), "has 1 class;")):
        with pytest.raises(Refusal, match=word):
            bayes.plan(replace(kinds(), classes=classes), 0)
    with pytest.raises(Refusal, match="too few to learn from"):
        bayes.plan(replace(kinds(), train=np.arange(60, 80)), 0)
    for name, options in (("vae", {}), ("classifier", {})):
        run, data = small_run(name, tmp_path / name, toy(), options=options)
        with pytest.raises(Refusal, match="likeness train vae DATA --conditional"):
            bayes.by_bayes(run, data)
    run, data = small_run("vae", tmp_path / "both", toy(), options={"conditional": True})
    judge = bayes.by_bayes(run, data, k=3)
    assert judge.model.options()["k"] == 3 and np.exp(judge.prior).sum() == pytest.approx(1)
    assert judge(data.x[:5]).log_p.shape == (5, 2)
