"""Runs as columns, measures as rows, and which cards of a row may be ranked: `duel` has the rules, `rank`
applies them."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..core import Refusal, answers
from ..data import picture
from ..evaluation.exam import Drawn
from ..evaluation.scores import scores_of
from ..inference.sampling import samples
from ..metrics.card import GROUPS, Score, short
from ..runs.run import Run
from ..training.snapshots import POINTS
from . import run_page

SHOWN, SHOWN_LARGE = 32, 8
"""samples of each run, and of images beyond report.LARGE pixels"""
FLOOR = "real against real"
Data = tuple[str, str]
"""fingerprint of a data set, and how its images were read"""


# What may be ranked


def obstacle(a: Score, b: Score) -> str:
    """Why two cards of one measure cannot be held against each other, in a phrase, or nothing.

    Live options and sizes of codes must agree where both models have them; how long each was trained need
    not.
    """
    if not (ends_of(a) and ends_of(b)):
        return "no interval"
    for name in (
        "better",
        "unit",
        "split",
        "n",
        "against",
        "network",
        "network_sha",
        "scope",
        "resize",
        "version",
    ):
        if getattr(a, name) != getattr(b, name):
            name = "network" if name in ("network_sha", "scope") else name
            return f"different {name}" if name != "against" else "different n on the other side"
    for name in sorted((a.settings.keys() & b.settings.keys()) - {"seen"} | {"weights"}):
        if a.settings.get(name) != b.settings.get(name):
            return f"different {name}"
    return ""


def duel(a: Score, b: Score) -> tuple[int | None, str]:
    """(1, "") if a is better, (-1, "") if b is, (0, "") for a tie, (None, why) if that cannot be said.

    Better means that the 95 % intervals do not meet: over the same images that is stricter than a paired
    test.  Bounds are ranked among bounds as they stand, as in the literature.  An upper bound beside an exact
    value is ranked only if all of its interval lies below, because what it bounds then lies there too.  Two
    cards that are both as good as real images tie: nothing is better than real.  A card with a warning never
    wins, nor ties: a likelihood below 0 bits is no victory.
    """
    why, ends = obstacle(a, b), (ends_of(a), ends_of(b))
    if why or ends[0] is None or ends[1] is None:
        return None, why
    side = (
        0 if _real(a) and _real(b) else -1 if ends[0][1] < ends[1][0] else 1 if ends[1][1] < ends[0][0] else 0
    )
    below, above = (a, b) if side < 0 else (b, a)
    if a.kind != b.kind and not (side and (below.kind, above.kind) == ("upper bound", "exact")):
        return None, " against ".join(
            sorted({"upper bound": "bound"}.get(kind, kind) for kind in (a.kind, b.kind))
        )
    result = -side if a.better == "lower" else side
    doubtful = (a if result > 0 else b).warning if result else a.warning or b.warning
    return (None, "a warning") if doubtful else (result, "")


def rank(cells: Sequence[Score | None], data: Sequence[Data]) -> tuple[tuple[str, ...], str]:
    """The place of each card of a row, "best", "tie" or "", and why the row is ranked in part only, or not at
    all.

    Best is what is better than every card that it may be held against, if there is one; a tie is what none of
    them is better than.  A measure without a better end has no places.
    """
    who = [
        i for i, card in enumerate(cells) if card is not None and card.better and math.isfinite(card.value)
    ]
    results: dict[int, list[int]] = {i: [] for i in who}
    reasons: dict[str, None] = {}
    for i, j in combinations(who, 2):
        result, why = _met(cells[i], cells[j], data[i], data[j])
        if result is None:
            reasons[why] = None
        else:
            results[i].append(result)
            results[j].append(-result)
    how = "ranked in part" if any(results.values()) else "not ranked"
    return tuple(
        _place(results.get(i, [])) for i in range(len(cells))
    ), f"{how}: {', '.join(reasons)}" if reasons else ""


def _met(a: Score | None, b: Score | None, of_a: Data, of_b: Data) -> tuple[int | None, str]:
    assert a is not None and b is not None
    if not (of_a[0] and of_b[0]):
        return None, "unknown data"
    if of_a != of_b:
        return None, "different data" if of_a[0] != of_b[0] else "images read differently"
    return duel(a, b)


def _place(results: list[int]) -> str:
    return "" if not results or min(results) < 0 else "tie" if 0 in results else "best"


def ends_of(card: Score) -> tuple[float, float] | None:
    low, high = card.low, card.high
    return (
        (low, high)
        if low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
        else None
    )


def _real(card: Score) -> bool:
    """Whether it is as good as real images are, as far as can be told."""
    return card.floor is not None and not card.beyond


# Runs as columns, measures as rows


@dataclass(frozen=True, eq=False)
class Column:
    """A run, as far as the page needs it."""

    name: str
    folder: str
    model: str
    data: Data
    setup: dict[str, Any]
    """all that it was made with, by name"""
    seen: int
    cards: tuple[Score, ...]
    trouble: tuple[str, ...]
    """what is wrong with the run as a whole"""
    x: Tensor | None
    """samples 0, 1, 2 ... of `seed`, (n, C, H, W) in [-1, 1], if it can draw any"""
    curves: dict[str, np.ndarray] = field(repr=False)
    """for each loss (n, 3): seconds of training, images seen, and the loss"""
    seed: int = 0
    """of the samples that are shown, and of the scores"""

    @property
    def subject(self) -> str:
        source = str(self.setup.get("data") or "unknown data")
        return f"{Path(self.model).stem} on {Path(source).name or source}"

    @property
    def warnings(self) -> list[str]:
        """Each once, with the measures that it stands on."""
        result: dict[str, dict[str, None]] = {}
        for card in (c for c in self.cards if c.of == "model"):
            for text in card.warnings:
                result.setdefault(text, {})[card.name] = None
        return [
            *self.trouble,
            *run_page.standing(self.cards),
            *(f"{text} ({', '.join(names)})" for text, names in result.items()),
        ]


class Key(NamedTuple):
    """Cards of one key share a row."""

    name: str
    unit: str
    network: str
    """its name: the same network trained anew shares the row, which says that it is another"""
    repeat: int
    of: str


@dataclass(frozen=True)
class Row:
    group: str
    key: Key
    cells: tuple[Score | None, ...]
    places: tuple[str, ...]
    why: str
    """the reason if it is not ranked, or in part"""

    @property
    def cards(self) -> list[Score]:
        return [card for card in self.cells if card is not None]


def read(run: Run) -> Sequence[Score] | Refusal:
    """The last evaluation of a run, or why it cannot be read."""
    try:
        return scores_of(run)
    except Refusal as refusal:
        return refusal


def unique(folders: Sequence[Path]) -> list[str]:
    """Names for columns: the shortest ends of the paths that tell them apart; a folder named twice is
    numbered."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    lengths = [
        next(k for k in range(1, len(p) + 1) if all(q[-k:] != p[-k:] for q in parts if q != p)) for p in parts
    ]
    again = [parts[: i + 1].count(p) for i, p in enumerate(parts)]
    return ["/".join(p[-k:]) + (f" ({n})" if n > 1 else "") for p, k, n in zip(parts, lengths, again)]


