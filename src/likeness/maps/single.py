"""Maps as the command line and Python ask for them: one with all that stands beside it, a row of
perplexities, and new images on an old map."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import figures, storage
from ..core import Refusal, option_fields
from ..data import Reading
from ..metrics.card import Score, short
from ..reports import terminal
from ..reports.notebook import MapPage
from ..runs.source import parse
from . import clusters as grouping
from . import collection as gathering
from . import embedding, pictures, tsne
from . import page as map_page
from .clusters import Clusters
from .collection import Collection
from .embedding import Map
from .page import Listed
from .pictures import Groups
from .tsne import Affinities

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


def refuse_others(args: dict[str, Any]) -> None:
    """Refuse flags that the kind of map has no use for; fill in the method."""
    if args["starts"] is not None and not (args["starts"] == 0 or 2 <= args["starts"] <= 20):
        raise Refusal(
            f"--starts {args['starts']} leaves nothing to compare, or takes too long; type 0, or 2 to 20."
        )
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


@dataclass(frozen=True, eq=False, repr=False)
class Mapped(MapPage):
    """A map with all that stands beside it."""

    made: Map | None = None
    """None of a row of maps"""
    points: np.ndarray | None = None
    """the same without the images, uint8 (height, width, 3), where `image` shows them"""
    shown: dict[str, Any] = field(default_factory=dict)
    """what the recipe of the picture says beside that of the points"""
    clusters: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """int64 (n,): of each image, the largest is 0"""
    html: Callable[[], str] | None = None
    """the page to walk about in"""
    numbers: dict[str, Any] = field(default_factory=dict)
    """what --json says of it"""
    text: str = ""
    """and the terminal"""

    def save(self, target: str | Path) -> Path:
        """As a picture; as .html, a page to walk about in, coloured by label or by cluster; or as .npz, the
        coordinates, onto which `into` places other images."""
        target = Path(target)
        ending = target.suffix.lower()
        if ending == ".html" and self.html is not None:
            storage.make(target.parent)
            storage.write(target, self.html().encode(errors="backslashreplace"))
        elif ending == ".npz" and self.made is not None:
            storage.make(target.parent)
            self.made.save(target)
        else:
            return super().save(target)
        return target

    def write(self, out: Path) -> dict[str, Path]:
        """All there is, the picture at `out` and the rest beside it; where each is."""
        storage.make(out.parent)
        paths = dict(picture=out)
        figures.write(out, self.image, dict(self.recipe, **self.shown))
        if self.points is not None:
            paths["points"] = out.with_name(f"{out.stem}-points{out.suffix}")
            figures.write(paths["points"], self.points, self.recipe)
        if self.html is not None:
            paths["page"] = self.save(out.with_suffix(".html"))
        if self.made is not None:
            paths["coordinates"] = self.save(out.with_suffix(".npz"))
        return paths

    def document(self, paths: dict[str, Path], out: Path) -> dict[str, Any]:
        """What --json says, with the paths of what write(out) has written; where there are clusters the same
        is a file beside them, and `paths` names it from then on."""
        if len(self.clusters):
            paths["json"] = out.with_suffix(".json")
        numbers = self.numbers | dict(paths={k: str(v) for k, v in paths.items()})
        if "json" in paths:
            of = dict(zip(self.names, self.clusters.tolist()))
            storage.write(paths["json"], terminal.document(dict(numbers, cluster=of), indent=1).encode())
        return numbers


def map(
    source: str | Path,
    network: str | Path = "",
    layer: str = "",
    *,
    pool: str = "",
    weights: str = "",
    images: str | Path = "",
    data: str | Path = "",
    method: str | None = None,
    perplexity: float | None = None,
    perplexities: Sequence[float] | None = None,
    clusters: int | None = None,
    starts: int | None = None,
    into: str | Path | None = None,
    n: int = 0,
    seed: int = 0,
    folder: str | Path = "maps",
    progress: bool = True,
    **reading: Any,
) -> Mapped:
    """What resembles what among images of `source`, by a layer of a network or by their pixels.

    The arguments are the flags of `likeness map`; `folder` is where features that must be worked out are
    kept.  Raises what gather() raises, and Refusal for what the kind of map has no use for.
    """
    args: dict[str, Any] = dict(method=method, perplexity=perplexity, clusters=clusters)
    args |= dict(
        perplexities=perplexities, starts=starts, into=into and Path(into), seed=seed, quiet=not progress
    )
    refuse_others(args)
    old = Map.load(args["into"]) if into else None
    of: dict[str, Any] = dict(pool=pool, weights=weights, images=images, data=data, n=n, seed=seed)
    return arranged(
        collected(source, network, layer, **of, folder=folder, progress=progress, **reading), old, args
    )


def collected(
    source: str | Path,
    network: str | Path = "",
    layer: str = "",
    *,
    pool: str = "",
    weights: str = "",
    images: str | Path = "",
    data: str | Path = "",
    n: int = 0,
    seed: int = 0,
    folder: str | Path = "maps",
    progress: bool = True,
    **reading: Any,
) -> Collection:
    """The images of `source` with their features, as the flags of these names say."""
    args: dict[str, Any] = dict(
        reading, network=str(network), layer=layer, pool=pool, weights=weights, images=str(images)
    )
    args |= dict(data=parse(source), place=str(data), n=n, seed=seed, quiet=not progress)
    if unknown := set(reading) - {one.name for one in option_fields(Reading)}:
        raise Refusal(f"there is no argument {sorted(unknown)[0]!r} here; likeness map --help shows all.")
    return gathered(args, Path(folder))


def arranged(collection: Collection, old: Map | None, args: dict[str, Any]) -> Mapped:
    """What was asked, of what was gathered; on an old map, if there is one.

    args["watch"], if there is one, is shown each step on the way, and may end it all by an exception."""
    if old is not None:
        return _into(collection, old, args)
    _refuse_few(collection, args)
    return (_multiples if args["perplexities"] else _one)(collection, args)


def gathered(args: dict[str, Any], folder: Path) -> Collection:
    """The images that the flags of cli.map.collected() name, with their features."""
    reading = Reading(**{f.name: args[f.name] for f in option_fields(Reading) if f.name in args})
    wanted = {name: args[name] for name in ("network", "layer", "pool", "weights", "images", "place", "seed")}
    last = time.monotonic()

    def say(text: str) -> None:
        nonlocal last
        if "hear" in args:
            args["hear"](text)
        if text.startswith("note") or time.monotonic() - last > terminal.EVERY:
            last = time.monotonic()
            terminal.say(text, args["quiet"])

    return gathering.gather(args["data"], say, reading=reading, n=args["n"] or 0, folder=folder, **wanted)


def _stem(source: str) -> str:
    return parse(source).stem


# One map


def _one(collection: Collection, args: dict[str, Any]) -> Mapped:
    axes, groups = embedding.principal(collection.features, seed=args["seed"]), _groups(collection)
    reduced = axes.of(collection.features)
    terminal.say("clusters ...", args["quiet"])
    of = grouping.clusters(reduced, args["clusters"] or 0, args["seed"])  # first, since it may refuse
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
    terminal.say("neighbours kept, copies ...", args["quiet"])
    cards = embedding.cards(collection.features, made, groups.of if groups else None, others)
    lone, same = (
        grouping.alone(reduced, near=near),
        grouping.copies(collection.x) if collection.x is not None else ([], []),
    )
    result = dict(
        made.settings,
        images=len(collection.names),
        kl=kl,
        scores=[c.as_dict() for c in cards],
    )
    result |= dict(
        clusters=dict(n=len(of.middle), silhouette=of.silhouette, rule=of.rule),
        outliers=[dict(name=collection.names[i], factor=f) for i, f in lone],
    )
    result |= dict(
        copies=[[collection.names[i] for i in g] for g in same[0]],
        near_copies=[[collection.names[i] for i in g] for g in same[1]],
    )
    shown = _drawn(collection, made, groups, of, cards, lone, same, kl)
    return replace(shown, clusters=of.of, numbers=result, text=_text(result, cards, of))


def _arranged(
    reduced: np.ndarray, args: dict[str, Any], perplexity: float = 0.0
) -> tuple[np.ndarray, float | None, list[np.ndarray], tuple[Tensor, Tensor] | None]:
    """The map (n, 2), its KL, maps from random starts, and the nearest of each row: who is near is looked up
    once for all of them."""
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
    step = None
    with terminal.status(args["quiet"]) as status:
        for step in embedding.arrange(reduced, args["method"], perplexity, seed, random, near):
            if "watch" in args and not random:
                args["watch"](step)
            if not math.isnan(step.kl):
                status(
                    f"t-SNE of {len(reduced):,} images, perplexity {perplexity:g}: step {step.step}, KL "
                    f"{step.kl:.3f}"
                )
    assert step is not None
    return step.y.numpy(), None if math.isnan(step.kl) else step.kl


def _groups(collection: Collection, old: tuple[str, ...] = ()) -> Groups | None:
    """By label; in the colours that an old map with these labels has."""
    if not collection.labels:
        return None
    groups = pictures.grouped([*collection.labels, *old])
    return groups._replace(of=groups.of[: len(collection.labels)])


def _title(collection: Collection, settings: dict[str, Any]) -> str:
    name = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}[settings["method"]]
    how = f", perplexity {settings['perplexity']:g}" if "perplexity" in settings else ""
    return f"{_stem(collection.source)}: {len(collection.names):,} images, {name} of {collection.seen}{how}"


def _drawn(
    collection: Collection,
    made: Map,
    groups: Groups | None,
    of: Clusters,
    cards: list[Score],
    lone: list[tuple[int, float]],
    same: tuple[list[np.ndarray], list[np.ndarray]],
    kl: float | None,
) -> Mapped:
    """The pictures, and the page."""
    clustered = pictures.Groups(of.of, tuple(f"cluster {i + 1}" for i in range(len(of.middle))), "cluster")
    title, colour = _title(collection, made.settings), groups or clustered
    recipe = dict(picture="map", **made.settings)
    points = pictures.points(made.y, colour, title)
    facts = {k: v for k, v in made.settings.items() if v is not None} | {
        "variance kept by PCA": f"{made.axes.share:.1%}",
        "KL": kl and f"{kl:.3f}",
        "clusters": of.says,
    }

    def html() -> str:
        return map_page.page(
            _stem(collection.source),
            title.partition(": ")[2],
            made.y,
            collection.names,
            [g for g in (groups, clustered) if g is not None],
            collection.x,
            cards,
            _lists(collection, made, of, lone, same),
            facts,
        )

    known = (made.y, made.names, made.labels, tuple(cards), made)
    if collection.x is None:
        return Mapped(points, recipe, *known, html=html)
    image, n = pictures.images(made.y, collection.x, colour, title)
    return Mapped(image, recipe, *known, points, dict(shown=n), html=html)


def _lists(
    collection: Collection,
    made: Map,
    of: Clusters,
    lone: list[tuple[int, float]],
    same: tuple[list[np.ndarray], list[np.ndarray]],
    most: int = 10,
) -> list[Listed]:
    """What stands below the map: typical images of each cluster, outliers, copies."""
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


def stated(cards: list[Score]) -> list[tuple[str, str, str]]:
    """Of each measure its name, the number of the map, and those that stand beside it."""
    lines = []
    for name in dict.fromkeys(card.name for card in cards):
        own, *others = (card for card in sorted(cards, key=lambda c: c.of != "map") if card.name == name)
        lines.append((name, own.number, ", ".join(f"{card.of} {short(card.value)}" for card in others)))
    return lines


def _text(result: dict[str, Any], cards: list[Score], of: Clusters) -> str:
    """What the terminal shows."""
    lines = [
        f"{name:20} {number}{f'   ({beside})' if beside else ''}" for name, number, beside in stated(cards)
    ]
    lines.append(f"{'clusters':20} {of.says}")
    for key, what in (("copies", "equal"), ("near_copies", "nearly the same")):
        groups = result[key]
        if groups:
            lines.append(f"{what:20} {len(groups):,} groups, such as {' = '.join(groups[0][:3])}")
    if result["outliers"]:
        lines.append(f"{'alone':20} {', '.join(o['name'] for o in result['outliers'][:5])}")
    return "\n".join(lines)


# Several perplexities, and an old map


def _multiples(collection: Collection, args: dict[str, Any]) -> Mapped:
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
    recipe = dict(
        picture="perplexities",
        data=collection.source,
        features=collection.seen,
        seed=args["seed"],
        perplexities=args["perplexities"],
    )
    lines = [
        f"perplexity {row['perplexity']:g}: {row['neighbours_kept']:.1%} of {embedding.K} neighbours kept"
        for row in rows
    ]
    image = pictures.multiples(panels, _groups(collection))
    return Mapped(image, recipe, numbers=dict(maps=rows), text="\n".join(lines))


def _into(collection: Collection, old: Map, args: dict[str, Any]) -> Mapped:
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
    places = [dict(name=name, x=float(a), y=float(b)) for name, (a, b) in zip(collection.names, y)]

    def html() -> str:
        return map_page.page(
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

    return Mapped(
        pictures.points(y, groups, title, under=old.y),
        dict(picture="map", **settings),
        *(y, made.names, made.labels, (), made),
        html=html,
        numbers=dict(into=str(args["into"]), images=len(y), places=places),
        text=title,
    )
