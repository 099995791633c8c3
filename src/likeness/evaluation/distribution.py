"""How like the data is a set of images?  Every measure that compares two sets, taken by one hand, with its
floor.

    reference = prepare(data, network, n=10_000)
    for score in reference.judge(images): print(score.text)

Three sets of n images each: those to judge, held-out ones, and as many training images.  Each measure of the
first against the second stands beside the same measure of the third against the second: the floor, which is
what a perfect model gets. Only copies are judged the other way round: samples against training images, beside
held-out against training images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..core import Refusal, answers
from ..data import Data
from ..features import networks
from ..features.networks import Network
from ..metrics import classes, doubts, kernels, manifold, moments, neighbours, twosample
from ..metrics.card import Score, Z, interval, measure, sentences, small
from .clips import some_frames, stills
from .kept import Same, Watch

if TYPE_CHECKING:
    from .exam import Exam

FEWEST, ENOUGH = 30, 90
"""images of each side below which sets are not compared, and images of which --held-out 0.5 leaves so many"""
BALLS = 5
"""neighbours that the balls of precision, recall, density and coverage reach to: as in Naeem et al. 2020, for
all four of them, since by the chosen k density and coverage have known values for equal laws (1 - 2^-5);
Kynkäänniemi et al. 2019 take 3 for precision and recall"""
BALLS_NOTE = f"k = {BALLS} neighbours"
FRAMES = "one frame of each clip is compared, and nothing of how it moves"
LEARNT = 60_000
"""most training images looked at for copies"""
DIRECTIONS, GROUPS = 128, 8
"""of sliced Wasserstein, and of the jackknife"""


@dataclass(frozen=True, eq=False)
class Seen:
    """Some images, and what a network says about them."""

    x: np.ndarray
    """uint8 (n, C, H, W), or float32 points"""
    features: np.ndarray
    """float32 (n, d)"""
    probabilities: np.ndarray | None
    """(n, labels), where the network classifies"""

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: np.ndarray) -> Seen:
        return Seen(
            self.x[rows],
            self.features[rows],
            None if self.probabilities is None else self.probabilities[rows],
        )


class Taken(NamedTuple):
    """A measure, and the ends of its 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None
    how: str = ""

    @property
    def error(self) -> float:
        return 0.0 if self.low is None or self.high is None else (self.high - self.low) / (2 * Z)


class Measure(NamedTuple):
    name: str
    better: str
    take: Callable[[Reference, Seen], Taken]
    floor: str
    """which set is taken for the floor"""
    note: str
    unit: str = ""
    featured: bool = True
    """it looks at features, not at pixels"""
    group: str = "resemblance"
    """the block of a report that it belongs to"""


