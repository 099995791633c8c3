"""The array formats: .npy, .npz and idx, plain or compressed.  Headers are checked before anything as large
as they claim is made."""

from __future__ import annotations

import gzip
import lzma
import math
import os
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..core import BadData, NotAllowed, Refusal
from . import unread
from .decode import kind as image_kind

IMAGES, LABELS = (
    ("x", "images", "arr_0", "x_train", "train_images"),
    ("y", "labels", "arr_1", "y_train", "train_labels"),
)
TEST_IMAGES, TEST_LABELS = ("x_test", "test_images"), ("y_test", "test_labels")
VAL_IMAGES, VAL_LABELS = ("x_val", "val_images"), ("y_val", "val_labels")
IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
IDX_KINDS = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)
"""what readers of compressed files raise for damaged ones"""
MOST = 1 << 32
"""bytes that one compressed file may unpack to in memory, and never more than half of what is available"""
PIECE = 1 << 20


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


def open_array(path: Path, validation: str = "auto") -> Raw:
    """Look at what is inside, not at the ending.  validation: as Reading has it, of an .npz file that has
    such a part."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
        if head[:6] == b"\x93NUMPY":
            return Raw(read_npy(path), mapped=True)
        if head[:2] == b"PK":
            return _npz(path, validation)
        if image_kind(head):
            raise Refusal(f"{path} is one image; name the folder that holds your images.")
        return _idx_with_labels(path)
    except PermissionError:
        raise NotAllowed(f"{path} may not be read by you.") from None
    except Objects:
        raise BadData(f"{path} cannot be read as .npy, .npz or idx: {unread.objects(path)}.") from None
    except DAMAGE as why:
        text = str(why)[:200] or type(why).__name__
        raise BadData(
            f"{path} cannot be read as .npy, .npz or idx ({text}); make it again, or name a folder of images."
        ) from None


class Objects(ValueError):
    """An array of Python objects."""


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and type that an .npy stream claims, before anything that large is made."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, fortran, kind = read[np.lib.format.read_magic(file)](file)
    except Exception as why:  # numpy parses it as Python text, which fails in a dozen ways
        raise ValueError(f"its header is damaged: {why}") from None
    if kind.hasobject:
        raise Objects(f"it holds objects of shape {shape}")
    if kind.kind not in "buifU" or any(type(s) is not int or s < 0 for s in shape):
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


def validates(path: Path) -> bool:
    """Whether it is an .npz file with a validation part."""
    try:
        with zipfile.ZipFile(path) as archive:
            return bool({f"{name}.npy" for name in VAL_IMAGES} & set(archive.namelist()))
    except DAMAGE:
        return False


def _npz(path: Path, validation: str) -> Raw:
    with zipfile.ZipFile(path) as archive:
        names = {n.removesuffix(".npy"): n for n in archive.namelist()}
        parts = dict(x=IMAGES, y=LABELS, tx=TEST_IMAGES, ty=TEST_LABELS, vx=VAL_IMAGES, vy=VAL_LABELS)
        result = {k: next((n for n in keys if n in names), None) for k, keys in parts.items()}
        if result["x"] is None:
            raise ValueError(
                f"it holds {', '.join(sorted(names)[:8]) or 'nothing'}, and images are looked for as "
                f"{', '.join(IMAGES)}"
            )
        unused = result["vx"] is not None and validation == "none"
        wanted = {k: names[n] for k, n in result.items() if n and not (unused and k in ("vx", "vy"))}
        affordable(sum(_promise(archive, name) for name in wanted.values()))
        part = {k: _member(archive, name) for k, name in wanted.items()}
    return _assigned(part, validation, unused)


def _assigned(part: dict[str, np.ndarray], validation: str, unused: bool) -> Raw:
    """Training, validation and test parts as one set.  The validation part is trained on where there is a
    test part, since nothing here is chosen by it, and else held out; validation: "train" or "held-out"
    decides it."""
    x, y = part["x"], part.get("y")
    note = "; those for validation are left out" if unused else ""
    tests = [(part["tx"], part.get("ty"), "official test split")] if "tx" in part else []
    if "vx" in part:
        n = f"{len(part['vx']):,}" if part["vx"].ndim else "one"
        if validation == "train" or (validation == "auto" and tests):
            extra = joined(x, y, part["vx"], part.get("vy"))
            x, y, note = extra.x, extra.y, f"; the {n} for validation are trained on"
        else:
            tests.append((part["vx"], part.get("vy"), "validation part"))
    raw = Raw(x, y)
    for tx, ty, what in tests:
        raw = joined(raw.x, raw.y, tx, ty, what=what, train=raw.train, note=raw.note)
    return replace(raw, note=note + raw.note)


def joined(
    x: np.ndarray,
    y: np.ndarray | None,
    tx: np.ndarray,
    ty: np.ndarray | None,
    *,
    what: str = "official test split",
    train: int | None = None,
    note: str = "",
) -> Raw:
    """A training set and its official test set, one after the other.  train, note: of x, where some of it is
    held out already."""
    both = (x, y), (tx, ty)
    parts = [_unlabelled(len(a), y, ty) if b is None else b.reshape(-1) for a, b in both if a.ndim]
    labels = None if y is None and ty is None else np.concatenate(parts)
    return Raw(
        np.concatenate([x, tx]),
        labels,
        len(x) if train is None else train,
        note=f"{note}; the {len(tx):,} of the {what} are held out",
    )


def _unlabelled(n: int, *others: np.ndarray | None) -> np.ndarray:
    """Labels of n images that have none, to stand beside others."""
    text = any(y is not None and y.dtype.kind == "U" for y in others)
    return np.full(n, "" if text else -1)


def _promise(archive: zipfile.ZipFile, name: str) -> int:
    with archive.open(name) as file:
        shape, _, kind = _header(file)
    return math.prod(shape) * kind.itemsize


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as file:
        shape, fortran, kind = _header(file)
        blob = bounded(file, math.prod(shape) * kind.itemsize)
    return blob.view(kind).reshape(shape, order="F" if fortran else "C")


def bounded(file: IO[bytes], promised: int) -> np.ndarray:
    """Read exactly the bytes that a header promised: neither a bomb nor a stump gets further, or takes memory
    that it does not fill."""
    affordable(promised)
    blob, at = np.empty(promised, np.uint8), 0
    while piece := file.read(min(PIECE, promised - at + 1)):
        if at + len(piece) > promised:
            raise ValueError(f"its header promises {promised:,} bytes and it holds more")
        blob[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        at += len(piece)
    if at < promised:
        raise ValueError(f"its header promises {promised:,} bytes and it holds {at:,}")
    return blob


def affordable(promised: int) -> None:
    """Raises ValueError for more than one file may take."""
    if promised > min(MOST, available() // 2):
        raise ValueError(
            f"it unpacks to {promised / 2**30:.1f} GB; save it as .npy, which need not fit in memory"
        )


def available() -> int:
    """Bytes of memory that can be had without swapping; all there are, or MOST twice, where the system does
    not say."""
    with suppress(OSError, ValueError, IndexError, StopIteration), open("/proc/meminfo") as file:
        return 1024 * int(next(line for line in file if line.startswith("MemAvailable")).split()[1])
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2 * MOST


def unpacked(path: Path) -> IO[bytes]:
    """Open a file that may be compressed."""
    with path.open("rb") as file:
        head = file.read(6)
    for magic, opener in ((b"\x1f\x8b", gzip.open), (b"\xfd7zXZ\0", lzma.open)):
        if head.startswith(magic):
            return opener(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def read_idx(file: IO[bytes]) -> np.ndarray:
    """The array of an idx stream (LeCun's format: two zeros, type, rank, sizes, all big-endian).  Raises
    ValueError."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_KINDS or not 1 <= head[3] <= 4:
        raise ValueError("it does not begin as one of these formats does")
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise ValueError("its header is cut off")
    shape, kind = tuple(np.frombuffer(sizes, ">u4").tolist()), np.dtype(IDX_KINDS[head[2]])
    return (
        bounded(file, math.prod(shape) * kind.itemsize)
        .view(kind)
        .reshape(shape)
        .astype(kind.newbyteorder("="), copy=False)
    )


def idx_file(folder: Path, name: str) -> Path | None:
    """The file called so, plain or compressed."""
    names = (name + ending for name in (name, name.replace("-idx", ".idx")) for ending in ("", ".gz", ".xz"))
    return next((folder / n for n in names if (folder / n).is_file()), None)


def idx(path: Path) -> np.ndarray:
    with unpacked(path) as file:
        return read_idx(file)


def _idx_with_labels(path: Path) -> Raw:
    """Images, and the labels where they lie beside them under the usual name."""
    beside = labels_beside(path)
    return Raw(idx(path), idx(beside) if beside else None)


def labels_beside(path: Path) -> Path | None:
    """train-labels-idx1-ubyte for train-images-idx3-ubyte, either of them plain or compressed."""
    stem = path.name.removesuffix(path.suffix) if path.suffix in (".gz", ".xz") else path.name
    return (
        idx_file(path.parent, stem.replace("images", "labels").replace("idx3", "idx1"))
        if "images-idx3" in stem or "images.idx3" in stem
        else None
    )


def idx_folder(folder: Path) -> tuple[Path, ...] | None:
    """The four idx files of MNIST, where a folder holds them."""
    result = tuple(idx_file(folder, name) for name in IDX)
    return result if all(result) else None  # type: ignore[return-value]
