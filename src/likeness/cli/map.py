"""likeness map: images as a map of what resembles what, with the numbers that say how far it may
be believed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import outline
from .arguments import Parser, common, count, flags, picture_file, positive, target, writable

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from torch import Tensor

    from ..maps.clusters import Clusters
    from ..maps.collection import Collection
    from ..maps.embedding import Map
    from ..maps.page import Listed
    from ..maps.pictures import Groups
    from ..maps.tsne import Affinities
    from ..metrics.card import Score

USUAL = 1000
"""images up to which two more maps from random starts are made without being asked for"""
TAKES = {
    "a map by tsne": ("method", "perplexity", "clusters", "starts"),
    "a map by umap": ("method", "clusters"),
    "a map by pca": ("method", "clusters"),
    "a row of maps": ("perplexities",),
    "an old map": ("into",),
}
"""what each kind of map asks for; anything else that was typed is refused"""


def map(argv: list[str]) -> int:
    """map DATA|FEATURES: what resembles what, as a picture, a page to walk about in, and coordinates;
    clusters, copies, outliers"""
    from ..core import Refusal
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
    parser.add_argument(
        "--starts",
        type=int,
        metavar="S",
        help=f"random starts whose maps are compared; 0 is none [2 up to {USUAL:,} images, else none]",
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="MAP.npz",
        help="place these images on a map that was made before, on which nothing moves",
    )
    args = parser.read(argv)
    args["data"] = parse(args["data"])
    if args["starts"] is not None and not (args["starts"] == 0 or 2 <= args["starts"] <= 20):
        raise Refusal(
            f"--starts {args['starts']} leaves nothing to compare, or takes too long; type 0, or 2 to 20."
        )
    _refuse_others(args)
    from ..figures import ENDINGS

    named = target(args["o"], Path("maps") / f"{args['data'].stem}.png", *ENDINGS, ".html", ".npz")
    # the page and the coordinates lie beside the picture, whichever was named
    out = writable(named if named.suffix.lower() in ENDINGS else named.with_suffix(".png"))

    from ..maps import embedding as module

    old = module.Map.load(args["into"]) if args["into"] else None
    results = gathered(args, out.parent)
    if old is not None:
        result, text = _into(results, old, args, out)
    else:
        _refuse_few(results, args)
        result, text = (_multiples if args["perplexities"] else _one)(results, args, out)
    terminal.result(result, args["json"], text)
    return 0


def _refuse_others(args: dict[str, Any]) -> None:
    """Refuse flags that the kind of map has no use for; fill in the method."""
    from ..core import Refusal
    from ..maps import embedding

    method = args["method"] or "tsne"
    embedding.check(method)
    kind = "an old map" if args["into"] else "a row of maps" if args["perplexities"] else f"a map by {method}"
    for name in dict.fromkeys(n for names in TAKES.values() for n in names):
        if args[name] is not None and name not in TAKES[kind]:
            takers = ", ".join(k for k, names in TAKES.items() if name in names)
            raise Refusal(f"{kind} has no use for --{name}, which is for {takers}; leave it out.")
    args["method"] = method


def _refuse_few(collection: Collection, args: dict[str, Any]) -> None:
    """Refuse before any work what so many images do not allow."""
    from ..core import Refusal
    from ..maps import embedding, tsne

    n = len(collection.names)
    if n < tsne.LEAST:
        raise Refusal(
            f"{n} images make no map, and {tsne.LEAST} or more do; name a folder with more, or a larger -n."
        )
    if args["method"] == "tsne":
        for perplexity in args["perplexities"] or [args["perplexity"] or embedding.usual_perplexity(n)]:
            tsne.neighbours_for(n, perplexity)
    if (args["clusters"] or 0) > n:
        raise Refusal(
            f"--clusters {args['clusters']} is more than the {n:,} images that there are; type fewer."
        )


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
    from .. import data
    from ..core import option_fields
    from ..maps import collection as module
    from ..reports import terminal

    reading = data.Reading(**{f.name: args[f.name] for f in option_fields(data.Reading) if f.name in args})
    wanted = {name: args[name] for name in ("network", "layer", "pool", "weights", "images", "place", "seed")}
    last = time.monotonic()

    def say(text: str) -> None:
        nonlocal last
        if text.startswith("note") or time.monotonic() - last > terminal.EVERY:
            last = time.monotonic()
            terminal.say(text, args["json"])

    return module.gather(args["data"], say, reading=reading, n=args["n"] or 0, folder=folder, **wanted)


def _stem(source: str) -> str:
    from ..data.source import parse

    return parse(source).stem


# One map


def _one(collection: Collection, args: dict[str, Any], out: Path) -> tuple[dict[str, Any], str]:
    from ..maps import clusters, embedding
    from ..reports import terminal

    axes, groups = embedding.principal(collection.features, seed=args["seed"]), _groups(collection)
    reduced = axes.of(collection.features)
    terminal.say("clusters ...", args["json"])
    of = clusters.clusters(reduced, args["clusters"] or 0, args["seed"])  # first, since it may refuse
    how = (
        dict(perplexity=args["perplexity"] or embedding.usual_perplexity(len(reduced)))
        if args["method"] == "tsne"
        else {}
    )
    settings = dict(
        data=collection.source,
        features=collection.seen,
        **collection.how,
        method=args["method"],
        **how,
        seed=args["seed"],
        dimensions=reduced.shape[1],
    )
    y, kl, others, near = _arranged(reduced, args, **how)
    made = embedding.Map(y, collection.rows, collection.names, collection.labels, settings, axes, reduced)
    terminal.say("neighbours kept, copies ...", args["json"])
    cards = embedding.cards(collection.features, made, groups.of if groups else None, others)
    lone, same = (
        clusters.alone(reduced, near=near),
        clusters.copies(collection.x) if collection.x is not None else ([], []),
    )
    paths = _written(collection, made, groups, of, cards, lone, same, kl, out)
    result = dict(
        made.settings,
        images=len(collection.names),
        kl=kl,
        scores=[c.as_dict() for c in cards],
        paths={k: str(v) for k, v in paths.items()},
    )
    result |= dict(
        clusters=dict(n=len(of.middle), silhouette=of.silhouette, rule=of.rule),
        outliers=[dict(name=collection.names[i], factor=f) for i, f in lone],
    )
    result |= dict(
        copies=[[collection.names[i] for i in g] for g in same[0]],
        near_copies=[[collection.names[i] for i in g] for g in same[1]],
    )
    _json(paths["json"], dict(result, cluster=dict(zip(collection.names, of.of.tolist()))))
    return result, _text(collection, result, cards, of)


def _arranged(
    reduced: np.ndarray, args: dict[str, Any], perplexity: float = 0.0
) -> tuple[np.ndarray, float | None, list[np.ndarray], tuple[Tensor, Tensor] | None]:
    """The map (n, 2), its KL, maps from random starts, and the nearest of each row: who is near is looked up
    once for all of them."""
    import torch

    from ..maps import tsne

    if args["method"] != "tsne":
        return *_shown_steps(reduced, args, args["seed"]), [], None
    starts = (2 if len(reduced) <= USUAL else 0) if args["starts"] is None else args["starts"]
    x = torch.from_numpy(reduced)
    near = tsne.nearest(x, tsne.neighbours_for(len(x), perplexity))
    pairs = tsne.affinities(x, perplexity, near)
    y, kl = _shown_steps(reduced, args, args["seed"], perplexity, pairs)
    return (
        y,
        kl,
        [_shown_steps(reduced, args, seed + 1, perplexity, pairs, random=True)[0] for seed in range(starts)],
        near,
    )


def _shown_steps(
    reduced: np.ndarray,
    args: dict[str, Any],
    seed: int,
    perplexity: float = 0.0,
    near: Affinities | None = None,
    random: bool = False,
) -> tuple[np.ndarray, float | None]:
    """The last of the steps, with a word on each where somebody is watching."""
    import math

    from ..maps import embedding
    from ..reports import terminal

    step = None
    with terminal.err.status("") as status:
        for step in embedding.arrange(reduced, args["method"], perplexity, seed, random, near):
            if not args["json"] and not math.isnan(step.kl):
                status.update(
                    f"t-SNE of {len(reduced):,} images, perplexity {perplexity:g}: step {step.step}, KL "
                    f"{step.kl:.3f}"
                )
    assert step is not None
    return step.y.numpy(), None if math.isnan(step.kl) else step.kl


def _groups(collection: Collection, old: tuple[str, ...] = ()) -> Groups | None:
    """By label; in the colours that an old map with these labels has."""
    from ..maps import pictures

    if not collection.labels:
        return None
    groups = pictures.grouped([*collection.labels, *old])
    return groups._replace(of=groups.of[: len(collection.labels)])


def _title(collection: Collection, settings: dict[str, Any]) -> str:
    name = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}[settings["method"]]
    how = f", perplexity {settings['perplexity']:g}" if "perplexity" in settings else ""
    return f"{_stem(collection.source)}: {len(collection.names):,} images, {name} of {collection.seen}{how}"


def _written(
    collection: Collection,
    made: Map,
    groups: Groups | None,
    of: Clusters,
    cards: list[Score],
    lone: list[tuple[int, float]],
    same: tuple[list[np.ndarray], list[np.ndarray]],
    kl: float | None,
    out: Path,
) -> dict[str, Path]:
    """The pictures, the page, the coordinates; where each is."""
    from .. import figures, storage
    from ..maps import page as map_page
    from ..maps import pictures

    storage.make(out.parent)
    clustered = pictures.Groups(of.of, tuple(f"cluster {i + 1}" for i in range(len(of.middle))), "cluster")
    title, recipe, shown = (
        _title(collection, made.settings),
        dict(picture="map", **made.settings),
        groups or clustered,
    )
    ends = dict(points=f"-points{out.suffix}", page=".html", coordinates=".npz", json=".json")
    paths = dict(picture=out) | {name: out.with_name(out.stem + end) for name, end in ends.items()}
    figures.write(paths["points"], pictures.points(made.y, shown, title), recipe)
    if collection.x is not None:
        page, n = pictures.images(made.y, collection.x, shown, title)
        figures.write(paths["picture"], page, dict(recipe, shown=n))
    else:
        paths["picture"] = paths.pop("points").replace(out)
    made.save(paths["coordinates"])
    facts = {k: v for k, v in made.settings.items() if v is not None} | {
        "variance kept by PCA": f"{made.axes.share:.1%}",
        "KL": kl and f"{kl:.3f}",
        "clusters": of.says,
    }
    colourings = [g for g in (groups, clustered) if g is not None]
    lists = _lists(collection, made, of, lone, same)
    html = map_page.page(
        _stem(collection.source),
        title.partition(": ")[2],
        made.y,
        collection.names,
        colourings,
        collection.x,
        cards,
        lists,
        facts,
    )
    storage.write(paths["page"], html.encode(errors="backslashreplace"))
    return paths


def _lists(
    collection: Collection,
    made: Map,
    of: Clusters,
    lone: list[tuple[int, float]],
    same: tuple[list[np.ndarray], list[np.ndarray]],
    most: int = 10,
) -> list[Listed]:
    """What stands below the map: typical images of each cluster, outliers, copies."""
    import numpy as np

    from ..maps import page as map_page

    typical = []
    for k, middle in enumerate(of.middle.tolist()):
        inside = np.flatnonzero(of.of == k)
        near = inside[((made.reduced[inside] - made.reduced[middle]) ** 2).sum(1).argsort(kind="stable")[:8]]
        typical.append(
            (f"cluster {k + 1}: {len(inside):,} images", [(int(i), collection.names[i]) for i in near])
        )
    copies = [
        (what, [(int(i), collection.names[i]) for i in group[:8]])
        for what, groups in zip(("equal", "nearly the same"), same)
        for group in groups[:most]
    ]
    outliers = [("", [(i, f"{collection.names[i]} ({factor:.1f})") for i, factor in lone])] if lone else []
    return [
        map_page.Listed("Clusters", f"{of.says}.  Of each the most typical.", typical),
        map_page.Listed(
            "Alone",
            "Farther from their neighbours than these are from each other, by the factor in brackets "
            "(local outlier factor).",
            outliers,
        ),
        map_page.Listed(
            "Copies", "Pictures that are equal, or one picture resized, recompressed or retouched.", copies
        ),
    ]


def _json(path: Path, result: dict[str, Any]) -> None:
    from .. import storage
    from ..reports import terminal

    storage.write(path, terminal.document(result, indent=1).encode())


def _text(collection: Collection, result: dict[str, Any], cards: list[Score], of: Clusters) -> str:
    """What the terminal shows."""
    from ..metrics.card import short

    lines = []
    for name in dict.fromkeys(card.name for card in cards):
        own, *others = (card for card in sorted(cards, key=lambda c: c.of != "map") if card.name == name)
        beside = ", ".join(f"{card.of} {short(card.value)}" for card in others)
        lines.append(f"{name:20} {own.number}{f'   ({beside})' if beside else ''}")
    lines.append(f"{'clusters':20} {of.says}")
    for key, what in (("copies", "equal"), ("near_copies", "nearly the same")):
        groups = result[key]
        if groups:
            lines.append(f"{what:20} {len(groups):,} groups, such as {' = '.join(groups[0][:3])}")
    if result["outliers"]:
        lines.append(f"{'alone':20} {', '.join(o['name'] for o in result['outliers'][:5])}")
    return "\n".join([*lines, *(f"{name:20} {path}" for name, path in result["paths"].items())])


# Several perplexities, and an old map


def _multiples(collection: Collection, args: dict[str, Any], out: Path) -> tuple[dict[str, Any], str]:
    from .. import figures, storage
    from ..maps import embedding, pictures

    reduced = embedding.principal(collection.features, seed=args["seed"]).of(collection.features)
    drawn = {
        perplexity: _shown_steps(reduced, args, args["seed"], perplexity)
        for perplexity in args["perplexities"]
    }
    kept, panels, rows = (
        embedding.kept(collection.features, {str(p): y for p, (y, _) in drawn.items()}, seed=args["seed"]),
        [],
        [],
    )
    for perplexity, (y, kl) in drawn.items():
        recall = float(kept[str(perplexity)].recall.mean())
        rows.append(dict(perplexity=perplexity, kl=kl, neighbours_kept=recall))
        panels.append((f"perplexity {perplexity:g}: {recall:.0%} of neighbours kept", y))
    storage.make(out.parent)
    path = out.with_name(f"{out.stem}-perplexities{out.suffix}")
    recipe = dict(
        picture="perplexities",
        data=collection.source,
        features=collection.seen,
        seed=args["seed"],
        perplexities=args["perplexities"],
    )
    figures.write(path, pictures.multiples(panels, _groups(collection)), recipe)
    lines = [
        f"perplexity {row['perplexity']:g}: {row['neighbours_kept']:.1%} of {embedding.K} neighbours kept"
        for row in rows
    ]
    return dict(path=str(path), maps=rows), "\n".join([*lines, str(path)])


def _into(collection: Collection, old: Map, args: dict[str, Any], out: Path) -> tuple[dict[str, Any], str]:
    from .. import figures, storage
    from ..core import Refusal
    from ..maps import embedding, pictures
    from ..maps import page as map_page

    if old.settings.get("features") != collection.seen:
        raise Refusal(
            f"{args['into']} is a map of {old.settings.get('features')}, and these are {collection.seen}; "
            "take the same network and layer."
        )
    if other := [name for name, value in collection.how.items() if old.settings.get(name, value) != value]:
        differing = ", ".join(
            f"{name} {old.settings[name]} there, {collection.how[name]} here" for name in other
        )
        raise Refusal(
            f"{args['into']} is of features made otherwise: {differing}; make these as those were made."
        )
    y = embedding.place(old, collection.features)
    storage.make(out.parent)
    there = _stem(str(old.settings.get("data", "")))
    title = f"{_stem(collection.source)}: {len(y):,} images on the map of {there}"
    settings = dict(old.settings, data=collection.source, into=str(args["into"]))
    made, groups = (
        embedding.Map(
            y,
            collection.rows,
            collection.names,
            collection.labels,
            settings,
            old.axes,
            old.axes.of(collection.features),
        ),
        _groups(collection, old.labels),
    )
    made.save(out.with_suffix(".npz"))
    figures.write(out, pictures.points(y, groups, title, under=old.y), dict(picture="map", **settings))
    page = map_page.page(
        _stem(collection.source),
        title.partition(": ")[2],
        y,
        collection.names,
        [groups] if groups else [],
        collection.x,
        [],
        [],
        dict(settings),
        under=old.y,
    )
    storage.write(out.with_suffix(".html"), page.encode(errors="backslashreplace"))
    paths = dict(
        picture=str(out), page=str(out.with_suffix(".html")), coordinates=str(out.with_suffix(".npz"))
    )
    places = [dict(name=name, x=float(a), y=float(b)) for name, (a, b) in zip(collection.names, y)]
    return dict(into=str(args["into"]), images=len(y), places=places, paths=paths), "\n".join(
        [title, *paths.values()]
    )