def column_of(name: str, run: Run, scores: Sequence[Score] | Refusal, drawn: Drawn | None = None) -> Column:
    config, trouble = run.config, list(run.notes)
    if isinstance(scores, Refusal):
        trouble, scores = [*trouble, str(scores)], ()
    elif not scores:
        trouble.append(f"It has not been scored yet: likeness evaluate {run.folder}")
    # the split and the classes are part of the fingerprint
    reading = {k: v for k, v in config.reading.items() if k not in ("held_out", "validation", "layout")}
    where = config.data | {
        "data": config.data.get("source"),
        "fingerprint": str(config.data.get("fingerprint", ""))[:16],
    }
    setup = (
        dict(model=config.method)
        | config.options
        | asdict(config.training)
        | where
        | config.facts
        | {f"first stage {k}": v for k, v in config.inside.items()}
    )
    del setup["source"]
    seed = run_page.seed_of(scores) if drawn is None else drawn.seed
    x, refused = _drawn(run, seed, drawn)
    data = (
        str(config.data.get("fingerprint") or ""),
        json.dumps([reading, config.spec], sort_keys=True, default=str),
    )
    cards = (*scores, *_cost(run))
    return Column(
        name,
        str(run.folder),
        config.method,
        data,
        setup,
        run.seen,
        cards,
        (*trouble, *refused),
        x,
        _logged(run.log()),
        seed,
    )


