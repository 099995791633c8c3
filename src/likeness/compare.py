"""Any runs on one page: compare.html, and the same cards as a table, as CSV and as JSON.

    compare(runs, [read(run) for run in runs]).write(Path("runs"))

Runs are columns, measures are rows.  Cards are ranked only where they may be held against each other: `duel` has the
rules, `rank` applies them to a row, and a row that is not ranked says why.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from . import pictures, report, store
from .core import Refusal, answers
from .evaluate import load_scores, samples
from .metrics.card import Score, short
from .run import Run

PAGE, CSV, JSON = "compare.html", "compare.csv", "compare.json"
SEED = 0
"""of the samples that are shown"""
SHOWN, SHOWN_LARGE = 32, 8
"""samples of each run, and of images beyond report.LARGE pixels"""
FLOOR = "real against real"
GROUPS = {  # the first that fits a measure's name; a name that fits none is a diagnosis
    "likelihood": r"bits/dim|nats an image|likelihood",
    "copying": r"cop(y|ies)|nearer|distance to training|^auth|duplicates|memori[sz]",
    "quality of samples": r"fr[eé]chet|kernel distance|mmd|precision|density|told apart|wasserstein|grey levels|classifier score|resemblance",
    "coverage and diversity": r"recall|coverage|diversity|class(es|$| gap)",
    "reconstruction": r"squared error|psnr|ssim|reconstruct",
    "classification": r"accuracy|log loss|calibration|auroc",
    "cost": r"^training$|^sampling$|time|memory|weights|images seen|images a second",
    "diagnosis": r"",
}
ORDER = ("likelihood", "quality of samples", "coverage and diversity", "copying", "reconstruction", "classification", "cost", "diagnosis")

Data = tuple[str, str]
"""fingerprint of a data set, and how its images were read"""


# What may be ranked


def obstacle(a: Score, b: Score) -> str:
    """Why two cards of one measure cannot be held against each other, in a phrase, or nothing.

    Live options and sizes of codes must agree where both models have them; how long each was trained need not.
    """
    if not (_ends(a) and _ends(b)):
        return "no interval"
    for name in ("better", "unit", "split", "n", "against", "network", "resize"):
        if getattr(a, name) != getattr(b, name):
            return f"different {name}" if name != "against" else "different n on the other side"
    for name in sorted((a.settings.keys() & b.settings.keys()) - {"seen"}):
        if a.settings[name] != b.settings[name]:
            return f"different {name}"
    return ""


def duel(a: Score, b: Score) -> tuple[int | None, str]:
    """(1, "") if a is better, (-1, "") if b is, (0, "") for a tie, (None, why) if that cannot be said.

    Better means that the 95 % intervals do not meet: over the same images that is stricter than a paired test.  Bounds
    are ranked among bounds as they stand, as in the literature.  An upper bound beside an exact value is ranked
    only if all of its interval lies below, because what it bounds then lies there too.  Two cards that are both as good as
    real images tie: nothing is better than real.  A card with a warning never wins, nor ties: a likelihood below 0 bits is no
    victory.
    """
    why, ends = obstacle(a, b), (_ends(a), _ends(b))
    if why or ends[0] is None or ends[1] is None:
        return None, why
    side = 0 if _real(a) and _real(b) else -1 if ends[0][1] < ends[1][0] else 1 if ends[1][1] < ends[0][0] else 0
    below, above = (a, b) if side < 0 else (b, a)
    if a.kind != b.kind and not (side and (below.kind, above.kind) == ("upper bound", "exact")):
        return None, " against ".join(sorted({"upper bound": "bound"}.get(kind, kind) for kind in (a.kind, b.kind)))
    result = -side if a.better == "lower" else side
    doubtful = (a if result > 0 else b).warning if result else a.warning or b.warning
    return (None, "a warning") if doubtful else (result, "")


def rank(cells: Sequence[Score | None], data: Sequence[Data]) -> tuple[tuple[str, ...], str]:
    """The place of each card of a row, "best", "tie" or "", and why the row is ranked in part only, or not at all.

    Best is what is better than every card that it may be held against, if there is one; a tie is what none of them is
    better than.  A measure without a better end has no places.
    """
    who = [i for i, card in enumerate(cells) if card is not None and card.better and math.isfinite(card.value)]
    found: dict[int, list[int]] = {i: [] for i in who}
    reasons: dict[str, None] = {}
    for i, j in combinations(who, 2):
        result, why = _met(cells[i], cells[j], data[i], data[j])
        if result is None:
            reasons[why] = None
        else:
            found[i].append(result)
            found[j].append(-result)
    how = "ranked in part" if any(found.values()) else "not ranked"
    return tuple(_place(found.get(i, [])) for i in range(len(cells))), f"{how}: {', '.join(reasons)}" if reasons else ""


def _met(a: Score | None, b: Score | None, of_a: Data, of_b: Data) -> tuple[int | None, str]:
    assert a is not None and b is not None
    if not (of_a[0] and of_b[0]):
        return None, "unknown data"
    if of_a != of_b:
        return None, "different data" if of_a[0] != of_b[0] else "images read differently"
    return duel(a, b)


def _place(results: list[int]) -> str:
    return "" if not results or min(results) < 0 else "tie" if 0 in results else "best"


def _ends(card: Score) -> tuple[float, float] | None:
    low, high = card.low, card.high
    return (low, high) if low is not None and high is not None and math.isfinite(low) and math.isfinite(high) else None


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
    """samples 0, 1, 2 ... of SEED, (n, C, H, W) in [-1, 1], if it can draw any"""
    curves: dict[str, np.ndarray] = field(repr=False)
    """for each loss (n, 3): seconds of training, images seen, and the loss"""

    @property
    def subject(self) -> str:
        source = str(self.setup.get("data") or "unknown data")
        return f"{Path(self.model).stem} on {Path(source).name or source}"

    @property
    def warnings(self) -> list[str]:
        """Each once, with the measures that it stands on."""
        found: dict[str, dict[str, None]] = {}
        for card in (c for c in self.cards if c.of == "model"):
            for text in filter(None, card.warning.split("; ")):
                found.setdefault(text, {})[card.name] = None
        return [*self.trouble, *report._standing(self.cards), *(f"{text} ({', '.join(names)})" for text, names in found.items())]


class Key(NamedTuple):
    """Cards of one key share a row."""

    name: str
    unit: str
    network: str
    """without its hash and what follows: the same network trained anew shares the row, and is told there to be another"""
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
        return load_scores(run.folder)
    except Refusal as refusal:
        return refusal


def compare(runs: Sequence[Run], scores: Sequence[Sequence[Score] | Refusal]) -> Comparison:
    """Hold runs against each other by the scores of each, or by a Refusal that says why it has none.

    Draws the samples to be shown.  Raises Refusal if there is no run.
    """
    if not runs:
        raise Refusal("there is no run to compare; name one or more: likeness evaluate RUN...")
    columns = tuple(_column(*each) for each in zip(unique([run.folder for run in runs]), runs, scores, strict=True))
    return Comparison(columns, tuple(_rows(columns)))


def unique(folders: Sequence[Path]) -> list[str]:
    """Names for columns: the shortest ends of the paths that tell them apart; a folder named twice is numbered."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    lengths = [next(k for k in range(1, len(p) + 1) if all(q[-k:] != p[-k:] for q in parts if q != p)) for p in parts]
    again = [parts[: i + 1].count(p) for i, p in enumerate(parts)]
    return ["/".join(p[-k:]) + (f" ({n})" if n > 1 else "") for p, k, n in zip(parts, lengths, again)]