@dataclass(frozen=True)
class Reference:
    """The real side: made once, whatever is judged by it."""

    network: Network
    held: Seen
    base: Seen
    """as many training images"""
    learnt: np.ndarray
    """float32 (N, d) of training images, each different picture once"""
    remark: str
    """what is wrong with the floor"""
    seed: int

    def judge(self, images: np.ndarray, **about: Any) -> Iterator[Score]:
        """A card for each measure of images, uint8 (n, C, H, W) on the data's grid of levels, or
        of points."""
        seen = look(self.network, images[: len(self.held)])
        same = (
            doubts.collapsed(seen.x, self.held.x)
            or doubts.repeated(seen.x, self.held.x)
            or doubts.noisy(seen.x, self.held.x)
            or doubts.collapsed(seen.features, self.held.features)
        )
        about |= dict(warnings=sentences(about.get("warnings", ()), same))
        for m in MEASURES:
            if (m.take in CLASSED and seen.probabilities is None) or (
                m.take is Reference.grey_levels and images.dtype != np.uint8
            ):
                continue
            card = self.card(m, seen, **about)
            yield card
            if card.floor is not None:
                yield self._real(m, card, self.floor(m))

    def card(self, m: Measure, seen: Seen, **about: Any) -> Score:
        n, d = len(seen), seen.features.shape[1]
        unit = "" if m.unit == "levels" and seen.x.dtype != np.uint8 else m.unit
        known = (
            dict[str, Any](
                unit=unit,
                better=m.better,
                n=n,
                against=len(self._other(m)),
                split="samples",
                seed=self.seed,
                note=m.note,
                group=m.group,
            )
            | about
        )
        if m.featured:
            known |= self.network.card | dict(resize=self.network.resize)
        gaussian = m.take in (Reference.frechet, Reference.frechet_infinity)
        doubt = moments.too_few(n, d) if gaussian else small(n)
        known["warnings"] = sentences(known.get("warnings", ()), doubt, self.remark if m.featured else "")
        if gaussian and n <= d:
            return Score(m.name, math.nan, **known)
        try:
            taken, floor = m.take(self, seen), self.floor(m)
        except (Refusal, ValueError) as refusal:
            return Score(
                m.name, math.nan, **known | dict(warnings=sentences(known["warnings"], str(refusal)))
            )
        return Score(
            m.name,
            taken.value,
            low=taken.low,
            high=taken.high,
            how=taken.how,
            floor=floor.value,
            floor_spread=floor.error,
            **known,
        )

    def _real(self, m: Measure, card: Score, floor: Taken) -> Score:
        """The floor as a card of its own, for tables."""
        side: dict[str, Any] = (
            dict(of="held-out images", split="held out")
            if m.floor == "held"
            else dict(of="real images", split="train")
        )
        return replace(
            card,
            value=floor.value,
            low=floor.low,
            high=floor.high,
            how=floor.how,
            floor=None,
            floor_spread=0.0,
            warnings=(),
            settings={},
            **side,
        )

    def floor(self, m: Measure) -> Taken:
        if m.name not in self._floors:
            self._floors[m.name] = m.take(self, self.held if m.floor == "held" else self.base)
        return self._floors[m.name]

    def _other(self, m: Measure) -> Any:
        return self.learnt if m.floor == "held" else self.held

    @cached_property
    def _floors(self) -> dict[str, Taken]:
        return {}

    @cached_property
    def moments(self) -> moments.Moments:
        return moments.Moments.of(self.held.features)

    @cached_property
    def unit(self) -> float:
        """What features are divided by for KID: their root mean square on real images, if that is above 1.
        Its kernel grows with the sixth power of it, and of a network that was trained here the scale of
        features is chance."""
        return max(1.0, float(np.sqrt(np.square(self.held.features, dtype=np.float64).mean())))

    # The measures

    def frechet(self, s: Seen) -> Taken:
        low, high = moments.frechet_interval(self.moments, s.features)
        return Taken(
            moments.frechet(self.moments, moments.Moments.of(s.features)), low, high, "95 % jackknife"
        )

    def frechet_infinity(self, s: Seen) -> Taken:
        value, error = moments.frechet_infinity(self.held.features, s.features, self.seed)
        return Taken(value, value - Z * error, value + Z * error, "95 % jackknife")

    def kid(self, s: Seen) -> Taken:
        return self._discrepancy(kernels.kid(self.held.features / self.unit, s.features / self.unit))

    def mmd(self, s: Seen) -> Taken:
        return self._discrepancy(kernels.mmd(self.held.features, s.features, self._bandwidth))

    def precision(self, s: Seen) -> Taken:
        return self._mean(self._prdc(s).precision, share=True)

    def recall(self, s: Seen) -> Taken:
        return self._mean(self._prdc(s).recall, share=True)

    def density(self, s: Seen) -> Taken:
        return self._mean(self._prdc(s).density)

    def coverage(self, s: Seen) -> Taken:
        return self._mean(self._prdc(s).coverage, share=True)

    def diversity(self, s: Seen) -> Taken:
        return self._mean(manifold.diversity(self.held.features, s.features))

    def c2st(self, s: Seen) -> Taken:
        result = twosample.classifier_test(
            self.held.features, s.features, "line" if s.x.dtype == np.uint8 else "neighbours", seed=self.seed
        )
        return Taken(result.accuracy, *result.interval, "95 % Wilson, of half as many judgements")

    def sliced(self, s: Seen) -> Taken:
        return self._jackknife(
            s,
            lambda part: float(
                np.sqrt(twosample.sliced_wasserstein(self.held.x, part.x, DIRECTIONS, self.seed).mean())
            ),
        )

    def grey_levels(self, s: Seen) -> Taken:
        return self._jackknife(s, lambda part: _variation(histogram(part.x), self._histogram))

    def authentic(self, s: Seen) -> Taken:
        return self._mean(manifold.authentic(self.learnt, s.features), share=True)

    def duplicates(self, s: Seen) -> Taken:
        return self._mean(manifold.duplicates(s.features, self.held.features, seed=self.seed), share=True)

    def missing(self, s: Seen) -> Taken:
        here, there = (classes.modes(_labels(side), _count(s)) for side in (s, self.held))
        return Taken(float(len(set(here.missing) - set(there.missing))))

    def class_gap(self, s: Seen) -> Taken:
        gap = classes.class_gap(_labels(s), _labels(self.held), _count(s), self.seed)
        return Taken(
            gap.value,
            max(0.0, gap.value - (gap.limit - gap.chance)),
            gap.value + (gap.limit - gap.chance),
            "by chance, 95 %",
        )

    def classifier_score(self, s: Seen) -> Taken:
        assert s.probabilities is not None
        low, high = interval(s.probabilities, self.seed, classes.inception_score, 200)
        return Taken(float(classes.inception_score(s.probabilities)), low, high, "95 % bootstrap over images")

    # How they are taken

    def _prdc(self, s: Seen) -> manifold.Prdc:
        """Found once for the four measures that are made of it, of the images and of the floor in turns."""
        for features, known in self._balls:
            if features is s.features:
                return known
        result = manifold.prdc(self.held.features, s.features, BALLS)
        floor = self.base.features
        self._balls[:] = [pair for pair in self._balls if pair[0] is floor or s.features is floor] + [
            (s.features, result)
        ]
        return result

    @cached_property
    def _balls(self) -> list[tuple[np.ndarray, manifold.Prdc]]:
        return []

    @cached_property
    def _histogram(self) -> np.ndarray:
        return histogram(self.held.x)

    @cached_property
    def _bandwidth(self) -> float:
        return kernels.median_distance(self.held.features, self.seed)

    @staticmethod
    def _discrepancy(discrepancy: kernels.Discrepancy) -> Taken:
        return Taken(discrepancy.value, discrepancy.low, discrepancy.high, "95 % jackknife")

    def _mean(self, values: np.ndarray, share: bool = False) -> Taken:
        card = measure("", values.astype(np.float64), self.seed, unit="share" if share else "")
        return Taken(card.value, card.low, card.high, card.how)

    def _jackknife(self, s: Seen, statistic: Callable[[Seen], float]) -> Taken:
        """The statistic, and its standard error from leaving out one group of images after another (Efron &
        Tibshirani 1993, chapter 11)."""
        value, group = statistic(s), np.arange(len(s)) % GROUPS
        without = np.array([statistic(s[group != g]) for g in range(GROUPS)])
        error = math.sqrt((GROUPS - 1) / GROUPS * float(((without - without.mean()) ** 2).sum()))
        return Taken(
            value, max(0.0, value - Z * error), value + Z * error, f"95 % jackknife over {GROUPS} groups"
        )


