"""likeness features: what layers of a network say of every image, as a matrix; and which layers there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from .arguments import Parser, common, count, natural


def features(argv: list[str]) -> int:
    """features DATA --layer NAME: outputs of a network's layers for every image, as .npy; --layers NETWORK
    shows which there are"""
    from ..core import Refusal
    from ..data import pixels
    from ..features import extract as module
    from ..features import named, opening
    from ..reports import terminal
    from ..training import signals

    usage = (
        "DATA --network vgg19 --layer block4_pool [--layer fc2] [-o features.npy | folder/] [options] | "
        "--layers NETWORK"
    )
    parser = Parser("features", module.__doc__ or "", usage)
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="a folder of images, an image, an array, or a name from `likeness data`",
    )
    parser.add_argument(
        "--network",
        metavar="NAME",
        default="vgg19",
        help=f"feature network: {named.choices(named.LAYERS)} [vgg19]",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        action="append",
        help="layer whose output is written; several are computed in one pass",
    )
    parser.add_argument("--layers", metavar="NETWORK", help="show the layers of a network, and nothing else")
    parser.add_argument(
        "--pool",
        metavar="avg|max",
        default="",
        help="pooling over the positions of a layer [none: all values, in the order height, width, channel]",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        default="",
        help="a .safetensors, .npz, .h5 or .pth, or none for random ones [the published ones]",
    )
    parser.add_argument(
        "--size",
        type=count,
        default=0,
        metavar="PIXELS",
        help="height and width to which images are resized [the network's own]",
    )
    parser.add_argument(
        "--interpolation",
        metavar="NAME",
        default="",
        help=f"interpolation: {', '.join(pixels.SCALINGS)} [the network's own: nearest for those of Keras]",
    )
    parser.add_argument(
        "--precision", metavar="fp32|bf16", default="fp32", help="precision of matrix products [fp32]"
    )
    parser.add_argument("--seed", type=natural, default=0, help="random seed of --weights none [0]")
    common(parser, "-o", "--device", "--json", o="output file (.npy), or a folder [features.npy]")
    args = parser.read(argv)
    if args["layers"]:
        return layers(args["layers"], args["weights"], args["seed"], args["json"])
    if not args["data"] or not args["layer"]:
        raise Refusal(
            "say of which images, and which layers: likeness features photos/ --network vgg19 --layer "
            "block4_pool; --layers vgg19 shows them all."
        )
    net = opening.load(
        args["network"],
        args["weights"],
        args["layer"],
        args["seed"],
        reporting(f"weights of {args['network']}"),
    )
    options = {name: args[name] for name in ("pool", "size", "interpolation", "precision")}
    work = module.extract(net, args["data"], args["layer"], args["o"] or Path("features.npy"), **options)
    last, at = time.monotonic(), None
    with signals.stopping() as stop:
        for at in work:
            if time.monotonic() - last > terminal.EVERY:
                last = time.monotonic()
                terminal.say(
                    f"{at.done.files / at.total:4.0%}  {at.done.files:,} images  "
                    f"{at.fresh / max(at.seconds, 1e-9):,.1f}/s",
                    args["json"],
                )
            if stop.signal:
                break
    assert at is not None
    if stop.signal:
        terminal.say(
            f"stopped at image {at.done.files:,} of {at.total:,}; the same command goes on from here"
        )
        return 128 + stop.signal
    out = work.output
    terminal.say(module.verdict(at.done), args["json"])
    rows = [
        dict(layer=name, path=str(path), shape=[at.done.rows, out.widths[name]])
        for name, path in out.paths.items()
    ]
    speed = at.fresh / max(at.seconds, 1e-9)
    result = dict(
        network=net.name,
        weights=net.source,
        sha256=net.sha256,
        layers=rows,
        names=str(out.table),
        skipped=at.done.skipped,
        images_per_second=speed,
    )
    lines = [
        f"{row['layer']}: {at.done.rows:,} x {out.widths[str(row['layer'])]:,} -> {row['path']}"
        for row in rows
    ]
    terminal.result(result, args["json"], "\n".join([*lines, f"names and labels: {out.table}"]))
    return 0


def reporting(what: str) -> Callable[[int, int], None]:
    """Says now and then how far a download is."""
    from ..reports import terminal

    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > terminal.EVERY:
            last = time.monotonic()
            terminal.say(f"{what}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")

    return tell


def layers(name: str, weights: str, seed: int, as_json: bool) -> int:
    """All layers of a network in order, what comes out of each, and how much of the image it sees."""
    from ..backbones import catalogue
    from ..backbones.layers import Graph
    from ..features import opening
    from ..features.named import LAYERS, parse
    from ..reports import terminal

    asked = parse(name, LAYERS)
    # their names can be listed without fetching any
    weights = weights or ("none" if asked.name == "timm" else "")
    net = catalogue.named(name) if asked.kind == "graph" else opening.load(name, weights, seed=seed)
    sees = net.fields() if isinstance(net, Graph) else {}
    rows = []
    for layer, shape in net.layers.items():
        places, field = " x ".join(map(str, (*shape[1:], shape[0]))), sees.get(layer)
        rows.append(
            dict(layer=layer, output=places, sees="" if field is None else f"{field} px" if field else "all")
        )
    side = (
        f"for images of {net.side}x{net.side}: height x width x channels; `sees`: pixels a side that a "
        "place of the layer depends on"
    )
    terminal.table("layers", rows, ("layer", "output", "sees"), as_json, side)
    return 0
