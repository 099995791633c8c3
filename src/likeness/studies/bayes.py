"""Discriminative and generative: two ways to the class of an image, side by side.

    generative       learn p(x|y), the images of each class; p(y|x) = p(x|y) p(y) / p(x) by Bayes' rule
    discriminative   learn p(y|x), and nothing else about images

Ng & Jordan, "On Discriminative vs. Generative Classifiers", 2002: with few labels the first may win, although
it solves the harder problem; with many the second does, since it assumes less.  The generative classifier is
a class-conditional model with a likelihood.  Compared on one data set are accuracy against the number of
labels, calibration, and the detection of images of another kind.

Held-out images are used for evaluation only.  Temperatures are fitted on training images that are set aside
first.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from .. import engine, models, storage
from ..core import Batch, Condition, Model, Noise, Refusal, Scores, ask
from ..data import Data, load, named, picture
from ..inference import sampling
from ..metrics import decisions, neighbours
from ..metrics.bayes_rule import log_odds, log_prior, posterior
from ..metrics.card import Score, Z, measure, sentences
from ..runs.run import Config, Run, is_run, read_config
from ..training import loop
from . import bayes_page

GENERATIVE, DISCRIMINATIVE, NEIGHBOUR = "vae", "classifier", "nearest neighbour"
OPTIONS: dict[str, dict[str, Any]] = {
    GENERATIVE: {"conditional": True, "latent": 8, "width": 8, "depth": 1},
    DISCRIMINATIVE: {},
}
"""a narrow code: in a wide one the class can hide, and p(x|y) is then much the same for all y"""
RESULT, OTHERS = "bayes.json", "some-classes"
TRAINING = 0.7
"""of the minutes; judging takes the rest"""
PLAN = "plan.json"
PASSES = 500
"""most often that an image is seen: ten labels need no more, and leave their time unused"""
TEST, ASIDE, ALIEN = 2000, 500, 500
"""most held-out images judged, training images set aside for temperatures, images of each other kind"""
RIGHT: dict[str, Any] = {"unit": "share", "better": "higher"}
LEAST = -1e5
"""log p(y|x) of an impossible class, where a temperature is to be fitted: as good as impossible at any that
may be found"""


# Two classifiers


class Verdict(NamedTuple):
    """What a classifier says about n images."""

    log_p: np.ndarray
    """(n, C) log p(y|x)"""
    familiar: dict[str, np.ndarray]
    """(n,) each: how familiar an image is, by every measure that the classifier has"""


class Judge(Protocol):
    def __call__(self, x: np.ndarray) -> Verdict:
        """x: uint8 (n, C, H, W)"""
        ...


@dataclass(frozen=True)
class ByBayes:
    """A class-conditional model as a classifier."""

    model: Model
    prior: np.ndarray
    """(C,) log p(y)"""
    seed: int = 0

    def __call__(self, x: np.ndarray) -> Verdict:
        result = posterior(
            log_likelihoods(self.model, x, np.flatnonzero(np.isfinite(self.prior)), self.seed), self.prior
        )
        return Verdict(result.log_p, {"log p(x)": result.evidence, "max p(y|x)": log_odds(result.log_p)})


@dataclass(frozen=True)
class ByNetwork:
    """A discriminative model, which answers classify with logits."""

    model: Model

    def __call__(self, x: np.ndarray) -> Verdict:
        classify = ask(self.model, "classify")
        with torch.no_grad():
            parts = [classify(batch.x).double().log_softmax(1).cpu().numpy() for batch in batches(x, 0)]
        log_p = np.concatenate(parts)
        return Verdict(log_p, {"max p(y|x)": log_odds(log_p)})


def by_bayes(run: Run, data: Data, rows: np.ndarray | None = None, seed: int = 0, **live: Any) -> ByBayes:
    """The run's model as a classifier, its prior counted on training images (`rows` of them, if given).

    `live` sets options of the trained model, such as k=50 importance samples.  Raises Refusal for a model
    without classes or likelihood.
    """
    if "label" not in run.model.takes or not isinstance(run.model, Scores) or data.y is None:
        raise Refusal(
            f"Bayes' rule asks {run.folder} for p(x|y), the likelihood of an image given its class, which "
            f"{run.config.model} does not know; train one that does on labelled images: likeness train vae "
            "DATA --conditional"
        )
    prior = log_prior(data.y[data.labelled.train if rows is None else rows], run.config.spec.labels)
    return ByBayes(sampling.tuned(run.model, **live), prior, seed)


def log_likelihoods(model: Model, x: np.ndarray, classes: np.ndarray, seed: int = 0) -> np.ndarray:
    """log p(x|y) in nats, float64 (n, labels), for uint8 images (n, C, H, W) and the `classes` asked about;
    -inf for the others.

    Every class meets the same noise at the same image, so that chance does not choose among them where the
    answer is an estimate.
    """
    score, spec = ask(model, "bits_per_dim"), model.spec
    out, at = np.full((len(x), spec.labels), -np.inf), 0
    for batch in batches(x, seed):
        rows = slice(at, at := at + len(batch))
        for c in classes.tolist():
            y = Condition(torch.full((len(batch),), c, device=batch.x.device))
            with torch.no_grad():
                bits = score(Batch(batch.x, y, batch.noise[:])).values
            out[rows, c] = -bits.double().cpu().numpy() * (spec.dims * math.log(2))
    return out


def batches(x: np.ndarray, seed: int) -> Iterator[Batch]:
    """uint8 images as batches without classes, each image with noise of its own place."""
    size = max(1, min(256, sampling.CHUNK // max(1, x[:1].size)))
    for i in range(0, len(x), size):
        part = x[i : i + size]
        noise = Noise(torch.arange(i, i + len(part)), engine.derive("bayes", seed))
        yield engine.put(Batch(picture(part), None, noise))


# What is trained on what


@dataclass(frozen=True)
class Plan:
    """Which images are for what; all of it a function of data and seed."""

    test: np.ndarray
    """rows held out"""
    aside: np.ndarray
    """training rows that only temperatures are fitted on"""
    order: np.ndarray
    """the other training rows: any first m of them hold each class equally often, as far as it has images"""
    sizes: tuple[int, ...]
    """numbers of labels to learn from"""
    left_out: np.ndarray
    """classes that the last pair of models never sees"""

    def subsets(self, y: np.ndarray) -> dict[str, np.ndarray]:
        """Training rows of each pair of models, by folder; the last is without some classes."""
        kept = self.order[~np.isin(y[self.order], self.left_out)]
        return {f"labels-{m}": self.order[:m] for m in self.sizes} | {OTHERS: kept}


def plan(data: Data, seed: int) -> Plan:
    """Raises Refusal where there are no classes, or too few images of them."""
    c, data = len(data.classes), data.labelled
    if data.spec.points:
        raise Refusal(
            f"bayes compares ways to tell images apart, and {data.source} is points; give it a set of "
            "images, such as digits."
        )
    if c < 2 or data.y is None:
        raise Refusal(
            f"bayes compares ways to tell classes apart, and {data.source} has {c or 'no'} "
            f"class{'es' * (c == 0)}; give it a sub-folder a class."
        )
    if len(data.train) < 10 * c:
        raise Refusal(
            f"{data.source} has {len(data.train)} training images of {c} classes, too few to learn from; "
            "ten a class are needed."
        )
    if not len(data.held_out):
        raise Refusal(
            f"no held-out image of {data.source} has a class, so nothing can be asked; give labels to the "
            "test images, or leave these away: then a share of the others is held out."
        )
    rng = np.random.default_rng((seed, 0xBA7E5))
    order = nested(data.y, rng.permutation(data.train))
    aside = max(c, min(ASIDE, len(order) // 10))
    last = np.arange(c)[c - max(1, c // 5) :] if c > 2 else np.arange(0)
    return Plan(
        rng.permutation(data.held_out)[:TEST],
        order[:aside],
        order[aside:],
        sizes(len(order) - aside, c),
        last,
    )


def nested(y: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows so that classes take turns, as long as each has images left."""
    turn = np.empty(len(rows), np.int64)
    for c in np.unique(y[rows]):
        own = y[rows] == c
        turn[own] = np.arange(own.sum())
    return rows[np.lexsort((y[rows], turn))]


