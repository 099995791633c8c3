"""The verb that keeps the way to one image: what "Pixel by pixel" and "Diffusion" of the studio do.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from pathlib import Path

from . import outline
from .arguments import Parser, common, natural, on_runs, target
from .ask import own_images


def trace(argv: list[str]) -> int:
    """trace RUN [IMAGE]: one image and the way to it, pixel by pixel or from noise: a picture, and arrays"""
    parser = Parser(
        "trace",
        outline.about("inference.trace"),
        "RUN [IMAGE --known PIXELS] [--number K] [-o out.png] [options]",
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument(
        "image", metavar="IMAGE", nargs="?", help="an image of which the first pixels are kept"
    )
    parser.add_argument(
        "--known", type=natural, default=0, metavar="N", help="pixels of IMAGE that are kept [0]"
    )
    parser.add_argument(
        "--number", type=natural, default=0, metavar="K", help="of the sample, or of the completion [0]"
    )
    parser.add_argument(
        "--of",
        type=natural,
        default=0,
        metavar="K",
        help="of a completion: the sample whose class it has [0]",
    )
    parser.add_argument("--label", metavar="CLASS", help="class, where the model is class-conditional")
    parser.add_argument(
        "--fix",
        action="append",
        default=[],
        metavar="R,C,CH=LEVEL",
        help="a sub-pixel that is not drawn: row, column and channel from 1, and its level; again for more",
    )
    parser.add_argument(
        "--heat", action="append", default=[], metavar="R,C,CH=T", help="another temperature from there on"
    )
    parser.add_argument("--until", type=natural, metavar="N", help="sub-pixels to draw [all]")
    parser.add_argument(
        "--branch",
        action="append",
        default=[],
        metavar="STEP=SEED",
        help="of a denoiser: new noise after that step; again for more",
    )
    common(parser, "--seed", "-o", "--json", seed="random seed", o="output file (.png); arrays go beside it")
    args, [(run, live)] = on_runs(argv, parser)

    from ..core import Refusal
    from ..inference import trace as work
    from ..reports import terminal

    path = target(args["o"], run.folder / "samples" / "trace.png", ".png")
    if args["image"] and not args["known"]:
        raise Refusal("of an image the first pixels are kept; say how many with --known.")
    x, _ = own_images(run, args["image"], 1)
    traced = run.trace(
        x,
        seed=args["seed"],
        number=args["number"],
        label=args["label"],
        known=args["known"],
        of=args["of"],
        fix={k: work.value(v, int) for k, v in (work.place(text, run) for text in args["fix"])},
        heat={k: work.value(v, float) for k, v in (work.place(text, run) for text in args["heat"])},
        until=args["until"],
        branch=[work.pair(text) for text in args["branch"]],
        **live,
    )
    written = traced.save(path)
    result = dict(traced.recipe, path=str(path), paths=[str(p) for p in written], says=traced.says)
    terminal.result(result, args["json"], f"{traced.says}: {', '.join(map(str, written))}")
    return 0
