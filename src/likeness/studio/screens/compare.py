"""Runs side by side: cards, ranks and page of `likeness evaluate RUN RUN`, equal seeds, eyes as judges."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import figures
from ...core import Refusal, answers
from ...inference import nearest
from ...metrics import neighbours
from ...metrics.card import Score, wilson
from ...reports import compare as pages
from ...reports.ranking import Column, Row, read, shown
from ..protocol import Answer, Picture, choice, number, text, whole
from .samples import SEEDS, typed

if TYPE_CHECKING:
    from ...api import Trained
    from ..worker import Desk

Arrays = dict[str, np.ndarray]
MOST = 6
"""runs side by side"""
REPORTS = "reports"
"""folder below the studio's"""
LOOKED = 64
"""samples among which the nearest to training images are looked for"""


def _paths(args: dict[str, Any], least: int = 1) -> list[str]:
    known = args.get("runs", [])
    if (
        not isinstance(known, list)
        or not least <= len(known) <= MOST
        or len(set(map(str, known))) < len(known)
    ):
        raise Refusal(f"choose {least} to {MOST} different runs to compare.")
    return [text({"run": one}, "run", 1000) for one in known]


def _runs(desk: Desk, args: dict[str, Any], least: int = 1) -> list[Trained]:
    return [desk.run(one) for one in _paths(args, least)]


def _comparison(runs: list[Trained]) -> pages.Comparison:
    """As `likeness evaluate` makes it, of the last scores of each."""
    return pages.compare([run.run for run in runs], [read(run.run) for run in runs])


def _command(runs: list[Trained], comparison: pages.Comparison, *words: str) -> str:
    """Which evaluates them anew and writes the page."""
    cards = [c for column in comparison.columns for c in column.cards if c.split == "samples"]
    n, seed = max((c.n for c in cards), default=1000), max((c.seed for c in cards), default=0)
    how = [f"-n {n}" if n != 1000 else "", f"--seed {seed}" if seed else ""]
    return " ".join(
        ["likeness", "evaluate", *(typed(run.folder) for run in runs), *filter(None, [*how, *words])]
    )


# The table


