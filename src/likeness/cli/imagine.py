"""The verb that draws what a text says.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import outline
from .arguments import Parser, common, on_runs, picture_file, target


def imagine(argv: list[str]) -> int:
    """imagine RUN "TEXT": images of a text, by a run that has learnt from captioned images"""
    parser = Parser(
        "imagine",
        outline.about("inference.imagine"),
        'RUN "TEXT" [-n 4] [--guidance W] [--negative TEXT] [--grid guidance=1,2,4 steps=10,50] '
        "[--texts FILE] [--upscale RUN] [-o out.png | out.npz | folder/] [options]",
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("text", metavar="TEXT", nargs="*", help='what to draw; "" is nothing at all')
    parser.add_argument("--texts", type=Path, metavar="FILE", help="a file with one text a line")
    parser.add_argument("--negative", default="", metavar="TEXT", help="a text that guidance leads away from")
    parser.add_argument(
        "--grid",
        nargs="+",
        default=[],
        metavar="OPTION=A,B,C",
        help="one or two options with several values each: rows and columns of one picture",
    )
    parser.add_argument(
        "--label", metavar="CLASS", help="class as well, where the model is class-conditional"
    )
    parser.add_argument(
        "--upscale",
        nargs="+",
        type=Path,
        default=[],
        metavar="RUN",
        help="runs with --task upscale2 (or 4) and --text, through which what is drawn goes in turn",
    )
    helps = dict(
        n="number of images of each text [4; 1 in a grid]",
        seed="random seed: image i of a seed and a text is always the same",
        o=picture_file(".npy", ".npz", "") + "; of clips .gif, .apng, .webp, .mp4 or .webm",
    )
    common(parser, "-n", "--seed", "-o", "--raw", "--json", **helps)
    args, [(run, live)] = on_runs(argv, parser, data=False)

    from .. import api
    from ..core import Refusal, final
    from ..inference import imagine as work
    from ..reports import terminal
    from ..reports.notebook import CLIPS, PICTURES

    work.refuse(run.model)
    if not args["text"] and args["texts"] is None:
        raise Refusal(
            f'no text was typed; as in: likeness imagine {args["run"][0]} "{example(run.config.vocabulary)}"'
        )
    # words that a shell has taken apart belong together
    texts = ([" ".join(args["text"])] if args["text"] else []) + (
        work.texts_of(args["texts"]) if args["texts"] is not None else []
    )
    grid = work.settings(run.model, args["grid"]) if args["grid"] else None
    if grid and (twice := sorted(grid.keys() & live.keys())):
        raise Refusal(f"--{twice[0]} and --grid {twice[0]}= say the same; leave one out.")
    n = args["n"] or (1 if grid else 4)
    clips = run.config.spec.frames > 0
    usual = run.folder / "samples" / f"imagined{'.gif' if clips else '.png'}"
    path = target(args["o"], usual, *(CLIPS if clips else PICTURES))
    stages = run.imagining(
        texts,
        n,
        args["seed"],
        negative=args["negative"],
        grid=grid,
        label=args["label"],
        upscale=[api.open(folder) for folder in args["upscale"]],
        **live,
    )
    pictures = final(terminal.walked(stages, "drawing images", args["json"])).pictures
    pictures.save(path)
    many = f" of {len(texts):,} texts" if len(texts) > 1 else ""
    kind = "clip" if clips else "image"
    says = f"{len(pictures):,} {kind}{'s' * (len(pictures) > 1)}{many}: {path}"
    terminal.result(dict[str, Any](pictures.recipe, path=str(path)), args["json"], says)
    return 0


def example(vocabulary: list[str]) -> str:
    """Some words that the run knows, to show where a text goes."""
    return " ".join(vocabulary[:6])
