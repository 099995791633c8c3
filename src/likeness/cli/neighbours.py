"""likeness neighbours: what is near an image, by its pixels or by what a network sees in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import Parser, count, target
from .map import collected, gathered

if TYPE_CHECKING:
    import numpy as np

    from ..maps.collection import Collection


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
    parser.add_argument("-k", type=count, default=8, help="how many [8]")
    args = vars(parser.parse_intermixed_args(argv))

    from .. import figures, storage
    from ..maps.collection import is_matrix
    from ..reports import terminal
    from ..runs.source import parse

    args["data"] = parse(args["data"])
    out = target(args["o"], Path("maps") / "neighbours.png", ".png")
    # The eyes of a matrix are those that made it: what is said of them says where they are now.
    eyes = dict(network=args["network"], weights=args["weights"])
    results = gathered(args | dict.fromkeys(eyes, "") if is_matrix(args["data"]) else args, out.parent)
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
        figures.write_png(out, _page(asked, results, rows, distance, args["query"]), recipe)
        result["path"] = str(out)
        lines.append(str(out))
    terminal.result(result, args["json"], "\n".join(lines))
    return 0


def search(
    query: str, collection: Collection, k: int, network: str = "", weights: str = ""
) -> tuple[list[int], list[float], np.ndarray | None, float]:
    """The k nearest: which of the collection, and their distances; the query's own pixels; and the median
    distance from an image to its nearest.

    An image of the collection is not among its own neighbours.
    """
    import os

    import numpy as np

    from ..core import Refusal
    from ..maps import embedding
    from ..maps.collection import looked_at

    own = member(query, collection)
    if own is not None:
        one, asked = (
            np.asarray(collection.features[own : own + 1], np.float32),
            None if collection.x is None else collection.x[own],
        )
    elif os.path.isfile(os.path.expanduser(query)):
        one, asked = looked_at(query, collection, network, weights)
    else:
        raise Refusal(
            f"{query!r} is no file, and no name or row among the {len(collection.names):,} images of "
            f"{collection.source}; name an image."
        )
    if k > len(collection.names) - (own is not None):
        raise Refusal(
            f"-k {k} asks for more than the {len(collection.names) - (own is not None):,} other images that "
            "there are; type a smaller one."
        )
    far = np.concatenate(
        [
            np.sqrt(np.square(part - one.astype(np.float32), dtype=np.float64).sum(1))
            for _, part in embedding.blocks(collection.features)
        ]
    )
    if own is not None:
        far[own] = np.inf
    some = np.sort(np.random.default_rng(0).choice(len(far), min(len(far), 200), replace=False))
    near = embedding.distances(collection.features, some).min(1)
    usual = embedding.unit(collection.features) * float(np.median(np.sqrt(np.maximum(near, 0))))
    rows = np.argsort(far, kind="stable")[:k]
    return rows.tolist(), far[rows].tolist(), asked, usual


def member(query: str, collection: Collection) -> int | None:
    """Which image of the collection this is, by its name or its row; None if it is none of them."""
    if query in collection.names:
        return collection.names.index(query)
    rows = collection.rows.tolist()
    return rows.index(int(query)) if query.isdecimal() and int(query) in rows else None


def _page(
    asked: np.ndarray, collection: Collection, rows: list[int], distance: list[float], query: str
) -> np.ndarray:
    """The query, then its neighbours, nearest first, each with its distance, its label and its name."""
    from ..maps import pictures

    assert collection.x is not None
    labels = [collection.labels[i] for i in rows] if collection.labels else [""] * len(rows)
    near = [
        (collection.x[i], [f"{d:.4g}", *filter(None, [label]), collection.names[i]])
        for i, d, label in zip(rows, distance, labels)
    ]
    own = member(query, collection)
    words = (
        [Path(query).name]
        if own is None
        else [*filter(None, [collection.labels[own] if collection.labels else ""]), collection.names[own]]
    )
    return pictures.strip([(asked, ["asked for", *words]), *near])
