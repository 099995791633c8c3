"""The one evaluator: a model's own answers beside what comes for free, on images it has not seen.

    for score in evaluate(run, data): print(score.text)

Training, command line and studio all call it.  Each card is yielded as soon as it is known, and nothing
of the run is changed by asking.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from . import distribution, engine, networks, store
from .core import BadData, Batch, Compresses, Model, Refusal, Samples, answers, check_options
from .data import Data, picture
from .metrics import likelihood, neighbours, reconstruction
from .metrics.card import TOO_FEW, Score, from_dict, interval, measure, short, small, wilson
from .metrics.likelihood import Format
from .noise import Noise
from .run import Run

SCORES = "scores.json"
DRAWN = 256
"""most samples that are drawn to look for copies"""
NEIGHBOURS = 8
"""training images looked at about each, so that a few versions of one picture do not hide a copy"""
TRIED = 8
"""samples that are drawn to see how long one takes"""
FEWEST = 30
"""images of each side below which sets are not compared"""
CHUNK = 2**21
"""values of the images asked about in one go"""


@runtime_checkable
class Diagnoses(Protocol):
    """A model may know best what is wrong with it, such as unused dimensions of its code."""

    def diagnose(self, batch: Batch) -> Iterator[tuple[str, float, str]]:
        """Yield name, value, and a warning (empty if all is well), from held-out images."""
        ...


def evaluate(run: Run, data: Data, n: int = 1000, seed: int = 0, network: str = "auto", **live: Any) -> Iterator[Score]:
    """Yield a card for everything that the model answers, each followed by its baselines.

    n: held-out images, a random choice of that many, or all there are; and as many samples.  network: whose features the
    samples are compared in, by its name or path (see networks.load), or "none".  `live` sets live options of the model for
    this evaluation, such as k=500.  Raises Refusal where data, n, network or an option do not fit.
    """
    exam = prepare(run, data, n, seed, network, **live)
    for part in (exam.likelihood, exam.reconstruction, exam.resemblance, exam.copying, exam.cost, exam.diagnosis):
        yield from part()


def prepare(run: Run, data: Data, n: int, seed: int, network: str = "auto", **live: Any) -> Exam:
    """Check that the question makes sense, and choose the images."""
    if n < 1:
        raise Refusal(f"{n} images cannot be scored; ask for 1 or more, and for 100 if the interval is to mean something.")
    if data.spec.shape != run.config.spec.shape or data.levels != run.config.spec.levels:
        raise Refusal(f"{data.source} holds images of {_form(data)}, which the model cannot judge: it was trained on {run.config.data.get('source')}.")
    split, rows = ("held out", data.held_out) if len(data.held_out) else ("train", data.train)
    chosen = np.random.default_rng((seed, 0xE7A)).permutation(rows)[:n]  # by chance: a folder is sorted by class
    remarks = []
    if split == "train":
        remarks.append("no image was held out, so these are training images, which flatters")
    if data.fingerprint != run.config.data.get("fingerprint", data.fingerprint):
        remarks.append(f"{data.source} is not, or no longer, what the model was trained on")
    model = tuned(run.model, **live)
    settings = dict(seen=run.seen) | {f.name: getattr(model, f.name) for f in fields(model) if f.metadata.get("live")}
    return Exam(run, model, data, chosen, split, seed, min(n, DRAWN), network, "; ".join(remarks), settings)


def _form(data: Data) -> str:
    return f"{data.spec.channels}x{data.spec.size}x{data.spec.size} and {data.levels} levels"


def tuned(model: Model, **live: Any) -> Model:
    """The same weights with some live options set; the model itself keeps its own."""
    known = {f.name for f in fields(model) if f.metadata.get("live")}
    if wrong := sorted(live.keys() - known):
        there = f"live options are: {', '.join(sorted(known))}" if known else "it has none"
        raise Refusal(f"{wrong[0]} is not an option that can be set on a trained {type(model).__name__.lower()}; {there}.")
    twin = copy.copy(model)
    for name, value in live.items():
        setattr(twin, name, value)
    check_options(type(model).__name__.lower(), twin)
    return twin


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

    # The parts, one a method

    def likelihood(self) -> Iterator[Score]:
        if "bits_per_dim" not in answers(self.model):
            return
        try:
            bits, kind = self._bits(self.rows)
        except Refusal as refusal:
            yield Score("bits/dim", math.nan, split=self.split, seed=self.seed, better="lower", warning=str(refusal), settings=self.settings)
            return
        learnt = self._bits(self._some(len(self.rows)))[0] if self.split == "held out" else bits
        doubts = self.remark, implausible(bits, learnt, self.data.levels), overfitted(bits, learnt, self.seed)
        yield from self._in_units(bits, kind=kind, warning="; ".join(filter(None, doubts)), settings=self.settings)
        if self.split == "held out":
            about = dict(of="training images", split="train", note=NOTES["learnt"], settings=self.settings)
            yield from self._in_units(learnt, kind=kind, **about)
        yield from self._free_likelihoods()

    def reconstruction(self) -> Iterator[Score]:
        if not {"encode", "decode"} <= set(answers(self.model)):
            return
        code = self._code()
        yield from self._compared(self._rebuild, warning=self.remark, settings=self.settings | {"code": code})
        train = picture(np.asarray(self.data.x[self._some(reconstruction.affordable(self.data.spec.dims))]))
        note = f"of {len(train):,} training images"
        yield from self._compared(reconstruction.mean_image(train), of="mean image", against=len(train), note=f"mean {note}, no code at all")
        linear = reconstruction.pca(train, code)
        about = dict(against=len(train), note=f"principal components {note}", settings={"code": linear.axes.shape[1]})
        yield from self._compared(linear, of="PCA", **about)

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

    def copying(self) -> Iterator[Score]:
        if "sample" not in answers(self.model) or not len(self.data.train):
            return
        x = self.samples[: self.drawn]
        real = self.data.x[self.rows[: DRAWN if self.split == "held out" else 0]]
        known = neighbours.distinct(self.data.x, self.data.train)
        found = neighbours.nearest(np.concatenate([x, real]), self.data.x, known, NEIGHBOURS)
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
        parts = [f"scoring {self.run.folder} on {len(self.rows):,} images"]
        if "sample" in answers(self.model) and self.network != "none":
            began = time.perf_counter()
            samples(self.run, self.model, TRIED, self.seed)
            parts.append(f"as many samples take about {math.ceil((time.perf_counter() - began) / TRIED * len(self.rows))} s")
            kind = networks.best(self.data) if self.network == "auto" else self.network
            parts += filter(None, [networks.outlook(self.data, kind) if kind in networks.OWN else ""])
        return "; ".join(parts)

    @cached_property
    def samples(self) -> np.ndarray:
        """uint8 on the grid of the data: what resembles real images, and what is looked at for copies."""
        began = time.perf_counter()
        n, parts = max(self.drawn, len(self.rows) if self.network != "none" else 0), []
        for x in draw(self.run, self.model, n, self.seed, shares(self.data, n, self.seed)):
            self.clock["lost"] = self.clock.get("lost", 0.0) + float((~x.isfinite()).flatten(1).any(1).sum())
            parts.append(neighbours.grid(x.numpy(), self.data.levels))
        engine.synchronise()
        self.clock["seconds"] = time.perf_counter() - began
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
        if not isinstance(self.model, Diagnoses):
            return
        index = self.rows[: max(2, 2**24 // self.data.spec.dims)]
        for name, value, warning in _diagnosed(self.model, self._batch(index)):
            yield Score(name, value, n=len(index), split=self.split, seed=self.seed, kind="estimate", warning=warning, settings=self.settings)

    # Likelihood

    def _bits(self, rows: np.ndarray) -> tuple[np.ndarray, str]:
        with torch.no_grad():
            found = [self.model.bits_per_dim(batch) for batch in self._batches(rows)]  # type: ignore[operator]
        return torch.cat([bits.values.double().cpu() for bits in found]).numpy(), found[0].kind

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
        found = [(reconstruction.mse(x, y), reconstruction.psnr(x, y), reconstruction.ssim(x, y)) for x, y in pairs]
        error, psnr, ssim = (torch.cat(values).numpy() for values in zip(*found))
        for name, values, unit, better in (("squared error", error, "", "lower"), ("PSNR", psnr, "dB", "higher"), ("SSIM", ssim, "", "higher")):
            yield self._card(name, values, **{"unit": unit, "better": better, "note": NOTES[name]} | about)

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
            return self.model.decode(self._encode(x)).float().clamp(-1, 1).cpu()  # type: ignore[operator]

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
            yield self._card(name, share, warning="" if unit == "levels" else suspicion(share, floor), **mine, **about)
            if len(floor):
                yield self._card(name, floor, of="held-out images", **about)
        if len(real.row):
            nearer, warning = neighbours.closeness(theirs, real), too_near(theirs.distance[:, 0], real.distance[:, 0])
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


NOTES = {
    "learnt": "the same model on images that it was trained on",
    "squared error": "mean over pixels, images in [-1, 1]",
    "PSNR": "10 log10(4 / squared error) of each image, at most 100",
    "SSIM": "mean over the places of a Gaussian window, and over channels",
    "distance to training": "root mean squared difference to the nearest training image",
    "copies": "a third as far from the nearest training image as from the next that is another picture, or nearer",
    "exact copies": "equal to a training image in every pixel",
    "nearer": "nearer to a training image than half of the held-out images are; one half is to be expected, blurred samples have more",
}


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


def implausible(bits: np.ndarray, learnt: np.ndarray, levels: int) -> str:
    """What cannot be right about a likelihood, or nothing.  `learnt`: the same of training images."""
    if (bits < 0).any():
        return "below 0 bits: this is not the probability of an image on its grid, and must not be quoted"
    if bits.mean() > likelihood.uniform(levels):
        nothing = ", and so are training images: the model knows nothing yet" if learnt.mean() > likelihood.uniform(levels) else ""
        return f"worse than giving every image the same probability{nothing}"
    return ""


def overfitted(bits: np.ndarray, learnt: np.ndarray, seed: int = 0) -> str:
    """Whether held-out images cost over a tenth more than training images, and more than chance explains."""
    held, own = float(bits.mean()), float(learnt.mean())
    if min(len(bits), len(learnt)) >= TOO_FEW and held - own > 0.1 * abs(own) and interval(bits, seed)[0] > interval(learnt, seed)[1]:
        costs = f"held-out images cost {short(held)} bits/dim, training images {short(own)}"
        return f"{costs}: it has learnt its training images by heart, so train shorter (--images), or on more images"
    return ""


def suspicion(mine: np.ndarray, floor: np.ndarray) -> str:
    """Whether samples copy more than held-out images happen to resemble training images, by more than chance explains."""
    usual = float(floor.mean()) if len(floor) else 0.0
    noise = math.sqrt(usual * (1 - usual) * (1 / len(mine) + 1 / len(floor))) if len(floor) else 0.0
    if mine.mean() <= usual + 3 * noise + 1e-12:
        return ""
    beside = f" ({usual:.1%} of held-out images do)" if len(floor) else ""
    return f"{int(mine.sum())} of {len(mine)} samples look like copies of training images{beside}: the model may have memorised"


def too_near(mine: np.ndarray, floor: np.ndarray) -> str:
    """Whether samples lie so much nearer to training images than held-out images do that a blur does not explain it."""
    if min(len(mine), len(floor)) < TOO_FEW:
        return ""
    typical, usual = float(np.median(mine)), float(np.median(floor))
    if wilson(float((mine < usual).sum()), len(mine))[0] <= 0.75 or typical > usual / 3:
        return ""
    return f"samples lie {short(typical)} levels from a training image, held-out images {short(usual)}: the model may have memorised"


def samples(run: Run, model: Model, n: int, seed: int) -> Tensor:
    """Samples 0 ... n-1 of the run, (n, C, H, W) in [-1, 1] in memory, drawn in batches; classes take turns."""
    return torch.cat(list(draw(run, model, n, seed)))


def draw(run: Run, model: Model, n: int, seed: int, classes: np.ndarray | None = None) -> Iterator[Tensor]:
    """The same, batch by batch; classes (n,): of each sample, or they take turns."""
    assert isinstance(model, Samples)
    size, labels = max(1, min(256, CHUNK // run.config.spec.dims)), run.config.spec.labels
    for i in range(0, n, size):
        m = min(size, n - i)
        turns = np.arange(i, i + m) % max(labels, 1) if classes is None else classes[i : i + m]
        y = torch.from_numpy(turns).to(engine.device()) if labels else None
        with torch.no_grad():
            *_, x = model.sample(engine.sampling_noise(seed, i, m), y)
        yield x.float().clamp(-1, 1).cpu()


def shares(data: Data, n: int, seed: int) -> np.ndarray | None:
    """Classes of n samples that are as frequent as in the training images, or None: else unequal classes alone would tell samples from data."""
    if data.y is None or not data.spec.labels or not len(data.train):
        return None
    known = np.random.default_rng((seed, 0xC1A)).permutation(data.y[data.train])
    return np.resize(known, n)


def _diagnosed(model: Diagnoses, batch: Batch) -> list[tuple[str, float, str]]:
    with torch.no_grad():
        return list(model.diagnose(batch))


def save_scores(folder: Path, scores: Sequence[Score]) -> Path:
    """Replace scores.json, which holds one evaluation."""
    text = json.dumps([s.as_dict() for s in scores], indent=2, ensure_ascii=False, allow_nan=False, default=str)
    store.write(folder / SCORES, text.encode(errors="backslashreplace"))
    return folder / SCORES


def load_scores(folder: Path) -> list[Score]:
    """The last evaluation, or nothing if there was none.  Raises BadData if the file is damaged."""
    try:
        return [from_dict(said) for said in json.loads((folder / SCORES).read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadData(f"{folder / SCORES} cannot be read ({error}); evaluate the run again.") from None
