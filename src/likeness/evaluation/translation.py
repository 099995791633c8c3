"""How good translations are: beside the truth where it is known, by the class that is kept, by the law of the
targets, by what comes back; each beside translations that cost nothing.

A model translates by `translate`, or by drawing of an image that it is told (`takes` has "image"): then its
samples of the seed are the translations.  Sources are held-out: of pairs those of the images of the exam, of
two domains a random choice of the other domain's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import engine
from ..core import Refusal, Translates, answers
from ..data import Data, picture
from ..data.labels import NONE
from ..features import networks
from ..features.networks import Network
from ..metrics import kernels, neighbours, reconstruction, translation
from ..metrics.card import Score, interval, measure, sentences, small
from . import distribution
from .distribution import FEWEST, MEASURES, Reference, look

if TYPE_CHECKING:
    from .exam import Exam

LAWS = ("Fréchet distance", "KID")
"""measures of two sets that are taken of translations"""
FITTED = 2**25
"""values of training images that maps of colours and histograms are fitted to, at most"""
SEARCHED = 2**27
"""values, of small versions of training images, that a nearest one is looked for in, at most: 512 MB"""
SIDE = "translation"
HIDES = 2.0
"""times the cycle error and one level, above which a level of noise says that sources are hidden in what
nobody sees: an inverse that passes noise on as it is has 1 at most"""
NOTES = {
    "MAE to truth": "mean over pixels and channels, in levels of 0 to 255",
    "PSNR to truth": "10 log10(4 / squared error) of each image in [-1, 1], at most 100",
    "SSIM to truth": reconstruction.SSIM_NOTE,
    "PSNR on Y": "on the luminance of BT.601 as MATLAB's rgb2ycbcr has it, rounded to 256 levels, without a "
    "border of as many pixels as the scale",
    "SSIM on Y": "on the same luminance, without the same border",
    "feature distance to truth": "distance in features between translation and truth, in the median distance "
    "of two real images",
    "class kept": "share of translations that a classifier, trained on real targets, gives the class of "
    "their source",
    "cycle error": "mean absolute difference of source and what comes back, in levels",
    "cycle error with noise": "the same with each value of the translation, rounded to 256 levels, one level "
    "up or down by chance",
    "steganography": "cycle error with noise / (cycle error + 1 level): 1 or less where an inverse passes "
    "noise on as it is; more where sources are hidden in it (Chu, Zhmoginov & Sandler 2017)",
}
WAYS = {
    "identity": "the source itself",
    "histogram matching": "each channel of the source with the histogram of training targets",
    "affine colour map": "y = M x + c of each pixel, the best of training pairs",
    "affine colour map, unpaired": "y = M x + c of each pixel, which gives the colours of training sources "
    "the mean and the covariance of those of targets (Monge-Kantorovich)",
    "nearest neighbour": "the target of the training source that is nearest in pixels",
    "nearest neighbour, unpaired": "the training target that is nearest in pixels to the source",
    "bicubic": "enlarged by Pillow's bicubic filter",
    "Lanczos": "enlarged by Pillow's Lanczos filter",
}
Way = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sides:
    """What is translated, and what is known of it."""

    a: np.ndarray
    """uint8 (n, C, H, W)"""
    truth: np.ndarray | None
    """uint8 (n, C', H', W') of each source, where it is known"""
    y: np.ndarray | None
    """int64 (n,): its class, or NONE, by the number that it has among the targets"""
    paired: bool
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.a)


def translates(exam: Exam) -> bool:
    """Whether the model makes an image of the target's side from one of the source's, of such data."""
    here = exam.data.levels > 0 and exam.data.spec.source[0] > 0 and not exam.data.spec.frames
    return here and (isinstance(exam.model, Translates) or drawing(exam))


def drawing(exam: Exam) -> bool:
    """Whether its samples are its translations."""
    return (
        not isinstance(exam.model, Translates)
        and "image" in exam.model.spec.parts(exam.model.takes)
        and "sample" in answers(exam.model)
        and exam.data.pairs is not None
    )


def wanted(exam: Exam) -> int:
    """Samples that are looked at."""
    return len(exam.rows) if exam.data.levels and drawing(exam) else 0


def sides(exam: Exam) -> Sides:
    data = exam.data
    if data.pairs is not None:
        a, b = np.asarray(data.pairs[exam.rows]), np.asarray(data.x[exam.rows])
        return Sides(a, b, None if data.y is None else data.y[exam.rows], True, exam.remarks)
    assert data.other is not None
    other, remarks = data.other, exam.remarks
    held_out = len(other.held_out) > 0
    pool = other.held_out if held_out else other.train
    if not held_out:
        remarks = sentences(remarks, "no source was held out, so these are training images, which flatters")
    at = np.random.default_rng((exam.seed, 0xA2B)).permutation(len(pool))[: exam.asked]
    truth = None if data.truth is None or not held_out else np.asarray(data.truth[at])
    return Sides(np.asarray(other.x[pool[at]]), truth, _classes(data, other, pool[at]), False, remarks)


