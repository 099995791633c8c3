"""The verb that edits an image by a text.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from pathlib import Path

from . import outline
from .arguments import Parser, common, natural, on_runs, picture_file, target


def imagic(argv: list[str]) -> int:
    """imagic RUN IMAGE "TEXT": an image that becomes what a text says, in several strengths"""
    usual = ",".join(f"{s:g}" for s in outline.value("inference.imagic", "STRENGTHS"))
    parser = Parser(
        "imagic",
        outline.about("inference.imagic"),
        f'RUN IMAGE "TEXT" [--strength {usual}] [-o out.png | out.npz | folder/] [options]',
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("image", metavar="IMAGE", help="the file of an image")
    parser.add_argument("text", metavar="TEXT", help="what it shall show")
    parser.add_argument(
        "--strength",
        default=usual,
        metavar="S[,S]",
        help=f"0 is the image, 1 all that the text says [{usual}]",
    )
    for flag, name, what in (
        ("--embedding-steps", "EMBEDDING_STEPS", "in which the text's embedding learns to draw the image"),
        ("--tuning-steps", "TUNING_STEPS", "in which the model does"),
    ):
        default = outline.value("inference.imagic", name)
        parser.add_argument(
            flag, type=natural, default=default, metavar="N", help=f"steps {what} [{default}]"
        )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="what is learnt is kept there, so that another --strength costs a sample [RUN/imagic/...]",
    )
    helps = dict(seed="random seed of learning and of what is drawn", o=picture_file(".npy", ".npz", ""))
    common(parser, "--seed", "-o", "--raw", "--json", **helps)
    args, [(run, live)] = on_runs(argv, parser, data=False)

    from ..core import Refusal
    from ..inference import imagic as work
    from ..reports import terminal
    from ..reports.notebook import PICTURES

    try:
        strengths = [float(part) for part in args["strength"].split(",")]
    except ValueError:
        raise Refusal(
            f"--strength {args['strength']} is no list of numbers; as in --strength {usual}."
        ) from None
    path = target(args["o"], run.folder / "samples" / "imagic.png", *PICTURES)
    how = work.How(args["embedding_steps"], args["tuning_steps"], seed=args["seed"])
    with terminal.stages("imagic", args["json"]) as notify:
        pictures = run.imagic(
            args["image"],
            args["text"],
            strengths,
            args["seed"],
            folder=args["keep"],
            how=how,
            notify=notify,
            **live,
        )
    pictures.save(path)
    says = f"{len(strengths)} strengths: {path}; what was learnt is kept in {pictures.recipe['kept']}"
    terminal.result(dict(pictures.recipe, path=str(path)), args["json"], says)
    return 0
