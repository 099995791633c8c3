"""The one evaluator: a model's own answers beside what comes for free, on images it has not seen.

    for score in evaluate(run, data): print(score.text)

Training, command line and studio all call it.  Each card is yielded as soon as it is known, and nothing of
the run is changed by asking.  Here the images are chosen; what is asked about them stands in the other files
of this folder, a part of PARTS each.  A part that is refused is a card that says why, and the others go on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import engine
from ..core import (
    Batch,
    Classifies,
    Compresses,
    Condition,
    Diagnoses,
    Model,
    Noise,
    Refusal,
    answers,
    duration,
    label_of,
)
from ..data import Data
from ..features import networks
from ..inference import sampling
from ..inference.sampling import CHUNK, tuned
from ..metrics import neighbours
from ..metrics.card import Score, measure, sentences
from ..runs.run import AVERAGE, RAW, Run
from ..training import doctor
from . import (
    captions,
    clips,
    distribution,
    known_modes,
    likelihood,
    memorisation,
    reconstruction,
    representation,
    stylisation,
    translation,
)
from .kept import Watch

TRIED = 8
"""samples that are drawn to see how long one takes"""


def evaluate(
    run: Run,
    data: Data,
    n: int = 1000,
    seed: int = 0,
    network: str = "auto",
    parzen: bool = False,
    watch: Watch | None = None,
    **live: Any,
) -> Iterator[Score]:
    """Yield a card for everything that the model answers, each followed by its baselines.

    n: held-out images, a random choice of that many, or all there are; and as many samples.  network: whose
    features the samples are compared in, by its name or path (see networks.load), or "none".  parzen: the
    Parzen-window estimate as well.  watch: who is told how far it is.  `live` sets live options of the model
    for this evaluation, such as k=500.
    Raises Refusal where data, n, the name of the network or an option do not fit; a measure that cannot be
    had is a card without a value.
    """
    yield from prepare(run, data, n, seed, network, parzen, watch, **live).cards()


def prepare(
    run: Run,
    data: Data,
    n: int,
    seed: int,
    network: str = "auto",
    parzen: bool = False,
    watch: Watch | None = None,
    **live: Any,
) -> Exam:
    """Check that the question makes sense, and choose the images."""
    if n < 1:
        raise Refusal(
            f"{n} images cannot be scored; ask for 1 or more, and for 100 if the interval is to mean "
            "something."
        )
    data = data.usable(run.model.takes)
    if data.spec.shape != run.config.spec.shape or data.levels != run.config.spec.levels:
        raise Refusal(
            f"{data.source} holds {_form(data)}, which the model cannot judge: it was trained on "
            f"{run.config.data.get('source')}."
        )
    if network != "none":
        networks.check(network, data)
    if parzen:
        likelihood.check_window(data)
    split, rows = ("held out", data.held_out) if len(data.held_out) else ("train", data.train)
    # by chance: a folder is sorted by class
    chosen = np.random.default_rng((seed, 0xE7A)).permutation(rows)[:n]
    remarks = []
    if split == "train":
        which = "labelled image" if "label" in run.model.takes and data.y is not None else "image"
        remarks.append(f"no {which} was held out, so these are training images, which flatters")
    if data.fingerprint != run.config.data.get("fingerprint", data.fingerprint):
        remarks.append(f"{data.source} is not, or no longer, what the model was trained on")
    model = tuned(run.model, **live)
    settings = dict(seen=run.seen) | {
        f.name: getattr(model, f.name) for f in fields(model) if f.metadata.get("live")
    }
    if run.weights != AVERAGE:
        settings["weights"] = run.weights
    return Exam(
        run,
        model,
        data,
        chosen,
        split,
        seed,
        n,
        network,
        tuple(remarks),
        settings,
        parzen,
        live,
        watch or Watch(),
    )


def _form(data: Data) -> str:
    c, size, levels = data.spec.channels, data.spec.size, data.levels
    return f"images of {c}x{size}x{size} and {levels} levels" if levels else f"points of {c} coordinates"


class Drawn(NamedTuple):
    """Samples 0, 1, 2 ... of a seed, as they were scored."""

    x: np.ndarray
    """uint8 (n, C, H, W) on the grid of the data, or float32 points"""
    seed: int
    labels: np.ndarray | None = None
    """int64 (n,): the class that each was drawn of, where the model is conditional"""
    live: dict[str, Any] = {}
    """options that were set on the model"""


@dataclass(frozen=True)
class Exam:
    """The questions to one model about one choice of images."""

    run: Run
    model: Model
    data: Data
    rows: np.ndarray
    split: str
    seed: int
    asked: int
    """images that were asked for; there may be fewer"""
    network: str = "auto"
    remarks: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    parzen: bool = False
    live: dict[str, Any] = field(default_factory=dict)
    """options that were set on the model"""
    watch: Watch = field(default_factory=Watch)

    def cards(self) -> Iterator[Score]:
        """Those of every part; one that is refused is a card, too."""
        for part in PARTS:
            yield from self._of(part)

    def _of(self, part: Part) -> Iterator[Score]:
        self.watch.named(part.name)
        try:
            for card in part.cards(self):
                yield card if card.group else replace(card, group=part.group)
        except Refusal as refusal:
            yield self.refused(part.name, str(refusal), split=part.split or self.split, group=part.group)

    def refused(self, name: str, why: str, **about: Any) -> Score:
        """The card of a measure that cannot be had."""
        about = dict[str, Any](split=self.split, seed=self.seed, settings=self.settings) | about
        return Score(name, math.nan, warnings=sentences(why), **about)

    def outlook(self) -> str:
        """A sentence on what the scoring will take; the speed of sampling is tried on a few images.  What is
        refused will be on a card."""
        bare = " by its raw weights" if self.run.weights == RAW else ""
        parts = [
            f"scoring {self.run.folder}{bare} on {len(self.rows):,} "
            f"{'images' if self.data.levels else 'points'}"
        ]
        kinds = ["classifier"] if representation.supervised(self) else []
        if "sample" in answers(self.model) and self.network != "none":
            with suppress(Refusal):
                began = time.perf_counter()
                sampling.samples(self.model, TRIED, self.seed, self.data)
                parts.append(
                    f"{self.wanted:,} samples take about "
                    f"{duration((time.perf_counter() - began) / TRIED * self.wanted)}"
                )
            kinds.append(networks.best(self.data) if self.network == "auto" else self.network)
            with suppress(Refusal):
                parts.append(known_modes.outlook(self.data))
        for kind in (kind for kind in dict.fromkeys(kinds) if kind in networks.OWN and self.data.levels):
            with suppress(Refusal):
                parts.append(networks.outlook(self.data, kind))
        return "; ".join(filter(None, parts))

    # Samples

    @cached_property
    def samples(self) -> np.ndarray:
        """All that any part looks at; each takes as many as it needs from the first on."""
        began = time.perf_counter()
        x = self.made(self.wanted)
        engine.synchronise()
        self.clock["seconds"] = time.perf_counter() - began
        return x

    @property
    def wanted(self) -> int:
        """The most that any part looks at."""
        return max(part.samples(self) for part in PARTS)

    def conditions(self, n: int) -> Condition | None:
        """What samples 0 ... n-1 are of: classes as frequent as in the training images; of a model that takes
        a text or an image, sample i is of what the i-th image of the exam has, all of them in turns."""
        if set(self.model.spec.parts(self.model.takes)) - {"label"}:
            pool = self.data.held_out if self.split == "held out" else self.data.train
            place = {row: i for i, row in enumerate(pool.tolist())}
            numbers = np.array([place[row] for row in self.rows.tolist()], np.int64)
            return sampling.conditions(self.model, np.resize(numbers, n), self.data)
        return sampling.conditions(
            self.model, np.arange(n), self.data, classes=sampling.shares(self.data, n, self.seed)
        )

    def made(self, n: int) -> np.ndarray:
        """Samples 0 ... n-1: uint8 (n, C, H, W) on the grid of the data, or points as they are."""
        parts, before, done = [], self.watch.part, 0
        self.watch.named(f"drawing {n:,} samples")
        for x in sampling.batches(sampling.draw(self.model, self.conditions(n), n, self.seed)):
            self.watch(done := done + len(x), n)
            self.clock["lost"] = self.clock.get("lost", 0.0) + float((~x.isfinite()).flatten(1).any(1).sum())
            parts.append(
                neighbours.grid(x.numpy(), self.data.levels) if self.data.levels else np.nan_to_num(x.numpy())
            )
        self.watch.named(before)
        return np.concatenate(parts)

    @property
    def drawn(self) -> Drawn | None:
        """The samples, if any part has asked for them: for whoever shows what was scored."""
        if "samples" not in self.__dict__:
            return None
        label = label_of(self.conditions(len(self.samples)))
        return Drawn(self.samples, self.seed, None if label is None else label.numpy(), self.live)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What must stand on every card of samples."""
        x, lost = self.samples, int(self.clock.get("lost", 0))
        return sentences(self.remarks, f"{lost:,} of {len(x):,} samples are not numbers" if lost else "")

    @cached_property
    def clock(self) -> dict[str, float]:
        return {}

    # Images, codes and cards

    def card(self, name: str, values: np.ndarray, **about: Any) -> Score:
        """That of a mean over images: values (n,)."""
        return measure(name, values, self.seed, **{"split": self.split} | about)

    def batches(self, rows: np.ndarray) -> Iterator[Batch]:
        size = max(1, min(256, CHUNK // self.data.spec.dims))
        for i in range(0, len(rows), size):
            yield self.batch(rows[i : i + size])
            self.watch(i + size, max(len(rows), i + size))

    def batch(self, index: np.ndarray) -> Batch:
        """Images of these rows, each with noise of its own."""
        noise = Noise(torch.from_numpy(index), engine.derive("evaluate", self.seed))
        return engine.put(self.data.take(index, noise))

    def some(self, most: int) -> np.ndarray:
        """Training rows to look at: all, or a random choice of as many as can be afforded."""
        if len(self.data.train) <= most:
            return self.data.train
        return np.sort(
            np.random.default_rng((self.seed, 0xF17)).choice(self.data.train, max(1, most), replace=False)
        )

    def encode(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.encode(x)  # type: ignore[operator]

    @property
    def code(self) -> int:
        """Numbers of a code.  Symbols count by their bits, 32 a number: what principal components get must be
        no more than the model has."""
        if isinstance(self.model, Compresses) and self.model.code.levels:
            return math.ceil(self.model.code.dims * math.log2(self.model.code.levels) / 32)
        return self.encode(self.batch(self.rows[:1]).x)[0].numel()


# Two parts that take no page of their own


def cost(exam: Exam) -> Iterator[Score]:
    about = dict[str, Any](seed=exam.seed, settings=exam.settings)
    yield Score(
        "training",
        exam.run.seconds,
        unit="seconds",
        n=exam.run.seen,
        split="train",
        note="n counts images seen, with repetitions",
        **about,
    )
    if "sample" in answers(exam.model):
        n, device = len(exam.samples), exam.run.config.facts.get("device", "")
        note = (
            f"on {device}, {engine.facts()['threads']} threads; memory of the whole evaluation "
            f"{engine.memory_mb():,.0f} MB"
        )
        yield Score(
            "sampling",
            exam.clock["seconds"] / n,
            unit="seconds an image",
            n=n,
            split="samples",
            note=note,
            **about,
        )


def diagnosis(exam: Exam) -> Iterator[Score]:
    """What the model says of itself, and what the doctor finds beside it."""
    own, judged = set(), min(len(exam.rows), max(2, 2**24 // exam.data.spec.dims))
    about = dict[str, Any](split=exam.split, seed=exam.seed, settings=exam.settings)
    unseen = (
        representation.hopeless(exam.data, exam.rows[:judged]) if isinstance(exam.model, Classifies) else ""
    )
    for name, value, warning in verdicts(exam, judged):
        own.add(name)
        yield Score(name, value, n=judged, kind="estimate", warnings=sentences(warning, unseen), **about)
    samples = exam.samples if "sample" in answers(exam.model) else None
    result = [
        finding.text
        for finding in doctor.examine(exam.run, exam.data, exam.model, samples)
        if finding.name not in own
    ]
    young = exam.run.seen < doctor.FIRST * doctor.stride(exam.run)
    note = (
        (f"by the log alone: probes begin after {doctor.FIRST} steps of all players")
        if young
        else "what is wrong by the log and by probes"
    )
    yield Score(
        "findings", len(result), n=len(exam.rows), better="lower", note=note, warnings=tuple(result), **about
    )


def verdicts(exam: Exam, judged: int) -> list[tuple[str, float, str]]:
    if not isinstance(exam.model, Diagnoses):
        return []
    with torch.no_grad():
        return list(exam.model.diagnose(exam.batch(exam.rows[:judged])))


class Part(NamedTuple):
    group: str
    """the block of a report that its cards belong to, unless they say otherwise"""
    name: str
    """of the card that says why all of it is refused"""
    cards: Callable[[Exam], Iterator[Score]]
    samples: Callable[[Exam], int] = lambda exam: 0
    """how many it looks at"""
    split: str = ""
    """what it is about, if not the images of the exam"""


PARTS = (
    Part("likelihood", "bits/dim", likelihood.cards),
    Part("likelihood", "Parzen window", likelihood.window, likelihood.wanted, "samples"),
    Part("reconstruction", "reconstruction", reconstruction.cards),
    Part("translation", "translation", translation.cards, translation.wanted),
    Part("style", "style error", stylisation.cards),
    Part("representation", "kNN accuracy", representation.cards),
    Part("resemblance", "resemblance", distribution.cards, distribution.wanted, "samples"),
    Part("modes", "modes covered", known_modes.cards, known_modes.wanted, "samples"),
    Part("text", "agreement with the text", captions.cards, captions.wanted, "samples"),
    Part("motion", "motion", clips.cards, clips.wanted, "samples"),
    Part("memorisation", "near-duplicates", memorisation.cards, memorisation.wanted, "samples"),
    Part("cost", "sampling", cost, split="samples"),
    Part("diagnosis", "findings", diagnosis),
)
