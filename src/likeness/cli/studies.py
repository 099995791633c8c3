"""Verbs that train several models to find something out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import outline
from .arguments import Parser, common, count, flags, on_runs, positive


def bayes(argv: list[str]) -> int:
    """bayes DATA: classes by Bayes' rule and by a network: accuracy by labels, calibration, images of another
    kind"""
    from .. import data as datasets

    parser = Parser(
        "bayes", outline.about("studies.bayes"), "DATA [-o FOLDER] [--minutes 8] [-k 1] [options]"
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        help="images with classes: a sub-folder a class, or a name from `likeness data`",
    )
    parser.add_argument(
        "--minutes",
        type=positive,
        default=8.0,
        metavar="M",
        help="minutes of training and evaluation in all, about [8]",
    )
    parser.add_argument("-k", type=count, default=1, help="importance samples of each log p(x|y) [1]")
    helps = dict(
        seed="random seed of training, and of the choice of labels",
        o="output folder [runs/bayes-DATA]",
    )
    common(parser, "-o", "--seed", "--device", "--json", **helps)
    flags(parser, "reading the data", datasets.Reading, datasets.Reading())
    args = parser.read(argv)

    import time

    from ..core import option_fields
    from ..data.source import parse
    from ..metrics.card import Score
    from ..reports import terminal
    from ..studies import bayes as study
    from ..studies import bayes_page
    from ..training import signals

    reading = {f.name: args[f.name] for f in option_fields(datasets.Reading) if f.name in args}
    source = parse(args["data"])
    folder, cards, last = (
        args["o"] or source.run_folder("bayes"),
        list[Score](),
        time.monotonic(),
    )
    with signals.stopping() as stop:
        for at in study.run(
            datasets.load(source.anywhere, **reading),
            folder,
            args["minutes"],
            args["seed"],
            args["k"],
            stop=stop,
        ):
            if isinstance(at, Score):
                cards.append(at)
            elif time.monotonic() - last > terminal.EVERY:
                last = time.monotonic()
                terminal.say(f"{at.share:4.0%}  {at.text}", args["json"])
    if stop.signal:
        terminal.say(f"stopped and saved in {folder}; the same command goes on from here")
        return 128 + stop.signal
    result = dict(
        folder=str(folder), picture=str(folder / bayes_page.PICTURE), cards=[c.as_dict() for c in cards]
    )
    terminal.result(
        result,
        args["json"],
        "\n".join(
            [
                *bayes_page.findings(cards),
                f"picture: {folder / bayes_page.PICTURE}",
                f"page: {folder / bayes_page.PAGE}",
            ]
        ),
    )
    return 0


def detect(argv: list[str]) -> int:
    """detect RUN... -o FOLDER: can a run's images be told from real ones; detect FOLDER --images PATH...:
    what is known of files"""
    usage = "RUN [RUN ...] [--data DATA] -o FOLDER [options] | FOLDER --images PATH [PATH ...]"
    parser = Parser(
        "detect",
        "Trains a detector of generated images and evaluates it; or applies one to image files.",
        usage,
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        nargs="+",
        help="runs whose images the detector separates from real ones; or one detector, with --images",
    )
    parser.add_argument(
        "--images",
        metavar="PATH",
        type=Path,
        nargs="+",
        help="image files, or folders of them, that the detector is applied to",
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="the real images, read as the first run's were [those it was trained on]",
    )
    parser.add_argument(
        "--error",
        type=positive,
        default=0.05,
        metavar="SHARE",
        help="largest error rate of the answers; the detector abstains from others [0.05]",
    )
    helps = dict(
        n="number of real and of generated images [2000]",
        seed="random seed of the generated images, and of the split",
        o="output folder of the detector",
    )
    common(parser, "-n", "--seed", "-o", "--json", **helps)
    args, runs = on_runs(argv, parser, data=False)

    from .. import data as datasets
    from ..core import Refusal
    from ..data.source import parse
    from ..evaluation.scores import load_scores
    from ..reports import terminal
    from ..studies import detector as detection
    from ..studies import real_and_generated

    if args["images"]:
        return judged(args)
    if args["o"] is None:
        raise Refusal(
            "a detector is a folder of its own; name it with -o FOLDER, or ask one about files with "
            "--images PATH."
        )
    first = runs[0][0]
    real, known = parse(args["data"]).anywhere if args["data"] else None, first.config.classes or None
    images = datasets.load(real, **first.config.reading, classes=known) if real else first.data
    makers = real_and_generated.makers([(run.run, live) for run, live in runs], images)
    steps = detection.learn(
        makers, images, args["o"], args["n"] or 2000, error=args["error"], seed=args["seed"]
    )
    with terminal.stages("detector", args["json"]) as notify:
        for at in steps:
            notify(at.doing, at.share)
    scores = load_scores(args["o"])
    terminal.scores(scores, args["json"], title=str(args["o"]))
    if args["json"]:
        print(terminal.document(dict(folder=args["o"], cards=[s.as_dict() for s in scores]), indent=1))
    return 0


def judged(args: dict[str, Any]) -> int:
    """What a detector says about image files, each on a line as it is known."""
    from ..core import Refusal
    from ..reports import terminal
    from ..studies import detector as detection
    from ..studies import image_files

    if len(args["run"]) > 1:
        raise Refusal(
            f"one detector judges images, and {len(args['run'])} were named; name one: likeness detect "
            "FOLDER --images PATH..."
        )
    result = []
    for finding in image_files.judge(detection.load(args["run"][0]), args["images"]):
        result.append(finding)
        if not args["json"]:
            print(finding.text, flush=True)
    if args["json"]:
        print(terminal.document(dict(images=[f._asdict() for f in result]), indent=1))
    if not result:
        raise Refusal(f"there is no file in {', '.join(map(str, args['images']))}; name images to judge.")
    return 2 if any(image_files.MISSING in f.remarks for f in result) else 0
