"""The map: a collection as points, made by `likeness map`, with neighbours, selections and what it may be
believed.

Coordinates and groups go to the page once, as binary; from then on it is asked for rows: their names, their
images, their neighbours.  A selection comes back as a mask with a byte for each point.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import queue
import shlex
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import storage
from ...core import Refusal, option_fields
from ...data import Reading
from ...data import source as sources_of
from ...data.decode import kind
from ...features import named as networks
from ...maps import collection as gathering
from ...maps import embedding, pictures, single
from ...maps import neighbours as nearest
from ...maps.collection import Collection
from ...maps.embedding import Map
from ...metrics import card
from .. import library
from ..protocol import Answer, Picture, choice, confined, number, text, whole
from .samples import LARGEST, SEEDS, near, typed

if TYPE_CHECKING:
    from ..worker import Desk

Arrays = dict[str, np.ndarray]
FOLDER = "maps"
NETWORKS: tuple[networks.Kind, ...] = ("graph",)
"""that a page may name, beside runs"""
NEIGHBOURS = 24
TILES, TILE = 320, 64
"""images at once, and their side in pixels"""
NAMED = 500
"""names at once"""
KEPT = 2
"""maps that stay open"""
LISTED = 200
"""files of a kind that are offered"""
SCORED = 20_000
"""points up to which a map that has no .json beside it is scored when it is opened"""
WRITTEN = 64 << 20
"""bytes of the .json beside a map"""
PIXELS = 50_000_000
"""of an image that somebody brings"""
OFTEN = 0.25
"""seconds between two looks at a map that is being made"""
MANY = {"csv": ".csv", "files": ".txt", "npy": ".npy"}


@dataclass(eq=False)
class Opened:
    """A map, and what it is a map of as far as that is still there."""

    path: Path
    made: Map
    of: Collection
    whole: bool
    """whether `of` has the features; else their principal components, which are in the map's own file"""
    groups: list[pictures.Groups]
    stated: list[tuple[str, str, str]]
    why: str = ""
    """what is missing"""


_open: OrderedDict[tuple[str, int], Opened] = OrderedDict()


# What there is


