"""The verb that draws images of chosen codes: what the latent screens of the studio do.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import outline
from .arguments import Parser, common, on_runs, target


def walk(argv: list[str]) -> int:
    """walk RUN KIND: images of chosen codes: an endless plane, sliders along directions, a path as film,
    arithmetic"""
    kinds = outline.value("inference.walk", "KINDS")
    parser = Parser(
        "walk",
        outline.about("inference.walk"),
        f"RUN {'|'.join(kinds)} [CODE ...] [-n N] [-o out.png | out.npz | out.gif] [options]",
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("kind", metavar="KIND", choices=kinds, help=f"one of: {', '.join(kinds)}")
    parser.add_argument("codes", metavar="CODE", nargs="*", help="numbers of samples, or files of images")
    parser.add_argument(
        "--at", nargs=2, type=float, default=[0.0, 0.0], metavar=("X", "Y"), help="middle of the plane [0 0]"
    )
    parser.add_argument(
        "--step", type=float, default=0.5, metavar="S", help="distance of two images of the plane [0.5]"
    )
    parser.add_argument(
        "--along",
        nargs="+",
        default=[],
        metavar="NAME:SIGMAS",
        help="directions of slide, by number or name: 1:2.5 smile:-1",
    )
    parser.add_argument(
        "--way", choices=("arc", "line"), default="arc", help="between the stops of a path [arc]"
    )
    parser.add_argument("--loop", action="store_true", help="lead the path back to its first stop")
    parser.add_argument(
        "--seconds", type=float, default=0.1, metavar="S", help="that each frame of a path is shown [0.1]"
    )
    parser.add_argument("--less", nargs="+", default=[], metavar="CODE", help="B of a sum: what is taken off")
    parser.add_argument("--plus", nargs="+", default=[], metavar="CODE", help="C of a sum: what is added")
    parser.add_argument("--strength", type=float, default=1.0, metavar="S", help="of C - B in a sum [1]")
    parser.add_argument(
        "--label", metavar="CLASS", help="class, where the model is class-conditional [all classes in turns]"
    )
    helps = dict(
        n="images a side of a plane [5], frames of a path [24], images [16]",
        seed="random seed of samples that are named by their number alone",
        o="output file (.png, .jpg, .webp, .npz; of a path also .gif, .apng, .mp4, .webm)",
    )
    common(parser, "-n", "--seed", "-o", "--json", **helps)
    args, [(run, _)] = on_runs(argv, parser)

    from .. import figures, storage
    from ..inference import walk as work
    from ..reports import terminal
    from ..reports.notebook import PAGES

    moving = args["kind"] == "path"
    usual = run.folder / "samples" / f"walk-{args['kind']}{'.gif' if moving else '.png'}"
    endings = (*PAGES, ".npy", ".npz", *(figures.MOVING if moving else ()))
    path = target(args["o"], usual, *dict.fromkeys(endings))
    how = {name: args[name] for name in ("seed", "step", "way", "loop", "strength", "label")}
    lists: dict[str, Any] = {name: tuple(args[name]) for name in ("at", "less", "plus")}
    drawn = run.walk(
        args["kind"], args["codes"], n=args["n"] or 0, along=work.moves(args["along"]), **how, **lists
    )
    if moving and path.suffix.lower() in figures.MOVING and path.suffix.lower() != ".webp":
        storage.make(path.parent)
        storage.write(
            path, work.film(path, drawn.x, dict(drawn.recipe, seconds=args["seconds"]), args["seconds"])
        )
    else:
        drawn.save(path)
    terminal.result(dict(drawn.recipe, path=str(path)), args["json"], f"{len(drawn)} images: {path}")
    return 0