def _drawn(run: Run, seed: int, drawn: Drawn | None) -> tuple[Tensor | None, list[str]]:
    """The first samples of the seed, those that were scored if they are at hand, or why there are none."""
    if "sample" not in answers(run.model):
        return None, []
    try:
        spec = run.config.spec
        n = POINTS if spec.points else SHOWN if spec.size <= run_page.LARGE else SHOWN_LARGE
        return (samples(run.model, n, seed) if drawn is None else picture(drawn.x[:n])), []
    except Refusal as refusal:
        return None, [str(refusal)]


def _cost(run: Run) -> Iterator[Score]:
    """What the evaluator does not know of the training.  None of it is ranked: machines differ."""
    times = [line["time"] for line in run.log() if isinstance(line.get("time"), dict)]
    yield Score("images seen", run.seen, split="train", group="cost")
    yield Score("weights", sum(p.numel() for p in run.model.parameters()), split="train", group="cost")
    for name, unit, key in (
        ("images a second of training", "", "images_per_second"),
        ("peak memory of training", "MB", "memory_mb"),
    ):
        if known := [value for t in times if math.isfinite(value := _number(t.get(key)))]:
            yield Score(name, max(known) if unit else known[-1], unit=unit, split="train", group="cost")


def _logged(log: Iterable[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The losses, but not the lengths of their gradients, wherever they are numbers."""
    result: dict[str, list[tuple[float, float, float]]] = {}
    for line in log:
        times, losses = (
            {} if not isinstance(line.get(part), dict) else line[part] for part in ("time", "losses")
        )
        for name, value in losses.items():
            result.setdefault(name, []).append(
                (_number(times.get("seconds")), _number(line.get("seen")), _number(value))
            )
    tables = ((name, np.array(rows)) for name, rows in result.items() if not name.endswith("gradient"))
    return {name: table[np.isfinite(table[:, 1:]).all(1)] for name, table in tables}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def rows_of(columns: Sequence[Column]) -> Iterator[Row]:
    """Group by group, measure by measure: the model's, the floor, and what else is compared with it."""
    known = [_keyed(column.cards) for column in columns]
    keys = list(dict.fromkeys(key for cards in known for key in cards))
    measures = list(dict.fromkeys(key[:4] for key in keys))
    groups = {key: group(card) for cards in known for key, card in cards.items()}

    def place(key: Key) -> tuple[int, int, int]:
        return GROUPS.index(groups[key]), measures.index(key[:4]), {"model": 0, FLOOR: 1}.get(key.of, 2)

    for key in sorted(keys, key=place):
        cells = tuple(cards.get(key) for cards in known)
        places, why = (
            rank(cells, [c.data for c in columns]) if key.of == "model" else (("",) * len(cells), "")
        )
        yield Row(groups[key], key, cells, places, why)


def _keyed(cards: Sequence[Score]) -> dict[Key, Score]:
    out, count = dict[Key, Score](), Counter[tuple[str, ...]]()
    for card in _with_floors(cards):
        start = card.name, card.unit, card.network
        count[*start, card.of] += 1
        out[Key(*start, count[*start, card.of], card.of)] = card
    return out


def _with_floors(cards: Sequence[Score]) -> Iterator[Score]:
    """The cards, and those of the floors that have none of their own."""
    floors = {(card.name, card.value) for card in cards if card.of != "model"}
    for card in cards:
        yield card
        if card.of == "model" and card.floor is not None and (card.name, card.floor) not in floors:
            yield replace(
                card,
                value=card.floor,
                of=FLOOR,
                low=None,
                high=None,
                how="",
                floor=None,
                warnings=(),
                note="what a perfect model would get",
            )


def group(card: Score) -> str:
    """The block of the table in which it stands."""
    return card.group if card.group in GROUPS else GROUPS[-1]


def shown(card: Score) -> str:
    """The value for people: counts in full."""
    return (
        "refused" if card.refused else f"{card.value:,}" if isinstance(card.value, int) else short(card.value)
    )