def _column(name: str, run: Run, scores: Sequence[Score] | Refusal) -> Column:
    config, trouble = run.config, list(run.notes)
    if isinstance(scores, Refusal):
        trouble, scores = [*trouble, str(scores)], ()
    elif not scores:
        trouble.append(f"It has not been scored yet: likeness evaluate {run.folder}")
    reading = {k: v for k, v in config.data.items() if k not in ("source", "fingerprint")}
    where = config.data | {"data": config.data.get("source"), "fingerprint": str(config.data.get("fingerprint", ""))[:16]}
    setup = dict(model=config.model) | config.options | asdict(config.training) | where | config.facts
    del setup["source"]
    x, refused = _drawn(run)
    data = str(config.data.get("fingerprint") or ""), json.dumps([reading, config.spec], sort_keys=True, default=str)
    cards = (*scores, *_cost(run))
    return Column(name, str(run.folder), config.model, data, setup, run.seen, cards, (*trouble, *refused), x, _logged(run.log()))


def _drawn(run: Run) -> tuple[Tensor | None, list[str]]:
    """The first samples of SEED, or why there are none."""
    if "sample" not in answers(run.model):
        return None, []
    try:
        return samples(run, run.model, SHOWN if run.config.spec.size <= report.LARGE else SHOWN_LARGE, SEED), []
    except Refusal as refusal:
        return None, [str(refusal)]


