"""Has it learnt by heart?  Samples beside the training images nearest to them, and held-out images beside
theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import answers
from ..metrics import doubts, neighbours
from ..metrics.card import Score, sentences

if TYPE_CHECKING:
    from .exam import Exam

DRAWN = 256
"""most samples that are drawn to look for copies"""
NEIGHBOURS = 8
"""training images looked at about each, so that a few versions of one picture do not hide a copy"""
NOTES = {
    "distance to nearest training image": "root mean squared difference to the nearest training image",
    "near-duplicates": "a third as far from the nearest training image as from the next that is another "
    "picture, or nearer",
    "exact duplicates": "equal to a training image in every pixel",
    "nearer": "nearer to a training image than half of the held-out images are; one half is to be expected, "
    "blurred samples have more",
}


def cards(exam: Exam) -> Iterator[Score]:
    if "sample" not in answers(exam.model) or not len(exam.data.train) or not exam.data.levels:
        return  # among points any two are near: whether they are copies is said by `authentic`
    x = exam.samples[: wanted(exam)]
    real = exam.data.x[exam.rows[: DRAWN if exam.split == "held out" else 0]]
    known = neighbours.distinct(exam.data.x, exam.data.train)
    result = neighbours.nearest(
        np.concatenate([x, real]), exam.data.x, known, NEIGHBOURS, exam.run.config.training.mirror
    )
    yield from nearness(exam, result.of(np.s_[: len(x)]), result.of(np.s_[len(x) :]), len(known))


def wanted(exam: Exam) -> int:
    """Samples that are looked at for copies."""
    return min(exam.asked, DRAWN)


def nearness(exam: Exam, drawn: neighbours.Nearest, real: neighbours.Nearest, known: int) -> Iterator[Score]:
    """Each measure of the samples, and of held-out images beside it, if there are any."""
    copies: list[tuple[str, Callable[[neighbours.Nearest], np.ndarray], str, str]] = [
        ("distance to nearest training image", lambda f: f.distance[:, 0], "levels", ""),
        ("near-duplicates", lambda f: neighbours.copied(f, exam.data.x), "share", "lower"),
        ("exact duplicates", neighbours.exact, "share", "lower"),
    ]
    own = dict[str, Any](split="samples", settings=exam.settings)
    for name, values, unit, better in copies:
        share, floor = values(drawn), values(real)
        about = dict[str, Any](unit=unit, better=better, against=known, note=NOTES[name])
        yield exam.card(
            name,
            share,
            warnings=sentences("" if unit == "levels" else doubts.suspicion(share, floor)),
            **own,
            **about,
        )
        if len(floor):
            yield exam.card(name, floor, of="held-out images", **about)
    if len(real.row):
        nearer, warning = (
            neighbours.closeness(drawn, real),
            doubts.too_near(drawn.distance[:, 0], real.distance[:, 0]),
        )
        about = dict[str, Any](
            unit="share", against=len(real.row), note=NOTES["nearer"], warnings=sentences(warning)
        )
        yield exam.card("nearer than held-out images", nearer, **about, **own)
