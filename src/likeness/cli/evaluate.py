"""likeness evaluate."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import play
from .arguments import Parser, common, on_runs

if TYPE_CHECKING:
    from ..api import Trained
    from ..metrics.card import Score


def evaluate(argv: list[str]) -> int:
    """evaluate RUN...: score cards, scores.json and report.html; of several runs compare.html as well"""
    if play.of_agents(argv):
        return play.evaluate(argv)
    text = (
        "The same questions to every run, answered as score cards: value, interval, n, split, seed, and "
        "what real images would get."
    )
    parser = Parser("evaluate", text, "RUN [RUN ...] [-n 1000] [options]")
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+")
    parser.add_argument(
        "--network",
        metavar="NAME",
        default="auto",
        help=f"feature network of the comparison: {_networks(argv)} [auto]",
    )
    parser.add_argument(
        "--parzen",
        action="store_true",
        help="the Parzen-window estimate of the first adversarial models as well, which takes minutes",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="show every measure instead of five; files and --json have all of them",
    )
    helps = dict(
        n="number of samples and of held-out images [1000]",
        seed="random seed of samples, and of the choice of held-out images",
        o="output folder of compare.html, of two runs or more [the folder that the runs have in common]",
    )
    common(parser, "-n", "--seed", "-o", "--raw", "--json", **helps)
    args, runs = on_runs(argv, parser)

    from ..core import Refusal
    from ..reports import compare, terminal

    if args["o"] and (len(runs) == 1 or args["o"].suffix):
        raise Refusal(
            f"-o {args['o']} would be the folder of compare.html, which takes two runs or more; leave it "
            "out, or name a folder."
        )
    result: list[list[Score] | Refusal] = []
    for run, live in runs:
        try:
            result.append(scored(run, args, live, alone=len(runs) == 1))
        except Refusal as refusal:
            if len(runs) == 1:
                raise
            terminal.say(f"{run.folder}: {refusal}")
            result.append(refusal)
    refused = [r for r in result if isinstance(r, Refusal)]
    if len(refused) == len(result):
        raise refused[0]
    cards = {
        str(run.folder): [s.as_dict() for s in scores]
        for (run, _), scores in zip(runs, result)
        if not isinstance(scores, Refusal)
    }
    if args["json"]:
        print(terminal.document(dict(runs=cards), indent=1))
    if len(runs) > 1:
        side_by_side = compare.compare([run.run for run, _ in runs], result, [run.drawn for run, _ in runs])
        page = side_by_side.write(
            args["o"] or Path(os.path.commonpath([run.folder.resolve().parent for run, _ in runs]))
        )
        if not args["json"]:
            print(side_by_side.table(shutil.get_terminal_size((120, 24)).columns))
        terminal.say(f"all on one page: {page}", args["json"])
    return refused[0].code if refused else 0


def _networks(argv: list[str]) -> str:
    """All that --network takes, where a help text is asked for: to know the names is to import torch."""
    if not {"-h", "--help"} & set(argv):
        return ""
    from ..features import named

    return named.choices(named.SCORES)


def scored(run: Trained, args: dict[str, Any], live: dict[str, Any], alone: bool) -> list[Score]:
    """The cards of one run, which are written into its folder, too."""
    from ..reports import run_page, terminal

    how = (args["n"] or 1000, args["seed"], args["network"], args["parzen"])
    terminal.say(run.outlook(*how, **live), args["json"])
    with terminal.stages(str(run.folder), args["json"]) as notify:
        scores = list(run.scores(*how, notify, **live))
    if alone:
        lookout = run_page.lookout(run.run, run.data, scores)
        terminal.scores(scores, args["json"], every=args["all"], lookout=lookout)
    terminal.say(f"report: {run.folder / run_page.PAGE}", args["json"])
    return scores
