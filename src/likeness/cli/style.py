"""likeness style: a photograph in the style of a painting."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import Parser, common, count, picture_file, positive, target, writable
from .outline import value

if TYPE_CHECKING:
    from torch import Tensor

    from ..inference.style import How, State
    from ..parts.perceptual import Perceptual

SIZE = 512
"""pixels of the long side"""
FILM_SIDE, FILM_FRAMES = 384, 60
"""of the animation: its long side, and about how many frames it has"""


def style(argv: list[str]) -> int:
    """style CONTENT STYLE...: a photograph in the style of paintings (Gatys 2016, AdaIN, WCT)"""
    args = _parsed(argv)
    _refuse_idle(args)
    stem = f"{Path(args['content']).stem}-{'-'.join(Path(s).stem for s in args['styles'])}"
    path = _kept(args["o"], stem + ("-sheet" if args["sheet"] else ""))
    film = None if args["film"] is None else writable(_unused(args["film"], ".gif"))
    return _arbitrary(args, path) if args["arbitrary"] else _optimised(args, path, film)


def _parsed(argv: list[str]) -> dict[str, Any]:
    module = "inference.style"
    usage = "CONTENT STYLE [STYLE ...] [-o out.png] [--size 512] [options]"
    parser = Parser(
        "style",
        "The content of a photograph in the style of paintings.  --sheet shows nine settings first.",
        usage,
    )
    parser.add_argument("content", metavar="CONTENT", help="an image file")
    parser.add_argument("styles", metavar="STYLE", nargs="+", help="image files of paintings")
    parser.add_argument(
        "--shares", type=float, nargs="+", metavar="S", help="share of each style, such as 2 1 [equal]"
    )
    parser.add_argument(
        "--size",
        type=count,
        metavar="PIXELS",
        help=f"long side of the result, at most that of the photograph [{SIZE}]",
    )
    parser.add_argument(
        "--colour",
        dest="colours",
        metavar="|".join(value(module, "COLOURS")),
        default="style",
        help="whose colours: luminance keeps the content's, histogram fits the style's to them [style]",
    )
    common(parser, "--seed", "-o", "--device", "--json", o=picture_file())
    _of_optimisation(parser.add_argument_group("optimisation"), module)
    group = parser.add_argument_group("without optimisation")
    group.add_argument(
        "--arbitrary",
        metavar="WHAT",
        help="adain or wct: move the statistics of features and decode them (Huang 2017, Li 2017); or a "
        "run of adain, by its folder",
    )
    group.add_argument("--strength", type=float, metavar="A", help="0 is the photograph, 1 all style [1]")
    group.add_argument("--encoders", metavar="FILE", help="of --arbitrary [wct_distilled_vgg19_encoders ...]")
    group.add_argument("--decoders", metavar="FILE", help="of --arbitrary [wct_distilled_decoders ...]")
    group = parser.add_argument_group("pictures on the way")
    group.add_argument("--film", type=Path, metavar="FILE", help="an animation of the optimisation (.gif)")
    group.add_argument("--frames", type=Path, metavar="FOLDER", help="folder for intermediate pictures")
    group.add_argument("--every", type=count, metavar="K", help="gradients between two of them [10]")
    return parser.read(argv)


OPTIMISED = (
    *("content_weight", "style_weight", "variation", "strokes", "steps", "optimizer", "start", "network"),
    *("weights", "style_layers", "content_layer", "precision", "memory", "sheet", "film", "frames", "every"),
)
AT_ONCE = ("strength", "encoders", "decoders")
OF_SHEET = ("film", "frames", "every", "content_weight", "strokes")
"""flags that mean nothing with --arbitrary, without it, and with --sheet"""


def _refuse_idle(args: dict[str, Any]) -> None:
    """Raises Refusal for flags that would do nothing beside the others."""
    from ..core import Refusal

    for here, idle, why in (
        (args["arbitrary"], OPTIMISED, "of the optimisation, and do nothing with --arbitrary"),
        (not args["arbitrary"], AT_ONCE, "of --arbitrary, and do nothing without it"),
        (args["sheet"], OF_SHEET, "not of --sheet, which has its own weights and strokes and no way to film"),
        (args["frames"] is None, ("every",), "of --frames, and do nothing without it"),
    ):
        asked = [name for name in idle if args[name] is not None and args[name] is not False]
        if here and asked:
            typed = [f"--{name.replace('_', '-')}" for name in asked]
            raise Refusal(f"style: {', '.join(typed)}: {why}; leave out one or the other.")


def _of_optimisation(group: argparse._ArgumentGroup, module: str) -> None:
    weight, steps = value(module, "CONTENT_WEIGHT"), value(module, "STEPS")
    group.add_argument("--sheet", action="store_true", help="nine small results: content weight by strokes")
    group.add_argument("--content-weight", type=float, metavar="W", help=f"of the content [{weight:g}]")
    group.add_argument("--style-weight", type=float, metavar="W", help="of the style [1]")
    group.add_argument("--variation", type=float, metavar="W", help="of the total variation [0]")
    group.add_argument(
        "--strokes",
        type=positive,
        metavar="SHARE",
        help="size of the painting over that of the result; larger widens the strokes [1]",
    )
    group.add_argument("--steps", type=count, metavar="N", help=f"gradients at each size [{steps}]")
    for flag, names, text in (
        ("--optimizer", "OPTIMIZED", "[lbfgs]"),
        ("--start", "STARTS", "[content]"),
        ("--network", "NETWORKS", "whose features are compared [vgg16]"),
    ):
        group.add_argument(flag, metavar="|".join(value(module, names)), help=text)
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="of the network: a .safetensors, .npz or .h5, or none for random ones [the published ones]",
    )
    group.add_argument(
        "--style-layers", nargs="+", metavar="NAME", help="[Gatys' of vgg19, Johnson's of vgg16]"
    )
    group.add_argument("--content-layer", metavar="NAME", help="likeness features --layers vgg16 lists all")
    group.add_argument("--precision", metavar="auto|fp32|bf16", help="of convolutions [auto]")
    group.add_argument(
        "--memory", type=positive, metavar="GB", help="that it may hold; larger images go in strips [2]"
    )


def _unused(path: Path, *endings: str) -> Path:
    """Refused where a file is there, or would be of another kind."""
    from ..core import Refusal

    if endings and path.suffix.lower() not in endings:
        raise Refusal(f"--film {path} should end in {' or '.join(endings)}.")
    if path.exists():
        raise Refusal(f"{path} is there already, and nothing is overwritten; name another file.")
    return path


def _kept(named: Path | None, stem: str) -> Path:
    """Where the result goes: where that was not said, a name that is free."""
    from ..figures.files import ENDINGS

    if named is not None:
        return writable(_unused(target(named, named, *ENDINGS)))
    path, number = Path("styled") / f"{stem}.png", 1
    while path.exists():
        number += 1
        path = Path("styled") / f"{stem}-{number}.png"
    return writable(path)


# Images


def _images(args: dict[str, Any], largest: int) -> tuple[Tensor, list[Tensor]]:
    """The content, and the styles, with what is to be said of them."""
    from .. import engine
    from ..data import user_images
    from ..inference import style as transfer
    from ..reports import terminal

    size = args["size"] or SIZE
    opened = [user_images.whole(args["content"], size)]
    opened += [user_images.whole(path, largest) for path in args["styles"]]
    for path, own in zip([args["content"], *args["styles"]], opened):
        transfer.large_enough(own.x, str(path))
        for note in own.notes:
            terminal.say(f"note: {note}", args["json"])
    high, wide = opened[0].x.shape[2:]
    if max(high, wide) < size and args["size"]:
        terminal.say(f"note: {args['content']} has {wide}x{high} pixels, and is not enlarged", args["json"])
    for path, own in zip(args["styles"], opened[1:]):
        if transfer.is_grey(own.x) and args["colours"] == "style":
            terminal.say(
                f"note: {path} is grey, and so will be the result; --colour luminance keeps the colours",
                args["json"],
            )
    content, *styles = (own.x.to(engine.device()) for own in opened)
    return content, styles


def _write(args: dict[str, Any], path: Path, x: Tensor, recipe: dict[str, Any]) -> None:
    """The result, with EXIF data and colour profile of the photograph, whose orientation is applied."""
    from .. import figures, storage
    from ..data import photos
    from ..figures import photo_files

    exif, profile = photos.beside(args["content"], x.shape[3], x.shape[2])
    storage.make(path.parent)
    photo_files.write(path, figures.pixels(x)[0], recipe, exif=exif, profile=profile)


# By optimisation


def _how(args: dict[str, Any]) -> How:
    from ..inference.style import How

    names = ["content_weight", "style_weight", "variation", "strokes", "steps", "optimizer", "start"]
    names += ["content_layer", "network", "memory", "precision", "seed"]
    typed = {name: args[name] for name in names if args[name] is not None}
    typed["colour"] = args["colours"]
    several: dict[str, Any] = {name: tuple(args[name]) for name in ("shares", "style_layers") if args[name]}
    return How(**typed, **several)


def _optimised(args: dict[str, Any], path: Path, film: Path | None) -> int:
    from .. import storage
    from ..inference import style as transfer
    from ..reports import terminal

    how, began = _how(args), time.monotonic()
    size = args["size"] or SIZE
    content, styles = _images(args, min(4096, max(64, round(size * how.strokes))))
    transfer.shared(how, len(styles))
    net = how.open(args["weights"] or "")
    if args["sheet"]:
        return _sheet(args, net, content, styles, how, path)
    high, wide = content.shape[2:]
    plan = transfer.planned(net, (high, wide), how, [s.shape[2:] for s in styles])
    ways = ", ".join(f"{wide}x{high}" for high, wide in plan.sizes)
    inside = "" if plan.gigabytes <= how.memory else f", more than --memory {how.memory:g} allows"
    terminal.say(
        f"{how.steps} gradients at each of {ways}; memory: about {plan.gigabytes:.1f} GB{inside}",
        args["json"],
    )
    state, frames = _walk(args, transfer.style(net, content, styles, how, plan), how.steps * len(plan.sizes))
    recipe = recipe_of(args, net, how) | dict(loss=state.loss, gradients=state.step)
    recipe |= {f"{name}_error": error for name, error in state.terms._asdict().items()}
    _write(args, path, state.x, recipe)
    if film is not None:
        storage.make(film.parent)
        storage.write(film, _animation(frames, recipe))
    seconds = round(time.monotonic() - began, 1)
    result = recipe | dict(path=str(path), film=film and str(film), seconds=seconds, memory=plan.gigabytes)
    text = f"style off by {state.terms.style**0.5:.1%}, content by {state.terms.content**0.5:.0%}"
    terminal.result(result, args["json"], f"{text}, {seconds:g} s\n{path}")
    return 0


def recipe_of(args: dict[str, Any], net: Perceptual, how: How) -> dict[str, Any]:
    """How the picture is made again."""
    from dataclasses import asdict

    return asdict(how) | dict(
        style=[str(path) for path in args["styles"]],
        content=str(args["content"]),
        size=args["size"] or SIZE,
        weights=net.sha256,
        source=net.source,
        style_layers=how.of_style,
        content_layer=how.of_content,
    )


def _walk(args: dict[str, Any], states: Any, most: int) -> tuple[State, list[Tensor]]:
    """To the end of the way, with a word on how far it is, and pictures where these are asked for."""
    from .. import figures, storage
    from ..inference.style import with_long_side
    from ..reports import terminal

    folder, every, kept = args["frames"], args["every"] or 10, list[Any]()
    for_film, last = max(1, most // FILM_FRAMES), time.monotonic()
    if folder is not None:
        storage.make(folder)
    with terminal.err.status("") as status:
        for number, state in enumerate(states):
            high, wide = state.size
            text = f"{state.share:4.0%}  {wide}x{high}  loss {state.loss:.4g}"
            status.update(text)
            if not terminal.err.is_terminal and time.monotonic() - last > terminal.EVERY:
                last = time.monotonic()
                terminal.say(text, args["json"])
            if folder is not None and number % every == 0:
                picture, recipe = figures.pixels(state.x)[0], dict(frame=number, loss=state.loss)
                figures.write_png(_unused(folder / f"{number:06d}.png"), picture, recipe)
            if args["film"] is not None and number % for_film == 0:
                kept.append(with_long_side(state.x, FILM_SIDE).cpu())
    return state, [*kept, with_long_side(state.x, FILM_SIDE).cpu()]


def _animation(frames: list[Tensor], recipe: dict[str, Any]) -> bytes:
    """A GIF: frames of one size, the last of which stays; its comment is the recipe."""
    import io
    import json

    from PIL import Image

    from .. import figures
    from ..backbones.resize import resized

    size = (frames[-1].shape[2], frames[-1].shape[3])
    first, *others = (Image.fromarray(figures.pixels(resized(x, size))[0]) for x in frames)
    file, times = io.BytesIO(), [80] * len(others) + [2000]
    how = dict(save_all=True, append_images=others, duration=times, loop=0)
    first.save(file, "GIF", **how, comment=json.dumps(recipe, default=str).encode())
    return file.getvalue()


def _sheet(
    args: dict[str, Any], net: Perceptual, content: Tensor, styles: list[Tensor], how: How, path: Path
) -> int:
    import numpy as np

    from .. import figures, storage
    from ..inference import style as transfer
    from ..reports import terminal

    tiles, began, across = list[Any](), time.monotonic(), len(transfer.SHEET_WEIGHTS)
    with terminal.err.status("") as status:
        for one, x in transfer.sheet(net, content, styles, how):
            tiles.append(figures.pixels(x.cpu())[0])
            status.update(
                f"{len(tiles)} of 9: content weight {one.content_weight:g}, strokes {one.strokes:g}"
            )
    titles = [f"--content-weight {w:g}" for w in transfer.SHEET_WEIGHTS]
    notes = [f"--strokes {s:g}" for s in transfer.SHEET_STROKES]
    storage.make(path.parent)
    page = figures.sheet([np.stack(tiles[i::across]) for i in range(across)], titles, notes)
    recipe = recipe_of(args, net, how) | dict(sheet=True)
    figures.write(path, page, recipe)
    seconds = round(time.monotonic() - began, 1)
    text = f"choose one, and type its flags without --sheet, {seconds:g} s\n{path}"
    terminal.result(recipe | dict(path=str(path), seconds=seconds), args["json"], text)
    return 0


# At once


def _arbitrary(args: dict[str, Any], path: Path) -> int:
    from ..inference import arbitrary
    from ..reports import terminal

    began = time.monotonic()
    nets = arbitrary.opened(args["arbitrary"], args["encoders"] or "", args["decoders"] or "")
    size = args["size"] or SIZE
    content, styles = _images(args, size)
    strength = 1.0 if args["strength"] is None else args["strength"]
    x = arbitrary.stylise(nets, content, styles, args["shares"] or (), strength, args["colours"])
    recipe = dict(
        arbitrary=args["arbitrary"],
        content=str(args["content"]),
        style=[str(one) for one in args["styles"]],
        shares=args["shares"],
        strength=strength,
        colour=args["colours"],
        size=size,
        source=nets.source,
    )
    _write(args, path, x.cpu(), recipe)
    seconds = round(time.monotonic() - began, 1)
    terminal.result(recipe | dict(path=str(path), seconds=seconds), args["json"], f"{seconds:g} s\n{path}")
    return 0