MEASURES = (
    Measure(
        "Fréchet distance",
        "lower",
        Reference.frechet,
        "base",
        "between Gaussians fitted to the features (Heusel et al. 2017)",
    ),
    Measure(
        "Fréchet distance, unlimited",
        "lower",
        Reference.frechet_infinity,
        "base",
        "extrapolated to endless images on both sides (Chong & Forsyth 2020)",
    ),
    Measure(
        "KID",
        "lower",
        Reference.kid,
        "base",
        "unbiased, so 0 on average for equal laws (Binkowski et al. 2018)",
    ),
    Measure(
        "Gaussian MMD",
        "lower",
        Reference.mmd,
        "base",
        "squared, unbiased, with the median distance of real images (Gretton et al. 2012)",
    ),
    Measure(
        "precision",
        "higher",
        Reference.precision,
        "base",
        f"samples within a ball about a real image; passes noise in weak features; {BALLS_NOTE}, in "
        "Kynkäänniemi et al. 2019 k = 3",
        "share",
    ),
    Measure(
        "recall",
        "higher",
        Reference.recall,
        "base",
        f"real images within a ball about a sample; {BALLS_NOTE}, in Kynkäänniemi et al. 2019 k = 3",
        "share",
    ),
    Measure(
        "density",
        "higher",
        Reference.density,
        "base",
        f"balls about real images that hold a sample, divided by k; {BALLS_NOTE} (Naeem et al. 2020)",
    ),
    Measure(
        "coverage",
        "higher",
        Reference.coverage,
        "base",
        f"real images with a sample nearby: in their own ball; {BALLS_NOTE} (Naeem et al. 2020)",
        "share",
    ),
    Measure(
        "diversity",
        "higher",
        Reference.diversity,
        "base",
        "distance between samples, in that between real images",
    ),
    Measure(
        "C2ST accuracy",
        "lower",
        Reference.c2st,
        "base",
        "a classifier, cross-validated, tells samples from real images: a linear one, or nearest "
        "neighbours among points",
        "share",
    ),
    Measure(
        "sliced Wasserstein",
        "lower",
        Reference.sliced,
        "base",
        "distance of the pixels along random directions",
        "levels",
        featured=False,
    ),
    Measure(
        "brightness histogram",
        "lower",
        Reference.grey_levels,
        "base",
        "how far the histograms of brightness are apart, from 0 to 1",
        featured=False,
    ),
    Measure(
        "AuthPct",
        "higher",
        Reference.authentic,
        "held",
        "no nearer to a training image than that is to its next, k = 1; fewer than of held-out images "
        "means copies",
        "share",
        group="memorisation",
    ),
    Measure(
        "duplicate samples",
        "lower",
        Reference.duplicates,
        "base",
        "nearer to another sample than 99 % of real images are to another, k = 1",
        "share",
        group="memorisation",
    ),
    Measure(
        "missing classes",
        "lower",
        Reference.missing,
        "base",
        "classes that the classifier finds in no sample",
        "classes",
    ),
    Measure(
        "class share gap",
        "lower",
        Reference.class_gap,
        "base",
        "how far the shares of the classes are apart, from 0 to 1",
    ),
    Measure(
        "classifier score",
        "higher",
        Reference.classifier_score,
        "base",
        "as the Inception score, by this classifier; looks at no real image",
    ),
)
CLASSED = (Reference.missing, Reference.class_gap, Reference.classifier_score)