def _cost(run: Run) -> Iterator[Score]:
    """What the evaluator does not know of the training.  None of it is ranked: machines differ."""
    times = [line["time"] for line in run.log() if isinstance(line.get("time"), dict)]
    yield Score("images seen", run.seen, split="train")
    yield Score("weights", sum(p.numel() for p in run.model.parameters()), split="train")
    for name, unit, key in (("images a second of training", "", "images_per_second"), ("peak memory of training", "MB", "memory_mb")):
        if known := [value for t in times if math.isfinite(value := _number(t.get(key)))]:
            yield Score(name, max(known) if unit else known[-1], unit=unit, split="train")


def _logged(log: Iterable[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The losses, but not the lengths of their gradients, wherever they are numbers."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for line in log:
        times, losses = ({} if not isinstance(line.get(part), dict) else line[part] for part in ("time", "losses"))
        for name, value in losses.items():
            found.setdefault(name, []).append((_number(times.get("seconds")), _number(line.get("seen")), _number(value)))
    tables = ((name, np.array(rows)) for name, rows in found.items() if not name.endswith("gradient"))
    return {name: table[np.isfinite(table[:, 1:]).all(1)] for name, table in tables}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _rows(columns: Sequence[Column]) -> Iterator[Row]:
    """Group by group, measure by measure: the model's, the floor, and what else is compared with it."""
    known = [_keyed(column.cards) for column in columns]
    keys = list(dict.fromkeys(key for cards in known for key in cards))
    measures = list(dict.fromkeys(key[:4] for key in keys))

    def place(key: Key) -> tuple[int, int, int]:
        return ORDER.index(group(key.name)), measures.index(key[:4]), {"model": 0, FLOOR: 1}.get(key.of, 2)

    for key in sorted(keys, key=place):
        cells = tuple(cards.get(key) for cards in known)
        places, why = rank(cells, [c.data for c in columns]) if key.of == "model" else (("",) * len(cells), "")
        yield Row(group(key.name), key, cells, places, why)


def _keyed(cards: Sequence[Score]) -> dict[Key, Score]:
    out, count = dict[Key, Score](), Counter[tuple[str, ...]]()
    for card in _with_floors(cards):
        start = card.name, card.unit, re.sub(r"\W*\b[0-9a-f]{6,64}\b.*", "", card.network)
        count[*start, card.of] += 1
        out[Key(*start, count[*start, card.of], card.of)] = card
    return out


def _with_floors(cards: Sequence[Score]) -> Iterator[Score]:
    """The cards, and those of the floors that have none of their own."""
    told = {(card.name, card.value) for card in cards if card.of != "model"}
    for card in cards:
        yield card
        if card.of == "model" and card.floor is not None and (card.name, card.floor) not in told:
            yield replace(card, value=card.floor, of=FLOOR, low=None, high=None, how="", floor=None, warning="", note="what a perfect model would get")


def group(name: str) -> str:
    """The part of the table in which a measure stands."""
    return next(part for part, words in GROUPS.items() if re.search(words, name, re.IGNORECASE))


# The same cards in four forms


@dataclass(frozen=True, eq=False)
class Comparison:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def table(self, width: int = 120) -> str:
        """For a terminal: as many runs side by side as `width` characters hold, the others below."""
        head = ["", *(_printable(c.name) for c in self.columns)]
        lines = [head, *(_texts(row) for row in self.rows)]
        wide = [max(len(line[i]) for line in lines) for i in range(len(head))]
        blocks = ["\n".join(self._block(lines, wide, chosen)) for chosen in _blocks(wide, width)]
        reasons = dict.fromkeys(row.why for row in self.rows if row.why)
        why = [f"{reason}: {', '.join(_printable(row.key.name) for row in self.rows if row.why == reason)}" for reason in reasons]
        warnings = [_printable(f"warning: {column.name}: {text}") for column in self.columns for text in column.warnings]
        return "\n\n".join([*blocks, "\n".join([LEGEND, *why, *warnings])])

    def _block(self, lines: list[list[str]], wide: list[int], chosen: list[int]) -> Iterator[str]:
        before = ""
        for line, row in zip(lines, (None, *self.rows)):
            if row and row.group != before:
                before = row.group
                yield before.upper()
            yield "  ".join(line[i].ljust(wide[i]) for i in [0, *chosen]).rstrip()

    def csv(self) -> str:
        """A line a card.  Text that a spreadsheet would take for a formula begins with an apostrophe there."""
        file = io.StringIO()
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(["run", "model", "group", "measure", *FIELDS, "place", "why"])
        for row in self.rows:
            for column, card, place in zip(self.columns, row.cells, row.places):
                if card is not None:
                    said = card.as_dict()
                    line = [column.name, column.model, row.group, row.key.name, *(said[f] for f in FIELDS), place, row.why]
                    writer.writerow([_harmless(value) for value in line])
        return file.getvalue()

    def json(self) -> str:
        """Valid JSON: what is no number is null."""
        runs = [dict(name=c.name, folder=c.folder, seen=c.seen, warnings=c.warnings, setup=c.setup) for c in self.columns]
        rows = [
            dict(group=row.group, measure=row.key.name, unit=row.key.unit, of=row.key.of, why=row.why)
            | dict(cells=[card and dict(card.as_dict(), run=c.name, place=p) for c, card, p in zip(self.columns, row.cells, row.places)])
            for row in self.rows
        ]
        return json.dumps(_finite(dict(runs=runs, rows=rows)), indent=1, allow_nan=False, default=str)

    def page(self) -> str:
        """All of it as one HTML document, which needs no other file, no network and no script."""
        columns = self.columns
        title = f"{len(columns)} runs side by side" if len(columns) > 1 else columns[0].name
        about = ", ".join(dict.fromkeys(c.subject for c in columns))
        sections = [
            _section("What to look out for", _tag("div", "warned", "".join(map(_warned, columns))) or _tag("p", "fine", NOTHING)),
            _section("Scores", _table(self) + _meanings(self.rows), LEAD),
            _section("Samples", _samples(columns), SAMPLES),
            _section("Learning curves", _curves(columns), CURVES),
            _section("What differs", _differences(columns), "Of all that the runs were made with: whatever is not the same in each."),
        ]
        head = f'<p class="kind">likeness</p><h1>{_e(title)}</h1><p class="status">{_e(about)}</p>'
        return report.TEMPLATE.format(title=_e(title), css=report.CSS + CSS, body=f"<header>{head}</header><main>{''.join(sections)}</main>")

    def write(self, folder: Path) -> Path:
        """Replace compare.html, compare.csv and compare.json in `folder`, which is made if need be; returns the page."""
        store.make(folder)
        for name, text in ((CSV, self.csv()), (JSON, self.json()), (PAGE, self.page())):
            store.write(folder / name, text.encode(errors="backslashreplace"))
        return folder / PAGE


# Text


FIELDS = ("of", "value", "low", "high", "unit", "better", "kind", "n", "against", "split", "seed", "floor", "network", "resize", "warning")
PLACES = {"best": "*", "tie": "=", "": ""}
LEGEND = "* better than every run it may be held against, 95 % intervals apart; = none is better; ! a warning stands on it"


def _texts(row: Row) -> list[str]:
    """The row for a terminal: values with intervals, and how they are marked."""
    unit = f", {row.key.unit}" if row.key.unit else ""
    name = f"{row.key.name}{unit}" if row.key.of == "model" else f"  {row.key.of}"
    return [_printable(name), *(_text(card, place) if card else "-" for card, place in zip(row.cells, row.places))]


def _text(card: Score, place: str) -> str:
    value = _value(card) if isinstance(card.value, int) else card.number
    return f"{value} {PLACES[place]}{'!' if card.warning else ''}".rstrip()


def _blocks(wide: Sequence[int], width: int) -> Iterator[list[int]]:
    """Numbers of the columns, 1 ..., that fit beside the first."""
    chosen: list[int] = []
    for i in range(1, len(wide)):
        if chosen and wide[0] + sum(wide[j] + 2 for j in [*chosen, i]) > width:
            yield chosen
            chosen = []
        chosen.append(i)
    yield chosen


def _printable(text: str) -> str:
    """Nothing that moves the cursor, and nothing that cannot be written."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _harmless(value: Any) -> Any:
    """Text that no spreadsheet calculates, wherever it sees the beginning of a cell."""
    return re.sub(r"(^|[,;])(?=\s*[=+\-@＝＋－＠])", r"\1'", _printable(value)) if isinstance(value, str) else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# The page


_e = pictures.safe

NOTHING = "No check has found anything suspicious."
LEAD = """Best: better than every run that it may be held against, 95 % intervals apart.  Tie: none of those is better, but intervals meet,
or both are as good as real images.  Each strip shows the interval within its row.  What has no better end, or may not be held against
others, is not ranked."""
SAMPLES = f"The first of seed {SEED}, not chosen.  Sample i gets the same noise in every run, as far as the models take noise of the same form."
CURVES = """Only losses of one model on one data set share a chart: others are different quantities.  Each twice, over the time spent in
training steps and over images seen; a mean of its surroundings, on logarithmic axes where it spans much."""
COLOURS = ("#2f7fc1", "#d9601a", "#1f9e78", "#d6338a", "#7d6fc4", "#a9791c", "#69a31f", "#858585")
DASHES = ("none", "8 3", "2 3")
AXES = ("seconds of training", "images seen")
WIDE, HIGH, LEFT, TOP = 400.0, 170.0, 48.0, 26.0


def _section(title: str, body: str, lead: str = "") -> str:
    return f"<section><h2>{title}</h2>{_tag('p', 'lead', _e(lead)) if lead else ''}{body}</section>" if body else ""


def _tag(name: str, kind: str, inner: str) -> str:
    return f'<{name} class="{kind}">{inner}</{name}>' if inner else ""


def _warned(column: Column) -> str:
    items = "".join(f"<li>{_e(text)}</li>" for text in column.warnings)
    return f"<div><h3>{_e(column.name)}</h3>{_tag('ul', 'warn', items)}</div>" if items else ""


def _table(c: Comparison) -> str:
    heads = [f"{_key_line(i)} {_e(x.name)}{_small(f'{x.subject}, {x.seen:,} images')}" for i, x in enumerate(c.columns)]
    seeds, one = len({card.seed for row in c.rows for card in row.cards}) > 1, len({column.data for column in c.columns}) == 1
    parts = ([row for row in c.rows if row.group == part] for part in dict.fromkeys(row.group for row in c.rows))
    return f'<div class="wide" tabindex="0"><table class="runs">{"".join(_part(rows, heads, seeds, one) for rows in parts)}</table></div>'


def _part(rows: Sequence[Row], heads: Sequence[str], seeds: bool, one: bool) -> str:
    """A group of measures: what is the same for all of them is told once, above."""
    mine = [row for row in rows if row.key.of == "model"]
    told = [_told([row.cells[i] for row in mine], seeds) for i in range(len(heads))]
    once = [name for name in dict.fromkeys(n for t in told for n in t) if name not in ("kind", "note") and all(len(t.get(name, "")) < 2 for t in told)]
    every = {name: {text for t in told for text in t.get(name, ())} for name in once}
    above = [text for texts in every.values() if len(texts) == 1 for text in texts]
    own = ["; ".join(text for name in once if len(every[name]) > 1 for text in t.get(name, ())) for t in told]
    names = "".join(f'<th scope="col">{head}{_small(text)}</th>' for head, text in zip(heads, own))
    lines = "".join(_row(row, seeds, once) if row.key.of == "model" else _beside(row, one) for row in rows)
    return f'<tbody><tr class="group"><th scope="rowgroup">{rows[0].group}{_small("; ".join(above))}</th>{names}</tr>{lines}</tbody>'


def _told(cards: Iterable[Score | None], seeds: bool) -> dict[str, set[str]]:
    """All that is said of some cards, by name."""
    told: dict[str, set[str]] = {}
    for name, text in (fact for card in cards if card is not None for fact in _facts(card, seeds).items() if fact[1]):
        told.setdefault(name, set()).add(text)
    return told


def _facts(card: Score, seeds: bool) -> dict[str, str]:
    """What one must know to read a value, by name; nothing is said of what is switched off."""
    sides = f"n = {card.n:,} {card.split}" + ("" if card.against is None else f" against {card.against:,}") if card.n else ""
    kind, seed = "" if card.kind == "measured" else card.kind, f"seed {card.seed}" if seeds else ""
    told = dict(n=sides, kind=kind, network=card.network, resize=f"resize: {card.resize}" if card.resize else "", seed=seed)
    return told | {k: "" if v is False else f"{k} = {v}" for k, v in card.settings.items() if k != "seen"} | dict(note=card.note)


def _row(row: Row, seeds: bool, above: Sequence[str]) -> str:
    """What all cards have in common stands at the head of the row, the rest at each."""
    facts = [{k: v for k, v in _facts(card, seeds).items() if k not in above} if card else {} for card in row.cells]
    told = {name: {f[name] for f in facts if name in f} for name in dict.fromkeys(name for f in facts for name in f)}
    common = {name: next(iter(texts)) for name, texts in told.items() if len(texts) == 1}
    own = ["; ".join(text for name, text in f.items() if text and name not in common) for f in facts]
    cells = "".join(_cell(card, place, text, _span(row)) for card, place, text in zip(row.cells, row.places, own))
    direction = f"{row.cards[0].better} is better" if row.cards[0].better else ""
    pixels = "" if row.cards[0].network or "network" not in above else "without the network"
    about = "; ".join(filter(None, [direction, pixels, *(text for name, text in common.items() if name != "note")]))
    head = _e(", ".join(filter(None, (row.key.name, row.key.unit)))) + _small(about) + _tag("small", "why", _e(row.why))
    return f'<tr><th scope="row" title="{_e(common.get("note", ""))}">{head}</th>{cells}</tr>'


def _span(row: Row) -> tuple[float, float]:
    """Ends of the strips of a row: only what may be ranked is drawn on one scale."""
    ends = [end for card in row.cards for end in (card.value, *(_ends(card) or ())) if math.isfinite(end)]
    return (min(ends), max(ends)) if row.cards[0].better and len(row.cards) > 1 and ends and not row.why else (0.0, 0.0)


def _small(text: str) -> str:
    return f"<small>{_e(text)}</small>" if text else ""


def _cell(card: Score | None, place: str, own: str, span: tuple[float, float]) -> str:
    if card is None:
        return '<td class="none">–</td>'
    marks = _tag("span", "place", place) + (f'<span class="doubt" title="{_e(card.warning)}">!</span>' if card.warning else "")
    below = _strip(card, span) + "".join(map(_small, (_between(card), card.verdict.partition(" (")[0], own)))
    return f'<td class="{place}"><b>{_e(_value(card))}</b>{marks}{below}</td>'


def _value(card: Score) -> str:
    return "refused" if card.refused else f"{card.value:,}" if isinstance(card.value, int) else short(card.value)


def _between(card: Score) -> str:
    ends = _ends(card)
    return f"{short(ends[0])} – {short(ends[1])}" if ends and ends[0] < ends[1] else ""


def _strip(card: Score, span: tuple[float, float]) -> str:
    """Where the value and its interval lie within the row."""
    if card.refused or not span[0] < span[1]:
        return ""
    ends = _ends(card) or (card.value, card.value)
    low, high, value = (100 * (v - span[0]) / (span[1] - span[0]) for v in (*ends, card.value))
    return f'<span class="strip"><i style="left:{low:.1f}%;width:{high - low:.1f}%"></i><u style="left:{value:.1f}%"></u></span>'


def _beside(row: Row, one: bool) -> str:
    """A baseline, or the floor: told once where it is the same for all runs, which are on one data set."""
    texts = ["–" if card is None else f"{_value(card)}{_small(_between(card))}" for card in row.cells]
    known = {text for text, card in zip(texts, row.cells) if card is not None}
    once = f'<td colspan="{len(texts)}"><span class="pin">{next(iter(known))}</span></td>'
    cells = once if one and len(known) == 1 and len(row.cards) > 1 else "".join(f"<td>{text}</td>" for text in texts)
    return f'<tr class="beside"><th scope="row" title="{_e(row.cards[0].note)}">{_e(row.key.of)}</th>{cells}</tr>'


def _meanings(rows: Sequence[Row]) -> str:
    notes = {row.key.name: row.cards[0].note for row in rows if row.key.of == "model" and len({card.note for card in row.cards}) == 1}
    return _tag("dl", "meanings", "".join(f"<div><dt>{_e(name)}</dt><dd>{_e(note)}</dd></div>" for name, note in notes.items() if note))


def _samples(columns: Sequence[Column]) -> str:
    figures = [_figure(c, c.x) for c in columns if c.x is not None]
    without = ", ".join(c.name for c in columns if c.x is None)
    return _tag("div", "grids", "".join(figures)) + (_tag("p", "note", _e(f"Without samples: {without}.")) if without else "") if figures else ""


def _figure(column: Column, x: Tensor) -> str:
    size = x.shape[-1]
    image = pictures.grid(x, 8 if size <= report.LARGE else 4)
    recipe = dict(run=column.name, model=column.model, seen=column.seen, seed=SEED, n=len(x))
    file = (pictures.png if size <= report.LARGE else pictures.jpeg)(image, recipe)
    sharp = ' class="sharp"' if size <= report.SHARP else ""
    return f'<figure{sharp}><img alt="samples of {_e(column.name)}" src="{pictures.uri(file)}"><figcaption>{_e(column.name)}</figcaption></figure>'


def _differences(columns: Sequence[Column]) -> str:
    names = dict.fromkeys(name for c in columns for name in c.setup)
    told = {name: [str(c.setup.get(name, "–")) for c in columns] for name in names}
    lines = [f'<tr><th scope="row">{_e(k)}</th>{"".join(f"<td>{_e(v)}</td>" for v in vs)}</tr>' for k, vs in told.items() if len(set(vs)) > 1]
    heads = "".join(f'<th scope="col">{_e(c.name)}</th>' for c in columns)
    return f'<div class="wide" tabindex="0"><table class="runs"><tr class="group"><th></th>{heads}</tr>{"".join(lines)}</table></div>' if lines else ""


def _key_line(i: int) -> str:
    """How the curves of column i look."""
    return f'<svg class="key" viewBox="0 0 22 8" aria-hidden="true"><path d="M1 4h20" style="{_ink(i)}"/></svg>'


def _ink(i: int) -> str:
    return f"stroke:{COLOURS[i % len(COLOURS)]};stroke-dasharray:{DASHES[i // len(COLOURS) % len(DASHES)]}"


def _curves(columns: Sequence[Column]) -> str:
    """Two charts for each loss of each model on each data set, with all runs of that kind in them."""
    charts = []
    for subject, data, name in dict.fromkeys((c.subject, c.data, name) for c in columns for name in c.curves):
        title = f"{subject}: {'loss' if name == 'model' else name}"
        tables = {i: c.curves[name] for i, c in enumerate(columns) if (c.subject, c.data) == (subject, data) and name in c.curves}
        charts += [_chart({i: _over(table, axis) for i, table in tables.items()}, title, below) for axis, below in enumerate(AXES)]
    legend = "".join(f"<span>{_key_line(i)} {_e(c.name)}</span>" for i, c in enumerate(columns))
    return f'<p class="legend">{legend}</p>{_tag("div", "charts", "".join(charts))}' if any(charts) else ""


def _over(table: np.ndarray, axis: int) -> np.ndarray:
    """(n, 2): the axis, rising, and the loss."""
    rising = table[table[:, axis].argsort(kind="stable")]
    return rising[np.isfinite(rising[:, axis])][:, [axis, 2]]


def _chart(lines: dict[int, np.ndarray], title: str, below: str) -> str:
    """Curves (n, 2) as SVG, by column; axes are logarithmic where pictures.curve has them so."""
    lines = {i: table for i, table in lines.items() if len(table) > 1}
    if not lines:
        return ""
    x, y = np.concatenate(list(lines.values())).T
    across = pictures.Axis(x, WIDE, bool(x.min() > 0 and x.max() > 100 * x.min()))
    up = pictures.Axis(y, HIGH, bool(y.min() > 0 and y.max() > 100 * y.min()))
    rows, marks = up.ticks(), across.ticks()
    left = [(TOP + HIGH - up.place(v), text) for v, text in zip(rows, pictures.labels(rows))]
    under = [(LEFT + across.place(v), text) for v, text in zip(marks, pictures.labels(marks))]
    frame = [f'<path d="M{LEFT:g} {v:.1f}h{WIDE:g}"/><text class="y" x="{LEFT - 6:g}" y="{v + 4:.1f}">{text}</text>' for v, text in left]
    frame += [f'<text class="x" x="{v:.1f}" y="{TOP + HIGH + 16:g}">{text}</text>' for v, text in under]
    words = f'<text class="name" x="0" y="13">{_e(title)}</text><text class="below" x="{LEFT + WIDE:g}" y="{TOP + HIGH + 32:g}">{_e(below)}</text>'
    drawn = "".join(_drawn_line(i, table, across, up) for i, table in lines.items())
    box = f"0 0 {LEFT + WIDE + 8:g} {TOP + HIGH + 38:g}"
    return f'<svg class="curve" viewBox="{box}" role="img" aria-label="{_e(f"{title} over {below}")}">{words}{"".join(frame)}{drawn}</svg>'


def _drawn_line(i: int, table: np.ndarray, across: pictures.Axis, up: pictures.Axis) -> str:
    """At most 400 points of the local mean."""
    places = np.array([across.place(v) for v in table[:, 0]])
    smooth = pictures.smooth(places / WIDE, table[:, 1])
    few = np.unique(np.linspace(0, len(table) - 1, 400).astype(int))
    points = " ".join(f"{LEFT + places[k]:.1f},{TOP + HIGH - up.place(smooth[k]):.1f}" for k in few)
    return f'<polyline class="smooth" style="{_ink(i)}" points="{points}"/>'


CSS = """
body { max-width:min(100%,84rem); }
.warned { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr)); gap:1rem 2rem; }
h3 { overflow-wrap:anywhere; }
.warn { font-size:.9rem; }
ul.warn { max-height:16rem; overflow:auto; overflow-wrap:anywhere; }
.runs { border-collapse:separate; border-spacing:0; }
.runs th,.runs td,.runs td:last-child { vertical-align:top; padding:.45rem 1rem .45rem .5rem; white-space:normal;
  min-width:8.5rem; color:inherit; }
