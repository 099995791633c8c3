"""likeness evaluate."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import Parser, common, on_runs

if TYPE_CHECKING:
    from ..api import Trained
    from ..metrics.card import Score


def evaluate(argv: list[str]) -> int:
    """evaluate RUN...: score cards, scores.json and report.html; of several runs compare.html as well"""
    text = "The same questions to every run, answered as score cards: value, interval, n, split, seed, and what real images would get."
    parser = Parser("evaluate", text, "RUN [RUN ...] [-n 1000] [options]")
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+")
    parser.add_argument("--network", default="auto", help="to compare samples by: classifier, vicreg, inception, dinov2, clip, a run, a .pt file, none [auto]")
    parser.add_argument("--parzen", action="store_true", help="the Parzen-window estimate of the first adversarial models as well, which takes minutes")
    common(parser, "-n", "--seed", "-o", "--raw", "--json")
    said, runs = on_runs(argv, parser)

    from ..core import Refusal
    from ..reports import compare, terminal

    if said["o"] and (len(runs) == 1 or said["o"].suffix):
        raise Refusal(f"-o {said['o']} would be the folder of compare.html, which takes two runs or more; leave it out, or name a folder.")
    found: list[list[Score] | Refusal] = []
    for run, live in runs:
        try:
            found.append(scored(run, said, live, alone=len(runs) == 1))
        except Refusal as refusal:
            if len(runs) == 1:
                raise
            terminal.say(f"{run.folder}: {refusal}")
            found.append(refusal)
    refused = [r for r in found if isinstance(r, Refusal)]
    if len(refused) == len(found):
        raise refused[0]
    cards = {str(run.folder): [s.as_dict() for s in scores] for (run, _), scores in zip(runs, found) if not isinstance(scores, Refusal)}
    if said["json"]:
        print(json.dumps(cards, indent=1))
    if len(runs) > 1:
        side_by_side = compare.compare([run.run for run, _ in runs], found, [run.drawn for run, _ in runs])
        page = side_by_side.write(said["o"] or Path(os.path.commonpath([run.folder.resolve().parent for run, _ in runs])))
        if not said["json"]:
            print(side_by_side.table(shutil.get_terminal_size((120, 24)).columns))
        terminal.say(f"all on one page: {page}", said["json"])
    return refused[0].code if refused else 0


def scored(run: Trained, said: dict[str, Any], live: dict[str, Any], alone: bool) -> list[Score]:
    """The cards of one run, which are written into its folder, too."""
    from ..reports import run_page, terminal

    how = (said["n"] or 1000, said["seed"], said["network"], said["parzen"])
    terminal.say(run.outlook(*how, **live), said["json"])
    scores = list(terminal.listed(run.scores(*how, **live), str(run.folder), said["json"]))
    if alone:
        terminal.scores(scores, said["json"])
    terminal.say(f"report: {run.folder / run_page.PAGE}", said["json"])
    return scores
