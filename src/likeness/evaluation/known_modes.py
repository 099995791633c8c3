"""What is known of the law that data come from: its modes, and who tells which of them a sample is of.

    law = find(data)
    law.real            modes of as many real examples as samples are to be drawn, law.n
    law.modes_of(x)     of samples

Points of a mixture know its centres (Data.modes).  Of stacked digits (three grey digits as the channels of an
image, class 100 R + 10 G + B) a classifier of one channel says which digits there are: one of our own, so its
errors are stated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import answers
from ..data import Data
from ..features import networks
from ..inference.sampling import tuned
from ..metrics import modes
from ..metrics.card import Score, sentences
from ..runs.run import AVERAGE, RAW
from ..storage.cache import Progress
from .kept import Same

if TYPE_CHECKING:
    from .exam import Exam

POINTS, STACKED = 2_500, 26_000
"""samples, as in Lin et al. 2018, sections 4.1 and 4.2"""
DIGITS = 10
SURE = 0.97
"""accuracy of the classifier below which its modes are doubted"""


@dataclass(frozen=True, eq=False)
class Law:
    shares: np.ndarray
    """(K,): of the modes in the data"""
    modes_of: Callable[[np.ndarray], np.ndarray]
    """examples as in Data.x to the mode of each, int64 (n,), or modes.NONE"""
    real: np.ndarray
    """modes of real examples (n,): held-out ones, and training ones where these are too few"""
    who: str
    """the real examples, for a card"""
    quality: bool
    """a sample may be of no mode"""
    note: str
    network: dict[str, str] = field(default_factory=dict)
    """who says which mode it is, for a card"""
    doubt: str = ""

    @property
    def n(self) -> int:
        return len(self.real)


def cards(exam: Exam) -> Iterator[Score]:
    """Of data whose modes are known: how many are found, and how evenly, by the model and by its
    raw weights."""
    stacked = is_stacked(exam.data)
    if "sample" not in answers(exam.model) or not known(exam.data) or (stacked and exam.network == "none"):
        return
    law = _law(Same(exam.data), exam.seed)
    yield from _covered(exam, law, exam.samples, "model", exam.doubts, exam.settings)
    if exam.run.weights == AVERAGE:
        bare = replace(exam, model=tuned(exam.run.raw(), **exam.live))
        yield from _covered(exam, law, bare.made(law.n), RAW, exam.remarks, exam.settings | {"weights": RAW})
    yield from modes.cards(
        law.real, None, law.shares, law.quality, exam.seed, of=law.who, note=law.note, **law.network
    )


def _covered(
    exam: Exam, law: Law, x: np.ndarray, of: str, doubts: tuple[str, ...], settings: dict[str, Any]
) -> Iterator[Score]:
    about = dict[str, Any](
        of=of, split="samples", against=law.n, note=law.note, settings=settings, **law.network
    )
    warnings = sentences(doubts, law.doubt)
    yield from modes.cards(
        law.modes_of(x[: law.n]), law.real, law.shares, law.quality, exam.seed, warnings=warnings, **about
    )


def wanted(exam: Exam) -> int:
    """Samples that find modes."""
    return 0 if exam.network == "none" and is_stacked(exam.data) else samples(exam.data)


@lru_cache(maxsize=2)
def _law(data: Same, seed: int) -> Law:
    return find(data.data, seed)


def known(data: Data) -> bool:
    """Whether find() has an answer."""
    return data.modes is not None or is_stacked(data)


def is_stacked(data: Data) -> bool:
    return data.source.partition(":")[0] == "stacked-mnist" and data.y is not None


def samples(data: Data) -> int:
    """How many samples the protocol asks for: no more than there are real examples to compare them with."""
    return (
        min(STACKED if is_stacked(data) else POINTS, len(data.held_out) + len(data.train))
        if known(data)
        else 0
    )


def outlook(data: Data) -> str:
    """What find() is about to train, in a sentence; nothing where there is nothing, or it is done."""
    return networks.outlook(channel(data), "classifier") if is_stacked(data) else ""


def find(data: Data, seed: int = 0, progress: Progress | None = None) -> Law:
    """The law of data for which `known` is true.  Trains the classifier of digits, once, where
    one is needed."""
    rng = np.random.default_rng((seed, 0x1A3))
    held = rng.permutation(data.held_out)
    rows = np.concatenate([held, rng.permutation(data.train)])[: samples(data)]
    who = "held-out images" if len(rows) <= len(held) else "real images"
    return _of_points(data, rows, who) if data.modes is not None else _of_stacked(data, rows, who, progress)


def _of_points(data: Data, rows: np.ndarray, who: str) -> Law:
    assert data.modes is not None
    centres, sigma = data.modes

    def modes_of(x: np.ndarray) -> np.ndarray:
        return modes.of_points(x.reshape(len(x), -1), centres, sigma)

    note = (
        f"a sample is of a mode within {modes.REACH:g} standard deviations ({modes.REACH * sigma:g}) of its "
        "centre"
    )
    return Law(
        np.full(len(centres), 1 / len(centres)),
        modes_of,
        modes_of(data.x[rows]),
        who.replace("images", "points"),
        True,
        note,
    )


def _of_stacked(data: Data, rows: np.ndarray, who: str, progress: Progress | None) -> Law:
    assert data.y is not None
    network = networks.own(channel(data), "classifier", progress)

    def modes_of(x: np.ndarray) -> np.ndarray:
        p = network.probabilities(x.reshape(-1, 1, *x.shape[2:]))
        assert p is not None
        return p.argmax(1).reshape(-1, 3) @ np.array([DIGITS**2, DIGITS, 1])

    real, new = modes_of(data.x[rows]), np.isin(rows, data.held_out)
    right = (
        float(np.mean([here == there for here, there in zip(digits(real[new]), digits(data.y[rows[new]]))]))
        if new.any()
        else float("nan")
    )
    note = (
        f"by a classifier of one channel that is right in {right:.2%} of {3 * int(new.sum()):,} held-out "
        "channels"
    )
    doubt = (
        ""
        if right >= SURE
        else (f"the classifier is right in {right:.1%} of held-out channels only: it finds modes by mistake")
    )
    # drawn independently of each other
    r, g, b = (np.bincount(y, minlength=DIGITS) / len(y) for y in digits(data.y[data.train]))
    shares = np.einsum("i,j,k->ijk", r, g, b).reshape(-1)
    return Law(shares, modes_of, real, who, False, note, network.card, doubt)


def channel(data: Data) -> Data:
    """The channels of stacked digits as grey images, a set of its own: what the classifier learns from."""
    assert data.y is not None
    y, names = np.stack(digits(data.y), 1).reshape(-1), tuple(map(str, range(DIGITS)))
    train, held_out = ((3 * rows[:, None] + np.arange(3)).reshape(-1) for rows in (data.train, data.held_out))
    grey = replace(
        data, x=data.x.reshape(-1, 1, *data.x.shape[2:]), y=y, classes=names, train=train, held_out=held_out
    )
    return replace(grey, source=f"a channel of {data.source}", fingerprint=f"{data.fingerprint}-channels")


def digits(y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of the three channels of each class."""
    return y // DIGITS**2, y // DIGITS % DIGITS, y % DIGITS
