"""What the command line shows: progress, tables, where things were written.

Results go to stdout, everything else to stderr; a bar where somebody is watching, a line now and then where
not.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

    from ..data import Data
    from ..data.check import Check, Copies
    from ..metrics.card import Score
    from ..runs.run import Run
    from ..training import throughput
    from ..training.loop import Step, Tick

    err: Console


class Walked(Protocol):
    """Something of which a share is done, 0 to 1."""

    @property
    def share(self) -> float: ...


T = TypeVar("T", bound=Walked)
SCHEMA = 2
"""of what `document` writes.  It is raised when a key goes, is renamed, or has another meaning or unit; a new
key raises nothing.  1 had no number, and lists where there are objects now."""
EVERY = 10.0
"""seconds between two lines where nobody is watching"""


@cache
def _err() -> Console:
    """The console, `err` for others; made when it is first written to, since a table needs no more than
    print."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def __getattr__(name: str) -> Any:
    if name != "err":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _err()


def escape(text: str) -> str:
    """As text that holds no markup."""
    from rich.markup import escape

    return escape(text)


def say(text: str, quiet: bool = False) -> None:
    if not quiet:
        _err().print(escape(text), soft_wrap=True)


def result(values: dict[str, Any], as_json: bool, text: str) -> None:
    print(document(values) if as_json else text)


def document(values: dict[str, Any], indent: int | None = None) -> str:
    """The JSON of every verb, and of the files that are written for other programs: an object that names its
    schema first, without NaN and infinities."""
    return json.dumps(dict(schema=SCHEMA) | finite(values), default=str, allow_nan=False, indent=indent)


def finite(value: Any) -> Any:
    """The same as JSON can say it, which knows no NaN and no infinity: null in their place."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose last column may be as long as it likes: where a line is broken is up to the terminal."""
    wide = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head) - 1)]
    for row in (head, *rows):
        print("  ".join([*(cell.ljust(w) for cell, w in zip(row, wide)), row[-1]]).rstrip())


def table(
    key: str, rows: Sequence[dict[str, Any]], names: Sequence[str], as_json: bool, footer: str = ""
) -> None:
    """Columns with these names; as JSON all that the rows hold, in a list called `key`."""
    if as_json:
        print(document({key: rows}, indent=1))
        return
    cells = [
        [
            ", ".join(cell) if isinstance(cell, (list, tuple)) else str(cell)
            for cell in (row[name] for name in names)
        ]
        for row in rows
    ]
    columns(names, cells)
    if footer:
        print(f"\n{footer}")


@contextmanager
def training(run: Run, data: Data, budget: dict[str, Any], quiet: bool = False) -> Iterator[Tick]:
    """A function to be told of each step.  What the run notes on the way is said, too."""
    from .. import engine

    for note in run.notes:
        say(f"note: {note}")
    if quiet or engine.rank() != 0:
        yield lambda step: None
        return
    from ..runs import diffusers

    notes = _news(run)
    facts, training = run.config.facts, run.config.training
    goal = (
        f"{budget['minutes']:g} minutes"
        if "minutes" in budget
        else f"{budget.get('images', training.images):,} images"
    )
    say(data.verdict)
    weights = sum(p.numel() for p in run.model.parameters())
    say(
        f"{run.config.method}, {weights:,} weights, for {goal}, in {training.precision} with "
        f"{facts['threads']} threads -> {run.folder}"
    )
    if not run.seen and (why := diffusers.obstacle(run.model)):
        say(f"note: `likeness export` will not take this run to diffusers: {why}")
    if run.seen:
        say(f"going on at image {run.seen:,}")
    share, brief = _share(run, budget), _brief(run, budget)
    with _bar(share()) if _err().is_terminal else _lines(share, run) as update:

        def tick(step: Step) -> None:
            notes()
            brief()
            update(step, share())

        yield tick
        notes()


def _news(run: Run) -> Callable[[], None]:
    """Says what has been noted since it was asked last."""
    shown = len(run.notes)

    def tell() -> None:
        nonlocal shown
        for note in run.notes[shown:]:
            say(f"note: {note}")
        shown = len(run.notes)

    return tell


def _brief(run: Run, budget: dict[str, Any]) -> Callable[[], None]:
    """Says once, when the speed is known, that a budget in minutes is too short to learn in."""
    from ..training import throughput

    since: throughput.Mark | None = None
    done = "minutes" not in budget

    def look() -> None:
        nonlocal since, done
        if done:
            return
        # a first step is slow: memory is found, code compiled
        since = since or throughput.Mark(run.seen, run.seconds)
        if run.seen > since.seen and run.seconds - since.seconds >= min(
            throughput.SECONDS, 6 * budget["minutes"]
        ):
            done = True
            if text := throughput.too_brief(run, budget["minutes"], since):
                say(f"note: {text}.")

    return look


def _share(run: Run, budget: dict[str, Any]) -> Any:
    """How much of the budget is spent, from 0 to 1."""
    images = budget.get("images", math.inf if "minutes" in budget else run.config.training.images)

    def spent() -> float:
        return min(1.0, max(run.seen / max(images, 1), run.seconds / (60 * budget.get("minutes", math.inf))))

    return spent