def sheet(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Columns with their warnings and curves, rows with cells, places, and why a row is not ranked."""
    runs, paths = _runs(desk, args), _paths(args)
    made = _comparison(runs)
    curves, out = dict[str, np.ndarray | Picture](), list[dict[str, Any]]()
    for i, (path, run, column) in enumerate(zip(paths, runs, made.columns)):
        terms = list(column.curves)[:8]
        for k, name in enumerate(terms):
            curves[f"curve{i}.{k}"] = thinned(column.curves[name]).astype(np.float32)
        out.append(_column(path, run, column, terms))
    data = dict(columns=out, rows=[_row(row) for row in made.rows], command=_command(runs, made))
    yield Answer(data, curves)


def thinned(table: np.ndarray, most: int = 500) -> np.ndarray:
    """At most so many rows of (n, 3), among them the first and the last."""
    return table if len(table) <= most else table[np.linspace(0, len(table) - 1, most).round().astype(int)]


def _column(path: str, run: Trained, column: Column, terms: list[str]) -> dict[str, Any]:
    reference = str(run.config.data.get("fingerprint") or "")[:16]
    return dict(
        path=path,
        name=column.name,
        subject=column.subject,
        seen=column.seen,
        warnings=column.warnings,
        scored=any(card.group != "cost" for card in column.cards),
        samples="sample" in answers(run.model) and not run.config.spec.points and not run.config.spec.frames,
        reference=reference or "unknown",
        terms=terms,
    )


def _row(row: Row) -> dict[str, Any]:
    better = row.cards[0].better if row.cards else ""
    cells = [None if card is None else _cell(card, place) for card, place in zip(row.cells, row.places)]
    return dict(
        group=row.group,
        measure=row.key.name,
        unit=row.key.unit,
        of=row.key.of,
        why=row.why,
        better=better,
        cells=cells,
    )


def _cell(card: Score, place: str) -> dict[str, Any]:
    sides = f"n = {card.n:,} {card.split}" if card.n else ""
    sides += "" if card.against is None else f" against {card.against:,}"
    return dict(
        card.as_dict(),
        shown=shown(card),
        number=card.number,
        place=place,
        sides=sides,
        features=card.features,
    )


def evaluate(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Score a run as `likeness evaluate RUN` does, which writes scores.json and report.html; card by card."""
    run = desk.run(text(args, "run", 1000))
    n, seed = whole(args, "n", 1, 100_000, 1000), whole(args, "seed", 0, SEEDS, 0)
    network = choice(args, "network", ("auto", "none"), "auto")
    command = f"likeness evaluate {typed(run.folder)} -n {n} --seed {seed}"
    command += "" if network == "auto" else f" --network {network}"
    count = 0
    for score in run.scores(n, seed, network):
        count += score.of == "model"
        yield Answer(dict(cards=count, last=score.text, command=command))
    yield Answer(dict(cards=count, last="", command=command, saved=typed(run.folder / "scores.json")))


def export(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """compare.html, compare.csv and compare.json of these runs."""
    runs = _runs(desk, args, 2)
    made = _comparison(runs)
    name = hashlib.sha256(json.dumps([str(r.folder) for r in runs]).encode()).hexdigest()[:8]
    page = made.write(desk.root / REPORTS / name)
    command = _command(runs, made, f"-o {typed(page.parent)}")
    yield Answer(dict(saved=typed(page), page=f"{REPORTS}/{name}/{page.name}", command=command))


# Copies


def pairs(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Of a run the samples that are nearest to training images, with these: two uint8 (k, H, W, 3)."""
    run = desk.run(text(args, "run", 1000))
    seed, k = whole(args, "seed", 0, SEEDS, 0), whole(args, "k", 1, 16, 4)
    drawn = run.sample(LOOKED, seed)
    near = nearest.of(drawn.x, run.data, run.config.training.mirror)
    order = near.distance[:, 0].argsort(kind="stable")[:k]
    yield Answer(
        dict(
            numbers=order.tolist(),
            distance=near.distance[order, 0].tolist(),
            rows=near.row[order, 0].tolist(),
            among=LOOKED,
            command=f"likeness sample {typed(run.folder)} -n {LOOKED} --seed {seed} --nearest",
        ),
        {
            "samples": figures.pixels(drawn.x[order]),
            "images": figures.pixels(run.data.take(near.row[order, 0]).x),
        },
    )


# Which is real?


def quiz(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Pairs of a held-out image and a sample on the same grid of levels, the sides by chance and the runs in
    turns: uint8 (n, H, W, 3) left and right.  Where the real one is, judge() says afterwards."""
    runs, seed, n = _runs(desk, args), whole(args, "seed", 0, SEEDS, 0), whole(args, "n", 1, 200, 20)
    sides = _sides(seed, n)
    left, right, shape = list[np.ndarray](), list[np.ndarray](), runs[0].config.spec.shape
    pools = dict[int, tuple[np.ndarray, np.ndarray]]()
    for i in range(n):
        k = i % len(runs)
        if k not in pools:
            pools[k] = _pool(runs[k], seed, -(-n // len(runs)))
        real, fake = (pool[i // len(runs)] for pool in pools[k])
        if runs[k].config.spec.shape != shape:
            raise Refusal(
                "images of different shapes tell themselves apart; choose runs of one size and colour."
            )
        a, b = (real, fake) if sides[i] == 0 else (fake, real)
        left.append(a)
        right.append(b)
    stacks = [np.stack(side).transpose(0, 2, 3, 1) for side in (left, right)]
    if stacks[0].shape[-1] == 1:
        stacks = [np.repeat(s, 3, -1) for s in stacks]
    yield Answer(dict(n=n, seed=seed), dict(left=stacks[0], right=stacks[1]))


def _sides(seed: int, n: int) -> np.ndarray:
    """0 where the real image is on the left: (n,)."""
    return np.random.default_rng((seed, 0xB11)).integers(0, 2, n)


def _pool(run: Trained, seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Held-out images (training images where none is), and samples, uint8 (n, C, H, W)."""
    if run.config.spec.points or run.config.spec.frames or "sample" not in answers(run.model):
        raise Refusal(f"{run.folder.name} draws no images to be told from real ones; choose another run.")
    data = run.data
    pool = data.held_out if len(data.held_out) else data.train
    rows = np.resize(np.random.default_rng((seed, 0xEA1)).permutation(pool), n)
    return data.x[rows], neighbours.grid(run.sample(n, seed).x.numpy(), data.levels)


def judge(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """What the votes are worth: of each run the share that was told, with its 95 % interval (Wilson), and
    whether that is more than guessing.  votes: 0 left, 1 right, -1 none yet."""
    paths, seed = _paths(args), whole(args, "seed", 0, SEEDS, 0)
    votes = args.get("votes", [])
    if (
        not isinstance(votes, list)
        or len(votes) > 200
        or any(v not in (-1, 0, 1) or isinstance(v, bool) for v in votes)
    ):
        raise Refusal("votes are a list of at most 200 of: 0 left, 1 right, -1 none.")
    sides = _sides(seed, int(number(args, "n", 1, 200, 20)))[: len(votes)]
    yield Answer(
        dict(
            sides=[int(s) if v >= 0 else None for s, v in zip(sides, votes)],
            runs=[verdict(path, *_told(votes, sides, i, len(paths))) for i, path in enumerate(paths)],
            all=verdict("", *_told(votes, sides, 0, 1)),
        )
    )


def _told(votes: list[int], sides: np.ndarray, first: int, step: int) -> tuple[int, int]:
    """How many of the votes of a run were right, and how many there are."""
    cast = [(v, s) for v, s in list(zip(votes, sides))[first::step] if v >= 0]
    return sum(v == s for v, s in cast), len(cast)


def verdict(path: str, right: int, n: int) -> dict[str, Any]:
    low, high = wilson(right, n) if n else (0.0, 1.0)
    says = (
        "no votes yet"
        if not n
        else "told from real images more often than by guessing"
        if low > 0.5
        else "taken for real more often than by guessing"
        if high < 0.5
        else "not told from guessing"
    )
    return dict(
        path=path, right=right, n=n, share=right / n if n else math.nan, low=low, high=high, says=says
    )


ASKS: dict[str, Callable[[Desk, dict[str, Any], Arrays], Iterator[Answer]]] = {
    f.__name__: f for f in (sheet, evaluate, export, pairs, quiz, judge)
}
