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

from ..core import duration
from . import progress

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


REPLACED = 1.0
"""seconds between two in a notebook, where each takes the place of the one before"""
T = TypeVar("T", bound=Walked)
SCHEMA = 2
"""of what `document` writes.  It is raised when a key goes, is renamed, or has another meaning or unit; a new
key raises nothing.  1 had no number, and lists where there are objects now."""
EVERY = 10.0
"""seconds between two lines where nobody is watching"""
SOON = 3.0
"""and where something new begins"""


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
    from ..training import plan, session

    if nothing := session.finished(run, **budget):
        say(nothing)
        yield lambda step: None
        return
    notes = _news(run)
    facts, training = engine.facts(), run.config.training  # a run of another machine has its own
    goal = (
        f"{budget['minutes']:g} minute{'s' * (budget['minutes'] != 1)}"
        if "minutes" in budget
        else f"{budget.get('images', training.images):,} images"
    )
    say(data.verdict)
    weights = sum(p.numel() for p in run.model.parameters())
    say(
        f"{run.config.method}, {weights:,} weights, for {goal}, in {training.precision} with "
        f"{facts['threads']} thread{'s' * (facts['threads'] > 1)} -> {run.folder}"
    )
    if not run.seen and run.config.plan:
        say(plan.text(run.config))
    if not run.seen and (why := diffusers.obstacle(run.model)):
        say(f"note: `likeness export` will not take this run to diffusers: {why}")
    if run.seen:
        say(f"going on at image {run.seen:,}")
    share, brief, left = _share(run, budget), _brief(run, budget), progress.left(run, budget)
    with _bar(run, share()) if _err().is_terminal else _lines(run) as update:

        def tick(step: Step) -> None:
            notes()
            brief()
            update(step, share(), left())

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
    from ..training import loop

    minutes = budget.get("minutes", math.inf)
    images = loop.last_image(run.config.training, budget.get("images"), minutes)

    def spent() -> float:
        return min(1.0, max(run.seen / max(images, 1), run.seconds / (60 * minutes)))

    return spent


def _text(run: Run, step: Step, left: str) -> str:
    """What one line says beside the share that is done; a loss is read from the device for it."""
    speed = f"{step.seen / max(run.seconds, 1e-9):,.0f}/s"
    return "  ".join(
        filter(None, (f"{step.seen:,} images", speed, left, progress.terms(step.losses, run.model.units)))
    )


@contextmanager
def _bar(run: Run, begin: float) -> Iterator[Any]:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(24), TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=_err(), refresh_per_second=4) as bar:
        task = bar.add_task("", total=1.0, text="")
        bar.update(task, completed=begin)
        last_update = 0.0

        def update(step: Step, share: float, left: str) -> None:
            nonlocal last_update
            if time.monotonic() - last_update > 0.25:
                last_update = time.monotonic()
                bar.update(task, completed=share, text=_text(run, step, left))

        yield update