def sizes(n: int, classes: int) -> tuple[int, ...]:
    """10, 30, 100, 300 ... and n: from one label a class on, without the threes where these were more than
    six."""
    rungs = [s * 10**k for k in range(1, 10) for s in (1, 3)]
    result = [m for m in rungs if classes <= m <= 0.6 * n]
    return (*(m for m in result if len(result) < 6 or str(m)[0] == "1"), n)


# Training


class Moment(NamedTuple):
    share: float
    """of the work, 0 to 1"""
    text: str


def remembered(folder: Path, asked: dict[str, Any], data: Data) -> int:
    """The most images that each training may see: found once by a short try, or a study that goes on would go
    on with other budgets."""
    if not math.isfinite(asked["minutes"]):
        return max(asked["needs"])
    try:
        kept = json.loads((folder / PLAN).read_bytes())
        if {name: kept[name] for name in asked} == asked:
            return int(kept["most"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    most = afforded(
        asked["needs"], 60 * asked["minutes"] * TRAINING, {name: speed(name, data) for name in OPTIONS}
    )
    storage.make(folder)
    storage.write(folder / PLAN, json.dumps(asked | dict(most=most)).encode())
    return most


def train(
    folder: Path, name: str, data: Data, images: int, seed: int, stop: loop.Stop
) -> Generator[loop.Step, None, Run]:
    """A run of one side in its folder, made or gone on with."""
    config = configured(name, data, images, seed)
    if is_run(folder):
        there, own = read_config(folder), asdict(config)
        asked = {"options": own["options"], "training": {"seed": seed}, "data": own["data"]}
        if lines := there.differences(asked):
            raise Refusal(
                f"{folder} is a run of another comparison, made with {'; '.join(lines)}.  Name another "
                "folder with -o."
            )
        run = Run.resume(folder)
    else:
        run = Run.create(folder, config)
    try:
        yield from loop.fit(run, data, stop=stop)
    finally:
        run.close()
    return Run.open(folder)


def configured(name: str, data: Data, images: int, seed: int) -> Config:
    """Both sides learn in the same steps, with the rates of their own; the rate rises over the first tenth
    and falls to zero."""
    kind = models.load(name)
    settings = replace(
        kind.defaults,
        images=images,
        seed=seed,
        batch=64,
        warmup=min(6400, images // 10),
        schedule="cosine",
        ema=images // 10,
    )
    options = kind(spec=data.spec, **OPTIONS[name]).options()
    return Config(
        name,
        data.spec,
        engine.settle(settings, data.spec),
        options,
        data.identity,
        engine.facts(),
        classes=list(data.classes),
    )


def speed(name: str, data: Data, seconds: float = 1.0) -> float:
    """Images a second in training here, measured on a throw-away run."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "probe", configured(name, data, 10**9, 0))
        steps = loop.fit(run, data, save_every=math.inf)
        list(islice(steps, 3))
        seen, spent = run.seen, run.seconds
        while run.seconds - spent < seconds:
            next(steps)
        run.close()
        return (run.seen - seen) / (run.seconds - spent)


def afforded(needs: list[int], seconds: float, rates: dict[str, float]) -> int:
    """The most images that each training may see, so that all of them together, of `needs` images at most,
    take `seconds`."""
    left, cost = seconds / sum(1 / rate for rate in rates.values()), 0.0
    for done, need in enumerate(sorted(needs)):
        if cost + need * (len(needs) - done) > left:
            return int((left - cost) / (len(needs) - done))
        cost += need
    return max(needs)


# The comparison


def run(
    data: Data,
    folder: Path,
    minutes: float = 8.0,
    seed: int = 0,
    k: int = 1,
    *,
    passes: int = PASSES,
    stop: loop.Stop | None = None,
) -> Iterator[Moment | Score]:
    """Train both sides on ever more labels and judge them: yields moments of the work, and cards as they are
    known.

    Both sides see the same number of images: `passes` times those they learn from, or fewer where the minutes
    ask for that.  Leaves a run for each in `folder`, bayes.json, bayes.png and bayes.html.  The same call
    goes on where it was stopped.  k: importance samples of the generative side.
    """
    data = data.labelled
    stop, chosen = stop or loop.Stop(), plan(data, seed)
    assert data.y is not None
    subsets, curves, cards = chosen.subsets(data.y), dict[str, Any](), list[Score]()
    needs = [passes * len(rows) for rows in subsets.values()]
    most = remembered(
        folder, dict(fingerprint=data.fingerprint, minutes=minutes, seed=seed, needs=needs), data
    )
    for number, (place, rows) in enumerate(subsets.items()):
        budget = Budget(max(64, min(passes * len(rows), most)), most < passes * len(rows), seed, k, stop)
        judges = yield from pair(
            folder / place, data, rows, budget, number / len(subsets), (number + 0.5) / len(subsets)
        )
        if stop.signal:
            return
        asked = (
            asked_about_others(judges, data, chosen, seed)
            if place == OTHERS
            else asked_about_classes(judges, data, chosen, rows, budget)
        )
        for results in asked:
            if isinstance(results, Score):
                cards.append(results)
                yield results
            else:
                curves[str(len(rows))] = results
    result = dict(
        data=data.source, fingerprint=data.fingerprint, seed=seed, minutes=minutes, k=k, sizes=chosen.sizes
    )
    result |= dict(
        left_out=[data.classes[c] for c in chosen.left_out],
        cards=[card.as_dict() for card in cards],
        reliability=curves,
    )
    storage.write(folder / RESULT, json.dumps(result, indent=1, default=str).encode())
    bayes_page.write(folder, data, cards, result)


class Budget(NamedTuple):
    images: int
    """that each side sees"""
    cut: bool
    """whether they are fewer for want of time"""
    seed: int
    k: int
    stop: loop.Stop

    def remark(self, name: str) -> str:
        """Whether time was too short for a judgement."""
        usual = models.load(name).defaults.images
        return (
            f"the {name} has seen {self.images:,} images, and {usual:,} are its default: too early to judge "
            "it"
            if self.cut and self.images < usual / 5
            else ""
        )


def pair(
    folder: Path, data: Data, rows: np.ndarray, budget: Budget, *shares: float
) -> Generator[Moment, None, dict[str, Judge]]:
    """Both sides trained on the same images, as judges; `shares` of the whole work are done when
    each begins."""
    judges = dict[str, Judge]()
    for share, name in zip(shares, OPTIONS):
        steps = train(folder / name, name, replace(data, train=rows), budget.images, budget.seed, budget.stop)
        trained = yield from moments(steps, share, f"{name}, {len(rows):,} labels")
        judges[name] = (
            by_bayes(trained, data, rows, budget.seed, k=budget.k)
            if name == GENERATIVE
            else ByNetwork(trained.model)
        )
    return judges


def moments(steps: Generator[loop.Step, None, Run], share: float, text: str) -> Generator[Moment, None, Run]:
    """A training as moments of the whole work."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        yield Moment(share, f"{text}: {step.seen:,} images")


def asked_about_classes(
    judges: dict[str, Judge], data: Data, chosen: Plan, rows: np.ndarray, budget: Budget
) -> Iterator[Score | dict[str, Any]]:
    """Cards of each side on held-out images, and at the end its reliability curves, before and after a
    temperature."""
    assert data.y is not None
    x, y = data.x[chosen.test], data.y[chosen.test]
    about = dict[str, Any](
        group="representation",
        against=len(rows),
        settings={"labels": len(rows), "images seen": budget.images},
        seed=budget.seed,
    )
    nearest = data.y[neighbours.nearest(x, data.x, rows, 1).row[:, 0]] == y
    yield measure(
        "accuracy",
        nearest.astype(float),
        of=NEIGHBOUR,
        **RIGHT,
        note="the class of the nearest of the labelled images",
        **about,
    )
    curves = dict[str, Any]()
    for name, judge in judges.items():
        logits = np.maximum(judge(x).log_p, LEAST)
        heat = decisions.temperature(
            np.maximum(judge(data.x[chosen.aside]).log_p, LEAST), data.y[chosen.aside]
        )
        right = decisions.accuracy(decisions.softmax(logits), y)
        yield measure("accuracy", right, of=name, **RIGHT, warnings=sentences(budget.remark(name)), **about)
        for of, t in ((name, 1.0), (f"{name} after temperature", heat)):
            p = decisions.softmax(logits, t)
            bins = max(3, min(15, len(y) // 25))
            result = decisions.calibration(p, y, bins=bins, seed=budget.seed)
            own = dict(
                of=of,
                better="lower",
                note=f"p(y|x) to the power 1/{t:.3g}, and normalised" if t != 1 else "",
                **about,
            )
            yield measure("log loss", decisions.log_loss(np.maximum(p, 1e-300), y), unit="nats", **own)
            own["note"] = "; ".join(filter(None, (own["note"], decisions.bins_note(result.curve, bins))))
            yield Score("calibration error", result.ece, n=len(y), floor=result.chance, **own)
            curves[of] = {
                part: getattr(result.curve, part).tolist() for part in ("confidence", "accuracy", "n")
            } | {"temperature": t}
    yield curves


# Images of another kind


def asked_about_others(
    judges: dict[str, Judge], data: Data, chosen: Plan, seed: int
) -> Iterator[Score | dict[str, Any]]:
    """A card for each measure of familiarity and each kind of images that neither side has seen: how well it
    tells them from held-out ones."""
    assert data.y is not None
    known, aside = (
        rows[~np.isin(data.y[rows], chosen.left_out)][:ALIEN] for rows in (chosen.test, chosen.aside)
    )
    strange = dict(others(data, chosen, seed))
    for name, judge in judges.items():
        own = judge(data.x[aside]).familiar
        usual = judge(data.x[known]).familiar
        for kind, x in strange.items():
            unusual = judge(x).familiar
            for measured in with_typicality(own):
                a, b = (with_typicality(f, own)[measured] for f in (usual, unusual))
                yield separation(a, b, f"{name}, {measured}", kind, seed)


def with_typicality(
    arrays: dict[str, np.ndarray], own: dict[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Beside a likelihood how near it is to the usual one: an image can be too likely (Nalisnick et al. 2019,
    "Detecting out-of-distribution inputs")."""
    if "log p(x)" not in arrays:
        return arrays
    return arrays | {"typicality": -np.abs(arrays["log p(x)"] - (own or arrays)["log p(x)"].mean())}


def separation(known: np.ndarray, other: np.ndarray, of: str, kind: str, seed: int) -> Score:
    """The card of an area under the ROC curve: 1/2 is chance, and below it the others look the
    more familiar."""
    result = decisions.out_of_distribution(known, other)
    a, n, m = result.auroc, len(known), len(other)
    variance = (a * (1 - a) + (n - 1) * (a / (2 - a) - a * a) + (m - 1) * (2 * a * a / (1 + a) - a * a)) / (
        n * m
    )
    half = Z * math.sqrt(max(0.0, variance))
    about = dict[str, Any](
        group="representation",
        how="Hanley & McNeil 1982",
        n=n,
        against=m,
        seed=seed,
        better="higher",
        note=kind,
        settings={"against": kind},
    )
    about["settings"] |= {"others among the familiar 95 %": float(result.accepted.mean())}
    return Score("AUROC", a, of=of, low=max(0.0, a - half), high=min(1.0, a + half), **about)


def others(data: Data, chosen: Plan, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Kinds of images that are not of the classes learnt, uint8 (n, C, H, W) on the data's own grid of
    levels."""
    assert data.y is not None
    rng = np.random.default_rng((seed, 0xA11E))
    left = chosen.test[np.isin(data.y[chosen.test], chosen.left_out)][:ALIEN]
    if len(left):
        yield f"left out: {', '.join(data.classes[c] for c in chosen.left_out)}", data.x[left]
    yield from elsewhere(data, rng)
    x = data.x[chosen.test[:ALIEN]]
    yield "inverted", 255 - x
    flat = x.reshape(*x.shape[:2], -1)
    yield "pixels shuffled", rng.permuted(flat, axis=2).reshape(x.shape)
    yield (
        "noise",
        np.round(rng.integers(0, data.levels, x.shape) * (255 / (data.levels - 1))).astype(np.uint8),
    )


def elsewhere(data: Data, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """The other sets that have a name and are here, in the shape and on the levels of these images."""
    here = [
        row["name"]
        for row in named.listed()
        if row["here"] == "yes" and row["name"] != data.source.partition(":")[0]
    ]
    for name in here:
        try:
            result = load(
                f"{name}:{2 * ALIEN}" if name == "shapes" else name,
                size=data.spec.size,
                colour="rgb" if data.spec.channels == 3 else "grey",
            )
        except Refusal:
            # found under LIKENESS_DATA but damaged, or in colours that cannot be made: one kind fewer
            continue
        x = result.x[np.sort(rng.permutation(len(result.x))[:ALIEN])]
        yield name, neighbours.grid(x / 127.5 - 1, data.levels)
