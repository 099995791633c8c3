"""The images that a map or a search is about, with their features: from a matrix that `likeness features`
wrote, or from images themselves."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import data, engine, storage
from ..backbones.catalogue import CODES
from ..backbones.layers import LOGITS, Probe
from ..core import BadData, Refusal, answers
from ..data import user_images
from ..data.binarize import binarized, drawn
from ..data.dataset import Data, Images, Reading
from ..data.source import Source
from ..features import extract, opening
from ..features import images as gallery
from ..runs import origin
from ..runs.run import Run, is_run
from ..runs.source import parse
from ..storage import cache

PIXELS = "pixels"
HOW = {"size": "size", "interpolation": "interpolation", "weights": "sha256"}
"""what is told of features, and its name in the .json beside them"""


@dataclass(frozen=True, eq=False)
class Collection:
    source: str
    features: np.ndarray
    """(n, D), in memory or mapped"""
    rows: np.ndarray
    """int64 (n,): of the matrix, or of the images, that it was chosen from"""
    names: tuple[str, ...]
    labels: tuple[str, ...]
    """of each, empty where there is none; or nothing"""
    x: np.ndarray | None
    """uint8 (n, C, H, W), where images are at hand"""
    seen: str
    """what the features are"""
    made: dict[str, Any] = field(default_factory=dict)
    """how, if by a network"""
    reading: Reading = field(default_factory=Reading)

    @property
    def how(self) -> dict[str, Any]:
        """On what features depend besides the layer: the same must be said of any that are compared with
        them."""
        reading = {"reading": _as_text(self.made.get("reading", {}))} if self.made else {}
        return {name: self.made[key] for name, key in HOW.items() if key in self.made} | reading

    def of(self, rows: np.ndarray) -> Collection:
        """Some of them."""
        labels = tuple(self.labels[i] for i in rows) if self.labels else ()
        x = None if self.x is None else self.x[rows]
        return replace(
            self,
            features=self.features[rows],
            rows=self.rows[rows],
            names=tuple(self.names[i] for i in rows),
            labels=labels,
            x=x,
        )


Say = Callable[[str], None]


def gather(
    source: str | Source,
    say: Say,
    *,
    network: str = "",
    layer: str = "",
    pool: str = "",
    weights: str = "",
    images: str = "",
    place: str = "",
    reading: Reading | None = None,
    n: int = 0,
    seed: int = 0,
    folder: Path = Path(),
) -> Collection:
    """What DATA is: a matrix of features with or without names beside it, a run that encodes, or images,
    whose pixels are their features.

    With a `network` (and one of its layers) the images' features are written into `folder`, where the same
    request finds them again. A run reads its own images, and any that it looks at, as it did in training;
    `reading` is of all others.
    n: so many of them, chosen at random by `seed`; 0 is all.  images: where to find the images of a matrix,
    if it does not say so.  place: where the data of a run are now, if they have moved.
    """
    typed, reading, learnt = parse(source), reading or Reading(), None
    source, path = typed.text, typed.path
    if place and typed.kind != "run":
        raise Refusal(f"{source} is the data itself; --data says where those of a run are: leave it out.")
    if typed.kind == "points":
        raise Refusal(
            f"{source} holds points in the plane, which are a map already; name images, or a matrix of "
            "features."
        )
    plain = network == PIXELS  # as the help calls what is meant by no network
    asked = dict(network="" if plain else network, layer=layer, pool=pool, weights=weights)
    if path is not None and (matrix := _features(typed)) is not None:
        already = asked | dict(network=network)
        _refuse(f"{source} holds features already", "name the images themselves", reading, **already)
        result = _of_matrix(source, path, matrix, images, say)
    else:
        if typed.kind == "run" and path is not None:
            run = Run.open(path)
            learnt = _data_of(run, place, say)
            of = parse(learnt.place)
            if not asked["network"]:
                _refuse(
                    f"{source} is a run, which reads its images as it did in training",
                    "name the images themselves",
                    reading,
                )
                reading, asked["network"] = (
                    Reading(**run.config.reading),
                    str(path) if "encode" in answers(run.model) and not plain else "",
                )
        else:
            of = typed
        if asked["network"]:
            result = _of_network(of, **asked, reading=reading, n=n, seed=seed, folder=folder, say=say)
        else:
            if layer or weights or pool:
                raise Refusal(
                    "--layer, --pool and --weights are of a network; type --network too, such as: likeness "
                    f"map {source} --network mobilenet_v2"
                )
            beside = learnt is not None and (learnt.pairs is not None or learnt.other is not None)
            result = _of_target(learnt) if learnt and beside else _of_pixels(of, reading, say)
    if n and n < len(result.names):
        result = result.of(extract.some(n, len(result.names), seed))
    if len(result.names) < 2:
        raise Refusal(
            f"{source} holds {len(result.names)} image{'s' * (len(result.names) != 1)}, and what resembles "
            "what is asked of 2 or more; name a folder with more."
        )
    return result


def _data_of(run: Run, place: str, say: Say) -> Data:
    """The images that a run has learnt."""
    result = origin.load(run.config, run.folder, place)
    if why := origin.changed(run.config, run.folder, result):
        say(f"note: {why}")
    elif place:
        origin.remember(run.config, run.folder, result)
    return result


def _as_text(reading: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in reading.items()) or "usual"


def _refuse(why: str, instead: str, reading: Reading, **asked: str) -> None:
    """Flags that would change nothing."""
    if idle := [name for name, value in (asked | extract.odd(reading)).items() if value]:
        raise Refusal(f"{why}; leave --{', --'.join(idle)} out, or {instead}.")


def is_matrix(source: str | Source) -> bool:
    """Whether DATA is features, and no images."""
    return _features(parse(source)) is not None


def _features(source: Source) -> np.ndarray | None:
    """The matrix of features that a source is; None for any other."""
    if source.path is None or source.kind == "points" or source.path.suffix != ".npy":
        return None
    return _matrix(source.path)


def _of_pixels(source: Source, reading: Reading, say: Say) -> Collection:
    result = data.read(source, reading)
    if result.skipped:
        say(f"note: {result.verdict}")
    if reading.binarize:
        result = binarized(result, cache.root, source.text)
    n = len(result.x)
    return Collection(
        source.text,
        result.x.reshape(n, -1),
        np.arange(n),
        _names(result),
        _labels(result),
        result.x,
        PIXELS,
        {},
        reading,
    )


def _of_target(learnt: Data) -> Collection:
    """The images that a run of pairs or of two domains makes: side B, and nothing of A."""
    n, size = len(learnt.x), learnt.x.shape[-1]
    shown = Reading(**learnt.settings | {"size": size})
    pixels = np.asarray(learnt.x).reshape(n, -1)
    return Collection(
        learnt.source, pixels, np.arange(n), _names(learnt), _labels(learnt), learnt.x, PIXELS, {}, shown
    )


def _names(images: Images | Data) -> tuple[str, ...]:
    return tuple(images.names) if images.names is not None else _numbered(np.arange(len(images.x)))


def _numbered(rows: np.ndarray) -> tuple[str, ...]:
    return tuple(f"row {i}" for i in rows)


def _labels(images: Images | Data) -> tuple[str, ...]:
    if images.y is None:
        return ()
    return tuple(images.classes[i] if 0 <= i < len(images.classes) else "" for i in images.y.tolist())


# By a network


def _of_network(
    source: Source,
    network: str,
    layer: str,
    pool: str,
    weights: str,
    reading: Reading,
    n: int,
    seed: int,
    folder: Path,
    say: Say,
) -> Collection:
    net = opening.load(network, weights, [layer] if layer else ())
    if isinstance(net, opening.OfRun) and reading != net.reading:
        other = {
            name: value for name, value in extract.odd(reading).items() if value != getattr(net.reading, name)
        }
        _refuse(
            f"{network} is a run, which reads images as it did in training",
            "name another network",
            Reading(**other),
        )
    layer = layer or usual_layer(net)
    stem = source.stem or "images"
    work = extract.extract(
        net,
        source,
        [layer],
        folder / "features.npy",
        pool,
        reading.size,
        reading=replace(reading, size=0),
        n=n,
        seed=seed,
    )
    work = work.kept(
        folder, f"{stem}-{os.path.basename(net.name)}-{layer.replace('/', '-')}{pool and '-' + pool}"
    )
    storage.make(folder)
    for at in work:
        say(f"{at.done.files / at.total:4.0%}  {net.name} has looked at {at.done.files:,} images")
    out = work.output.paths[layer]
    matrix = _matrix(out)
    assert matrix is not None
    return _of_matrix(source.text, out, matrix, "", say)


def usual_layer(net: Probe) -> str:
    """The code of a network that has one, else the deepest layer before its classes that has a number a
    channel, else the deepest at hand."""
    whole = [name for name in net.layers if name not in net.lost and name not in (LOGITS, "predictions")]
    flat = [name for name in whole if math.prod(net.layers[name][1:]) == 1]
    known = [name for name in ("code", CODES.get(net.name)) if name in flat]
    return str((known or flat[::-1] or whole[::-1])[0])


# From a matrix


def _matrix(path: Path) -> np.ndarray | None:
    """Rows of numbers, mapped; None for an array of images."""
    try:
        result = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise Refusal(
            f"there is no file {path}; name a folder of images, or a matrix that `likeness features` wrote."
        ) from None
    except (OSError, ValueError, EOFError) as error:
        raise BadData(
            f"{path} cannot be read as an array ({error}); write it again with likeness features."
        ) from None
    return result if result.ndim == 2 and result.dtype.kind in "fiu" and result.size else None


def _of_matrix(source: str, path: Path, matrix: np.ndarray, images: str, say: Say) -> Collection:
    manifest, made = _manifest(path)
    names, labels = _table((manifest or path).with_suffix(".csv"), len(matrix))
    seen = (
        (f"{made['network']} {', '.join(made['layers'])}{' ' + made['pool'] if made.get('pool') else ''}")
        if made
        else path.stem
    )
    nameless = not any(names)
    rows = extract.some(*made["chosen"]) if nameless and made.get("chosen") else np.arange(len(matrix))
    rows = rows[: len(matrix)]  # which may not be finished
    x = _pictured(
        images or made.get("source", ""), None if nameless else names, rows, made, bool(images), say
    )
    known = tuple(name or row for name, row in zip(names, _numbered(rows)))
    return Collection(source, matrix, rows, known, labels if any(labels) else (), x, seen, made)


def _table(table: Path, n: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """File and label of each row, as the .csv has them; empty where there is none."""
    try:
        with table.open(newline="", encoding="utf-8", errors="backslashreplace") as file:
            lines = list(csv.DictReader(file))
    except FileNotFoundError:
        return tuple([""] * n), ()
    except (OSError, csv.Error) as error:
        raise BadData(f"{table} cannot be read ({error}); write it again, or take it away.") from None
    if len(lines) != n or not lines or "file" not in lines[0]:
        raise BadData(
            f"{table} has {len(lines):,} lines for {n:,} features, or no column `file`; write both again "
            "with likeness features."
        )
    return tuple(line["file"] or "" for line in lines), tuple(line.get("label") or "" for line in lines)


def _manifest(path: Path) -> tuple[Path | None, dict[str, Any]]:
    """Which .json beside a matrix speaks of it, and what it says of how the features were made; nothing where
    none does."""
    usual = path.with_suffix(".json")
    for manifest in (usual, *sorted(p for p in path.parent.glob("*.json") if p != usual)):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            written = json.loads(manifest.read_text())
            layers = [name for name, file in written["files"].items() if file == path.name]
            if layers:
                return manifest, dict(written["asked"], layers=layers)
    return None, {}


def _pictured(
    source: str, names: tuple[str, ...] | None, rows: np.ndarray, made: dict[str, Any], typed: bool, say: Say
) -> np.ndarray | None:
    """The images of these names, or of these rows where they have none."""
    if not source:
        say("note: no images are at hand, so the map is of points; --images DATA says where they are")
        return None
    recorded = made.get("reading", {})
    reading = Reading(**{name: recorded[name] for name in ("background", "white") if name in recorded})
    try:
        if (
            names is not None
            and made.get("chosen")
            and (few := _thumbnails(source, names, reading)) is not None
        ):
            return few
        result = data.read(source, reading)
    except Refusal:
        if typed:
            raise
        say(
            f"note: {source}, of which these are the features, is not here: the map is of points; --images "
            "DATA says where the images are"
        )
        return None
    total = made["chosen"][1] if made.get("chosen") else len(rows)
    if result.names is None or names is None:
        order = rows if len(result.x) == total else None
    else:
        place = {name: i for i, name in enumerate(result.names)}
        order = np.array([place[name] for name in names]) if all(name in place for name in names) else None
    if order is None:
        if typed:
            raise Refusal(
                f"{source} holds {len(result.x):,} images that are not the {len(rows):,} of these features; "
                "name the images that they were made from."
            )
        say(f"note: {source} has changed since these features were made: the map is of points")
        return None
    return result.x[order]


def _thumbnails(source: str, names: tuple[str, ...], reading: Reading) -> np.ndarray | None:
    """Some files of a folder, for which the whole of it is not decoded; None where one of them is not there
    any more."""
    images = gallery.pictures(source, data.folder.SIZE, "fit", reading)
    place = {images.name(i): i for i in range(images.total)}
    if not all(name in place for name in names):
        return None
    result = [
        x
        for part in extract.ahead(images.of(np.array([place[name] for name in names])), 0, 64)
        for _, x in part
    ]
    whole = [x for x in result if isinstance(x, np.ndarray)]
    return np.stack(whole) if len(whole) == len(result) else None


# An image from outside


def looked_at(
    image: str, among: Collection, network: str = "", weights: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """An image file by the eyes of a collection: its features (1, D), and its pixels uint8 (C, H, W).

    Raises Refusal where the network that made the features cannot be had, or has other weights by now.
    """
    if among.x is not None and among.seen == PIXELS:
        c, size = among.x.shape[1], among.x.shape[2]
        x = user_images.images(
            image,
            data.Data("", "", among.x, among.rows, among.rows).spec,
            dict(vars(among.reading), size=size),
            1,
        ).x
        levels = (
            drawn((x + 1) / 2) * 255 if among.reading.binarize else x.add(1).mul(127.5).round().byte()
        ).numpy()
        return levels.reshape(1, -1), levels.reshape(c, size, size)
    made = among.made
    if not made:
        raise Refusal(
            f"nothing says by which network {among.source} was made, so {image} cannot be compared; name a "
            "file or a row among its images."
        )
    opens = network or made.get("opens", made["network"])
    if not network and os.path.isabs(opens) and not is_run(Path(opens)):
        raise Refusal(
            f"{among.source} was made by the run {opens}, which is not there; say where it is with --network."
        )
    net = opening.load(opens, weights, made["layers"])
    if net.sha256 != made["sha256"]:
        raise Refusal(
            f"{net.name} has other weights than those that made {among.source}; name these with --weights, "
            "or make the features again."
        )
    result = gallery.pictures(
        image, made["size"], made["interpolation"], Reading(**made.get("reading", {}))
    ).get(0)
    if not isinstance(result, np.ndarray):
        raise BadData(f"{image} cannot be used ({result.reason}: {result.detail}); name another image.")
    with torch.inference_mode():
        outputs = net.outputs(torch.from_numpy(result[None].copy()).to(engine.device()), made["layers"])
    return extract.POOLS[made["pool"]](next(iter(outputs.values()))).float().cpu().numpy(), result
