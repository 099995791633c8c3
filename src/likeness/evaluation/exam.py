"""The one evaluator: a model's own answers beside what comes for free, on images it has not seen.

    for score in evaluate(run, data): print(score.text)

Training, command line and studio all call it.  Each card is yielded as soon as it is known, and nothing
of the run is changed by asking.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import engine
from ..core import Batch, Compresses, Condition, Model, Noise, Refusal, answers
from ..data import Data, picture
from ..features import networks
from ..inference.sampling import CHUNK, batches, conditions, draw, samples, shares, tuned
from ..metrics import doubts, likelihood, modes, neighbours, parzen, probing, reconstruction
from ..metrics.card import Score, measure, short, small
from ..metrics.likelihood import Format
from ..runs.run import AVERAGE, RAW, Run
from ..training import doctor
from . import distribution, known_modes

DRAWN = 256
"""most samples that are drawn to look for copies"""
NEIGHBOURS = 8
"""training images looked at about each, so that a few versions of one picture do not hide a copy"""
TRIED = 8
"""samples that are drawn to see how long one takes"""
FEWEST = 30
"""images of each side below which sets are not compared"""
KERNELS, CHOOSING = 10_000, 1_000
"""samples about which a Parzen window lies, and images that choose its bandwidth"""
PROBED, WIDEST, FEW = 5_000, 4_096, 10
"""training images whose labels are told when features are probed for classes, most features that are probed, and fewest images they are asked about"""


def evaluate(run: Run, data: Data, n: int = 1000, seed: int = 0, network: str = "auto", parzen: bool = False, **live: Any) -> Iterator[Score]:
    """Yield a card for everything that the model answers, each followed by its baselines.

    n: held-out images, a random choice of that many, or all there are; and as many samples.  network: whose features the
    samples are compared in, by its name or path (see networks.load), or "none".  parzen: the Parzen-window estimate as well.
    `live` sets live options of the model for this evaluation, such as k=500.  Raises Refusal where data, n, network or an option
    do not fit.
    """
    exam = prepare(run, data, n, seed, network, parzen, **live)
    for part in (exam.likelihood, exam.window, exam.reconstruction, exam.knowledge, exam.resemblance, exam.modes, exam.copying, exam.cost, exam.diagnosis):
        yield from part()


def prepare(run: Run, data: Data, n: int, seed: int, network: str = "auto", parzen: bool = False, **live: Any) -> Exam:
    """Check that the question makes sense, and choose the images."""
    if n < 1:
        raise Refusal(f"{n} images cannot be scored; ask for 1 or more, and for 100 if the interval is to mean something.")
    if data.spec.shape != run.config.spec.shape or data.levels != run.config.spec.levels:
        raise Refusal(f"{data.source} holds {_form(data)}, which the model cannot judge: it was trained on {run.config.data.get('source')}.")
    if parzen:
        _check_window(data)
    split, rows = ("held out", data.held_out) if len(data.held_out) else ("train", data.train)
    chosen = np.random.default_rng((seed, 0xE7A)).permutation(rows)[:n]  # by chance: a folder is sorted by class
    remarks = []
    if split == "train":
        remarks.append("no image was held out, so these are training images, which flatters")
    if data.fingerprint != run.config.data.get("fingerprint", data.fingerprint):
        remarks.append(f"{data.source} is not, or no longer, what the model was trained on")
    model = tuned(run.model, **live)
    settings = dict(seen=run.seen) | {f.name: getattr(model, f.name) for f in fields(model) if f.metadata.get("live")}
    if run.weights != AVERAGE:
        settings["weights"] = run.weights
    return Exam(run, model, data, chosen, split, seed, min(n, DRAWN), network, "; ".join(remarks), settings, parzen, live)


def _check_window(data: Data) -> None:
    if not data.levels:
        raise Refusal(f"a Parzen window is a yardstick of images, and {data.source} holds points; leave --parzen out.")
    if not len(data.held_out) or len(data.train) < 5 * FEWEST:
        raise Refusal(f"a Parzen window takes held-out images and {5 * FEWEST} others, which {data.source} does not have; leave --parzen out.")


def _form(data: Data) -> str:
    c, size, levels = data.spec.channels, data.spec.size, data.levels
    return f"images of {c}x{size}x{size} and {levels} levels" if levels else f"points of {c} coordinates"


class Probed(NamedTuple):
    """What features knew of the classes of the images that were asked about: right (1) or wrong, each (m,), by either way."""

    near: np.ndarray
    linear: np.ndarray
    penalty: float
    dims: int


@dataclass(frozen=True)
class Exam:
    """The questions to one model about one choice of images."""

    run: Run
    model: Model
    data: Data
    rows: np.ndarray
    split: str
    seed: int
    drawn: int
    """samples that are looked at for copies"""
    network: str = "auto"
    remark: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    parzen: bool = False
    live: dict[str, Any] = field(default_factory=dict)
    """options that were set on the model"""

    # The parts, one a method

    def likelihood(self) -> Iterator[Score]:
        if "bits_per_dim" not in answers(self.model):
            return
        if not self.data.levels:
            bits, kind, solved = self._bits(self.rows)
            note = "; ".join(filter(None, (NOTES["density"], solved)))
            yield self._card("bits/dim", bits, kind=kind, better="lower", note=note, warning=self.remark, settings=self.settings)
            return
        try:
            bits, kind, solved = self._bits(self.rows)
        except Refusal as refusal:
            yield Score("bits/dim", math.nan, split=self.split, seed=self.seed, better="lower", warning=str(refusal), settings=self.settings)
            return
        learnt = self._bits(self._some(len(self.rows)))[0] if self.split == "held out" else bits
        wrong = self.remark, doubts.implausible(bits, learnt, self.data.levels), doubts.overfitted(bits, learnt, self.seed)
        yield from self._in_units(bits, kind=kind, note=solved, warning="; ".join(filter(None, wrong)), settings=self.settings)
        if self.split == "held out":
            about = dict(of="training images", split="train", note=NOTES["learnt"], settings=self.settings)
            yield from self._in_units(learnt, kind=kind, **about)
        yield from self._free_likelihoods()

    def window(self) -> Iterator[Score]:
        """The Parzen-window estimate of the samples, of training images and of the centres of k-means: with its flaw beside it."""
        if not self.parzen or "sample" not in answers(self.model):
            return
        shuffled = np.random.default_rng((self.seed, 0xB1E)).permutation(self.data.train)
        choosing, known = np.split(shuffled, [min(CHOOSING, len(shuffled) // 5)])
        train = np.asarray(self.data.x[known[: parzen.most(self.data.spec.dims)]])
        rivals = {"model": self.samples[: self.kernels], "training images": train[: self.kernels]}
        rivals["k-means centres"] = parzen.centres(train, parzen.affordable(len(train), self.kernels, self.data.spec.dims), self.seed)
        found = {of: self._window(of, x, np.asarray(self.data.x[choosing])) for of, x in rivals.items()}
        shown = NOTES["shown"] if found["k-means centres"].value > found["training images"].value else ""
        yield replace(found.pop("model"), warning="; ".join(filter(None, (self.doubt, NOTES["flaw"] + shown))))
        yield from found.values()

    def _window(self, of: str, kernels: np.ndarray, choosing: np.ndarray) -> Score:
        sigma = parzen.bandwidth(kernels, choosing)
        (values,) = parzen.log_density(np.asarray(self.data.x[self.rows]), kernels, np.array([sigma]))
        error = values.std(ddof=1) / math.sqrt(len(values))
        note = f"standard error {short(error)}; Gaussians of width {sigma:.3f} about {len(kernels):,} images, chosen on {len(choosing):,} training images"
        settings = self.settings if of == "model" else {}
        return self._card("Parzen window", values, unit="nats", of=of, kind="estimate", against=len(kernels), note=note, settings=settings)

    def reconstruction(self) -> Iterator[Score]:
        able = set(answers(self.model))
        if not {"encode", "decode"} <= able or "denoise" in able:  # whose code is as long as the image, and says nothing of what it has learnt
            return
        code = self._code()
        yield from self._compared(self._rebuild, warning=self.remark, settings=self.settings | {"code": code})
        train = picture(np.asarray(self.data.x[self._some(reconstruction.affordable(self.data.spec.dims))]))
        note = f"of {len(train):,} training images"
        yield from self._compared(reconstruction.mean_image(train), of="mean image", against=len(train), note=f"mean {note}, no code at all")
        linear = reconstruction.pca(train, code)
        about = dict(against=len(train), note=f"principal components {note}", settings={"code": linear.axes.shape[1]})
        yield from self._compared(linear, of="PCA", **about)

    def knowledge(self) -> Iterator[Score]:
        """What the features know of classes, by nearest neighbours and by a linear map; beside what comes without any learning."""
        if not self._classed():
            return
        if why := self._improbable():
            yield Score("kNN accuracy", math.nan, split=self.split, seed=self.seed, better="higher", warning=why, settings=self.settings)
            return
        try:
            yield from self._known(self._some(PROBED))
        except Refusal as refusal:  # features that are not finite, or too few labels
            yield Score("kNN accuracy", math.nan, split=self.split, seed=self.seed, better="higher", warning=str(refusal), settings=self.settings)

    def _known(self, known: np.ndarray) -> Iterator[Score]:
        told = "; learnt with labels" if "label" in self.model.takes else ""
        yield from self._probed(self._learnt(self.model, known), len(known), told, warning=self.remark, settings=self.settings)
        fresh = engine.place(self.run.config.build(self.run.folder)).eval()
        yield from self._probed(self._learnt(fresh, known), len(known), "; its first weights", of="random weights")
        for of, found in _rivals(_Same(self.data), tuple(known), tuple(self.rows), self.seed, self._supervised()).items():
            yield from self._probed(found, len(known), f"; {NOTES[of]}", of=of)

    def _classed(self) -> bool:
        able, y = set(answers(self.model)), self.data.y
        return "encode" in able and "denoise" not in able and y is not None and self.data.spec.labels > 1 and self.data.levels > 0

    def _supervised(self) -> bool:
        """Whether a classifier stands beside the features: the one that sets of samples are compared by."""
        return self.network != "none" and self._classed() and networks.best(self.data) == "classifier"

    def _improbable(self) -> str:
        """Why nothing can be asked of the features, if so."""
        if self._code() > WIDEST:
            return f"features are probed for classes up to {WIDEST:,} of them, and here are {self._code():,}"
        asked = len(self.rows) if self.split == "held out" else 0
        return f"features are probed for classes on held-out images, {FEW} at least, and there are {asked}" if asked < FEW else ""

    def _probed(self, found: Probed, known: int, told: str, **about: Any) -> Iterator[Score]:
        notes = {"kNN accuracy": NOTES["knn"], "linear accuracy": f"{NOTES['linear']} {found.penalty:g}"}
        for name, right in zip(notes, (found.near, found.linear)):
            note = f"{notes[name]}; {found.dims:,} features{told}"
            yield self._card(name, right, unit="share", better="higher", against=known, note=note, **about)

    def _learnt(self, model: Model, known: np.ndarray) -> Probed:
        """By what a model says of its own images."""
        with torch.no_grad():
            mine, others = (
                torch.cat([model.encode(batch.x).float().flatten(1).cpu() for batch in self._batches(rows)]).numpy()  # type: ignore[operator]
                for rows in (known, self.rows)
            )
        return _probed(self.data, known, self.rows, mine, others, self.seed)

    def resemblance(self) -> Iterator[Score]:
        if "sample" not in answers(self.model) or self.network == "none":
            return
        if self.split != "held out" or min(len(self.rows), len(self.data.train)) < FEWEST:
            warning = f"samples are compared with held-out images, {FEWEST} at least, and there are {len(self.rows) if self.split == 'held out' else 0}"
            yield Score("resemblance", math.nan, seed=self.seed, split="samples", warning=warning, settings=self.settings)
            return
        try:
            real = reference(self.data, self.network, len(self.rows), self.seed)
        except Refusal as refusal:
            if self.network != "auto":
                raise
            yield Score("resemblance", math.nan, seed=self.seed, split="samples", warning=str(refusal), settings=self.settings)
            return
        yield from real.judge(self.samples, warning=self.doubt, settings=self.settings)

    def modes(self) -> Iterator[Score]:
        """Of data whose modes are known: how many are found, and how evenly, by the model and by its raw weights."""
        stacked = known_modes.is_stacked(self.data)
        if "sample" not in answers(self.model) or not known_modes.known(self.data) or (stacked and self.network == "none"):
            return
        law = _law(_Same(self.data), self.seed)
        yield from self._modes(law, self.samples, "model", self.settings)
        if self.run.weights == AVERAGE:
            bare = replace(self, model=tuned(self.run.raw(), **self.live))
            yield from self._modes(law, bare.made(law.n), RAW, self.settings | {"weights": RAW})
        yield from modes.cards(law.real, None, law.shares, law.quality, self.seed, of=law.who, note=law.note, network=law.network)

    def _modes(self, law: known_modes.Law, x: np.ndarray, of: str, settings: dict[str, Any]) -> Iterator[Score]:
        about = dict(of=of, split="samples", against=law.n, note=law.note, network=law.network, settings=settings)
        warning = "; ".join(filter(None, (self.doubt if of == "model" else self.remark, law.doubt)))
        yield from modes.cards(law.modes_of(x[: law.n]), law.real, law.shares, law.quality, self.seed, warning=warning, **about)

    def copying(self) -> Iterator[Score]:
        if "sample" not in answers(self.model) or not len(self.data.train) or not self.data.levels:
            return  # among points any two are near: whether they are copies is said by `authentic`
        x = self.samples[: self.drawn]
        real = self.data.x[self.rows[: DRAWN if self.split == "held out" else 0]]
        known = neighbours.distinct(self.data.x, self.data.train)
        found = neighbours.nearest(np.concatenate([x, real]), self.data.x, known, NEIGHBOURS, self.run.config.training.mirror)
        yield from self._nearness(found.of(np.s_[: len(x)]), found.of(np.s_[len(x) :]), len(known))

    def cost(self) -> Iterator[Score]:
        about = dict[str, Any](settings=self.settings)
        yield Score("training", self.run.seconds, unit="seconds", n=self.run.seen, split="train", seed=self.seed, note="images seen, again and again", **about)
        if "sample" in answers(self.model):
            n, device = len(self.samples), self.run.config.facts.get("device", "")
            said = f"on {device}, {engine.facts()['threads']} threads; memory of the whole evaluation {engine.memory_mb():,.0f} MB"
            yield Score("sampling", self.clock["seconds"] / n, unit="seconds an image", n=n, split="samples", seed=self.seed, note=said, **about)

    def outlook(self) -> str:
        """A sentence on what the scoring will take; the speed of sampling is tried on a few images."""
        bare = " by its raw weights" if self.run.weights == RAW else ""
        parts = [f"scoring {self.run.folder}{bare} on {len(self.rows):,} {'images' if self.data.levels else 'points'}"]
        kinds = ["classifier"] if self._supervised() else []
        if "sample" in answers(self.model) and self.network != "none":
            began = time.perf_counter()
            samples(self.model, TRIED, self.seed, self.data)
            parts.append(f"{self.wanted:,} samples take about {math.ceil((time.perf_counter() - began) / TRIED * self.wanted)} s")
            kinds.append(networks.best(self.data) if self.network == "auto" else self.network)
            parts.append(known_modes.outlook(self.data))
        own = (kind for kind in dict.fromkeys(kinds) if kind in networks.OWN and self.data.levels)
        return "; ".join(filter(None, [*parts, *(networks.outlook(self.data, kind) for kind in own)]))

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
        """What is looked at for copies, what resembles real images, what finds modes and what a Parzen window lies about."""
        featured = self.network != "none"
        counted = known_modes.samples(self.data) if featured or not known_modes.is_stacked(self.data) else 0
        return max(self.drawn, len(self.rows) if featured else 0, counted, self.kernels if self.parzen else 0)

    @property
    def kernels(self) -> int:
        return min(KERNELS, parzen.most(self.data.spec.dims))

    def conditions(self, n: int) -> Condition | None:
        """What samples 0 ... n-1 are of: classes as frequent as in the training images."""
        return conditions(self.model, np.arange(n), self.data, classes=shares(self.data, n, self.seed))

    def made(self, n: int) -> np.ndarray:
        """Samples 0 ... n-1: uint8 (n, C, H, W) on the grid of the data, or points as they are."""
        parts = []
        for x in batches(draw(self.model, self.conditions(n), n, self.seed)):
            self.clock["lost"] = self.clock.get("lost", 0.0) + float((~x.isfinite()).flatten(1).any(1).sum())
            parts.append(neighbours.grid(x.numpy(), self.data.levels) if self.data.levels else np.nan_to_num(x.numpy()))
        return np.concatenate(parts)

    @property
    def doubt(self) -> str:
        """What must stand on every card of samples."""
        x, lost = self.samples, int(self.clock.get("lost", 0))
        return "; ".join(filter(None, (self.remark, f"{lost:,} of {len(x):,} samples are not numbers" if lost else "")))

    @cached_property
    def clock(self) -> dict[str, float]:
        return {}

    def diagnosis(self) -> Iterator[Score]:
        """What the model says of itself, and what the doctor finds beside it."""
        own = set()
        for name, value, warning in self._verdicts():
            own.add(name)
            yield Score(name, value, n=self._judged, split=self.split, seed=self.seed, kind="estimate", warning=warning, settings=self.settings)
        samples = self.samples if "sample" in answers(self.model) else None
        found = [finding.text for finding in doctor.examine(self.run, self.data, self.model, samples) if finding.name not in own]
        young = self.run.seen < doctor.FIRST * doctor.stride(self.run)
        note = f"by the log alone: probes begin after {doctor.FIRST} steps of all players" if young else "what is wrong by the log and by probes"
        about = dict[str, Any](better="lower", note=note, settings=self.settings)
        yield Score("findings of the doctor", len(found), n=len(self.rows), split=self.split, seed=self.seed, warning="; ".join(found), **about)

    @property
    def _judged(self) -> int:
        """Images that a model judges itself by."""
        return min(len(self.rows), max(2, 2**24 // self.data.spec.dims))

    def _verdicts(self) -> list[tuple[str, float, str]]:
        if not isinstance(self.model, doctor.Diagnoses):
            return []
        with torch.no_grad():
            return list(self.model.diagnose(self._batch(self.rows[: self._judged])))

    # Likelihood

    def _bits(self, rows: np.ndarray) -> tuple[np.ndarray, str, str]:
        """Of each image, their kind, and what the card must say of an equation that was solved for them."""
        with torch.no_grad():
            found = [self.model.bits_per_dim(batch) for batch in self._batches(rows)]  # type: ignore[operator]
        solved = likelihood.solved([bits.error for bits in found], getattr(self.model, "tolerance", 0.0))
        return torch.cat([bits.values.double().cpu() for bits in found]).numpy(), found[0].kind, solved

    def _in_units(self, bits: np.ndarray, **about: Any) -> Iterator[Score]:
        """The card in bits/dim, and for black-and-white images in the unit of the papers too."""
        yield self._card("bits/dim", bits, better="lower", **about)
        if self.data.levels == 2:
            yield self._card("nats an image", likelihood.nats(bits, self.data.spec.dims), better="lower", **about)

    def _free_likelihoods(self) -> Iterator[Score]:
        """What the same images cost without a model."""
        x, data = np.asarray(self.data.x[self.rows]), self.data
        yield from self._in_units(np.full(len(x), likelihood.uniform(data.levels)), of="uniform", kind="exact", note="every image equally likely")
        train = self._some(2**28 // data.spec.dims)
        bits = likelihood.histogram(data.x, train, x, data.levels)
        yield from self._in_units(bits, of="independent pixels", kind="exact", against=len(train), note="a histogram for each pixel, from training images")
        yield from self._in_files(x, "PNG")
        yield from self._in_files(x, "WebP")

    def _in_files(self, x: np.ndarray, form: Format) -> Iterator[Score]:
        few, about = x[: likelihood.affordable(self.data.spec.size**2)], dict[str, Any](kind="upper bound", better="lower")
        yield self._card("bits/dim", likelihood.codec(few, form, self.data.levels), of=form, note="a lossless file an image", **about)
        value, n = likelihood.sheet(x, form, self.data.levels)
        about |= dict(of=f"{form} sheet", note="images side by side in one lossless file", warning=small(n))
        yield Score("bits/dim", value, n=n, split=self.split, seed=self.seed, **about)

    # Reconstruction

    def _compared(self, rebuild: Callable[[Tensor], Tensor], **about: Any) -> Iterator[Score]:
        """Three measures of a way to rebuild images, batch by batch."""
        pairs = ((batch.x.cpu(), rebuild(batch.x)) for batch in self._batches(self.rows))
        measures = MEASURES if self.data.levels else MEASURES[:1]
        found = zip(*([take(x, y) for _, take, _, _ in measures] for x, y in pairs))
        for (name, _, unit, better), values in zip(measures, found):
            note = NOTES[name if self.data.levels else "points"]
            yield self._card(name, torch.cat(values).numpy(), **{"unit": unit, "better": better, "note": note} | about)

    def _code(self) -> int:
        """Numbers of a code.  Symbols count by their bits, 32 a number: what principal components get must be no more than the model has."""
        if isinstance(self.model, Compresses) and self.model.code.levels:
            return math.ceil(self.model.code.dims * math.log2(self.model.code.levels) / 32)
        return self._encode(self._batch(self.rows[:1]).x)[0].numel()

    def _encode(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.encode(x)  # type: ignore[operator]

    def _rebuild(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.model.decode(self._encode(x)).float().cpu()  # type: ignore[operator]
            return x.clamp(-1, 1) if self.data.levels else x

    # Copying

    def _nearness(self, theirs: neighbours.Nearest, real: neighbours.Nearest, known: int) -> Iterator[Score]:
        """Each measure of the samples, and of held-out images beside it, if there are any."""
        copies: list[tuple[str, Callable[[neighbours.Nearest], np.ndarray], str, str]] = [
            ("distance to training", lambda f: f.distance[:, 0], "levels", ""),
            ("copies", lambda f: neighbours.copied(f, self.data.x), "share", "lower"),
            ("exact copies", neighbours.exact, "share", "lower"),
        ]
        mine = dict[str, Any](split="samples", settings=self.settings)
        for name, values, unit, better in copies:
            share, floor = values(theirs), values(real)
            about = dict[str, Any](unit=unit, better=better, against=known, note=NOTES[name])
            yield self._card(name, share, warning="" if unit == "levels" else doubts.suspicion(share, floor), **mine, **about)
            if len(floor):
                yield self._card(name, floor, of="held-out images", **about)
        if len(real.row):
            nearer, warning = neighbours.closeness(theirs, real), doubts.too_near(theirs.distance[:, 0], real.distance[:, 0])
            yield self._card("nearer than held out", nearer, unit="share", against=len(real.row), note=NOTES["nearer"], warning=warning, **mine)

    # Images, and cards

    def _card(self, name: str, values: np.ndarray, **about: Any) -> Score:
        return measure(name, values, self.seed, **{"split": self.split} | about)

    def _batches(self, rows: np.ndarray) -> Iterator[Batch]:
        size = max(1, min(256, CHUNK // self.data.spec.dims))
        for i in range(0, len(rows), size):
            yield self._batch(rows[i : i + size])

    def _batch(self, index: np.ndarray) -> Batch:
        """Images of these rows, each with noise of its own."""
        noise = Noise(torch.from_numpy(index), engine.derive("evaluate", self.seed))
        return engine.put(self.data.take(index, noise))

    def _some(self, most: int) -> np.ndarray:
        """Training rows to look at: all, or a random choice of as many as can be afforded."""
        if len(self.data.train) <= most:
            return self.data.train
        return np.sort(np.random.default_rng((self.seed, 0xF17)).choice(self.data.train, max(1, most), replace=False))


MEASURES: tuple[tuple[str, Callable[[Tensor, Tensor], Tensor], str, str], ...] = (
    ("squared error", reconstruction.mse, "", "lower"),
    ("PSNR", reconstruction.psnr, "dB", "higher"),
    ("SSIM", reconstruction.ssim, "", "higher"),
)
NOTES = {
    "density": "of a density, which is not a probability: it may be below 0",
    "flaw": "this estimate says nothing about which model is better (Theis et al. 2016, section 3.1)",
    "shown": ": here it prefers the centres of k-means to real images",
    "learnt": "the same model on images that it was trained on",
    "squared error": "mean over pixels, images in [-1, 1]",
    "points": "mean over coordinates",
    "PSNR": "10 log10(4 / squared error) of each image, at most 100",
    "SSIM": reconstruction.SSIM_NOTE,
    "knn": f"cosine, k = {probing.K}, weights exp(cosine / {probing.TEMPERATURE}), features less their mean",
    "linear": "logistic regression on standardised features, of penalty",
    "raw pixels": "at most 16x16, no network",
    "supervised": "a small classifier, told the labels of the training images",
    "random patches": "256 whitened patches of training images, nothing learnt (Coates, Lee & Ng 2011)",
    "distance to training": "root mean squared difference to the nearest training image",
    "copies": "a third as far from the nearest training image as from the next that is another picture, or nearer",
    "exact copies": "equal to a training image in every pixel",
    "nearer": "nearer to a training image than half of the held-out images are; one half is to be expected, blurred samples have more",
}


@lru_cache(maxsize=2)
def _law(data: _Same, seed: int) -> known_modes.Law:
    return known_modes.find(data.data, seed)


@lru_cache(maxsize=2)
def _rivals(data: _Same, known: tuple[int, ...], asked: tuple[int, ...], seed: int, supervised: bool) -> dict[str, Probed]:
    """What comes without this model, by name: what nobody has learnt, and a network that was told all labels.  Kept for the next on the same images."""
    train, other = (np.asarray(data.data.x[list(rows)]) for rows in (known, asked))
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {"raw pixels": probing.raw, "random patches": probing.Patches(train, seed)}
    if supervised:
        ways["supervised"] = networks.load("classifier", data.data).features
    return {of: _probed(data.data, np.array(known), np.array(asked), way(train), way(other), seed) for of, way in ways.items()}


def _probed(data: Data, known: np.ndarray, asked: np.ndarray, theirs: np.ndarray, others: np.ndarray, seed: int) -> Probed:
    """theirs: features (n, d) of the rows `known`, whose labels are told; others: (m, d) of the rows asked about."""
    labels, truth = np.asarray(data.y)[known], np.asarray(data.y)[asked]
    linear = probing.linear(theirs, labels, data.spec.labels, seed)
    said = probing.knn(theirs, labels, others), linear.logits(others).argmax(1)
    near, far = ((answer == truth).astype(np.float64) for answer in said)
    return Probed(near, far, linear.penalty, theirs.shape[1])


@lru_cache(maxsize=2)
def _reference(data: _Same, network: str, n: int, seed: int) -> distribution.Reference:
    return distribution.prepare(data.data, networks.load(network, data.data), n, seed)


def reference(data: Data, network: str, n: int, seed: int) -> distribution.Reference:
    """The real side of a comparison; kept for the next model that is judged by the same."""
    return _reference(_Same(data), network, n, seed)


class _Same:
    """A data set, equal to another of the same images and split."""

    def __init__(self, data: Data):
        self.data = data

    def __hash__(self) -> int:
        return hash(self.data.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.data.fingerprint == self.data.fingerprint
