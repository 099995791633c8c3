"""likeness train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import Parser, common, flags, listed, positive, undisturbed

if TYPE_CHECKING:
    from ..core import Model
    from ..data import Data


def train(argv: list[str]) -> int:
    """train MODEL DATA [RUN]: learn, or go on where the run folder is; leaves samples, scores and a report"""
    name, kind, args = parsed(argv)

    from .. import engine
    from ..reports import terminal
    from ..runs.source import parse
    from ..training import session

    source = parse(args["data"])
    folder = args["run"] or source.run_folder(name)
    wishes = session.Wishes.sort(
        kind,
        {k: v for k, v in args.items() if k not in ("model", "data", "run", "minutes", "no_report", "json")},
    )
    budget = {
        k: v
        for k, v in (("minutes", args["minutes"]), ("images", wishes.training.get("images")))
        if v is not None
    }
    with session.begin(name, source, folder, wishes, budget) as (run, images):
        with terminal.training(run, images, budget, quiet=args["json"]) as tick:
            number = session.work(run, images, tick, **budget)
        log, seen, seconds = run.log(), run.seen, run.seconds
        if engine.rank() > 0:
            return 128 + number if number else 0
    if number:
        terminal.say(f"stopped and saved at image {seen:,}; the same command goes on from here")
        return 128 + number
    page = None if args["no_report"] else scored_page(folder, images, args["json"])
    result = dict(
        run=str(folder),
        seen=seen,
        seconds=round(seconds, 2),
        losses=log[-1]["losses"] if log else {},
        report=str(page) if page else None,
    )
    terminal.result(
        result,
        args["json"],
        f"done: {folder}, {seen:,} images in {seconds:,.0f} s of training"
        + (f"\nreport: {page}" if page else ""),
    )
    return 0


def parsed(argv: list[str]) -> tuple[str, type[Model], dict[str, Any]]:
    """The model's name, its class, and what was said: a flag for each of its options, so the model must be
    found first."""
    from .. import data
    from ..core import Refusal
    from . import catalogue

    name = next((a for a in argv if a in catalogue.NAMES or a.endswith(".py")), None)
    if name is None and (typed := [a for a in argv if not a.startswith("-")]):
        loaded(typed[0])
    entry = (
        None
        if name is None
        else catalogue.entry(name)
        if name in catalogue.NAMES
        else catalogue.of(loaded(name))
    )
    about = f"MODEL is one of: {', '.join(catalogue.NAMES)}, or a Python file."
    if entry:
        about = entry.about + f"\nAnswers: {', '.join(entry.answers)}."
    parser = Parser("train", about, "MODEL DATA [RUN] [options]")
    parser.add_argument("model", metavar="MODEL", help="a name from `likeness models`, or a Python file")
    parser.add_argument(
        "data",
        metavar="DATA",
        help="a folder of images, a .npy, .npz or idx file, a name from `likeness data`, or a run that "
        "encodes: its codes",
    )
    parser.add_argument("run", metavar="RUN", nargs="?", type=Path, help="the run folder [runs/MODEL-DATA]")
    parser.add_argument(
        "--minutes",
        type=positive,
        metavar="M",
        help="end after M minutes of training in all, instead of after --images",
    )
    parser.add_argument("--no-report", action="store_true", help="do not score at the end")
    common(parser, "--json")
    if entry:
        listed(parser, f"options of {name}", entry.options)
        listed(parser, "training", entry.training)
    flags(parser, "reading the data", data.Reading, data.Reading())
    args = vars(parser.parse_intermixed_args(argv))
    if name is None or args["model"] != name:
        loaded(args["model"])
        raise Refusal(f"the model comes first, then the data: likeness train {args['data']} {args['model']}")
    if not args["data"]:
        raise Refusal(
            "DATA is an empty text; name a folder of images, a file, or a set from `likeness data`."
        )
    return name, loaded(name), args


def loaded(name: str) -> type[Model]:
    """The class of a model; here torch is imported.  Raises Refusal where there is none of that name."""
    with undisturbed():
        from .. import models
    return models.load(name)


def scored_page(folder: Path, images: Data, quiet: bool) -> Path | None:
    """Score the run and write its page."""
    from .. import api
    from ..reports import run_page, terminal
    from ..runs.run import Run

    trained = api.Trained(Run.open(folder), images)
    terminal.scores(list(terminal.listed(trained.scores(), "scoring", quiet)), quiet)
    page = folder / run_page.PAGE
    return page if page.exists() else None