def _notebook() -> Callable[[str], None] | None:
    """In a notebook: a function that shows a line in the place of the one before, so that a night of training
    leaves one.  None elsewhere."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if not hasattr(shell, "kernel"):
        return None
    from IPython.display import display  # type: ignore[import-not-found, unused-ignore]

    handle = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text}, raw=True)


@contextmanager
def _lines(run: Run) -> Iterator[Any]:
    last_update, replace = time.monotonic(), _notebook()
    show, every = (say, EVERY) if replace is None else (replace, REPLACED)

    def update(step: Step, spent: float, left: str) -> None:
        nonlocal last_update
        if time.monotonic() - last_update > every or (replace and spent >= 1):
            last_update = time.monotonic()
            show(f"{spent:4.0%}  {_text(run, step, left)}")

    yield update


def walked(
    stages: Iterable[T], title: str, quiet: bool = False, clock: Callable[[], float] = time.monotonic
) -> Iterator[T]:
    """Pass stages on, showing what share of the images is done, and for how long that has taken; where nobody
    watches, a line now and then."""
    if quiet:
        yield from stages
        return
    began = printed = clock()
    if not sys.stderr.isatty():  # rich is imported where there is somebody to watch
        for stage in stages:
            if clock() - printed > EVERY:
                printed = clock()
                say(f"{title}: {stage.share:.0%} after {duration(printed - began)}")
            yield stage
        return
    with _err().status(escape(title)) as status:
        for stage in stages:
            status.update(escape(f"{stage.share:4.0%}  {title}, {duration(clock() - began)}"))
            yield stage


@contextmanager
def status(
    quiet: bool = False, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[str], None]]:
    """A function to call with what is being done; where nobody watches, it prints that now and then."""
    if quiet:
        yield lambda text: None
        return
    if sys.stderr.isatty():
        with _err().status("") as shown:
            yield lambda text: shown.update(escape(text))
        return
    printed = clock()

    def line(text: str) -> None:
        nonlocal printed
        if clock() - printed > EVERY:
            printed = clock()
            say(text)

    yield line


Notify = Callable[[str, float], None]
"""of something that is made of parts: which one is being made, and what share of it is done, 0 to 1"""


@contextmanager
def stages(title: str, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> Iterator[Notify]:
    """A function to call with how far something is; now and then it prints that, with the time left."""
    if quiet:
        yield lambda part, share: None
        return
    parts = progress.Parts(clock)
    if sys.stderr.isatty():
        with _err().status(escape(title)) as status:
            yield lambda part, share: status.update(escape(f"{title}: {parts.text(part, share)}"))
        return
    printed, known = clock(), ""

    def line(part: str, share: float) -> None:
        nonlocal printed, known
        text, now = parts.text(part, share), clock()
        if now - printed > (EVERY if part == known else SOON):
            printed = now
            say(f"{title}: {text}")
        known = part

    yield line


def counted(notify: Notify, part: str) -> Callable[[int, int], None]:
    """The same for who counts what is done, and of how many."""
    return lambda done, total: notify(part, done / max(total, 1))


MATTER = (
    "bits/dim",
    "accuracy",
    "Fréchet distance",
    "modes covered",
    "coverage",
    "near-duplicates",
    "PSNR",
    "linear accuracy",
    "kNN accuracy",
    "C2ST accuracy",
    "high-quality samples",
    "RankMe",
)
"""measures by what they are worth to somebody who reads five: one each of likelihood, resemblance, variety,
memorisation and the code, before a second one of any"""
FIVE = 5


TITLES = {"training": "training time", "sampling": "sampling time"}
"""what measures are called for people, where that differs from the name of the card"""


def folded(cards: Sequence[Score]) -> list[Score]:
    """The cards of the five measures that matter most, of the model and of its baselines, in their order."""
    names = dict.fromkeys(card.name for card in cards if card.of == "model")
    ranked = sorted(names, key=lambda name: MATTER.index(name) if name in MATTER else len(MATTER))
    few = ranked if len(ranked) <= FIVE + 1 else ranked[:FIVE]  # to hide one row is to spend one on saying so
    return [card for card in cards if card.name in few]


def scores(
    cards: Sequence[Score],
    as_json: bool,
    title: str = "",
    every: bool = True,
    lookout: Sequence[str] | None = None,
) -> None:
    """A row a measure: the model, and beside it what it is compared with; of five measures only, unless
    `every`.

    lookout: sentences of run_page.lookout, which have the warnings among them; the warnings alone without it.
    """
    if as_json:
        return
    if title:
        print(title)
    shown = list(cards) if every else folded(cards)
    own = [card for card in shown if card.of == "model"]
    columns(("measure", "model", "compared with"), [_row(card, shown) for card in own])
    if own:
        sides = dict.fromkeys(f"n = {card.n:,} {card.split}" for card in own if card.n)
        print("; ".join(filter(None, ["intervals are 95 %", ", ".join(sides)])))
    if rest := sum(card.of == "model" for card in cards) - len(own):
        print(f"{rest} more measures: likeness evaluate RUN --all, scores.json, and the report")
    if lookout is None:
        warned: dict[str, list[str]] = {}
        for card in cards:
            if card.of == "model" and card.warning:
                warned.setdefault(card.warning, []).append(card.name)
        for text, names in warned.items():
            print(f"warning: {', '.join(dict.fromkeys(names))}: {text}")
    elif lookout:
        print("\nWhat to look out for", *(f"  - {text}" for text in lookout), "", sep="\n")


def _row(card: Score, cards: Sequence[Score]) -> tuple[str, str, str]:
    from ..metrics.card import short

    others_of = (c for c in cards if c.name == card.name and c.of != "model" and not c.refused)
    beside = (f"{c.of} {short(c.value)}" for c in others_of)
    others = ", ".join(beside) + (": worse" if card.beyond else "")
    kind = "" if card.kind == "measured" else f" ({card.kind})"
    name, number, unit = TITLES.get(card.name, card.name), card.number, card.unit
    if unit.startswith("seconds ") and card.low is None and 0 < card.value < 0.1:
        number, unit = short(1000 * card.value), f"m{unit}"
    return f"{name}, {unit}" if unit else name, f"{number}{kind}", others


FEW = (
    "localscore makes mosaics of them after a minute (likeness train localscore DATA --minutes 1); networks "
    "that draw need thousands of images, or hours"
)
"""what to begin with, where a network would not learn to draw in minutes"""


def checked(check: Check, costs: Sequence[dict[str, Any]], as_json: bool) -> None:
    """The verdict on a data set, and what training on it costs."""
    if as_json:
        print(document(dict(check.describe(), cost=list(costs)), indent=1))
        return
    c, h, w = check.shape
    seen = f"{c}x{h}x{w}, {check.levels} levels" if check.levels else "points in the plane"
    rows = {
        "a model sees": f"{seen}; {check.train:,} to learn from, {check.held_out:,} held out",
        "learnt from": _source(check),
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
        "so few images": FEW if c in (1, 3) and c * h * w > 3 and 0 < check.train < 1000 else "",
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


def _source(check: Check) -> str:
    """The side A, where there is one."""
    if not check.kind:
        return ""
    shape = "x".join(map(str, check.source_shape))
    if check.kind == "pairs":
        return f"{shape}, one beside each (pairs)"
    numbers = f"{check.others_train:,} to learn from, {check.others_held_out:,} held out"
    return f"{shape}, of another domain: {numbers}"


def _counts(counts: dict[str, int], most: int = 10) -> str:
    """The commonest, with how many there are."""
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])
    more = f", and {len(ranked) - most} more" if len(ranked) > most else ""
    return ", ".join(f"{name} {n:,}" for name, n in ranked[:most]) + more


def _copies(copies: Copies | None) -> str:
    if copies is None:
        return "not looked for to the end"
    if not copies.groups:
        return "none"
    examples = "; ".join(" = ".join(group[:3]) for group in copies.examples[:3])
    groups = "one group" if copies.groups == 1 else f"{copies.groups:,} groups"
    return f"{copies.images:,} images in {groups}, such as {examples}"
