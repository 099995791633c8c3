"""What features know of classes, by nearest neighbours and by a linear map; beside what comes without any
learning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from .. import engine
from ..core import Model, Refusal, answers, ask
from ..data import Data
from ..data.labels import some
from ..features import networks
from ..metrics import probing
from ..metrics.card import Score, sentences
from .kept import Same, Watch

if TYPE_CHECKING:
    from .exam import Exam

PROBED, WIDEST, FEW = 5_000, 4_096, 10
"""training images whose labels are shown when features are probed for classes, most features that are probed,
and fewest images they are asked about"""
NOTES = {
    "knn": f"cosine, k = {probing.K}, weights exp(cosine / {probing.TEMPERATURE}), features less their mean",
    "linear": "logistic regression on standardised features, of penalty",
    "raw pixels": "at most 16x16, no network",
    "supervised": "a small classifier, trained with the labels of the training images",
    "random patches": "256 whitened patches of training images, nothing learnt (Coates, Lee & Ng 2011)",
}


class Probed(NamedTuple):
    """What features knew of the classes of the images that were asked about: right (1) or wrong, each (m,),
    by either way; or why that cannot be had."""

    near: np.ndarray | Refusal
    linear: np.ndarray | Refusal
    penalty: float
    """of the linear map; nan where there is none"""
    dims: int


def cards(exam: Exam) -> Iterator[Score]:
    if not classed(exam):
        return
    exam = classed_only(exam)
    if why := improbable(exam):
        yield exam.refused("kNN accuracy", why, better="higher")
        return
    known, doubts = exam.some(PROBED), sentences(exam.remarks, hopeless(exam.data, exam.rows))
    labelled = "; learnt with labels" if "label" in exam.model.takes else ""
    yield from probes(
        exam,
        learnt(exam, exam.model, known),
        len(known),
        labelled,
        warnings=doubts,
        settings=exam.settings,
    )
    fresh = engine.place(exam.run.config.build(exam.run.folder)).eval()
    yield from probes(
        exam, learnt(exam, fresh, known), len(known), "; its first weights", of="random weights"
    )
    for of, result in rivals(
        Same(exam.data), tuple(known), tuple(exam.rows), exam.seed, supervised(exam), exam.watch
    ).items():
        yield from probes(exam, result, len(known), f"; {NOTES[of]}", of=of)


def classed_only(exam: Exam) -> Exam:
    """The same about those of its images that have a class, which are all that a class can be asked of."""
    if exam.data is exam.data.labelled:
        return exam
    here = exam.rows[np.isin(exam.rows, np.union1d(exam.data.labelled.held_out, exam.data.labelled.train))]
    return replace(exam, data=exam.data.labelled, rows=here)


def hopeless(data: Data, rows: np.ndarray) -> str:
    """Which of the images that are asked about are of a class that no training image has, if any."""
    if data.y is None or not (n := int(np.isin(data.y[rows], data.absent).sum())):
        return ""
    names = some([data.classes[k] for k in data.absent])
    return (
        f"{n:,} of {len(rows):,} images are of a class that no training image has ({names}): nobody learns it"
    )


def classed(exam: Exam) -> bool:
    able, y = set(answers(exam.model)), exam.data.y
    return (
        "encode" in able
        and "denoise" not in able
        and y is not None
        and exam.data.spec.labels > 1
        and exam.data.levels > 0
    )


def supervised(exam: Exam) -> bool:
    """Whether a classifier stands beside the features: the one that sets of samples are compared by."""
    return exam.network != "none" and classed(exam) and networks.best(exam.data) == "classifier"


def improbable(exam: Exam) -> str:
    """Why nothing can be asked of the features, if so."""
    asked = len(exam.rows) if exam.split == "held out" else 0
    if asked < FEW:
        return (
            f"features are probed for classes on labelled held-out images, {FEW} at least, and there are "
            f"{asked}"
        )
    if exam.code > WIDEST:
        return f"features are probed for classes up to {WIDEST:,} of them, and here are {exam.code:,}"
    return ""


def probes(exam: Exam, outcome: Probed, known: int, remark: str, **about: Any) -> Iterator[Score]:
    notes = {"kNN accuracy": NOTES["knn"], "linear accuracy": f"{NOTES['linear']} {outcome.penalty:g}"}
    for name, right in zip(notes, (outcome.near, outcome.linear)):
        if isinstance(right, Refusal):
            whose = {"settings": {}} | {k: v for k, v in about.items() if k != "warnings"}
            yield exam.refused(name, str(right), better="higher", **whose)
            continue
        note = f"{notes[name]}; {outcome.dims:,} features{remark}"
        yield exam.card(name, right, unit="share", better="higher", against=known, note=note, **about)


def learnt(exam: Exam, model: Model, known: np.ndarray) -> Probed:
    """By what a model says of its own images."""
    with torch.no_grad():
        encode = ask(model, "encode")
        train, held = (
            torch.cat([encode(batch.x).float().flatten(1).cpu() for batch in exam.batches(rows)]).numpy()
            for rows in (known, exam.rows)
        )
    return probed(exam.data, known, exam.rows, train, held, exam.seed)


@lru_cache(maxsize=2)
def rivals(
    data: Same, known: tuple[int, ...], asked: tuple[int, ...], seed: int, supervised: bool, watch: Watch
) -> dict[str, Probed]:
    """What comes without this model, by name: what nobody has learnt, and a network that was shown all
    labels.  Kept for the next on the same images."""
    train, other = (np.asarray(data.data.x[list(rows)]) for rows in (known, asked))
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "raw pixels": probing.raw,
        "random patches": probing.Patches(train, seed),
    }
    if supervised:
        learning = watch.named("the classifier to compare with")
        ways["supervised"] = networks.load("classifier", data.data, learning).features
    return {
        of: probed(data.data, np.array(known), np.array(asked), way(train), way(other), seed)
        for of, way in ways.items()
    }


def probed(
    data: Data, known: np.ndarray, asked: np.ndarray, train: np.ndarray, held: np.ndarray, seed: int
) -> Probed:
    """train: features (n, d) of the rows `known`, whose labels are shown; held: (m, d) of the rows asked
    about."""
    labels, truth = np.asarray(data.y)[known], np.asarray(data.y)[asked]
    near: np.ndarray | Refusal
    far: np.ndarray | Refusal
    try:
        near = (probing.knn(train, labels, held) == truth).astype(np.float64)
    except Refusal as refusal:
        near = refusal
    try:
        linear = probing.linear(train, labels, data.spec.labels, seed)
        far, penalty = (linear.logits(held).argmax(1) == truth).astype(np.float64), linear.penalty
    except Refusal as refusal:
        far, penalty = refusal, math.nan
    return Probed(near, far, penalty, train.shape[1])
