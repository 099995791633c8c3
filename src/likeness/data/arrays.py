"""Arrays of images: .npy, .npz, and idx files (plain, .gz or .xz), or a folder of the four idx files of
MNIST.

Pixels become uint8 (N, C, S, S).  uint8 is taken as it is; floats within [0, 1] or [-1, 1] are scaled, and
what lies a little outside is clipped (ranges.py); whatever else could mean two things is refused until
--white says what white is.  The verdict says what was assumed.

A .npy file of uint8 squares is mapped where it lies and never copied: leave it alone while a model trains on
it.  Everything else goes through the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core import BadData, Refusal
from ..storage.cache import Progress, family_of, key_of
from . import ranges
from .cache import fetch, room_for
from .dataset import Images, Reading
from .formats import DAMAGE, Raw, idx, joined, labels_beside, open_array, validates
from .labels import ENOUGH, NONE, tidy
from .pixels import at_once, resize
from .ranges import Span, Values
from .verdict import GREY
from .writer import Writer, content_hash, is_binary

VERSION = 3
"""raised whenever the same file would become other pixels, or have another verdict"""


def read(path: Path, reading: Reading, base: Path, progress: Progress | None) -> Images:
    """The images of an array file.  Raises BadData for a damaged one, Refusal for one that could mean two
    things."""
    beside = labels_beside(path)
    stats = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in (path, beside) if p]
    family = family_of("array", str(path.resolve()))
    how = (reading.validation,) if validates(path) else ()
    key: Key = (family, stats, *how, *([LABELS] if path.suffix == ".npz" else []))
    return labels_of(settle(lambda: open_array(path, *how), key, path.name, reading, base, progress, family))


LABELS = "a test set without labels beside one with them is unlabelled"
"""of .npz files alone: nothing else is read in another way than it once was"""


def labels_of(images: Images) -> Images:
    """The same with its classes in natural order; images whose label is NaN, -1 or nothing are unlabelled."""
    y, classes = tidy(images.y, images.classes)
    lacking = 0 if y is None else int((y == NONE).sum())
    enough = y is None or (y if images.test is None else y[~images.test]) != NONE
    if y is not None and np.mean(enough) < ENOUGH:
        note = f"; {lacking:,} are unlabelled (-1, NaN or nothing), too many for the others to make classes"
        return replace(images, y=None, classes=(), verdict=images.verdict + note)
    note = f"; {lacking:,} unlabelled (-1, NaN or nothing)" if lacking else ""
    return replace(images, y=y, classes=classes, verdict=images.verdict + note)


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

    def named(how: tuple[object, ...]) -> str:
        # auto once looked at the shape alone; what is spelled out is as it was
        return key_of(*key, VERSION + (how[1] == "auto"), how)

    entry = fetch(base, named(reading.key()), build, lambda meta: named(reading.key(*meta["as"])), family)
    x = entry.x if "shape" in entry.meta else channels_second(make().x, what)
    y = np.array(entry.array("y.i64", np.int64)) if (entry.folder / "y.i64").exists() else None
    train, classes = entry.meta["train"], tuple(entry.meta["classes"])
    note = f"{len(x):,} images: {len(x):,} used, 0 skipped{entry.meta['note']}"
    note += GREY if reading.colour == "auto" and entry.meta.get("grey") else ""
    note += ranges.remarks(Values(**v) for v in entry.meta["values"])
    test = None if train is None else np.arange(len(x)) >= train
    return Images(
        x, entry.hashes, note, entry.meta["levels"], y, classes, test=test, keys=entry.keys, entry=entry
    )


def _pixels(raw: Raw, what: str, reading: Reading, folder: Path, progress: Progress | None) -> dict[str, Any]:
    x, values = channels_second(raw.x, what), span(raw.x, reading.white, what)
    size, colour = reading.size or min(x.shape[2:]), ("grey", "rgb")[x.shape[1] == 3]
    grey = reading.colour == "auto" and colour == "rgb" and _is_grey(x)
    reading = replace(reading, colour="grey") if grey else reading
    wanted = colour if reading.colour == "auto" else reading.colour
    as_it_is = (
        raw.mapped
        and x.dtype == np.uint8
        and (values.black, values.white) == (0, 255)
        and x.shape[2:] == (size, size)
        and wanted == colour
    )
    meta = (
        _describe(x, folder, progress)
        if as_it_is
        else convert(x, (values.black, values.white), size, reading, folder, progress)
    )
    low, high = meta.pop("extremes")
    values = replace(values, low=low, high=high)
    return meta | {"as": [size, wanted], "values": [asdict(values)], "grey": grey}


def _is_grey(x: np.ndarray) -> bool:
    """Whether the three channels of (N, 3, H, W) are equal everywhere; one look tells most that are not."""
    return all(np.array_equal(p, np.broadcast_to(p[:, :1], p.shape)) for p in (x[:1], *_parts(x)))


def convert(
    x: np.ndarray,
    span: Span,
    size: int,
    reading: Reading,
    folder: Path,
    progress: Progress | None,
) -> dict[str, Any]:
    channels = 1 if reading.colour == "grey" else 3 if reading.colour == "rgb" else x.shape[1]
    room_for(folder, len(x) * channels * size * size)
    writer, step, extremes = Writer(folder, reading.colour), at_once(x), list[float]()
    for i in range(0, len(x), step):
        part = x[i : i + step]
        keys = [content_hash(image) for image in part]
        extremes += [float(part.min()), float(part.max())]
        if part.dtype != np.uint8 or span != (0, 255):
            part = ranges.levels(part, span)
        writer.add(resize(part, size), keys)
        if progress:
            progress(min(i + step, len(x)), len(x))
    return writer.finish() | dict(extremes=(min(extremes), max(extremes)))


def _describe(x: np.ndarray, folder: Path, progress: Progress | None) -> dict[str, Any]:
    hashes, binary, low, high = np.empty(len(x), np.uint64), True, 255, 0
    for i, image in enumerate(x):
        hashes[i], binary = content_hash(image), binary and is_binary(image)
        low, high = min(low, int(image.min())), max(high, int(image.max()))
        if progress and (i + 1) % 4096 == 0:
            progress(i + 1, len(x))
    (folder / "hashes.u64").write_bytes(hashes.tobytes())
    return dict(levels=2 if binary else 256, extremes=(low, high))


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


def span(x: np.ndarray, white: float, what: str) -> Values:
    """What the values of an array mean.  Raises Refusal where that cannot be told, BadData for NaN or values
    outside of what is declared."""
    if x.dtype.kind not in "buif":
        raise BadData(f"{what}: pixels of type {x.dtype} are not numbers; save them as uint8.")
    letter = "B" if x.dtype == np.uint8 else x.dtype.kind
    low, high = (0, 255) if not white and _is_bytes(x) else _extremes(x)

    def outside(span: Span) -> int:
        return sum(ranges.beyond(part, span) for part in _parts(x))

    chosen = ranges.choose(letter, low, high, white, x.size, outside)
    if chosen is None:
        raise _refusal(what, x.dtype, low, high, white, ranges.remedy(low, high, x.size, outside))
    inside = chosen[0] <= low and high <= chosen[1]
    guessed = not white and letter in "uif"
    return Values(str(x.dtype), low, high, *chosen, x.size, 0 if inside else outside(chosen), guessed)


def _refusal(what: str, kind: Any, low: float, high: float, white: float, remedy: str) -> Refusal:
    if not np.isfinite([low, high]).all():
        return BadData(f"{what}: some pixels are not finite numbers: np.nan_to_num(x) makes them 0.")
    if white:
        return BadData(
            f"{what}: with --white {white:g} pixels should lie from 0 to {white:g}, but they lie from "
            f"{low:g} to {high:g}; {remedy}."
        )
    return Refusal(f"{what}: {kind} pixels from {low:g} to {high:g} could mean several things; {remedy}.")


def _extremes(x: np.ndarray) -> tuple[float, float]:
    parts = list(_parts(x))
    return float(np.min([p.min() for p in parts])), float(np.max([p.max() for p in parts]))


def _is_bytes(x: np.ndarray) -> bool:
    """One look saves reading a mapped file of any size."""
    return x.dtype == np.uint8 and bool(x[:1].max() > 1)


def _parts(x: np.ndarray) -> Iterator[np.ndarray]:
    step = at_once(x)
    return (x[i : i + step] for i in range(0, len(x), step))


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
    return labels_of(settle(make, (family, stats), folder.name, reading, base, progress, family))
