"""Does an image show what its text says?  Of `shapes` and `moving-shapes` every attribute is read from the
pixels (scenes.py) and held beside the text; of anything else a pair of encoders says whether a text finds its
image (retrieval.py).

    said(text)                  what a text asks for, in the words of Data.attributes
    agreement(scene, wanted)    of each attribute the share that is right, and whether all of it is
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import Condition, Refusal, answers
from ..data import Data, moving_shapes, shapes
from ..inference import sampling
from ..metrics import neighbours
from ..metrics.card import Score
from . import retrieval, scenes
from .scenes import Scene

if TYPE_CHECKING:
    from .exam import Exam

SETS: dict[str, tuple[Callable[[np.ndarray], list[Scene]], tuple[str, ...]]] = {
    "shapes": (scenes.read, ("shape", "colour", "size", "place")),
    "moving-shapes": (scenes.watch, ("shape", "colour", "size", "direction", "speed")),
}
"""of each set who reads its scenes, and what its texts say of an object"""
ALL = "all attributes right"
READ = 1000
"""samples that are read, at most"""
TEXTS, EACH = 16, 8
"""texts of which several samples are drawn, and how many, to see how they vary"""
_WORDS = {
    "shape": shapes.FORMS,
    "colour": tuple(shapes.COLOURS),
    "size": tuple(shapes.SIZES),
    "place": shapes.PLACES,
    "direction": moving_shapes.DIRECTIONS,
    "speed": tuple(moving_shapes.SPEEDS),
}
_OBJECT = re.compile(
    r"(?:(?P<size>{size}) )?(?:(?P<colour>{colour}) )?(?P<shape>{shape})"
    r"(?: moving(?: (?P<speed>{speed}))?(?: (?P<direction>{direction}))?)?(?: (?P<place>{place}))?".format(
        **{name: "|".join(sorted(words, key=len, reverse=True)) for name, words in _WORDS.items()}
    )
)
_GROUND = re.compile(rf"(?:on|in front of) an? ({'|'.join(shapes.GROUNDS)}) (?:back)?ground")


def said(text: str) -> Scene:
    """What a text asks for; of an object only those attributes that are named: "a red circle" has no size.

    Raises Refusal where it names no shape.
    """
    plain = " ".join(re.findall(r"\w+", text.lower()))
    objects = [
        {name: value for name, value in match.groupdict().items() if value}
        for match in _OBJECT.finditer(plain)
    ]
    if not objects:
        raise Refusal(
            f"{text!r} names no shape, so nothing can be checked; the shapes are {', '.join(shapes.FORMS)}, "
            f"as in {'a large red circle in the centre on a white background'!r}."
        )
    ground = _GROUND.search(plain)
    return dict(objects=objects) | (dict(background=ground[1]) if ground else {})


def agreement(scene: Scene, wanted: Scene) -> dict[str, float]:
    """Whether a scene has as many objects as are wanted ("number"), the wanted ground ("background"), of each
    attribute the share of wanted objects that have it, and whether all of that is so (ALL).

    Objects are matched so that as many attributes as possible are right.  An attribute that is not wanted is
    not there.
    """
    from scipy.optimize import linear_sum_assignment

    # in an order of their own, so that of equally good matches the same one is taken
    there = sorted(scene["objects"], key=lambda o: [str(o.get(name)) for name in _WORDS])
    asked = wanted["objects"]
    names = [name for name in _WORDS if any(name in o for o in asked)]
    right = np.array(
        [[sum(o[name] == t.get(name) for name in names if name in o) for t in there] for o in asked]
    ).reshape(len(asked), len(there))
    beside = {int(i): there[int(k)] for i, k in zip(*linear_sum_assignment(right, maximize=True))}
    result = {"number": float(len(there) == len(asked))}
    if "background" in wanted:
        result["background"] = float(scene["background"] == wanted["background"])
    for name in names:
        having = [(i, o[name]) for i, o in enumerate(asked) if name in o]
        result[name] = sum(beside.get(i, {}).get(name) == value for i, value in having) / len(having)
    result[ALL] = float(all(value == 1 for value in result.values()))
    return result


def agreements(seen: Sequence[Scene], wanted: Sequence[Scene]) -> dict[str, np.ndarray]:
    """agreement() of each pair; values (n,) by name.  nan where an attribute is not wanted."""
    rows = [agreement(a, b) for a, b in zip(seen, wanted)]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}


def wanted_of(data: Data, rows: np.ndarray) -> list[Scene]:
    """What the captions of these rows say, without what only the pixels know."""
    assert data.attributes is not None
    names = SETS[kind(data)][1]
    return [
        dict(background=a["background"], objects=[{name: o[name] for name in names} for o in a["objects"]])
        for a in (data.attributes[int(row)] for row in rows)
    ]


def kind(data: Data) -> str:
    """Which of SETS the data are, if any."""
    name = data.source.partition(":")[0]
    return name if name in SETS and data.attributes is not None and data.x.shape[1] == 3 else ""


# Cards


def wanted(exam: Exam) -> int:
    """Samples that are read."""
    return min(exam.asked, READ) if "tokens" in exam.model.spec.parts(exam.model.takes) else 0


def cards(exam: Exam) -> Iterator[Score]:
    """Of a model that draws from a text: whether its samples are what the text says."""
    if "sample" not in answers(exam.model) or not wanted(exam):
        return
    rows, x = _of(exam.data, wanted(exam)), exam.samples[: wanted(exam)]
    if kind(exam.data):
        yield from _checked(exam, rows, x)
        yield from _new(exam)
        yield from _varied(exam)
    else:
        yield from retrieval.cards(exam, rows, x)


def _of(data: Data, n: int) -> np.ndarray:
    """The rows whose texts samples 0 ... n-1 are of (sampling.conditions)."""
    there = data.held_out if len(data.held_out) else data.train
    return there[np.arange(n) % len(there)]


def _checked(exam: Exam, rows: np.ndarray, x: np.ndarray) -> Iterator[Score]:
    """All attributes, each, and beside them what the checker makes of real images, of shuffled texts, and of
    the training image whose caption is nearest."""
    data, (read, _), n = exam.data, SETS[kind(exam.data)], len(rows)
    seen, texts = read(x), wanted_of(data, rows)
    about = dict[str, Any](unit="share", better="higher", settings=exam.settings)
    for name, values in agreements(seen, texts).items():
        title = name if name == ALL else f"{name} right"
        note = "read from the pixels by fitting the renderer; objects matched so that most agrees"
        drawn = dict[str, Any](split="samples", warnings=exam.doubts, note=note)
        yield exam.card(title, values[np.isfinite(values)], **about, **drawn)
    other = np.roll(np.arange(n), max(1, n // 2))
    yield exam.card(
        ALL,
        agreements(seen, [texts[i] for i in other])[ALL],
        of="shuffled captions",
        split="samples",
        **about,
    )
    real = read(np.array(data.x[rows]))
    yield exam.card(ALL, agreements(real, texts)[ALL], of="held-out images", **about)
    near = read(np.array(data.x[nearest_caption(data, rows)]))
    yield exam.card(ALL, agreements(near, texts)[ALL], of="nearest caption's image", **about)
    yield exam.card(
        "distance to the nearest drawing",
        np.array([scene["off"] for scene in seen]),
        unit="levels",
        better="lower",
        split="samples",
        settings=exam.settings,
        note="root mean squared difference, mostly of luma, to what the renderer would draw",
    )


def _new(exam: Exam) -> Iterator[Score]:
    """Texts that combine attributes as no training text does, where such rows are held out."""
    rows = exam.data.combinations
    if rows is None or not len(rows):
        return
    read, _ = SETS[kind(exam.data)]
    rows = rows[: min(exam.asked, READ)]
    values = agreements(read(_drawn(exam, rows)), wanted_of(exam.data, rows))[ALL]
    yield exam.card(
        f"{ALL}, new combinations",
        values,
        unit="share",
        better="higher",
        split="samples",
        settings=exam.settings,
        note="texts with a pair of attributes that no training text has",
    )


def _varied(exam: Exam) -> Iterator[Score]:
    """How far samples of one text lie from each other, beside samples of different texts."""
    rows = _of(exam.data, TEXTS)
    x = _drawn(exam, np.repeat(rows, EACH)).astype(np.float32)
    flat = x.reshape(TEXTS, EACH, -1)
    about = dict[str, Any](unit="levels", split="samples", settings=exam.settings)
    note = f"root mean squared difference of pairs; {TEXTS} texts, {EACH} samples of each"
    yield exam.card("diversity at equal text", _apart(flat), note=note, **about)
    yield exam.card("diversity at equal text", _apart(flat.swapaxes(0, 1)), of="different texts", **about)


def _apart(x: np.ndarray) -> np.ndarray:
    """Mean rms distance of the pairs within each of n groups (n, m, dims)."""
    i, k = np.triu_indices(x.shape[1], 1)
    return np.array([np.sqrt(((group[i] - group[k]) ** 2).mean(1)).mean() for group in x])


def _drawn(exam: Exam, rows: np.ndarray) -> np.ndarray:
    """Samples of the texts of these rows, one of each, on the grid of the data."""
    y = exam.data.take(rows).y
    assert y is not None
    of: Condition | None = y.only(exam.model.takes)
    states = sampling.draw(exam.model, of, len(rows), exam.seed)
    parts = [neighbours.grid(x.numpy(), exam.data.levels) for x in sampling.batches(states)]
    return np.concatenate(parts)


def nearest_caption(data: Data, rows: np.ndarray) -> np.ndarray:
    """The training row whose caption shares most words with that of each row: the intersection over the union
    of their sets of words, each counted as often as it stands (n,)."""
    assert data.tokens is not None and data.vocabulary is not None
    size = len(data.vocabulary)

    def counted(which: np.ndarray) -> np.ndarray:
        tokens, out = data.tokens[which], np.zeros((len(which), size), np.float32)  # type: ignore[index]
        np.add.at(out, (np.arange(len(which))[:, None], tokens), 1)
        out[:, 0] = 0
        return out

    asked, best, where = counted(rows), np.full(len(rows), -1.0), np.zeros(len(rows), np.int64)
    for start in range(0, len(data.train), 2000):
        part = data.train[start : start + 2000]
        bags = counted(part)
        shared = sum(
            np.minimum(asked[:, None, w], bags[None, :, w])
            for w in np.flatnonzero(asked.any(0) & bags.any(0))
        )
        overlap = shared / (asked.sum(1)[:, None] + bags.sum(1) - shared)
        at = overlap.argmax(1)
        better = overlap[np.arange(len(rows)), at] > best
        best[better], where[better] = overlap[np.arange(len(rows)), at][better], part[at[better]]
    return where
