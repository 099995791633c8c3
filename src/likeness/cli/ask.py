"""The verbs that put a question to a run about images: reconstruct, complete, edit, score, field, diffuse.

Nothing heavy is imported before it is needed: a verb imports what it works with once it knows that there is a
run to ask.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import outline
from .arguments import SEED_OF_CHOICE, Parser, common, count, natural, on_runs, picture_file, target

if TYPE_CHECKING:
    from torch import Tensor

    from ..api import Trained
    from ..core import Condition
    from ..inference.score import Scored

IMAGES = "a folder, an array or a file of images; held-out ones of the run's data if left out"


def reconstruct(argv: list[str]) -> int:
    """reconstruct RUN [IMAGES]: what is left of an image after the code, which is searched for where the
    model only decodes"""
    text = (
        "Originals above their reconstructions.  Where the model only decodes, the code is searched for, "
        "and the nearest of some samples stands below."
    )
    parser = Parser("reconstruct", text, "RUN [IMAGES] [-n 16] [--steps N] [-o out.png | out.npz | folder/]")
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("images", metavar="IMAGES", nargs="?", help=IMAGES)
    usual = outline.value("inference.inversion", "STEPS")
    parser.add_argument(
        "--steps",
        type=count,
        metavar="N",
        help=f"steps of the search for the code [{usual}; none where the model encodes]",
    )
    helps = dict(
        n="number of images [16]",
        seed="random seed of the search, and of the choice of held-out images",
        o=picture_file(".npy", ".npz", ""),
    )
    common(parser, "-n", "--seed", "-o", "--json", **helps)
    args, [(run, _)] = on_runs(argv, parser)

    from .. import figures
    from ..core import answers, ask
    from ..inference import inputs, inversion
    from ..metrics.reconstruction import psnr
    from ..reports import terminal
    from ..reports.notebook import PICTURES, Pictures

    path, seed, n = (
        target(args["o"], run.folder / "samples" / "reconstructions.png", *PICTURES),
        args["seed"],
        args["n"] or 16,
    )
    ask(run.model, "decode")
    own, names = own_images(run, args["images"], n)
    asked = (
        inputs.held_out(run.data, n, seed)
        if own is None
        else inputs.own(own, None, names, run.config.spec, seed, run.config.data.get("binarize", False))
    )
    x, y, encodes = asked.batch.x, asked.batch.y, "encode" in answers(run.model)
    steps = args["steps"] or (0 if encodes else inversion.STEPS)
    before = run.reconstruct(x)[1] if encodes else inversion.nearest_samples(run.model, x, y, seed)
    back = inversion.decoded(run.model, searched(run, x, y, steps, seed, args["json"])) if steps else before
    page = (
        figures.shown(back, x)
        if run.config.spec.points
        else figures.strips(x, back, *([] if encodes else [before]))
    )
    recipe = dict(run=run.folder.name, seen=run.run.seen, n=len(x), seed=seed, steps=steps)
    Pictures(back, recipe, page).save(path)
    points = run.config.spec.points
    name, unit, near = (
        ("distance", "", lambda a, b: (a - b).flatten(1).norm(dim=1)) if points else ("psnr", " dB", psnr)
    )
    after, first = near(x, back), near(x, before)
    title = f"{len(x)} points, distance" if points else f"{len(x)} images, PSNR"
    result, says = (
        dict(recipe, path=str(path)) | {name: float(after.mean())},
        f"{title} {after.mean():.{4 if points else 2}f}{unit}",
    )
    if steps:
        who = "the encoder alone" if encodes else f"the nearest of {inversion.among(run.model):,} samples"
        rows = [
            {"name": whose, name: float(a), "before": float(b)}
            for whose, a, b in zip(asked.names, after, first)
        ]
        result |= dict(before=float(first.mean()), before_is=who, images=rows)
        digits = 4 if points else 2
        lines = [
            f"{row['name']}: {row[name]:.{digits}f}{unit}, before {row['before']:.{digits}f}" for row in rows
        ]
        says = "\n".join([*lines, f"{says} after {steps} steps, before {first.mean():.{digits}f} by {who}"])
    terminal.result(result, args["json"], f"{says}: {path}")
    return 0


def searched(run: Trained, x: Tensor, y: Condition | None, steps: int, seed: int, quiet: bool) -> Tensor:
    """The codes of images, with a word on how far the search is."""
    from ..inference import inversion
    from ..reports import terminal

    with terminal.status(quiet) as status:
        for result in inversion.search(run.model, x, y, steps, seed):
            status(f"{result.share:4.0%}  searching for the codes of {len(x)} images")
    return result.z


def complete(argv: list[str]) -> int:
    """complete RUN [IMAGES]: a part of each image is kept, and the rest is drawn, several times"""
    text = "A row an image: the original, the part of it that is kept, and what the model draws for the rest."
    parser = Parser(
        "complete",
        text,
        "RUN [IMAGES] [-n 16] [--keep 0.5 | --mask FILE] [-o out.png | out.npz | folder/] [options]",
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("images", metavar="IMAGES", nargs="?", help=IMAGES)
    parser.add_argument(
        "--keep", type=float, metavar="SHARE", help="fraction of rows kept, from the top [0.5]"
    )
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="a black-and-white picture of the images' size; white pixels are kept",
    )
    parser.add_argument(
        "--draws", type=count, default=3, metavar="K", help="number of completions of each image [3]"
    )
    parser.add_argument(
        "--label",
        metavar="CLASS",
        help="class of your own images, where the model is class-conditional; drawn at random if left out",
    )
    helps = dict(
        n="number of images [16]",
        seed="random seed of the completions, and of the choice of held-out images",
        o=picture_file(".npy", ".npz", ""),
    )
    common(parser, "-n", "--seed", "-o", "--json", **helps)
    args, [(run, live)] = on_runs(argv, parser)

    from ..core import Refusal, final
    from ..inference import complete as completion
    from ..reports import terminal
    from ..reports.notebook import PICTURES

    if args["mask"] and args["keep"] is not None:
        raise Refusal("--keep and --mask both say what is given; name one of them.")
    path = target(args["o"], run.folder / "samples" / "completions.png", *PICTURES)
    known = completion.mask(args["mask"], run.config.spec) if args["mask"] else None
    keep = 0.5 if args["keep"] is None else args["keep"]
    n = args["n"] or 16
    x, _ = own_images(run, args["images"], n)
    stages = run.completing(
        x, n, keep, known=known, draws=args["draws"], seed=args["seed"], label=args["label"], **live
    )
    drawn = final(terminal.walked(stages, "completing images", args["json"])).pictures
    drawn.save(path)
    terminal.result(
        dict(drawn.recipe, path=str(path)),
        args["json"],
        f"{drawn.recipe['n']} images, {args['draws']} draws of each: {path}",
    )
    return 0


def score(argv: list[str]) -> int:
    """score RUN [IMAGES]: how surprising each image is, in bits, beside held-out ones, and where in it"""
    parser = Parser(
        "score", outline.about("inference.score"), "RUN [IMAGES] [-n 16] [-o maps.png | maps.npz] [options]"
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("images", metavar="IMAGES", nargs="?", help=IMAGES)
    parser.add_argument(
        "--label",
        metavar="CLASS",
        help="class of your own images, where the model is class-conditional",
    )
    helps = dict(n="number of images [16]", seed=SEED_OF_CHOICE, o=picture_file(".npz"))
    common(parser, "-n", "--seed", "-o", "--json", **helps)
    args, [(run, live)] = on_runs(argv, parser)

    from ..core import answers
    from ..figures import ENDINGS
    from ..inference.inputs import answer
    from ..reports import terminal

    path = target(args["o"], run.folder / "samples" / "surprise.png", *ENDINGS, ".npz")
    if args["o"] and "bits_per_dim" in answers(run.model):
        answer(run.model, "surprise", "Without -o there are numbers, of whole images.  ")
    n = args["n"] or 16
    x, names = own_images(run, args["images"], n)
    scored = run.score(x, n, seed=args["seed"], label=args["label"], names=names, **live)
    where = scored.save(path) if scored.surprise is not None else None
    result = dict(
        run.named_class(args["label"]),
        run=str(run.folder),
        measure=f"bits/dim{scored.of}",
        kind=scored.kind,
        against=scored.against,
        images=scored.rows(),
        path=str(where) if where else None,
    )
    terminal.result(
        result,
        args["json"],
        "\n".join([*_table(scored), *([f"maps: {where}"] if where else [])]),
    )
    return 0


def _table(scored: Scored) -> list[str]:
    rows, against = scored.rows(), scored.against
    wide = max(len("image"), *(len(row["name"]) for row in rows))
    nats = "nats" in rows[0]
    lines = [f"{'image':{wide}}  bits/dim        bits" + nats * "        nats" + bool(against) * "  rank"]
    for row in rows:
        line = (f"{row['name']:{wide}}  {row['bits_per_dim']:8.4f}  {row['bits']:10,.1f}") + (
            f"  {row['nats']:10,.1f}" if nats else ""
        )
        lines.append(line + (f"  {row['rank']:4.0%}" if against else ""))
    says = f"bits are {scored.kind if scored.kind == 'exact' else f'an {scored.kind}'}"
    says += f", of an image{scored.of}" if scored.of else ""
    return [
        *lines,
        f"{says}; rank: share of {against} held-out images with fewer bits; near 0 % is as unusual as near "
        "100 %"
        if against
        else says,
    ]


def field(argv: list[str]) -> int:
    """field RUN...: which pixels a prediction depends on, and how much, of several runs side by side"""
    parser = Parser(
        "field", outline.about("inference.receptive_field"), "RUN [RUN ...] [-n 4] [-o out.png] [options]"
    )
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+")
    helps = dict(n="number of images averaged over [4]", seed=SEED_OF_CHOICE, o=picture_file())
    common(parser, "-n", "--seed", "-o", "--json", **helps)
    args, runs = on_runs(argv, parser)

    from .. import figures, storage
    from ..inference import receptive_field as fields
    from ..reports import terminal

    path, n = target(args["o"], runs[0][0].folder / "samples" / "field.png", *figures.ENDINGS), args["n"] or 4
    results = [run.field(n, args["seed"]) for run, _ in runs]
    storage.make(path.parent)
    recipe = dict(
        picture="field",
        n=n,
        seed=args["seed"],
        runs=[dict(run=run.folder.name, seen=run.run.seen) for run, _ in runs],
    )
    figures.write(path, fields.page(results, n), recipe)
    result = dict(path=str(path), fields=[one.as_dict() for each in results for one in each])
    lines = [
        f"{one.name}: row {one.row + 1}, column {one.column + 1} {one.says}"
        for each in results
        for one in each
    ]
    terminal.result(result, args["json"], "\n".join([*lines, str(path)]))
    return 0


def diffuse(argv: list[str]) -> int:
    """diffuse RUN...: pictures of noise being added and removed, of schedules, and of the bits gained at each
    noise level"""
    which = "|".join(outline.value("inference.diffusion_process", "PICTURES"))
    parser = Parser(
        "diffuse",
        outline.about("inference.diffusion_process"),
        f"RUN [RUN ...] [--picture {which}] [--images IMAGES] [-o out.png] [options]",
    )
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+")
    parser.add_argument("--picture", metavar=which, default="reverse", help="kind of picture [reverse]")
    parser.add_argument("--images", metavar="IMAGES", help=IMAGES)
    helps = dict(
        n="number of images [6; 4 of reverse; 64 of rate and distortion]",
        seed="random seed of noise, and of the choice of held-out images",
        o=picture_file(),
    )
    common(parser, "-n", "--seed", "-o", "--raw", "--json", **helps)
    args, runs = on_runs(argv, parser)

    from ..core import Refusal
    from ..figures import ENDINGS
    from ..inference import diffusion_process
    from ..inference.sampling import tuned
    from ..reports import terminal

    path = target(args["o"], runs[0][0].folder / "samples" / f"{args['picture']}.png", *ENDINGS)
    if args["images"] and args["picture"] not in ("forward", "rate", "distortion"):
        raise Refusal(
            f"the picture {args['picture']} is of no images that are given; leave --images out, or type "
            "--picture forward."
        )
    x, _ = own_images(runs[0][0], args["images"], args["n"] or 6)
    typed: dict[str, Any] = {}
    for run, live in runs:
        run.run.model = tuned(run.model, **live)
        typed |= live
    recipe = diffusion_process.draw(
        [(run.run, run.data) for run, _ in runs], args["picture"], path, args["n"], args["seed"], x, **typed
    )
    terminal.result(dict(recipe, path=str(path)), args["json"], str(path))
    return 0


def edit(argv: list[str]) -> int:
    """edit RUN [IMAGES]: images like these, drawn anew from where they are still seen through noise; rough
    sketches become likely images"""
    parser = Parser(
        "edit",
        outline.about("inference.edit"),
        "RUN [IMAGES] [-n 8] [--strength 0.5] [-o out.png | out.npz | folder/] [options]",
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("images", metavar="IMAGES", nargs="?", help=IMAGES)
    parser.add_argument(
        "--strength",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="fraction of the noise schedule that is re-run: 0 keeps the image, 1 forgets it [0.5]",
    )
    parser.add_argument(
        "--draws", type=count, default=3, metavar="K", help="number of variants of each image [3]"
    )
    parser.add_argument(
        "--label",
        metavar="CLASS",
        help="class of the result, where the model is class-conditional",
    )
    helps = dict(
        n="number of images [8]",
        seed="random seed of noise, and of the choice of held-out images",
        o=picture_file(".npy", ".npz", ""),
    )
    common(parser, "-n", "--seed", "-o", "--raw", "--json", **helps)
    args, [(run, live)] = on_runs(argv, parser)

    from ..core import final
    from ..reports import terminal
    from ..reports.notebook import PICTURES

    path, n = target(args["o"], run.folder / "samples" / "edits.png", *PICTURES), args["n"] or 8
    x, _ = own_images(run, args["images"], n)
    stages = run.editing(
        x, n, args["strength"], draws=args["draws"], seed=args["seed"], label=args["label"], **live
    )
    drawn = final(terminal.walked(stages, "editing images", args["json"])).pictures
    drawn.save(path)
    terminal.result(
        dict(drawn.recipe, path=str(path)),
        args["json"],
        f"{drawn.recipe['n']} images, {args['draws']} draws of each: {path}",
    )
    return 0


def own_images(run: Trained, source: str | None, n: int) -> tuple[Tensor | None, tuple[str, ...] | None]:
    """Somebody's own images, the first n, with the names of their files; what was skipped or left out is
    said."""
    if source is None:
        return None, None
    from ..data import user_images
    from ..reports import terminal

    result = user_images.images(source, run.config.spec, run.config.data, n)
    for note in result.notes:
        terminal.say(f"note: {note}")
    return result.x, result.names


def sample(argv: list[str]) -> int:
    """sample RUN: new images, each with its recipe; image i of a seed is always the same"""
    parser = Parser(
        "sample",
        "New images of a trained model, as one picture, one file each, or an array.",
        "RUN [-n 64] [-o out.png | out.npz | folder/] [options]",
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    helps = dict(
        n="number of images [64; 2,000 points, 16 clips]",
        seed="random seed: image i of a seed is always the same",
        o=picture_file(".npy", ".npz", "") + "; clips also .gif, .apng, .mp4, .webm",
    )
    common(parser, "-n", "--seed", "-o", "--raw", "--json", **helps)
    parser.add_argument(
        "--label",
        metavar="CLASS",
        help="class, by name or number, where the model is class-conditional [all classes]",
    )
    parser.add_argument(
        "--first", type=natural, default=0, metavar="K", help="number of the first image of the seed [0]"
    )
    parser.add_argument(
        "--nearest",
        action="store_true",
        help="append to each row, framed, the training image nearest to its last sample",
    )
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="RUN",
        help="a weaker run of the same denoising model, for autoguidance: --guidance leads away from it",
    )
    args, [(run, live)] = on_runs(argv, parser)

    from dataclasses import replace

    from .. import api
    from ..core import Refusal, final
    from ..inference import nearest
    from ..reports import terminal
    from ..reports.notebook import CLIPS, PAGES, PICTURES

    weak = api.open(args["beside"]) if args["beside"] else None
    points, clips = run.config.spec.points, run.config.spec.frames > 0
    if clips and args["nearest"]:
        raise Refusal("--nearest is for still images; leave it out for a model of videos.")
    n = args["n"] or (2000 if points else 16 if clips else 64)
    marks = "".join(f"-{name}" for name in ("raw", "nearest") if args[name])
    first = f"-first-{args['first']}" if args["first"] else ""
    usual = run.folder / "samples" / f"seed-{args['seed']}{first}-n-{n}{marks}{'.gif' if clips else '.png'}"
    path = target(args["o"], usual, *(PAGES if args["nearest"] else CLIPS if clips else PICTURES))
    stages = run.sampling(n, args["seed"], args["first"], args["label"], weak, **live)
    pictures = final(terminal.walked(stages, "drawing samples", args["json"])).pictures
    says = f"{n} {'points' if points else 'clips' if clips else 'images'}"
    if args["nearest"]:
        result = nearest.beside(pictures.x, run.data, run.run.config.training.mirror)
        pictures = replace(
            pictures,
            page=result.page,
            recipe=dict(pictures.recipe, nearest=result.row, distance=result.distance),
        )
        says += (
            f", framed training images {min(result.distance):.1f} to {max(result.distance):.1f} levels from "
            "the sample beside them"
        )
    pictures.save(path)
    terminal.result(dict(pictures.recipe, path=str(path)), args["json"], f"{says}: {path}")
    return 0


def latent(argv: list[str]) -> int:
    """latent RUN...: pictures of the code: random codes, interpolation, traversal, the 2-D plane,
    arithmetic"""
    which = "|".join(outline.value("inference.latent_space", "PICTURES"))
    parser = Parser(
        "latent", outline.about("inference.latent_space"), "RUN [RUN ...] [--picture NAME] [-o out.png]"
    )
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+")
    parser.add_argument("--picture", metavar=which, default="random", help="kind of picture [random]")
    parser.add_argument(
        "--images",
        metavar=("A", "B", "C"),
        nargs=3,
        help="for arithmetic: three folders or files of a kind each [classes of the data]",
    )
    helps = dict(
        n="number of images or steps in the picture [10; 20 of a plane]",
        seed="random seed of codes, and of the choice of held-out images",
        o=picture_file(),
    )
    common(parser, "-n", "--seed", "-o", "--json", **helps)
    args, runs = on_runs(argv, parser)

    from ..figures import ENDINGS
    from ..inference import latent_space as codes
    from ..reports import terminal

    path = target(args["o"], runs[0][0].folder / "samples" / f"{args['picture']}.png", *ENDINGS)
    groups = [
        x
        for source in args["images"] or ()
        if (x := own_images(runs[0][0], source, codes.MEMBERS)[0]) is not None
    ]
    codes.draw([(r.run, r.data) for r, _ in runs], args["picture"], path, args["n"], args["seed"], groups)
    terminal.result(dict(path=str(path), picture=args["picture"]), args["json"], str(path))
    return 0
