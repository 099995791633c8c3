"""likeness map: images as a map of what resembles what, with the numbers that say how far it may
be believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import outline
from .arguments import Parser, common, count, flags, picture_file, positive, target, writable

if TYPE_CHECKING:
    import argparse

    from ..maps.collection import Collection
    from ..maps.single import Mapped


def map(argv: list[str]) -> int:
    """map DATA|FEATURES: what resembles what, as a picture, a page to walk about in, and coordinates;
    clusters, copies, outliers"""
    from ..reports import terminal
    from ..runs.source import parse

    parser = Parser(
        "map",
        outline.about("maps.embedding"),
        "DATA|features.npy [--method tsne] [--network NAME --layer L] [-o map.png] [options]",
    )
    collected(parser, ".html", ".npz")
    parser.add_argument(
        "--method",
        metavar="|".join(outline.value("maps.embedding", "METHODS")),
        help="umap needs the package umap-learn [tsne]",
    )
    parser.add_argument(
        "--perplexity",
        type=positive,
        metavar="P",
        help="of t-SNE: how many neighbours an image has, softly counted [30, or a third of the others]",
    )
    parser.add_argument(
        "--perplexities",
        type=positive,
        nargs="+",
        metavar="P",
        help="t-SNE with each of these, side by side, and nothing else",
    )
    parser.add_argument(
        "--clusters",
        type=count,
        metavar="K",
        help="how many [the fewest of 2 to 20 with nearly the largest silhouette]",
    )
    usual = outline.value("maps.single", "USUAL")
    parser.add_argument(
        "--starts",
        type=int,
        metavar="S",
        help=f"random starts whose maps are compared; 0 is none [2 up to {usual:,} images, else none]",
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="MAP.npz",
        help="place these images on a map that was made before, on which nothing moves",
    )
    args = parser.read(argv)
    args["data"] = parse(args["data"])
    from ..maps import embedding, single

    single.refuse_others(args)
    from ..figures import ENDINGS

    named = target(args["o"], Path("maps") / f"{args['data'].stem}.png", *ENDINGS, ".html", ".npz")
    # the page and the coordinates lie beside the picture, whichever was named
    out = writable(named if named.suffix.lower() in ENDINGS else named.with_suffix(".png"))

    old = embedding.Map.load(args["into"]) if args["into"] else None
    result = single.arranged(gathered(args, out.parent), old, dict(args, quiet=args["json"]))
    numbers, text = _written(result, out)
    terminal.result(numbers, args["json"], text)
    return 0


def collected(parser: argparse.ArgumentParser, *others: str) -> None:
    """The flags that say of which images, and by which features.  others: endings of -o beside pictures."""
    from .. import data

    parser.add_argument(
        "data",
        metavar="DATA",
        help="images, a run that encodes, or an .npy of features, with the .csv of names beside it",
    )
    parser.add_argument(
        "--network",
        default="",
        metavar="NAME",
        help="feature network: vgg16, mobilenet_v2 ..., or a run that encodes [the pixels themselves]",
    )
    parser.add_argument(
        "--layer",
        default="",
        metavar="L",
        help="layer of the network; likeness features --layers NAME lists them [the last before the classes]",
    )
    parser.add_argument(
        "--pool", default="", metavar="avg|max", help="pooling over the positions of the layer [none]"
    )
    parser.add_argument(
        "--weights",
        default="",
        metavar="FILE",
        help="weights of the network, or none for random ones [the published ones]",
    )
    parser.add_argument(
        "--images",
        default="",
        metavar="DATA",
        help="where the images of a matrix of features are, if the .json beside it does not say",
    )
    parser.add_argument(
        "--data",
        dest="place",
        default="",
        metavar="PLACE",
        help="where the data of a run are now, if DATA is one and they have moved",
    )
    helps = dict(n="number of images [all]", o=picture_file(*others))
    common(parser, "-n", "--seed", "-o", "--device", "--json", **helps)
    flags(parser, "reading the data", data.Reading, data.Reading(), leave_out={"task", "to", "swap"})


def gathered(args: dict[str, Any], folder: Path) -> Collection:
    """The images that these flags name, with their features."""
    from ..maps import single

    return single.gathered(dict(args, quiet=args["json"]), folder)


def _written(result: Mapped, out: Path) -> tuple[dict[str, Any], str]:
    """The files of a map, and what is said of them; its numbers are one of them, where they are many."""
    if result.made is None:
        paths = result.write(out.with_name(f"{out.stem}-perplexities{out.suffix}"))
        return dict(path=str(paths["picture"]), **result.numbers), f"{result.text}\n{paths['picture']}"
    paths = result.write(out)
    numbers = result.document(paths, out)
    return numbers, "\n".join([result.text, *(f"{name:20} {path}" for name, path in paths.items())])