def sources(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Maps below the root with their settings, and what a map can be made of: matrices, folders of images,
    runs."""
    maps, matrices, folders = list[dict[str, Any]](), list[str](), set[str]()
    for file in _files(desk.root):
        name = file.relative_to(desk.root).as_posix()
        if file.suffix == ".npz" and len(maps) < LISTED and (settings := _settings(file)):
            maps.append(dict(path=name, settings=settings))
        elif file.suffix == ".npy" and len(matrices) < LISTED and _matrix(file):
            matrices.append(name)
        elif file.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp") and len(folders) < LISTED:
            folders.add(file.parent.relative_to(desk.root).as_posix())
    runs = [p.relative_to(desk.root).as_posix() for p in library.runs(desk.root)]
    inside = tuple(f"{r}/" for r in runs)
    yield Answer(
        dict(
            maps=maps,
            matrices=matrices,
            folders=sorted(f for f in folders if f != "." and not f"{f}/".startswith((*inside, "maps/"))),
            runs=runs,
            networks=["", *networks.words(NETWORKS)],
            methods=list(embedding.METHODS),
        )
    )


def _files(root: Path, most: int = 20_000) -> Iterator[Path]:
    """Files that are not hidden, without following links."""
    seen = 0
    for folder, below, names in os.walk(root):
        below[:] = sorted(d for d in below if not d.startswith(".") and d not in ("state", "samples"))
        for name in sorted(n for n in names if not n.startswith(".")):
            seen += 1
            if seen > most:
                return
            yield Path(folder) / name


def _settings(file: Path) -> dict[str, Any] | None:
    """Of a map, without reading its points; None for another .npz."""
    with suppress(Exception), np.load(file, allow_pickle=False) as f:
        if {"coordinates", "settings", "reduced"} <= set(f.files):
            return dict(json.loads(str(f["settings"])))
    return None


def _matrix(file: Path) -> bool:
    with suppress(Exception):
        return gathering.is_matrix(str(file))
    return False


# A map that was made before


def _opened(desk: Desk, args: dict[str, Any]) -> Opened:
    path = confined(desk.root, text(args, "map", 1000))
    try:
        mark = (str(path), path.stat().st_mtime_ns)
    except OSError:
        raise Refusal(f"there is no map {args['map'][:80]} any more; choose another, or make one.") from None
    if mark not in _open:
        made = Map.load(path)
        of, complete, why = _collection(path, made)
        _kept(mark, _with_groups(path, made, of, complete, why))
    _open.move_to_end(mark)
    return _open[mark]


def _kept(mark: tuple[str, int], shown: Opened) -> None:
    _open[mark] = shown
    while len(_open) > KEPT:
        _open.popitem(last=False)


def _with_groups(path: Path, made: Map, of: Collection, complete: bool, why: str) -> Opened:
    written = _document(path.with_suffix(".json"))
    groups = [pictures.grouped(made.labels)] if any(made.labels) else []
    cluster = written.get("cluster")
    if isinstance(cluster, dict) and all(isinstance(cluster.get(n), int) for n in made.names):
        each = np.array([cluster[n] for n in made.names], np.int64)
        if len(each) and each.min() >= 0 and each.max() < 10_000:
            names = tuple(f"cluster {i + 1}" for i in range(int(each.max()) + 1))
            groups.append(pictures.Groups(each, names, "cluster"))
    shown = Opened(path, made, of, complete, groups, _cards(written), why)
    if not shown.stated and complete and len(made.y) <= SCORED:
        labels = groups[0].of if any(made.labels) else None
        shown.stated = single.stated(embedding.cards(of.features, made, labels))
    return shown


def _document(file: Path) -> dict[str, Any]:
    """What `likeness map` wrote beside a map; nothing where that is not there, or damaged."""
    with suppress(OSError, ValueError, RecursionError):
        if file.stat().st_size <= WRITTEN and isinstance(written := json.loads(file.read_bytes()), dict):
            return written
    return {}


def _cards(written: dict[str, Any]) -> list[tuple[str, str, str]]:
    with suppress(TypeError, KeyError, ValueError):
        return single.stated([card.from_dict(one) for one in written["scores"]])
    return []


def _collection(path: Path, made: Map) -> tuple[Collection, bool, str]:
    """What the map was made of: where its settings say so, or a matrix beside it; the first whose principal
    components are those of the map.  Else the components, which are the map's own."""
    data = str(made.settings.get("data", ""))
    beside = [str(p) for p in sorted(path.parent.glob("*.npy"))[:50]]
    for source in [data, *(f for f in beside if f != data)]:
        with suppress(Refusal, OSError, ValueError):
            if source.endswith(".npy") or made.settings.get("features") == gathering.PIXELS:
                found = _same(_gathered(source, made), made)
                if found is not None:
                    return found, True, "" if found.x is not None else "no images are at hand"
    of = Collection(data, made.reduced, made.rows, made.names, made.labels, None, "principal components")
    why = f"{data} is not there, or has changed: neighbours are by the map's own principal components"
    return of, False, why


def _gathered(source: str, made: Map) -> Collection:
    """A matrix, or images in the size that has as many pixels as the map's features."""
    usual = gathering.gather(source, lambda _: None)
    wide = made.axes.vectors.shape[1]
    if usual.features.shape[1] == wide or usual.x is None or usual.seen != gathering.PIXELS:
        return usual
    size = math.isqrt(wide // usual.x.shape[1])
    return gathering.gather(source, lambda _: None, reading=Reading(size=size))


def _same(known: Collection, made: Map) -> Collection | None:
    """The rows of a collection that are on the map; None where its features are others."""
    n = len(made.y)
    if len(known.names) != n:
        if made.rows.max() >= len(known.names) or made.rows.min() < 0:
            return None
        known = known.of(made.rows)
    some = np.linspace(0, n - 1, min(n, 16)).astype(int)
    if known.features.shape[1] != made.axes.vectors.shape[1]:
        return None
    there = made.axes.of(np.asarray(known.features[some]))
    scale = float(np.abs(made.reduced[some]).max()) or 1.0
    return known if np.allclose(there, made.reduced[some], atol=1e-3 * scale) else None


def open_map(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The points: x and y float32 (n,), and of each grouping a byte or two a point, the highest number for
    none."""
    yield _answer(desk, _opened(desk, args))


def _answer(desk: Desk, shown: Opened, **more: Any) -> Answer:
    y = shown.made.y
    packed: dict[str, np.ndarray | Picture] = {f"group{i}": _packed(g) for i, g in enumerate(shown.groups)}
    groups = [
        dict(
            what=g.what,
            names=list(g.names),
            colours=[pictures.colour(i) for i in range(len(g.names))],
            counts=np.bincount(g.of[g.of >= 0], minlength=len(g.names)).tolist(),
            none=int((g.of < 0).sum()),
        )
        for g in shown.groups
    ]
    data = dict(
        map=shown.path.relative_to(desk.root.resolve()).as_posix(),
        n=len(y),
        settings=shown.made.settings,
        groups=groups,
        stated=shown.stated,
        k=embedding.K,
        images=shown.of.x is not None,
        features=shown.of.seen if shown.whole else "principal components",
        why=shown.why,
        none=pictures.NONE,
    )
    arrays: dict[str, np.ndarray | Picture] = {
        "x": np.ascontiguousarray(y[:, 0]),
        "y": np.ascontiguousarray(y[:, 1]),
    }
    return Answer(data | more, arrays | packed)


def _packed(groups: pictures.Groups) -> np.ndarray:
    """uint8 (n,), or (n, 2) as the bytes of uint16, the lower first."""
    if len(groups.names) < 255:
        return np.where(groups.of < 0, 255, groups.of).astype(np.uint8)
    return np.where(groups.of < 0, 65_535, groups.of).astype("<u2").view(np.uint8).reshape(-1, 2)


# A new one


class _Stopped(Exception):
    """Somebody does not want the map any more."""


def make(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """`likeness map`: its steps on the way (x, y float32 (n,)), its files, and the map at the end."""
    asked, out, command = _asked(desk, args)
    told: queue.Queue[Any] = queue.Queue()
    stop = threading.Event()

    def tell(what: Any) -> None:
        if stop.is_set():
            raise _Stopped
        told.put(what)

    def work() -> None:
        try:
            known = dict(asked, quiet=True, watch=tell, hear=tell)
            single.refuse_others(known)
            of = single.gathered(known, out.parent)
            told.put((of, single.arranged(of, None, known)))
        except BaseException as error:  # to be raised where it can be answered
            told.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        result = yield from _steps(told, command)
    finally:
        stop.set()
    of, mapped = result
    assert mapped.made is not None
    out = Path(near(out))  # as the command has it, and what is written says
    mapped.document(mapped.write(out), out)
    path = out.with_suffix(".npz").resolve()
    if of.seen != gathering.PIXELS and not of.source.endswith(".npy"):
        matrix, complete, _ = _collection(path, mapped.made)  # that the network has written beside the map
        of = matrix if complete else of
    shown = _with_groups(path, mapped.made, of, True, "" if of.x is not None else "no images are at hand")
    _kept((str(path), path.stat().st_mtime_ns), shown)
    yield _answer(desk, shown, command=command, saved=typed(out))


def _steps(told: queue.Queue[Any], command: str) -> Generator[Answer, None, tuple[Collection, single.Mapped]]:
    """What is heard of the work, the newest only, until it has ended."""
    data: dict[str, Any] = dict(text="reading the images", command=command)
    while True:
        last = None
        with suppress(queue.Empty):
            last = told.get(timeout=OFTEN)
            while not _ends(last):
                last = told.get_nowait()
        if isinstance(last, BaseException):
            raise last
        if isinstance(last, tuple) and len(last) == 2 and isinstance(last[1], single.Mapped):
            return last
        if isinstance(last, str):
            yield Answer(data := dict(data, text=last))
        elif last is not None:
            kl = None if math.isnan(last.kl) else last.kl
            y = last.y.numpy().astype(np.float32)
            yield Answer(
                data := dict(data, text=f"step {last.step}", kl=kl, n=len(y)),
                {"x": np.ascontiguousarray(y[:, 0]), "y": np.ascontiguousarray(y[:, 1])},
            )
        else:
            yield Answer(data)


def _ends(told: Any) -> bool:
    return isinstance(told, BaseException) or (
        isinstance(told, tuple) and len(told) == 2 and isinstance(told[1], single.Mapped)
    )


def _asked(desk: Desk, args: dict[str, Any]) -> tuple[dict[str, Any], Path, str]:
    """The arguments of `likeness map`, where the files go, and what one would type."""
    source = _source(desk, text(args, "data", 1000))
    network = text(args, "network", 1000, "")
    if network and network not in networks.words(NETWORKS):
        network = near(confined(desk.root, network))
    size, n, seed = (
        whole(args, "size", 0, 1024, 0),
        whole(args, "n", 0, 10**7, 0),
        whole(args, "seed", 0, SEEDS, 0),
    )
    method = choice(args, "method", embedding.METHODS, "tsne")
    perplexity = number(args, "perplexity", 0, 10_000, 0) or None
    layer, weights = text(args, "layer", 200, ""), choice(args, "weights", ("", "none"), "")
    asked: dict[str, Any] = dict.fromkeys(("clusters", "starts", "into", "perplexities"))
    asked |= {f.name: getattr(Reading(), f.name) for f in option_fields(Reading)} | dict(size=size)
    asked |= dict(data=single.parse(source), network=network, layer=layer, pool="", weights=weights)
    asked |= dict(images="", place="", n=n, seed=seed, method=method, perplexity=perplexity)
    folder = desk.root / FOLDER
    stem = asked["data"].stem or "map"
    names = (stem if i == 1 else f"{stem}-{i}" for i in range(1, 10_000))
    out = next(folder / f"{s}.png" for s in names if not (folder / f"{s}.npz").exists())
    flags = [("--network", network), ("--layer", layer), ("--weights", weights), ("--size", size), ("-n", n)]
    flags += [
        ("--method", "" if method == "tsne" else method),
        ("--perplexity", perplexity),
        ("--seed", seed),
    ]
    words = [
        word
        for flag, value in flags
        if value
        for word in (flag, f"{value:g}" if isinstance(value, float) else str(value))
    ]
    return asked, out, shlex.join(["likeness", "map", source, *words, "-o", near(out)])


def _source(desk: Desk, data: str) -> str:
    """The name of a set, or a path below the root as one would type it."""
    if not data or data.startswith("-"):
        raise Refusal("data is a folder of images, a matrix of features, or the name of a set.")
    if sources_of.parse(data).kind == "name":
        return data
    path = confined(desk.root, data)
    if not path.exists():
        raise Refusal(
            f"{data[:80]!r} is not in the folder of the studio; copy the images there, or link them."
        )
    return near(path)


# Rows of a map


def _rows(args: dict[str, Any], n: int, most: int) -> np.ndarray:
    rows = args.get("rows", [])
    if not isinstance(rows, list) or len(rows) > most:
        raise Refusal(f"rows are a list of at most {most} numbers.")
    return np.array([whole({"row": r}, "row", 0, n - 1) for r in rows], np.int64)


def _told(shown: Opened, rows: np.ndarray) -> dict[str, Any]:
    labels = shown.made.labels
    return dict(
        rows=rows.tolist(),
        names=[shown.made.names[i] for i in rows],
        labels=[labels[i] for i in rows] if labels else [],
    )


def _pictured(shown: Opened, rows: np.ndarray, side: int = TILE) -> dict[str, np.ndarray | Picture]:
    x = shown.of.x
    if x is None or not len(rows):
        return {}
    side = min(side, max(x.shape[2:]))
    return {"images": np.stack([pictures.tile(np.asarray(x[i]), side) for i in rows])}


def names(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Names and labels of some rows."""
    shown = _opened(desk, args)
    yield Answer(_told(shown, _rows(args, len(shown.made.y), NAMED)))


def tiles(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """Images of some rows: uint8 (n, side, side, 3)."""
    shown = _opened(desk, args)
    rows = _rows(args, len(shown.made.y), TILES)
    yield Answer(_told(shown, rows), _pictured(shown, rows))


def one(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """An image as large as it was read."""
    shown = _opened(desk, args)
    row = whole(args, "row", 0, len(shown.made.y) - 1)
    yield Answer(_told(shown, np.array([row])), _pictured(shown, np.array([row]), 1024))


def neighbours(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The 24 nearest in feature space, with distances: those of `likeness neighbours`."""
    shown = _opened(desk, args)
    row = whole(args, "row", 0, len(shown.made.y) - 1)
    name = shown.of.names[row]
    query = name if shown.of.names.index(name) == row else str(shown.of.rows[row])
    if nearest.member(query, shown.of) != row:
        raise Refusal(f"several images are called {name[:80]!r}; give them different names.")
    yield _near(desk, shown, query, dict(row=row, name=name))


def own(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """The nearest to an image that somebody brings, by the eyes that made the map."""
    shown = _opened(desk, args)
    if not shown.whole:
        raise Refusal(
            "the features of this map are not at hand, so no other image can be compared with them."
        )
    file = arrays.get("file")
    if file is None or file.dtype != np.uint8 or not 0 < file.size <= LARGEST:
        raise Refusal(f"an image file of up to {LARGEST >> 20} MB is wanted.")
    raw = file.tobytes()
    ending = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}.get(str(kind(raw[:32])).upper())
    if ending is None:
        raise Refusal("that is no image file; drop a PNG, JPEG or WebP.")
    from PIL import Image

    try:
        wide, high = Image.open(io.BytesIO(raw)).size
    except Exception:
        raise Refusal("that image cannot be read; save it anew as PNG or JPEG.") from None
    if wide * high > PIXELS:
        raise Refusal(f"that image has {wide} x {high} pixels; 50 million are the most here.")
    path = desk.root / FOLDER / "own" / f"{hashlib.sha256(raw).hexdigest()[:16]}.{ending}"
    if not path.is_file():
        storage.make(path.parent)
        storage.write(path, raw)
    yield _near(desk, shown, str(path), dict(row=-1, name="your image"))


def _near(desk: Desk, shown: Opened, query: str, of: dict[str, Any]) -> Answer:
    k = min(NEIGHBOURS, len(shown.made.y) - (of["row"] >= 0))
    rows, distances, asked, usual = nearest.search(query, shown.of, k)
    at = np.array(rows, np.int64)
    found = _pictured(shown, at)
    if asked is not None and found:
        found["asked"] = pictures.tile(asked, min(TILE, max(asked.shape[1:])))[None]
    command = ""
    plain = shown.of.seen == gathering.PIXELS or shown.of.source.endswith(".npy")
    if shown.whole and plain and np.array_equal(shown.of.rows, np.arange(len(shown.of.rows))):
        size = shown.of.reading.size if shown.of.reading != Reading() else 0
        words = [near(Path(query)) if of["row"] < 0 else query, shown.of.source, "-k", str(k)]
        command = shlex.join(["likeness", "neighbours", *words, *(["--size", str(size)] if size else [])])
    facts = dict(distances=distances, usual=usual, features=shown.of.seen, query=of, command=command)
    return Answer(_told(shown, at) | facts, found)


def export(desk: Desk, args: dict[str, Any], arrays: Arrays) -> Iterator[Answer]:
    """A selection, as .csv (file, label, group, x, y), as a list of files, or as the .npy of its features
    with the .csv of names that `likeness map` reads."""
    shown = _opened(desk, args)
    form = choice(args, "format", tuple(MANY))
    mask = arrays.get("mask")
    if mask is None or mask.dtype != np.uint8 or mask.shape != (len(shown.made.y),):
        raise Refusal("a selection is a byte for each point of the map.")
    rows = np.flatnonzero(mask)
    if not len(rows):
        raise Refusal("nothing is selected; draw a lasso or a box around some points first.")
    folder, stem = desk.root / FOLDER, f"{shown.path.stem}-selection"
    storage.make(folder)
    taken = (".csv", ".txt", ".npy")
    name = next(
        s
        for s in (f"{stem}-{i}" for i in range(1, 100_000))
        if not any((folder / f"{s}{ending}").exists() for ending in taken)
    )
    path = folder / f"{name}{MANY[form]}"
    if form == "npy":
        if not shown.whole:
            raise Refusal("the features of this map are not at hand; export the list of files instead.")
        file = io.BytesIO()
        np.save(file, np.asarray(shown.of.features[rows]), allow_pickle=False)
        storage.write(path, file.getvalue())
    if form == "files":
        lines = "".join(f"{shown.made.names[i]}\n" for i in rows)
        storage.write(path, lines.encode("utf-8", "backslashreplace"))
    else:
        storage.write(path.with_suffix(".csv"), _table(shown, rows))
    command = f"likeness map {typed(path)}" if form == "npy" and len(rows) >= 4 else ""
    yield Answer(dict(saved=typed(path), n=len(rows), command=command))


def _table(shown: Opened, rows: np.ndarray) -> bytes:
    out = io.StringIO(newline="")
    clusters = [g for g in shown.groups if g.what == "cluster"]
    write = csv.writer(out, lineterminator="\n")
    write.writerow(["file", "label", "row", "x", "y", *(g.what for g in clusters)])
    for i in rows.tolist():
        label = shown.made.labels[i] if shown.made.labels else ""
        x, y = shown.made.y[i].tolist()
        ids = [int(g.of[i]) + 1 for g in clusters]
        write.writerow([shown.made.names[i], label, int(shown.made.rows[i]), x, y, *ids])
    return out.getvalue().encode("utf-8", "backslashreplace")


ASKS: dict[str, Callable[[Desk, dict[str, Any], Arrays], Iterator[Answer]]] = dict(
    sources=sources, open=open_map, make=make, names=names, tiles=tiles, one=one, neighbours=neighbours,
    own=own, export=export,
)  # fmt: skip
