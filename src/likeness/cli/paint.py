"""The verb that edits an image by strokes.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import outline
from .arguments import Parser, common, count, natural, on_runs, picture_file, target


def paint(argv: list[str]) -> int:
    """paint RUN [IMAGE] --stroke ...: colour, sketch, drag: the model makes an image of your strokes"""
    usual, strength = (outline.value("inference.manifold", name) for name in ("CANDIDATES", "STRENGTH"))
    parser = Parser(
        "paint",
        outline.about("inference.manifold") + "\n\n" + outline.about("inference.strokes"),
        "RUN [IMAGE] --stroke colour:red:0.5,0.4:0.1 [--strokes strokes.json] [-o folder | x.png] [options]",
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument(
        "image",
        metavar="IMAGE",
        nargs="?",
        help="the file that is drawn on [none: an image is made of the strokes alone]",
    )
    parser.add_argument(
        "--stroke",
        action="append",
        default=[],
        metavar="KIND:...",
        help="a stroke; see above; as often as you like",
    )
    parser.add_argument("--strokes", type=Path, metavar="FILE", help="a .json file of strokes")
    parser.add_argument(
        "--weight",
        action="append",
        default=[],
        metavar="NAME=W",
        help=f"of {', '.join(outline.value('inference.constraints', 'TERMS'))}",
    )
    parser.add_argument(
        "--steps",
        type=natural,
        default=0,
        metavar="N",
        help="of the search, or of the way from noise [80, 40]",
    )
    parser.add_argument(
        "--strength",
        type=float,
        default=strength,
        metavar="S",
        help=f"of diffusion and flow: how much of the image is drawn again, up to 1 [{strength:g}]",
    )
    parser.add_argument(
        "--pick",
        type=count,
        default=1,
        metavar="K",
        help="the candidate that is the result and the morph, and what a photograph takes [1: the best]",
    )
    parser.add_argument(
        "--teach",
        type=count,
        metavar="STEPS",
        help="teach an encoder to a run that has none first, and keep it: projections begin where it points",
    )
    helps = dict(
        n=f"number of candidates [{usual}]", o=picture_file(""), seed="random seed of where candidates begin"
    )
    common(parser, "-n", "--seed", "-o", "--raw", "--json", **helps)
    args, [(run, live)] = on_runs(argv, parser)

    from ..figures import ENDINGS
    from ..inference import strokes
    from ..reports import terminal

    if args["teach"] and not (args["stroke"] or args["strokes"]):
        return _taught(run, args)
    asked: list[Any] = [*(strokes.load(args["strokes"]) if args["strokes"] else []), *args["stroke"]]
    drawn = strokes.some(asked)
    path = target(args["o"], run.folder / "samples" / "paint", *ENDINGS, "")
    if args["teach"]:
        _taught(run, args, quiet=True)
    with terminal.stages("paint", args["json"]) as notify:
        made = run.paint(
            drawn,
            args["image"],
            n=args["n"] or usual,
            steps=args["steps"],
            strength=args["strength"],
            seed=args["seed"],
            pick=args["pick"],
            weight=weights(args["weight"]),
            notify=notify,
            **live,
        )
    paths = made.save(path)
    facts = made.recipe | dict(path=str(path), files=[str(p) for p in paths])
    shown = ", ".join(f"{name} {float(term[0]):.4f}" for name, term in made.painted.terms.items())
    terminal.result(facts, args["json"], f"best of {len(made)} by {made.painted.family}: {shown}\n{path}")
    return 0


def weights(typed: list[str]) -> dict[str, float]:
    from ..core import Refusal

    result = {}
    for text in typed:
        name, _, value = text.partition("=")
        try:
            result[name] = float(value)
        except ValueError:
            raise Refusal(f"--weight {text} is not understood; type it as in --weight colour=2") from None
    return result


def _taught(run: Any, args: dict[str, Any], quiet: bool = False) -> int:
    from ..reports import terminal

    with terminal.stages("teach", args["json"]) as notify:
        result = run.teach_encoder(args["teach"], args["seed"], notify=notify)
    text = f"an encoder is taught in {args['teach']:,} steps, {result['off']:.1f} grey levels off (rms)"
    text += f": {result['path']}"
    if quiet:
        terminal.say(text, args["json"])
    else:
        terminal.result(result, args["json"], text)
    return 0