def _classes(data: Data, other: Data, rows: np.ndarray) -> np.ndarray | None:
    """Of sources, by the names that both sides have in common; None where there are none."""
    if other.y is None or not data.classes or not (common := set(other.classes) & set(data.classes)):
        return None
    number = np.array([data.classes.index(name) if name in common else NONE for name in other.classes])
    return np.where(other.y[rows] == NONE, NONE, number[other.y[rows]])


def cards(exam: Exam) -> Iterator[Score]:
    if not translates(exam):
        return
    judge = Judge(exam, sides(exam))
    yield from judge.cards(judge.made, warnings=judge.doubts, settings=exam.settings)
    yield from judge.real()
    for name, way, seen in baselines(exam, judge.sides):
        about = dict[str, Any](note=f"; {WAYS[name]}{seen}", warnings=judge.sides.remarks)
        yield from judge.cards(judge.by(way), of=name.partition(",")[0], **about)
    yield from cycle(exam, judge.sides)


# What is judged by


@dataclass(frozen=True, eq=False)
class Judge:
    exam: Exam
    sides: Sides

    @cached_property
    def made(self) -> np.ndarray:
        """The model's translations, uint8 (n, C', H', W')."""
        self.exam.watch.named(f"translating {len(self.sides):,} images")
        if drawing(self.exam):
            return self.exam.samples[: len(self.sides)]
        return self.by(lambda a: translated(self.exam, a))

    def by(self, way: Way) -> np.ndarray:
        """Translations of all sources in one way, on the grid of the data."""
        spec = self.exam.data.spec
        size = max(1, min(64, 2**21 // max(spec.dims, self.sides.a[0].size)))
        parts = []
        for i in range(0, len(self.sides), size):
            out = way(picture(self.sides.a[i : i + size])).float().cpu()
            if out.shape[1:] != spec.shape:
                raise Refusal(
                    f"the model makes {'x'.join(map(str, out.shape[1:]))} of an image, and targets are "
                    f"{'x'.join(map(str, spec.shape))}; evaluate it on data like those that it learnt from."
                )
            parts.append(neighbours.grid(out.numpy(), self.exam.data.levels))
        return np.concatenate(parts)

    @property
    def doubts(self) -> tuple[str, ...]:
        return sentences(self.sides.remarks, self.exam.doubts if drawing(self.exam) else ())

    @property
    def scale(self) -> int:
        """Of an enlargement; 1 where sizes are equal."""
        return max(1, self.exam.data.spec.size // self.exam.data.spec.source[1])

    @property
    def reference(self) -> Reference | None:
        """The held-out targets in features, at the n of the translations; None where no network is asked, or
        none can be had."""
        return self._compared if isinstance(self._compared, Reference) else None

    @cached_property
    def _compared(self) -> Reference | Refusal | None:
        exam = self.exam
        if exam.network == "none":
            return None
        n = min(len(self.sides), len(exam.rows))
        try:
            return distribution.reference(exam.data, exam.network, n, exam.seed, exam.watch)
        except Refusal as refusal:
            return refusal

    @cached_property
    def classifier(self) -> Network | None:
        """That of the evaluation, trained on targets with their classes; None where it cannot be had."""
        exam = self.exam
        if exam.network == "none" or self.sides.y is None or networks.best(exam.data) != "classifier":
            return None
        if self.reference is not None and self.reference.network.name == "classifier":
            return self.reference.network
        learning = exam.watch.named("the classifier of targets")
        return networks.load("classifier", exam.data, learning)

    @cached_property
    def typical(self) -> float:
        assert self.reference is not None
        return kernels.median_distance(self.reference.held.features, self.exam.seed)

    @cached_property
    def true_features(self) -> np.ndarray:
        assert self.reference is not None and self.sides.truth is not None
        return self.reference.network.features(self.sides.truth)

    # The cards of one way

    def cards(self, images: np.ndarray, note: str = "", **about: Any) -> Iterator[Score]:
        """Of translations of all sources, uint8 (n, C', H', W')."""
        about = dict(group=SIDE) | about
        if self.sides.truth is not None:
            yield from self.errors(images, note, **about)
        yield from self.kept(images, note, **about)
        yield from self.laws(images, note, **about)

    def errors(self, images: np.ndarray, note: str, **about: Any) -> Iterator[Score]:
        assert self.sides.truth is not None
        x, truth = picture(images), picture(self.sides.truth)
        taken: list[tuple[str, np.ndarray, str, str]] = [
            ("MAE to truth", translation.mae(x, truth).numpy(), "levels", "lower"),
            ("PSNR to truth", reconstruction.psnr(x, truth).numpy(), "dB", "higher"),
            ("SSIM to truth", reconstruction.ssim(x, truth).numpy(), "", "higher"),
        ]
        if self.scale > 1 and x.shape[1] in (1, 3) and 2 * self.scale < x.shape[-1]:
            psnr, ssim = (
                take(x, truth, self.scale).numpy() for take in (translation.psnr_y, translation.ssim_y)
            )
            taken += [("PSNR on Y", psnr, "dB", "higher"), ("SSIM on Y", ssim, "", "higher")]
        for name, values, unit, better in taken:
            yield self._card(name, values, note, unit=unit, better=better, **about)
        if self.reference is not None:
            network = self.reference.network
            far = translation.relative(network.features(images), self.true_features, self.typical)
            about = network.card | dict(resize=network.resize) | about
            yield self._card("feature distance to truth", far, note, better="lower", **about)

    def kept(
        self, images: np.ndarray, note: str, y: np.ndarray | None = None, **about: Any
    ) -> Iterator[Score]:
        """y: the classes that they should be of, if not those of the sources."""
        y = self.sides.y if y is None else y
        if self.classifier is None or y is None or not (known := y != NONE).any():
            return
        guesses = self.classifier.probabilities(images[known])
        assert guesses is not None
        right = (guesses.argmax(1) == y[known]).astype(np.float64)
        about = self.classifier.card | dict(resize=self.classifier.resize) | about
        yield self._card("class kept", right, note, unit="share", better="higher", **about)

    def laws(self, images: np.ndarray, note: str, **about: Any) -> Iterator[Score]:
        """How far the set of translations is from the set of real targets, with real targets for a floor."""
        ours = about.get("of", "model") == "model"
        if self.reference is None:
            if ours and isinstance(self._compared, Refusal):
                yield self.exam.refused(_named(LAWS[0]), str(self._compared), group=SIDE)
            return
        held = len(self.reference.held)
        if min(held, len(images)) < FEWEST:
            if ours:
                why = f"sets are compared from {FEWEST} images each, and there are {min(held, len(images))}"
                yield self.exam.refused(
                    _named(LAWS[0]), why + distribution.more(len(self.exam.data.x)), group=SIDE
                )
            return
        seen = look(self.reference.network, images[:held])
        for m in MEASURES:
            if m.name in LAWS:
                card = self.reference.card(m, seen, **dict(split=self.exam.split) | about)
                yield replace(card, name=_named(m.name), note=card.note + note)
                if card.floor is not None and card.of == "model":
                    real = self.reference._real(m, card, self.reference.floor(m))
                    yield replace(real, name=_named(m.name))

    def real(self) -> Iterator[Score]:
        """How often the classifier is right about real targets: what a perfect translation would get."""
        y = None if self.exam.data.y is None else self.exam.data.y[self.exam.rows]
        if y is not None and self.sides.y is not None:
            note = "; of real held-out targets"
            x = np.asarray(self.exam.data.x[self.exam.rows])
            yield from self.kept(x, note, y, of="held-out images", group=SIDE)

    def _card(self, name: str, values: np.ndarray, note: str, **about: Any) -> Score:
        return self.exam.card(name, values, note=NOTES[name] + note, **about)


def _named(law: str) -> str:
    return f"{law} of translations"


@torch.no_grad()
def translated(exam: Exam, a: Tensor, back: bool = False) -> Tensor:
    """What the model makes of images (B, C, H, W), in memory."""
    model: Any = exam.model
    out: Tensor = model.translate(a.to(engine.device()), **({"back": True} if back else {}))
    return out.float().cpu().clamp(-1, 1)


# What costs nothing


def baselines(exam: Exam, s: Sides) -> Iterator[tuple[str, Way, str]]:
    """Ways to translate that need no network, by their names in WAYS, with what to say of the training images
    that they were fitted to."""
    data, spec = exam.data, exam.data.spec

    def alike(a: Tensor) -> Tensor:
        return translation.identity(a, spec.channels, spec.size)

    if spec.size > spec.source[1] and spec.channels == spec.source[0]:
        yield "bicubic", lambda a: translation.resized(a, spec.size, "bicubic"), ""
        yield "Lanczos", lambda a: translation.resized(a, spec.size, "lanczos"), ""
        return
    rows = exam.some(max(2, FITTED // max(spec.dims, math.prod(s.a.shape[1:]))))
    b = picture(np.asarray(data.x[rows]))
    if data.pairs is not None:
        a = picture(np.asarray(data.pairs[rows]))
    else:
        assert data.other is not None
        there = data.other.train
        a = picture(
            np.asarray(data.other.x[np.random.default_rng(exam.seed).permutation(there)[: len(rows)]])
        )
    unpaired = "" if s.paired else ", unpaired"
    same, few = alike(a), slice(0, max(2, 2**24 // spec.dims))
    yield "identity", alike, ""
    match = translation.HistogramMatch.of(same, b)
    yield "histogram matching", lambda a: match(alike(a)), _of(len(b), data)
    if s.paired:
        full = translation.resized(a, spec.size)
        affine = translation.Affine.of_pairs(full[few], b[few])
        yield "affine colour map", lambda a: affine(translation.resized(a, spec.size)), _of(len(b[few]), data)
    else:
        affine = translation.Affine.of_domains(same[few], b[few])
        yield f"affine colour map{unpaired}", lambda a: affine(alike(a)), _of(len(b[few]), data)
    nearest = closest(exam)
    seen = _of(len(nearest.sources), data)
    yield f"nearest neighbour{unpaired}", lambda a: nearest(a if s.paired else alike(a)), seen


def _of(n: int, data: Data) -> str:
    """How many training images a baseline has seen, as the end of a note."""
    return f"; of {n:,} training images" if n == len(data.train) else f"; of {n:,} of {len(data.train):,}"


def closest(exam: Exam) -> translation.Nearest:
    """Who finds the nearest training source of pairs, or else the nearest training target, among all that
    there are: only their small versions are held."""
    data = exam.data
    pool = data.x if data.pairs is None else data.pairs
    one = translation.Nearest.small(picture(np.asarray(pool[:1])))
    rows, size = exam.some(max(2, SEARCHED // one.numel())), max(1, 2**24 // math.prod(pool.shape[1:]))
    parts = [
        translation.Nearest.small(picture(np.asarray(pool[rows[i : i + size]])))
        for i in range(0, len(rows), size)
    ]
    return translation.Nearest(torch.cat(parts), lambda at: picture(np.asarray(data.x[rows[at.numpy()]])))


# What comes back


def cycle(exam: Exam, s: Sides) -> Iterator[Score]:
    """Of a model that translates both ways: the error of there and back, and whether the source was hidden in
    what nobody sees, so that a level of noise takes it away."""
    if not isinstance(exam.model, Translates):
        return
    one = picture(s.a[:1])
    try:
        there_and_back = translated(exam, translated(exam, one), back=True)
    except (Refusal, TypeError):  # it knows one way only
        return
    if there_and_back.shape != one.shape:
        return
    plain, noisy = [], []
    for i in range(0, len(s), 64):
        a = picture(s.a[i : i + 64])
        b = translated(exam, a)
        plain.append(translation.mae(translated(exam, b, back=True), a))
        moved = translation.perturbed(b, exam.seed + i)
        noisy.append(translation.mae(translated(exam, moved, back=True), a))
    errors = torch.stack([torch.cat(plain), torch.cat(noisy)], 1).numpy()
    about = dict[str, Any](group=SIDE, better="lower", settings=exam.settings, warnings=s.remarks)
    for k, name in enumerate(("cycle error", "cycle error with noise")):
        yield exam.card(name, errors[:, k], unit="levels", note=NOTES[name], **about)
    yield hidden(errors, exam.seed, exam.split, **about)


def hidden(errors: np.ndarray, seed: int, split: str, **about: Any) -> Score:
    """The card of errors (n, 2) without and with noise."""

    def ratio(values: np.ndarray, axis: int = 0) -> np.ndarray:
        mean = values.mean(axis)
        return np.asarray(mean[..., 1] / (mean[..., 0] + 1))

    value, name = float(ratio(errors)), "steganography"
    warning = (
        f"a level of noise on the translations multiplies the cycle error by {value:.1f}: sources are hidden "
        "in what nobody sees; add noise to translations in training, or weigh the cycle less"
        if value > HIDES
        else ""
    )
    low, high = interval(errors, seed, ratio) if np.isfinite(errors).all() else (None, None)
    about["warnings"] = sentences(about.get("warnings", ()), warning, small(len(errors)))
    card = measure(name, errors[:, 1], seed, unit="times", split=split, note=NOTES[name], **about)
    return replace(card, value=value, low=low, high=high, how="95 % bootstrap over images")
