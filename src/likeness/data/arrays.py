"""Arrays of images: .npy, .npz, and idx files (plain, .gz or .xz), or a folder of the four idx files of
MNIST.

Pixels become uint8 (N, C, S, S).  uint8 is taken as it is; floats within [0, 1] or, with negative ones among
them, within [-1, 1] are scaled; whatever else could mean two things is refused until --white says what white
is.  A .npy file of uint8 squares is mapped where it lies and never copied: leave it alone while a model
trains on it.  Everything else goes through the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..core import BadData, Refusal
from ..storage.cache import Progress, family_of, key_of
from .cache import fetch, room_for
from .dataset import Images, Reading
from .formats import DAMAGE, Raw, idx, joined, labels_beside, open_array, validates
from .pixels import at_once, resize
from .writer import Writer, content_hash, is_binary


def read(path: Path, reading: Reading, base: Path, progress: Progress | None) -> Images:
    """The images of an array file.  Raises BadData for a damaged one, Refusal for one that could mean two
    things."""
    beside = labels_beside(path)
    stats = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in (path, beside) if p]
    family = family_of("array", str(path.resolve()))
    how = (reading.validation,) if validates(path) else ()
    key: Key = (family, stats, *how)
    return settle(lambda: open_array(path, *how), key, path.name, reading, base, progress, family)


Key = tuple[str, *tuple[object, ...]]


def settle(
    make: Callable[[], Raw],
    key: Key,
    what: str,
    reading: Reading,
    base: Path,
    progress: Progress | None,
    family: str = "",
) -> Images:
    """Raw arrays become Images.  `make` is called only where the cache has nothing under `key`, or to map a
    file that needs no copy."""

    def build(folder: Path) -> dict[str, Any]:
        raw = make()
        channels_second(raw.x, what)
        y, classes = label(raw.y, raw.classes, len(raw.x), what)
        if y is not None:
            (folder / "y.i64").write_bytes(y.tobytes())
        return _pixels(raw, what, reading, folder, progress) | dict(
            classes=classes, train=raw.train, note=raw.note
        )

    entry = fetch(
        base, key_of(*key, reading.key()), build, lambda meta: key_of(*key, reading.key(*meta["as"])), family
    )
    x = entry.x if "shape" in entry.meta else channels_second(make().x, what)
    y = np.array(entry.array("y.i64", np.int64)) if (entry.folder / "y.i64").exists() else None
    train, classes = entry.meta["train"], tuple(entry.meta["classes"])
    note = f"{len(x):,} images: {len(x):,} used, 0 skipped{entry.meta['note']}"
    test = None if train is None else np.arange(len(x)) >= train
    return Images(
        x, entry.hashes, note, entry.meta["levels"], y, classes, test=test, keys=entry.keys, entry=entry
    )


def _pixels(raw: Raw, what: str, reading: Reading, folder: Path, progress: Progress | None) -> dict[str, Any]:
    x, (low, high) = channels_second(raw.x, what), span(raw.x, reading.white, what)
    size, colour = reading.size or min(x.shape[2:]), ("grey", "rgb")[x.shape[1] == 3]
    wanted = colour if reading.colour == "auto" else reading.colour
    as_it_is = (
        raw.mapped
        and x.dtype == np.uint8
        and (low, high) == (0, 255)
        and x.shape[2:] == (size, size)
        and wanted == colour
    )
    meta = (
        _describe(x, folder, progress) if as_it_is else convert(x, low, high, size, reading, folder, progress)
    )
    return meta | {"as": [size, wanted]}


def convert(
    x: np.ndarray,
    low: float,
    high: float,
    size: int,
    reading: Reading,
    folder: Path,
    progress: Progress | None,
) -> dict[str, Any]:
    channels = 1 if reading.colour == "grey" else 3 if reading.colour == "rgb" else x.shape[1]
    room_for(folder, len(x) * channels * size * size)
    writer, step = Writer(folder, reading.colour), at_once(x)
    for i in range(0, len(x), step):
        part = x[i : i + step]
        keys = [content_hash(image) for image in part]
        if part.dtype != np.uint8 or (low, high) != (0, 255):
            part = np.rint((part.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)
        writer.add(resize(part, size), keys)
        if progress:
            progress(min(i + step, len(x)), len(x))
    return writer.finish()


def _describe(x: np.ndarray, folder: Path, progress: Progress | None) -> dict[str, Any]:
    hashes, binary = np.empty(len(x), np.uint64), True
    for i, image in enumerate(x):
        hashes[i], binary = content_hash(image), binary and is_binary(image)
        if progress and (i + 1) % 4096 == 0:
            progress(i + 1, len(x))
    (folder / "hashes.u64").write_bytes(hashes.tobytes())
    return dict(levels=2 if binary else 256)


def channels_second(x: np.ndarray, what: str) -> np.ndarray:
    """Whatever the layout, a view (N, C, H, W) with 1 or 3 channels."""
    if x.ndim == 3:
        x = x[:, None]
    if not x.size:
        raise Refusal(
            f"{what}: an array of shape {x.shape} holds no pixels; save the images as (N, channels, height, "
            "width)."
        )
    first, last = x.ndim == 4 and x.shape[1] in (1, 3), x.ndim == 4 and x.shape[3] in (1, 3)
    if first == last:
        why = (
            "could have its channels first or last"
            if first
            else ("is not (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels")
        )
        raise Refusal(f"{what}: an array of shape {x.shape} {why}; save it as (N, channels, height, width).")
    return x if first else x.transpose(0, 3, 1, 2)


def span(x: np.ndarray, white: float, what: str) -> tuple[float, float]:
    """The values that mean black and white.  Raises Refusal where that cannot be told, BadData for NaN or
    values outside."""
    if x.dtype.kind not in "buif":
        raise BadData(f"{what}: pixels of type {x.dtype} are not numbers; save them as uint8.")
    low, high = _extremes(x)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BadData(f"{what}: some pixels are not finite numbers; save the images as uint8.")
    if white:
        return _within(0.0, white, low, high, what)
    return _guess(x.dtype, low, high, what)


def _guess(kind: np.dtype[Any], low: float, high: float, what: str) -> tuple[float, float]:
    if kind.kind == "b" or (kind.kind == "f" and low >= 0 and high <= 1):
        return 0, 1
    if kind.kind == "f" and low >= -1 and high <= 1:
        return -1, 1
    if (kind.kind in "ui" and low >= 0 and 1 < high <= 255) or (kind == np.uint8 and high == 0):
        return 0, 255
    raise Refusal(
        f"{what}: {kind} pixels from {low:g} to {high:g} could mean several things; say what white is, such "
        f"as --white {_likely(high)}."
    )


def _likely(high: float) -> int:
    return next(w for w in (1, 255, 4095, 65535, math.ceil(max(high, 1))) if high <= w)


def _within(black: float, white: float, low: float, high: float, what: str) -> tuple[float, float]:
    if low < black or high > white:
        raise BadData(
            f"{what}: with --white {white:g} pixels should lie from {black:g} to {white:g}, but they lie "
            f"from {low:g} to {high:g}."
        )
    return black, white


def _extremes(x: np.ndarray) -> tuple[float, float]:
    if x.dtype == np.uint8 and x[:1].max() > 1:
        return 0, 255  # one look saves reading a mapped file of any size
    step = at_once(x)
    parts = [x[i : i + step] for i in range(0, len(x), step)]
    return float(np.min([p.min() for p in parts])), float(np.max([p.max() for p in parts]))


def label(
    y: np.ndarray | None, known: tuple[str, ...], n: int, what: str
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels of any kind as int64 0 ... K-1 with the K names: those known, else the values in
    sorted order."""
    if y is None:
        return None, ()
    if y.ndim and known and np.isin(y, range(len(known))).all():
        return y.astype(np.int64), known
    y = y.reshape(-1) if y.ndim and y.size == len(y) else y
    if y.shape != (n,) or y.dtype.kind not in "buifU":
        raise BadData(
            f"{what}: {n} images need labels of shape ({n},), numbers or text, and these are {y.dtype} of "
            f"shape {y.shape}."
        )
    values, index = np.unique(y, return_inverse=True)
    if len(values) > max(2, n // 2) and n > 4:
        raise BadData(
            f"{what}: {len(values)} different labels for {n} images are no classes; leave the labels out, "
            "or save the class of each image."
        )
    return index.astype(np.int64), tuple(f"{v:g}" if y.dtype.kind == "f" else str(v) for v in values)


def read_idx_folder(
    folder: Path, files: tuple[Path, ...], reading: Reading, base: Path, progress: Progress | None
) -> Images:
    """The four files of idx_folder() as one set, with their official test split."""

    def make() -> Raw:
        try:
            return joined(*map(idx, files))
        except DAMAGE as why:
            raise BadData(
                f"the idx files in {folder} cannot be read ({str(why)[:200]}); fetch them again."
            ) from None

    stats = [(f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    family = family_of("idx", str(folder.resolve()))
    return settle(make, (family, stats), folder.name, reading, base, progress, family)