.runs tr>th:first-child { position:sticky; left:0; z-index:1; background:var(--paper); min-width:16rem; max-width:16rem; padding-left:0; font-weight:600; }
.runs small { display:block; color:var(--soft); font-weight:400; font-size:.76rem; line-height:1.4; overflow-wrap:anywhere; }
.runs .why { font-style:italic; }
.runs b { font-weight:500; }
.runs .group th { border-bottom:2px solid var(--line); padding-top:2rem; font-size:.9rem; overflow-wrap:anywhere; }
.runs .group th:first-child { font-size:1.05rem; color:var(--mine); }
.runs .beside th:first-child { font-weight:400; padding-left:1rem; }
.runs .beside,.runs .beside th { color:var(--soft); font-size:.82rem; }
.runs .beside th,.runs .beside td { padding-top:.15rem; padding-bottom:.15rem; }
.runs .best b { font-weight:700; color:var(--mine); }
.place { margin-left:.5em; font-size:.72rem; color:var(--soft); }
.best .place { color:var(--paper); background:var(--mine); padding:.05em .5em; border-radius:1em; }
.doubt { display:inline-block; width:1.25em; margin-left:.5em; border-radius:1em; text-align:center; font-size:.75rem; font-weight:700;
  background:var(--edge); color:var(--paper); }
.runs .beside small { display:inline-block; margin-left:.8em; }
.pin { position:sticky; left:16.5rem; }
.none { color:var(--soft); }
.meanings { grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr)); margin-top:2rem; }
.meanings dd { font-size:.85rem; }
.strip { display:block; position:relative; height:3px; margin:.35rem 0; background:var(--line); max-width:9rem; }
.strip i { position:absolute; height:3px; min-width:2px; background:var(--bar); }
.strip u { position:absolute; width:7px; height:7px; margin:-2px 0 0 -3px; border-radius:50%; background:var(--soft); }
.best .strip u,.best .strip i { background:var(--mine); }
.grids { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(100%,16rem),1fr)); gap:1.5rem; }
.grids figcaption { overflow-wrap:anywhere; }
.charts { grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr)); }
.key { width:22px; height:8px; }
.key path,.curve .smooth { fill:none; stroke-width:2; }
.legend { display:flex; flex-wrap:wrap; gap:.3rem 1.5rem; font-size:.85rem; overflow-wrap:anywhere; }
@media (max-width:40rem) {
  .runs tr>th:first-child { min-width:8.5rem; max-width:8.5rem; }
  .pin { left:9rem; }
}
"""
