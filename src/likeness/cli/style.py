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
    from ..inference.stylise import Film
    from ..parts.perceptual import Perceptual

SIZE = 512
"""pixels of the long side"""


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
    from ..inference import stylise
    from ..reports import terminal

    def say(note: str) -> None:
        terminal.say(f"note: {note}", args["json"])

    size = args["size"] or SIZE
    named = (args["content"], args["styles"], size, largest)
    return stylise.opened(*named, say, args["colours"], bool(args["size"]))


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
    from ..inference import stylise
    from ..reports import terminal

    how, began = _how(args), time.monotonic()
    size = args["size"] or SIZE
    content, styles = _images(args, stylise.largest(size, how))
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
    shown = stylise.Film(how.steps * len(plan.sizes)) if film is not None else None
    state = _walk(args, transfer.style(net, content, styles, how, plan), shown)
    recipe = recipe_of(args, net, how) | stylise.recipe_of_way(state)
    stylise.write(path, state.x, recipe, args["content"])
    if film is not None and shown is not None:
        storage.make(film.parent)
        storage.write(film, shown.file(state.x, recipe))
    seconds = round(time.monotonic() - began, 1)
    result = recipe | dict(path=str(path), film=film and str(film), seconds=seconds, memory=plan.gigabytes)
    text = f"style off by {state.terms.style**0.5:.1%}, content by {state.terms.content**0.5:.0%}"
    terminal.result(result, args["json"], f"{text}, {seconds:g} s\n{path}")
    return 0


def recipe_of(args: dict[str, Any], net: Perceptual, how: How) -> dict[str, Any]:
    """How the picture is made again."""
    from ..inference import stylise

    return stylise.recipe(args["content"], args["styles"], args["size"] or SIZE, net, how)


def _walk(args: dict[str, Any], states: Any, film: Film | None) -> State:
    """To the end of the way, with a word on how far it is, and pictures where these are asked for."""
    from .. import figures, storage
    from ..reports import terminal

    folder, every = args["frames"], args["every"] or 10
    if folder is not None:
        storage.make(folder)
    with terminal.status(args["json"]) as status:
        for number, state in enumerate(states):
            high, wide = state.size
            status(f"{state.share:4.0%}  {wide}x{high}  loss {state.loss:.4g}")
            if folder is not None and number % every == 0:
                picture, recipe = figures.pixels(state.x)[0], dict(frame=number, loss=state.loss)
                figures.write_png(_unused(folder / f"{number:06d}.png"), picture, recipe)
            if film is not None:
                film.take(number, state.x)
    final: State = state
    return final


def _sheet(
    args: dict[str, Any], net: Perceptual, content: Tensor, styles: list[Tensor], how: How, path: Path
) -> int:
    from .. import figures, storage
    from ..inference import style as transfer
    from ..inference import stylise
    from ..reports import terminal

    tiles, began = list[Any](), time.monotonic()
    with terminal.status(args["json"]) as status:
        for one, x in transfer.sheet(net, content, styles, how):
            tiles.append(figures.pixels(x.cpu())[0])
            status(f"{len(tiles)} of 9: content weight {one.content_weight:g}, strokes {one.strokes:g}")
    storage.make(path.parent)
    recipe = recipe_of(args, net, how) | dict(sheet=True)
    figures.write(path, stylise.sheet(tiles), recipe)
    seconds = round(time.monotonic() - began, 1)
    text = f"choose one, and type its flags without --sheet, {seconds:g} s\n{path}"
    terminal.result(recipe | dict(path=str(path), seconds=seconds), args["json"], text)
    return 0


# At once


def _arbitrary(args: dict[str, Any], path: Path) -> int:
    from ..inference import arbitrary, stylise
    from ..reports import terminal

    began = time.monotonic()
    nets = arbitrary.opened(args["arbitrary"], args["encoders"] or "", args["decoders"] or "")
    size = args["size"] or SIZE
    content, styles = _images(args, size)
    strength = 1.0 if args["strength"] is None else args["strength"]
    x = arbitrary.stylise(nets, content, styles, args["shares"] or (), strength, args["colours"])
    named = (args["arbitrary"], args["content"], args["styles"], args["shares"], strength)
    recipe = stylise.recipe_at_once(*named, args["colours"], size, nets.source)
    stylise.write(path, x.cpu(), recipe, args["content"])
    seconds = round(time.monotonic() - began, 1)
    terminal.result(recipe | dict(path=str(path), seconds=seconds), args["json"], f"{seconds:g} s\n{path}")
    return 0