def _text(step: Step) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in step.losses.items())


@contextmanager
def _bar(begin: float) -> Iterator[Any]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=_err(), refresh_per_second=4) as progress:
        task = progress.add_task("", total=1.0, text="")
        progress.update(task, completed=begin)
        seen, since, last_update = 0, time.monotonic(), 0.0

        def update(step: Step, share: float) -> None:
            nonlocal seen, last_update
            seen = seen or step.seen
            now = time.monotonic()
            if now - last_update > 0.25:  # a loss is read from the device only when it is shown
                last_update = now
                rate = (step.seen - seen) / max(now - since, 1e-9)
                progress.update(
                    task, completed=share, text=f"{step.seen:,} images  {rate:,.0f}/s  {_text(step)}"
                )

        yield update


@contextmanager
def _lines(share: Any, run: Run) -> Iterator[Any]:
    last_update = time.monotonic()

    def update(step: Step, spent: float) -> None:
        nonlocal last_update
        if time.monotonic() - last_update > EVERY:
            last_update = time.monotonic()
            say(
                f"{spent:4.0%}  {step.seen:,} images  {step.seen / max(run.seconds, 1e-9):,.0f}/s  "
                f"{_text(step)}"
            )

    yield update


def walked(stages: Iterable[T], title: str, quiet: bool = False) -> Iterator[T]:
    """Pass stages on, showing what share of the images is done."""
    if quiet or not sys.stderr.isatty():  # rich is imported where there is somebody to watch
        yield from stages
        return
    with _err().status(escape(title)) as status:
        for stage in stages:
            status.update(escape(f"{stage.share:4.0%}  {title}"))
            yield stage


def listed(scores: Iterable[Score], title: str, quiet: bool = False) -> Iterator[Score]:
    """Pass scores on, showing which one was last."""
    if quiet or not _err().is_terminal:
        yield from scores
        return
    with _err().status(escape(title)) as status:
        for score in scores:
            status.update(escape(f"{title}: {score.name}"))
            yield score


def scores(cards: Sequence[Score], as_json: bool, title: str = "") -> None:
    """A row a measure: the model, and beside it what it is compared with."""
    if as_json:
        return
    from ..metrics.card import short

    if title:
        print(title)
    rows = []
    for card in (c for c in cards if c.of == "model"):
        others = ", ".join(
            f"{c.of} {short(c.value)}" for c in cards if c.name == card.name and c.of != "model"
        ) + (": worse" if card.beyond else "")
        kind = "" if card.kind == "measured" else f" ({card.kind})"
        rows.append((f"{card.name}, {card.unit}" if card.unit else card.name, f"{card.number}{kind}", others))
    columns(("measure", "model", "compared with"), rows)
    own = [card for card in cards if card.of == "model"]
    if own:
        print(
            f"intervals are 95 %; {', '.join(dict.fromkeys(f'n = {card.n:,} {card.split}' for card in own))}"
        )
    for card in own:
        if card.warning:
            print(f"warning: {card.name}: {card.warning}")


def checked(check: Check, costs: Sequence[dict[str, Any]], as_json: bool) -> None:
    """The verdict on a data set, and what training on it costs."""
    if as_json:
        print(document(dict(check.describe(), cost=list(costs)), indent=1))
        return
    c, h, w = check.shape
    seen = f"{c}x{h}x{w}, {check.levels} levels" if check.levels else "points in the plane"
    rows = {
        "a model sees": f"{seen}; {check.train:,} to learn from, {check.held_out:,} held out",
        "classes": _counts(check.classes),
        "captions": f"{check.captions:,}" if check.captions else "",
        "sizes of files": _counts(check.original_sizes)
        + (f"; {check.enlarged:,} are smaller than what a model sees" if check.enlarged else ""),
        "modes": _counts(check.modes),
        "converted": _counts(check.converted),
        "skipped": _counts(check.skipped),
        "full list": check.full_list,
        "of one colour": f"{check.blank:,}" if check.blank else "",
        "exact duplicates": _copies(check.exact),
        "near duplicates": _copies(check.near),
        **{
            f"{cost['model']} in {cost['precision']}": f"{cost['images_per_second']:,.0f} images/s, "
            f"{cost['memory_mb']:,.0f} MB; {cost['says']}"
            for cost in costs
        },
    }
    print(check.verdict)
    for name, text in rows.items():
        if text:
            print(f"  {name:18} {text}")


def _counts(counts: dict[str, int], most: int = 10) -> str:
    """The commonest, with how many there are."""
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])
    more = f", and {len(ranked) - most} more" if len(ranked) > most else ""
    return ", ".join(f"{name} {n:,}" for name, n in ranked[:most]) + more


def _copies(copies: Copies) -> str:
    if not copies.groups:
        return "none"
    examples = "; ".join(" = ".join(group[:3]) for group in copies.examples[:3])
    return f"{copies.images:,} images in {copies.groups:,} groups, such as {examples}"
