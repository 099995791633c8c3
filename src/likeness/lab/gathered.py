"""The images that a map or a search is about, with their features: from a matrix that `likeness features` wrote, or from images themselves."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import api, data, engine, store
from ..core import BadData, Refusal, answers
from ..data import own, points
from ..data.dataset import Images, Reading
from ..probes import features, opening
from ..probes.probe import LOGITS, Probe
from ..run import is_run

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
        """On what features depend besides the layer: the same must be said of any that are compared with them."""
        return {name: self.made[key] for name, key in HOW.items() if key in self.made}

    def of(self, rows: np.ndarray) -> Collection:
        """Some of them."""
        labels = tuple(self.labels[i] for i in rows) if self.labels else ()
        x = None if self.x is None else self.x[rows]
        return replace(self, features=self.features[rows], rows=self.rows[rows], names=tuple(self.names[i] for i in rows), labels=labels, x=x)


Say = Callable[[str], None]


def gather(
    source: str,
    say: Say,
    *,
    network: str = "",
    layer: str = "",
    pool: str = "",
    weights: str = "",
    images: str = "",
    reading: Reading | None = None,
    n: int = 0,
    seed: int = 0,
    folder: Path = Path(),
) -> Collection:
    """What DATA is: a matrix of features with or without names beside it, a run that encodes, or images, whose pixels are their features.

    With a `network` (and one of its layers) the images' features are written into `folder`, where the same request finds them again.
    n: so many of them, chosen at random by `seed`; 0 is all.  images: where to find the images of a matrix, if it does not say so.
    """
    reading, path = reading or Reading(), Path(os.path.expanduser(source))
    if points.is_points(source):
        raise Refusal(f"{source} holds points in the plane, which are a map already; name images, or a matrix of features.")
    if path.suffix == ".npy" and (matrix := _matrix(path)) is not None:
        if network:
            raise Refusal(f"{source} holds features already; leave --network out, or name the images themselves.")
        found = _of_matrix(source, path, matrix, images, say)
    else:
        if is_run(path):
            run = api.open(path)
            reading, run_source = Reading(**run.config.reading), str(run.config.data["source"])
            network = network or (str(path) if "encode" in answers(run.model) else "")
            found = _of_network(run_source, network, layer, pool, weights, folder, say) if network else _of_pixels(run_source, reading, say)
        elif network:
            found = _of_network(source, network, layer, pool, weights, folder, say)
        else:
            if layer or weights or pool:
                raise Refusal(f"--layer, --pool and --weights are of a network; type --network too, such as: likeness map {source} --network mobilenet_v2")
            found = _of_pixels(source, reading, say)
    if n and n < len(found.names):
        found = found.of(np.sort(np.random.default_rng((seed, 0x4E)).choice(len(found.names), n, replace=False)))
    if len(found.names) < 3:
        raise Refusal(f"{source} holds {len(found.names)} image{'s' * (len(found.names) != 1)}, and a map needs 3 or more; name a folder with more.")
    return found


def _of_pixels(source: str, reading: Reading, say: Say) -> Collection:
    found = data.read(source, reading)
    if found.skipped:
        say(f"note: {found.verdict}")
    n = len(found.x)
    return Collection(source, found.x.reshape(n, -1), np.arange(n), _names(found), _labels(found), found.x, PIXELS, {}, reading)


def _names(found: Images) -> tuple[str, ...]:
    return tuple(found.names) if found.names is not None else _numbered(len(found.x))


def _numbered(n: int) -> tuple[str, ...]:
    return tuple(f"row {i}" for i in range(n))


def _labels(found: Images) -> tuple[str, ...]:
    if found.y is None:
        return ()
    return tuple(found.classes[i] if 0 <= i < len(found.classes) else str(i) for i in found.y.tolist())


# By a network


def _of_network(source: str, network: str, layer: str, pool: str, weights: str, folder: Path, say: Say) -> Collection:
    net = opening.load(network, weights, [layer] if layer else ())
    layer = layer or usual_layer(net)
    stem = Path(os.path.expanduser(source)).resolve().stem or "images"
    out = folder / f"{stem}-{net.name}-{layer.replace('/', '-')}{pool and '-' + pool}.npy"
    store.make(folder)
    for at in features.extract(net, source, [layer], out, pool):
        say(f"{at.done.files / at.total:4.0%}  {net.name} has looked at {at.done.files:,} images")
    matrix = _matrix(out)
    assert matrix is not None
    return _of_matrix(source, out, matrix, source, lambda text: None)


def usual_layer(net: Probe) -> str:
    """The code of a network that has one, else the deepest layer before its classes that has a number a channel, else the deepest at hand."""
    whole = [name for name in net.layers if name not in net.lost and name not in (LOGITS, "predictions")]
    flat = [name for name in whole if len(net.layers[name]) == 1]
    return "code" if "code" in whole else (flat or whole)[-1]


# From a matrix


def _matrix(path: Path) -> np.ndarray | None:
    """Rows of numbers, mapped; None for an array of images."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise Refusal(f"there is no file {path}; name a folder of images, or a matrix that `likeness features` wrote.") from None
    except (OSError, ValueError, EOFError) as error:
        raise BadData(f"{path} cannot be read as an array ({error}); write it again with likeness features.") from None
    return found if found.ndim == 2 and found.dtype.kind in "fiu" and found.size else None


