"""Arrays of images: .npy, .npz, and idx files (plain, .gz or .xz), or a folder of the four idx files of MNIST.

Pixels become uint8 (N, C, S, S).  uint8 is taken as it is; floats within [0, 1] or, with negative ones among them, within [-1, 1] are scaled;
whatever else could mean two things is refused until --white says what white is.  A .npy file of uint8 squares is mapped where it
lies and never copied: leave it alone while a model trains on it.  Everything else goes through the cache.
"""

from __future__ import annotations

import gzip
import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..core import BadData, NotAllowed, Refusal
from .cache import Progress, Writer, content_hash, fetch, is_binary, key_of, room_for
from .dataset import Images, Reading
from .pixels import resize

IMAGES, LABELS = ("x", "images", "arr_0", "x_train", "train_images"), ("y", "labels", "arr_1", "y_train", "train_labels")
TEST_IMAGES, TEST_LABELS = ("x_test", "test_images"), ("y_test", "test_labels")
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IDX_KINDS = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MOST = 1 << 32
"""bytes that one compressed file may unpack to in memory"""


@dataclass(frozen=True)
class Raw:
    """Arrays as they were found."""

    x: np.ndarray
    """(N, H, W), (N, H, W, C) or (N, C, H, W) of any type of number"""
    y: np.ndarray | None = None
    train: int | None = None
    """rows from here on are the official test split"""
    classes: tuple[str, ...] = ()
    """names of the labels 0 ... K-1, where they are known"""
    mapped: bool = False
    note: str = ""


def read(path: Path, reading: Reading, base: Path, progress: Progress | None) -> Images:
    """The images of an array file.  Raises BadData for a damaged one, Refusal for one that could mean two things."""
    stat = path.stat()
    return settle(lambda: _open(path), ("array", str(path.resolve()), stat.st_size, stat.st_mtime_ns), path.name, reading, base, progress)


def settle(make: Callable[[], Raw], key: tuple[object, ...], what: str, reading: Reading, base: Path, progress: Progress | None) -> Images:
    """Raw arrays become Images.  `make` is called only where the cache has nothing under `key`, or to map a file that needs no copy."""

    def build(folder: Path) -> dict[str, Any]:
        raw = make()
        y, classes = label(raw.y, raw.classes, len(raw.x), what)
        if y is not None:
            (folder / "y.i64").write_bytes(y.tobytes())
        return _pixels(raw, what, reading, folder, progress) | dict(classes=classes, train=raw.train, note=raw.note)

    entry = fetch(base, key_of(what, *key, reading.key()), build, lambda meta: key_of(what, *key, reading.key(*meta["as"])))
    x = entry.x if "shape" in entry.meta else channels_second(make().x, what)
    y = np.array(entry.array("y.i64", np.int64)) if (entry.folder / "y.i64").exists() else None
    train, classes = entry.meta["train"], tuple(entry.meta["classes"])
    note = f"{len(x):,} images: {len(x):,} used, 0 skipped{entry.meta['note']}"
    test = None if train is None else np.arange(len(x)) >= train
    return Images(x, entry.hashes, note, entry.meta["levels"], y, classes, test=test, entry=entry)


def _pixels(raw: Raw, what: str, reading: Reading, folder: Path, progress: Progress | None) -> dict[str, Any]:
    x, (low, high) = channels_second(raw.x, what), span(raw.x, reading.white, what)
    size, colour = reading.size or min(x.shape[2:]), ("grey", "rgb")[x.shape[1] == 3]
    wanted = colour if reading.colour == "auto" else reading.colour
    as_it_is = raw.mapped and x.dtype == np.uint8 and (low, high) == (0, 255) and x.shape[2:] == (size, size) and wanted == colour
    told = _describe(x, folder, progress) if as_it_is else convert(x, low, high, size, reading, folder, progress)
    return told | {"as": [size, wanted]}


