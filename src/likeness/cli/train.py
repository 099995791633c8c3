"""likeness train."""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import Parser, common, flags, listed, positive, undisturbed

if TYPE_CHECKING:
    from ..core import Model
    from ..data import Data

OWN = ("model", "data", "place", "run", "minutes", "forked", "no_report", "log", "json")
"""what is asked of the command, and not of the model, the training or the data"""


def train(argv: list[str]) -> int:
    """train MODEL DATA [RUN]: learn, or go on where the run folder is; leaves samples, scores and a report"""
    name, kind, args = parsed(argv)

    from .. import engine
    from ..core import duration
    from ..reports import live_page, terminal
    from ..runs.source import parse
    from ..training import session

    source = parse(args["data"])
    folder = args["run"] or source.run_folder(name, args.get("task", ""), args.get("to", ""))
    wishes = session.Wishes.sort(
        kind,
        {k: v for k, v in args.items() if k not in OWN},
    )
    budget = {
        k: v
        for k, v in (("minutes", args["minutes"]), ("images", wishes.training.get("images")))
        if v is not None
    }
    with session.begin(name, source, folder, wishes, budget, args["place"], args["forked"]) as (run, images):
        over = bool(session.finished(run, **budget))
        with (
            terminal.training(run, images, budget, quiet=args["json"]) as tick,
            live_page.kept(run, images, budget, tick, args["no_report"] or over) as tick,
        ):
            number = session.work(run, images, tick, args["log"], **budget)
        log, seen, seconds = run.log(), run.seen, run.seconds
        if engine.rank() > 0:
            return 128 + number if number else 0
    if number:
        terminal.say(f"stopped and saved at image {seen:,}; the same command goes on from here")
        return 128 + number
    page = None if args["no_report"] else page_of(folder, images, args["json"], anew=not over)
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
        f"done: {folder}, {seen:,} images in {duration(seconds)} of training"
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
        help=f"a folder of images, {data.FILES}, a name from `likeness data`, or a run that encodes: its "
        "codes",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        nargs="?",
        type=Path,
        help="the run folder [runs/MODEL-DATA, MODEL-DATA-TASK with --task, MODEL-A-to-B with --to]",
    )
    parser.add_argument(
        "--minutes",
        type=positive,
        metavar="M",
        help="end after M minutes of training in all, instead of after --images",
    )
    parser.add_argument(
        "--data",
        dest="place",
        metavar="PLACE",
        default="",
        help="where its images are now, if DATA is a run and they have moved",
    )
    parser.add_argument(
        "--from",
        dest="forked",
        type=Path,
        metavar="RUN",
        help="begin RUN as a fork of this one: at its newest state (or RUN/state/NUMBER), with the options "
        "typed here changed",
    )
    parser.add_argument("--no-report", action="store_true", help="do not score at the end")
    parser.add_argument(
        "--log",
        action="append",
        default=[],
        choices=("tensorboard", "csv"),
        help="write the log for TensorBoard (RUN/tensorboard) or as RUN/log.csv as well; may be given twice",
    )
    common(parser, "--device", "--json")
    if entry:
        parser.batch = next(one.here for one in entry.training if one.name == "batch")
        parser.add_argument(
            "--preset",
            metavar="NAME",
            default=argparse.SUPPRESS,
            help="; ".join(f"{n}: {as_typed(options)}" for n, options in entry.presets.items())
            + ".  Options that are typed beside it win",
        )
        listed(parser, f"options of {name}", entry.options)
        listed(parser, "training", entry.training)
    flags(parser, "reading the data", data.Reading, data.Reading())
    try:
        args = parser.read(argv)
    except Refusal as refusal:
        place = dict(pairwise(argv)).get("--data", "")
        if not place or "required: DATA" not in str(refusal):
            raise
        raise Refusal(
            "--data says where the images of a run are now; the data to learn are a word of the command.  "
            f"Type: likeness train {name} {place}"
        ) from None
    if name is None or args["model"] != name:
        loaded(args["model"])
        raise Refusal(f"the model comes first, then the data: likeness train {args['data']} {args['model']}")
    if not args["data"]:
        raise Refusal(
            "DATA is an empty text; name a folder of images, a file, or a set from `likeness data`."
        )
    return name, loaded(name), args


def as_typed(options: dict[str, Any]) -> str:
    """Options as the flags that set them."""
    return " ".join(
        f"--{'' if value is not False else 'no-'}{name.replace('_', '-')}"
        + ("" if isinstance(value, bool) else f" {value:g}" if isinstance(value, float) else f" {value}")
        for name, value in options.items()
    )


def loaded(name: str) -> type[Model]:
    """The class of a model; here torch is imported.  Raises Refusal where there is none of that name."""
    with undisturbed():
        from .. import models
    return models.load(name)


def page_of(folder: Path, images: Data, quiet: bool, anew: bool) -> Path | None:
    """The page of a trained run, scored if it is not there yet, or is to be made anew.  Ctrl-C skips that:
    all that was learnt is saved."""
    from ..evaluation.scores import SCORES
    from ..reports import run_page, terminal

    page, scores = folder / run_page.PAGE, folder / SCORES
    kept = page.exists() and scores.exists()
    if not anew and kept and scores.stat().st_mtime >= (folder / "state").stat().st_mtime:
        return page
    try:
        return scored_page(folder, images, quiet)
    except KeyboardInterrupt:
        terminal.say(
            f"scoring skipped; the run is saved, and this scores it later: likeness evaluate {folder}"
        )
        return None


def scored_page(folder: Path, images: Data, quiet: bool) -> Path | None:
    """Score the run and write its page."""
    from .. import api
    from ..reports import run_page, terminal
    from ..runs.run import Run

    trained = api.Trained(Run.open(folder), images)
    terminal.say(f"{trained.outlook()}; Ctrl-C skips it", quiet)
    with terminal.stages("scoring", quiet) as notify:
        scores = list(trained.scores(notify=notify))
    lookout = run_page.lookout(trained.run, images, scores)
    terminal.scores(scores, quiet, every=False, lookout=lookout)
    page = folder / run_page.PAGE
    return page if page.exists() else None
