"""Bits per dimension, beside what the same images cost for nothing; and the Parzen-window estimate, beside
its flaw.

A model that is told something of an image (its class, a text, another image) knows p(x|y), which is another
quantity than the p(x) of other models and of files: its card has a name of its own, "bits/dim given the
class", and is never ranked among those.  Of classes there is a bound beside it: with p(y) = 1/K, p(x) = sum_y
p(x|y) p(y) >= p(x|y) / K, so that -log2 p(x) / dims is at most log2(K) / dims above.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..core import Refusal, answers, given
from ..data import Data
from ..metrics import doubts, likelihood, parzen
from ..metrics.card import Score, sentences, short, small
from ..metrics.likelihood import Format
from . import representation

if TYPE_CHECKING:
    from .exam import Exam

KERNELS, CHOOSING = 10_000, 1_000
"""samples about which a Parzen window lies, and images that choose its bandwidth"""
FEWEST = 150
"""training images from which a bandwidth is chosen, and centres are fitted"""
NOTES = {
    "density": "of a density, which is not a probability: it may be below 0",
    "learnt": "the same model on images that it was trained on",
    "flaw": "this estimate says nothing about which model is better (Theis et al. 2016, section 3.1)",
    "shown": ": here it prefers the centres of k-means to real images",
    "free": "of p(x), nothing is told of the image",
}


class Measured(NamedTuple):
    """-log2 p of some images."""

    bits: np.ndarray
    """(n,) bits/dim"""
    kind: str
    solved: str
    """what the card must say of an equation that was solved for them"""


def cards(exam: Exam) -> Iterator[Score]:
    if "bits_per_dim" not in answers(exam.model):
        return
    of, about = given(parts(exam)), dict[str, Any](settings=exam.settings)
    try:
        result = measured(exam, exam.rows)
    except Refusal as refusal:
        yield exam.refused(f"bits/dim{of}", str(refusal), better="lower")
        return
    if not exam.data.levels:
        note = "; ".join(filter(None, (NOTES["density"], result.solved)))
        yield exam.card(
            f"bits/dim{of}",
            result.bits,
            kind=result.kind,
            better="lower",
            note=note,
            warnings=exam.remarks,
            **about,
        )
        yield from over_classes(exam, result, None, NOTES["density"])
        return
    held = exam.split == "held out"
    learnt = measured(exam, exam.some(len(exam.rows))) if held else result
    wrong = doubtful(exam, result.bits, learnt.bits)
    yield from in_units(exam, result.bits, of, kind=result.kind, note=result.solved, warnings=wrong, **about)
    if held:
        yield from in_units(
            exam,
            learnt.bits,
            of,
            kind=result.kind,
            of="training images",
            split="train",
            note=NOTES["learnt"],
            **about,
        )
    yield from over_classes(exam, result, learnt, result.solved)
    yield from free(exam)


def parts(exam: Exam) -> tuple[str, ...]:
    """The parts of a Condition that the likelihood is given."""
    return exam.model.spec.parts(exam.model.takes)


def doubtful(exam: Exam, bits: np.ndarray, learnt: np.ndarray) -> tuple[str, ...]:
    """What must stand on a card of these bits/dim of the exam's images (n,), `learnt` those of training
    images."""
    held = exam.split == "held out"
    return sentences(
        exam.remarks,
        representation.hopeless(exam.data, exam.rows) if "label" in parts(exam) else "",
        doubts.implausible(bits, learnt, exam.data.levels),
        doubts.overfitted(bits, learnt, exam.seed),
        doubts.beaten(bits, learnt, histogram(exam)[0], exam.seed) if held else "",
    )


def measured(exam: Exam, rows: np.ndarray) -> Measured:
    with torch.no_grad():
        result = [exam.model.bits_per_dim(batch) for batch in exam.batches(rows)]  # type: ignore[operator]
    solved = likelihood.solved([bits.error for bits in result], getattr(exam.model, "tolerance", 0.0))
    return Measured(
        torch.cat([bits.values.double().cpu() for bits in result]).numpy(), result[0].kind, solved
    )


def over_classes(exam: Exam, model: Measured, learnt: Measured | None, note: str) -> Iterator[Score]:
    """The bound on -log2 p(x) that a likelihood given the class leaves, where the class is all that the model
    is told; with what must be said of the bound itself.  learnt: the same of training images; None of
    densities, which cannot be implausible."""
    k = exam.data.spec.labels
    if parts(exam) != ("label",) or k < 1:
        return
    above = math.log2(k) / exam.data.spec.dims
    bits = model.bits + above
    warnings = exam.remarks if learnt is None else doubtful(exam, bits, learnt.bits + above)
    says = (
        f"of p(x), by p(x) >= p(x|y) p(y) with p(y) = 1/{k:,}: log2({k:,}) / {exam.data.spec.dims:,} above "
        "the bits given the class"
    )
    about = dict[str, Any](
        note="; ".join(filter(None, (says, note))), warnings=warnings, settings=exam.settings
    )
    yield from in_units(
        exam, bits, "", kind="estimate" if model.kind == "estimate" else "upper bound", **about
    )


def in_units(exam: Exam, bits: np.ndarray, suffix: str, **about: Any) -> Iterator[Score]:
    """The card in bits/dim, and for black-and-white images in the unit of the papers too."""
    yield exam.card(f"bits/dim{suffix}", bits, better="lower", **about)
    if exam.data.levels == 2:
        yield exam.card(
            f"nats an image{suffix}", likelihood.nats(bits, exam.data.spec.dims), better="lower", **about
        )


def free(exam: Exam) -> Iterator[Score]:
    """What the same images cost without a model: always of p(x)."""
    x, data = np.asarray(exam.data.x[exam.rows]), exam.data

    def note(text: str) -> str:
        return f"{text}; {NOTES['free']}" if parts(exam) else text

    yield from in_units(
        exam,
        np.full(len(x), likelihood.uniform(data.levels)),
        "",
        of="uniform",
        kind="exact",
        note=note("every image equally likely"),
    )
    bits, known = histogram(exam)
    about = dict[str, Any](against=known, note=note("a histogram for each pixel, from training images"))
    yield from in_units(exam, bits, "", of="independent pixels", kind="exact", **about)
    yield from in_files(
        exam, x, "PNG", note("a lossless file an image"), note("images side by side in one lossless file")
    )
    yield from in_files(
        exam, x, "WebP", note("a lossless file an image"), note("images side by side in one lossless file")
    )


def histogram(exam: Exam) -> tuple[np.ndarray, int]:
    """Bits/dim of the exam's images by independent pixels, and how many training images these are from."""
    train = exam.some(2**28 // exam.data.spec.dims)
    return likelihood.histogram(
        exam.data.x, train, np.asarray(exam.data.x[exam.rows]), exam.data.levels
    ), len(train)


def in_files(exam: Exam, x: np.ndarray, form: Format, each: str, together: str) -> Iterator[Score]:
    few, about = (
        x[: likelihood.affordable(exam.data.spec.size**2)],
        dict[str, Any](kind="upper bound", better="lower"),
    )
    yield exam.card("bits/dim", likelihood.codec(few, form, exam.data.levels), of=form, note=each, **about)
    value, n = likelihood.sheet(x, form, exam.data.levels)
    about |= dict(of=f"{form} sheet", note=together, warnings=sentences(small(n)))
    yield Score("bits/dim", value, n=n, split=exam.split, seed=exam.seed, **about)


# The Parzen window


def window(exam: Exam) -> Iterator[Score]:
    """The Parzen-window estimate of the samples, of training images and of the centres of k-means: with its
    flaw beside it."""
    if not exam.parzen or "sample" not in answers(exam.model):
        return
    shuffled, n = np.random.default_rng((exam.seed, 0xB1E)).permutation(exam.data.train), kernels(exam)
    choosing, known = np.split(shuffled, [min(CHOOSING, len(shuffled) // 5)])
    train = np.asarray(exam.data.x[known[: parzen.most(exam.data.spec.dims)]])
    rivals = {"model": exam.samples[:n], "training images": train[:n]}
    rivals["k-means centres"] = parzen.centres(
        train, parzen.affordable(len(train), n, exam.data.spec.dims), exam.seed
    )
    result = {of: estimate(exam, of, x, np.asarray(exam.data.x[choosing])) for of, x in rivals.items()}
    shown = NOTES["shown"] if result["k-means centres"].value > result["training images"].value else ""
    yield replace(result.pop("model"), warnings=sentences(exam.doubts, NOTES["flaw"] + shown))
    yield from result.values()


def estimate(exam: Exam, of: str, x: np.ndarray, choosing: np.ndarray) -> Score:
    """By Gaussians about images x (k, C, H, W), of the width that fits those of `choosing` best."""
    sigma = parzen.bandwidth(x, choosing)
    (values,) = parzen.log_density(np.asarray(exam.data.x[exam.rows]), x, np.array([sigma]))
    error = values.std(ddof=1) / math.sqrt(len(values))
    note = (
        f"standard error {short(error)}; Gaussians of width {sigma:.3f} about {len(x):,} images, chosen on "
        f"{len(choosing):,} training images"
    )
    settings = exam.settings if of == "model" else {}
    return exam.card(
        "Parzen window",
        values,
        unit="nats",
        of=of,
        kind="estimate",
        against=len(x),
        note=note,
        settings=settings,
    )


def kernels(exam: Exam) -> int:
    return min(KERNELS, parzen.most(exam.data.spec.dims))


def wanted(exam: Exam) -> int:
    """Samples that a Parzen window lies about."""
    return kernels(exam) if exam.parzen else 0


def check_window(data: Data) -> None:
    """Raises Refusal where no Parzen window can be had."""
    if not data.levels:
        raise Refusal(
            f"a Parzen window is a yardstick of images, and {data.source} holds points; leave --parzen out."
        )
    if not len(data.held_out) or len(data.train) < FEWEST:
        raise Refusal(
            f"a Parzen window takes held-out images and {FEWEST} others, which {data.source} does not have; "
            "leave --parzen out."
        )