def convert(x: np.ndarray, low: float, high: float, size: int, reading: Reading, folder: Path, progress: Progress | None) -> dict[str, Any]:
    room_for(folder, len(x) * x.shape[1] * size * size)
    writer = Writer(folder, reading.colour)
    for i in range(0, len(x), 256):
        part = x[i : i + 256]
        if part.dtype != np.uint8 or (low, high) != (0, 255):
            part = np.rint((part.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)
        writer.add(resize(part, size))
        if progress:
            progress(min(i + 256, len(x)), len(x))
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
    first, last = x.ndim == 4 and x.shape[1] in (1, 3), x.ndim == 4 and x.shape[3] in (1, 3)
    if first == last or 0 in x.shape:
        why = "could have its channels first or last" if first else "is not (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels"
        raise Refusal(f"{what}: an array of shape {x.shape} {why}; save it as (N, channels, height, width).")
    return x if first else x.transpose(0, 3, 1, 2)


def span(x: np.ndarray, white: float, what: str) -> tuple[float, float]:
    """The values that mean black and white.  Raises Refusal where that cannot be told, BadData for NaN or values outside."""
    if x.dtype.kind not in "buif":
        raise BadData(f"{what}: pixels of type {x.dtype} are not numbers; save them as uint8.")
    if not x.size:
        return 0, 255
    low, high = _extremes(x)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BadData(f"{what}: some pixels are not finite numbers; save the images as uint8.")
    if white:
        return _within(0.0, white, low, high, what)
    return _guess(x.dtype, low, high, what)


def _guess(kind: np.dtype[Any], low: float, high: float, what: str) -> tuple[float, float]:
    if kind.kind == "b" or (kind.kind == "f" and 0 <= low and high <= 1):
        return 0, 1
    if kind.kind == "f" and -1 <= low and high <= 1:
        return -1, 1
    if kind.kind in "ui" and low >= 0 and 1 < high <= 255 or (kind == np.uint8 and high == 0):
        return 0, 255
    raise Refusal(f"{what}: {kind} pixels from {low:g} to {high:g} could mean several things; say what white is, such as --white {_likely(high)}.")


def _likely(high: float) -> int:
    return next(w for w in (1, 255, 4095, 65535, math.ceil(max(high, 1))) if high <= w)


def _within(black: float, white: float, low: float, high: float, what: str) -> tuple[float, float]:
    if low < black or high > white:
        raise BadData(f"{what}: with --white {white:g} pixels should lie from {black:g} to {white:g}, but they lie from {low:g} to {high:g}.")
    return black, white


def _extremes(x: np.ndarray) -> tuple[float, float]:
    if x.dtype == np.uint8 and x[:1].max() > 1:
        return 0, 255  # one look saves reading a mapped file of any size
    parts = [x[i : i + 1024] for i in range(0, len(x), 1024)]
    return float(np.min([p.min() for p in parts])), float(np.max([p.max() for p in parts]))


def label(y: np.ndarray | None, known: tuple[str, ...], n: int, what: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels of any kind as int64 0 ... K-1 with the K names: those known, else the values in sorted order."""
    if y is None or (known and not np.isin(y, range(len(known))).all()):
        return None, ()
    if known:
        return y.astype(np.int64), known
    y = y.reshape(-1) if y.size == len(y) else y
    if y.shape != (n,) or y.dtype.kind not in "buifU":
        raise BadData(f"{what}: {n} images need labels of shape ({n},), numbers or text, and these are {y.dtype} of shape {y.shape}.")
    values, index = np.unique(y, return_inverse=True)
    if len(values) > max(2, n // 2) and n > 4:
        raise BadData(f"{what}: {len(values)} different labels for {n} images are no classes; leave the labels out, or save the class of each image.")
    return index.astype(np.int64), tuple(f"{v:g}" if y.dtype.kind == "f" else str(v) for v in values)


def _open(path: Path) -> Raw:
    """Look at what is inside, not at the ending."""
    try:
        with path.open("rb") as file:
            head = file.read(6)
        if head == b"\x93NUMPY":
            return Raw(read_npy(path), mapped=True)
        if head[:2] == b"PK":
            return _npz(path)
        return _idx_with_labels(path)
    except PermissionError:
        raise NotAllowed(f"{path} may not be read by you.") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, MemoryError, OverflowError, NotImplementedError) as why:
        raise BadData(f"{path} cannot be read as .npy, .npz or idx ({str(why)[:200] or type(why).__name__}); make it again, or name a folder of images.") from None


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and type that an .npy stream claims, before anything that large is made."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, fortran, kind = read[np.lib.format.read_magic(file)](file)
    except (SyntaxError, TypeError, RecursionError, UnicodeDecodeError, AttributeError) as why:
        raise ValueError(f"its header is damaged: {why}") from None
    if kind.hasobject or kind.kind not in "buifU" or any(s < 0 for s in shape):
        raise ValueError(f"it holds {kind} of shape {shape}, not numbers")
    return shape, fortran, kind


def read_npy(path: Path) -> np.ndarray:
    """Map an .npy file read-only.  Raises ValueError where it is not as long as it claims."""
    with path.open("rb") as file:
        shape, fortran, kind = _header(file)
        start = file.tell()
        if start + math.prod(shape) * kind.itemsize != os.fstat(file.fileno()).st_size:
            raise ValueError(f"its header promises {kind} of shape {shape}, and the file is not that long")
    if not math.prod(shape):
        return np.zeros(shape, kind)
    return np.memmap(path, kind, "r", start, shape, "F" if fortran else "C")


def _npz(path: Path) -> Raw:
    with zipfile.ZipFile(path) as archive:
        names = {n.removesuffix(".npy"): n for n in archive.namelist()}
        found = {k: next((n for n in keys if n in names), None) for k, keys in dict(x=IMAGES, y=LABELS, tx=TEST_IMAGES, ty=TEST_LABELS).items()}
        if found["x"] is None:
            raise ValueError(f"it holds {', '.join(sorted(names)[:8]) or 'nothing'}, and images are looked for as {', '.join(IMAGES)}")
        part = {k: _member(archive, names[n]) for k, n in found.items() if n}
    if "tx" not in part:
        return Raw(part["x"], part.get("y"))
    return joined(part["x"], part.get("y"), part["tx"], part.get("ty"))


def joined(x: np.ndarray, y: np.ndarray | None, tx: np.ndarray, ty: np.ndarray | None) -> Raw:
    """A training set and its official test set, one after the other."""
    labels = None if y is None or ty is None else np.concatenate([y.reshape(-1), ty.reshape(-1)])
    return Raw(np.concatenate([x, tx]), labels, len(x), note=f"; the {len(tx):,} of the official test split are held out")


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as file:
        shape, fortran, kind = _header(file)
        blob = bounded(file, math.prod(shape) * kind.itemsize)
    return np.frombuffer(blob, kind).reshape(shape, order="F" if fortran else "C")


def bounded(file: IO[bytes], promised: int) -> bytes:
    """Read exactly what a header promised: neither a bomb nor a stump gets further."""
    if promised > MOST:
        raise ValueError(f"it unpacks to {promised / 2**30:.1f} GB; save it as .npy, which need not fit in memory")
    blob = file.read(promised + 1)
    if len(blob) != promised:
        raise ValueError(f"its header promises {promised:,} bytes and it holds {'more' if len(blob) > promised else f'{len(blob):,}'}")
    return blob


def unpacked(path: Path) -> IO[bytes]:
    """Open a file that may be compressed."""
    with path.open("rb") as file:
        head = file.read(6)
    for magic, opener in ((b"\x1f\x8b", gzip.open), (b"\xfd7zXZ\0", lzma.open)):
        if head.startswith(magic):
            return opener(path, "rb")  # type: ignore[no-any-return, operator]
    return path.open("rb")


def read_idx(file: IO[bytes]) -> np.ndarray:
    """The array of an idx stream (LeCun's format: two zeros, type, rank, sizes, all big-endian).  Raises ValueError."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_KINDS or not 1 <= head[3] <= 4:
        raise ValueError("it does not begin as one of these formats does")
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise ValueError("its header is cut off")
    shape, kind = tuple(np.frombuffer(sizes, ">u4").tolist()), np.dtype(IDX_KINDS[head[2]])
    return np.frombuffer(bounded(file, math.prod(shape) * kind.itemsize), kind).reshape(shape).astype(kind.newbyteorder("="), copy=False)


def idx_file(folder: Path, name: str) -> Path | None:
    """The file called so, plain or compressed."""
    names = (name + ending for name in (name, name.replace("-idx", ".idx")) for ending in ("", ".gz", ".xz"))
    return next((folder / n for n in names if (folder / n).is_file()), None)


def _idx(path: Path) -> np.ndarray:
    with unpacked(path) as file:
        return read_idx(file)


def _idx_with_labels(path: Path) -> Raw:
    """Images, and the labels where they lie beside them under the usual name."""
    x = _idx(path)
    stem = path.name.removesuffix(path.suffix) if path.suffix in (".gz", ".xz") else path.name
    beside = idx_file(path.parent, stem.replace("images", "labels").replace("idx3", "idx1")) if "images" in stem else None
    return Raw(x, _idx(beside) if beside else None)


def idx_folder(folder: Path) -> tuple[Path, ...] | None:
    """The four idx files of MNIST, where a folder holds them."""
    found = tuple(idx_file(folder, name) for name in IDX)
    return found if all(found) else None  # type: ignore[return-value]


def read_idx_folder(folder: Path, files: tuple[Path, ...], reading: Reading, base: Path, progress: Progress | None) -> Images:
    """The four files of idx_folder() as one set, with their official test split."""

    def make() -> Raw:
        try:
            return joined(*map(_idx, files))
        except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError) as why:
            raise BadData(f"the idx files in {folder} cannot be read ({str(why)[:200]}); fetch them again.") from None

    stats = [(f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return settle(make, ("idx", str(folder.resolve()), stats), folder.name, reading, base, progress)