def _of_matrix(source: str, path: Path, matrix: np.ndarray, images: str, say: Say) -> Collection:
    names, labels = _table(path, len(matrix))
    made = _told(path)
    seen = f"{made['network']} {', '.join(made['layers'])}{' ' + made['pool'] if made.get('pool') else ''}" if made else path.stem
    x = _pictured(images or made.get("source", ""), names, bool(images), say)
    named = tuple(name or row for name, row in zip(names, _numbered(len(names))))
    return Collection(source, matrix, np.arange(len(matrix)), named, labels if any(labels) else (), x, seen, made)


def _table(path: Path, n: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """File and label of each row, as the .csv beside the matrix has them; empty where there is none."""
    for table in (path.with_suffix(".csv"), path.with_name("features.csv")):
        try:
            with table.open(newline="", encoding="utf-8", errors="backslashreplace") as file:
                lines = list(csv.DictReader(file))
        except FileNotFoundError:
            continue
        except (OSError, csv.Error) as error:
            raise BadData(f"{table} cannot be read ({error}); write it again, or take it away.") from None
        if len(lines) != n or not lines or "file" not in lines[0]:
            raise BadData(f"{table} has {len(lines):,} lines for {n:,} features, or no column `file`; write both again with likeness features.")
        return tuple(line["file"] or "" for line in lines), tuple(line.get("label") or "" for line in lines)
    return tuple([""] * n), ()


def _told(path: Path) -> dict[str, Any]:
    """How features were made, of the .json beside them; nothing where it does not say."""
    for manifest in (path.with_suffix(".json"), path.with_name("features.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(manifest.read_text())
            layers = [name for name, file in told["files"].items() if file == path.name]
            if layers:
                return dict(told["asked"], layers=layers)
    return {}


def _pictured(source: str, names: tuple[str, ...], typed: bool, say: Say) -> np.ndarray | None:
    """The images of these names, or in this order where they have none."""
    if not source:
        say("note: no images are at hand, so the map is of points; --images DATA says where they are")
        return None
    try:
        found = data.read(source, Reading())
    except Refusal:
        if typed:
            raise
        say(f"note: {source}, of which these are the features, is not here: the map is of points; --images DATA says where the images are")
        return None
    if found.names is None:
        order = np.arange(len(found.x)) if len(found.x) == len(names) else None
    else:
        place = {name: i for i, name in enumerate(found.names)}
        order = np.array([place[name] for name in names]) if all(name in place for name in names) else None
    if order is None:
        if typed:
            raise Refusal(
                f"{source} holds {len(found.x):,} images that are not the {len(names):,} of these features; name the images that they were made from."
            )
        say(f"note: {source} has changed since these features were made: the map is of points")
        return None
    return found.x[order]


# An image from outside


def looked_at(image: str, among: Collection, network: str = "", weights: str = "") -> tuple[np.ndarray, np.ndarray]:
    """An image file by the eyes of a collection: its features (1, D), and its pixels uint8 (C, H, W).

    Raises Refusal where the network that made the features cannot be had, or has other weights by now.
    """
    if among.x is not None and among.seen == PIXELS:
        c, size = among.x.shape[1], among.x.shape[2]
        x = own.images(image, data.Data("", "", among.x, among.rows, among.rows).spec, dict(vars(among.reading), size=size), 1).x
        levels = x.add(1).mul(127.5).round().byte().numpy()
        return levels.reshape(1, -1), levels.reshape(c, size, size)
    if not among.made:
        raise Refusal(f"nothing says by which network {among.source} was made, so {image} cannot be compared; name a file or a row among its images.")
    net = opening.load(network or among.made["network"], weights, among.made["layers"])
    if net.sha256 != among.made["sha256"]:
        raise Refusal(f"{net.name} has other weights than those that made {among.source}; name these with --weights, or make the features again.")
    found = features.pictures(image, among.made["size"], among.made["interpolation"]).get(0)
    if not isinstance(found, np.ndarray):
        raise BadData(f"{image} cannot be used ({found.reason}: {found.detail}); name another image.")
    with torch.inference_mode():
        said = net.outputs(torch.from_numpy(found[None].copy()).to(engine.device()), among.made["layers"])
    return features.POOLS[among.made["pool"]](next(iter(said.values()))).float().cpu().numpy(), found
