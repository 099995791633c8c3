"""likeness neighbours: what is near an image, by its pixels or by what a network sees in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import Parser, count, target
from .map import collected, gathered

if TYPE_CHECKING:
    from ..data.source import Source


def neighbours(argv: list[str]) -> int:
    """neighbours QUERY DATA|FEATURES: the images nearest to one, as a picture with their distances"""
    text = (
        "The images that are nearest to one: a file, or the name or the row of an image among the data "
        "themselves."
    )
    parser = Parser(
        "neighbours",
        text,
        "QUERY DATA|features.npy [-k 8] [--network NAME --layer L] [-o neighbours.png] [options]",
    )
    parser.add_argument(
        "query", metavar="QUERY", help="an image file, or the name or the row of one of the images"
    )
    collected(parser)
    parser.add_argument("-k", type=count, default=8, help="number of neighbours [8]")
    args = parser.read(argv)

    from .. import figures, storage
    from ..maps.collection import is_matrix
    from ..maps.neighbours import member, page, search
    from ..reports import terminal
    from ..runs.source import parse

    args["data"] = parse(args["data"])
    out = target(args["o"], Path("maps") / "neighbours.png", *figures.ENDINGS)
    # The eyes of a matrix are those that made it: what is said of them says where they are now.
    eyes = dict(network=args["network"], weights=args["weights"])
    results = gathered(args | dict.fromkeys(eyes, "") if is_matrix(args["data"]) else args, out.parent)
    if is_matrix(args["data"]) and member(args["query"], results) is not None:
        _unused(args["query"], args["data"], eyes)
    rows, distance, asked, usual = search(args["query"], results, args["k"], **eyes)
    names = [results.names[i] for i in rows]
    labels = [results.labels[i] for i in rows] if results.labels else []
    result = dict(
        query=args["query"],
        features=results.seen,
        usual=usual,
        neighbours=[
            dict(name=n, row=int(results.rows[i]), distance=d) for n, i, d in zip(names, rows, distance)
        ],
    )
    lines = [
        f"{d:10.4g}  {name}{'  ' + label if label else ''}"
        for name, d, label in zip(names, distance, labels or [""] * len(names))
    ]
    lines.append(f"{usual:10.4g}  is what an image here usually has to its nearest")
    if asked is not None and results.x is not None:
        storage.make(out.parent)
        recipe = dict(
            picture="neighbours", query=args["query"], data=results.source, features=results.seen, k=len(rows)
        )
        figures.write(out, page(asked, results, rows, distance, args["query"]), recipe)
        result["path"] = str(out)
        lines.append(str(out))
    terminal.result(result, args["json"], "\n".join(lines))
    return 0


def _unused(query: str, source: Source, eyes: dict[str, str]) -> None:
    """Raises Refusal where a network is named that would look at nothing."""
    from ..core import Refusal

    if idle := [f"--{name}" for name, value in eyes.items() if value]:
        raise Refusal(
            f"the features of {query!r} are in {source.text} already, so that no network looks at it; leave "
            f"{' and '.join(idle)} out, or name an image file."
        )