def cards(exam: Exam) -> Iterator[Score]:
    """Those of an exam's samples, in the features of its network."""
    if "sample" not in answers(exam.model) or exam.network == "none":
        return
    held = len(exam.rows) if exam.split == "held out" else 0
    if min(held, len(exam.data.train)) < FEWEST:
        raise Refusal(
            f"samples are compared with held-out images, {FEWEST} at least, and there are {held}"
            + more(len(exam.data.x))
        )
    data, x, doubts_of = exam.data, exam.samples, exam.doubts
    if data.spec.frames:  # of clips single frames are compared
        data, x, doubts_of = stills(data), some_frames(x), (*doubts_of, FRAMES)
    real = reference(data, exam.network, len(exam.rows), exam.seed, exam.watch)
    yield from real.judge(x, warnings=doubts_of, settings=exam.settings)


def more(n: int) -> str:
    """The end of a sentence: how so many of n images are held out, also where chance, by which a share is met
    only roughly, is three standard deviations unkind."""
    if n < ENOUGH:
        return f"; {ENOUGH} images and --held-out 0.5 would do"
    enough = (s / 10 for s in range(1, 5) if n * s / 10 - 3 * math.sqrt(n * s / 10 * (1 - s / 10)) >= FEWEST)
    return f"; train with --held-out {next(enough, 0.5):g}"


def wanted(exam: Exam) -> int:
    """Samples that are compared: as many as there are held-out images of the exam."""
    return 0 if exam.network == "none" else len(exam.rows)


def reference(data: Data, network: str, n: int, seed: int, watch: Watch | None = None) -> Reference:
    """The real side of a comparison; kept for the next model that is judged by the same."""
    return _reference(Same(data), network, n, seed, watch or Watch())


@lru_cache(maxsize=2)
def _reference(data: Same, network: str, n: int, seed: int, watch: Watch) -> Reference:
    learning = watch.named("the network to compare by")
    return prepare(data.data, networks.load(network, data.data, learning), n, seed)


def prepare(data: Data, network: Network, n: int, seed: int = 0) -> Reference:
    """Look at the real images, at most n of each kind; a random choice.  Raises Refusal where there are too
    few to compare."""
    rng = np.random.default_rng((seed, 0xD157))
    if not len(data.held_out):
        raise Refusal(
            f"{data.source} holds out no image, so there is nothing to compare samples with; give more "
            "images."
        )
    spared = networks.reserve(data)
    pool = spared if len(spared) else data.train
    n = min(n, len(data.held_out), len(pool))
    held, base = rng.permutation(data.held_out)[:n], rng.permutation(pool)[:n]
    known = neighbours.distinct(data.x, rng.permutation(data.train)[:LEARNT])
    learnt = np.concatenate(
        [
            network.features(np.asarray(data.x[part]))
            for part in np.array_split(known, math.ceil(len(known) / 1000))
        ]
    )
    real = look(network, data.x[held])
    if not np.ptp(real.features, axis=0).any():
        raise Refusal(
            f"{network.label} gives every image the same features, so nothing can be compared in them; name "
            "another --network."
        )
    fair = network.scope == "anywhere" or (len(spared) > 0 and network.spares)
    met = "" if fair else "the network has learnt from the real images of the floor, which flatters them"
    return Reference(network, real, look(network, data.x[base]), learnt, met, seed)


def look(network: Network, x: np.ndarray) -> Seen:
    x = np.asarray(x)
    return Seen(x, network.features(x), network.probabilities(x))


def histogram(x: np.ndarray) -> np.ndarray:
    """Shares of the 256 levels in each channel, (C, 256)."""
    counts = [np.bincount(x[:, c].ravel(), minlength=256) for c in range(x.shape[1])]
    return np.stack(counts) / (x.size / x.shape[1])


def _variation(a: np.ndarray, b: np.ndarray) -> float:
    """Total variation distance, the mean over channels."""
    return float(np.abs(a - b).sum(1).mean() / 2)


def _labels(s: Seen) -> np.ndarray:
    assert s.probabilities is not None
    return s.probabilities.argmax(1)


def _count(s: Seen) -> int:
    assert s.probabilities is not None
    return s.probabilities.shape[1]
