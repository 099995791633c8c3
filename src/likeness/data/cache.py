"""Decoded images on disk, outside the user's folders: made once, whole or not at all, then mapped.

An entry is a folder `<cache>/<key>/`.  Its key names everything that its content depends on, so an entry is never
changed: it is valid, or it is damaged and made again.

    x.u8         pixels, uint8 (N, C, S, S) without a header
    hashes.u64   a hash of the pixels of each image
    ...          whatever else the reader writes
    entry.json   shapes, counts, and the size and digest of every other file; written last
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core import DiskTrouble, NotAllowed

try:
    import fcntl
except ImportError:  # Windows: two processes that start together both decode, and the second one's work is thrown away
    fcntl = None  # type: ignore[assignment]

VERSION = 1
Progress = Callable[[int, int], None]


def root(chosen: Path | str | None = None) -> Path:
    """The cache folder: as given, else LIKENESS_CACHE, else XDG_CACHE_HOME/likeness, else ~/.cache/likeness.

    Raises NotAllowed where it cannot be made.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = Path(chosen or os.environ.get("LIKENESS_CACHE") or Path(base) / "likeness").expanduser()
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what can go wrong with writing under `path` into a sentence."""
    try:
        yield
    except OSError as trouble:
        hint = "set LIKENESS_CACHE to a folder on a disk with space that you may write to."
        if trouble.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise NotAllowed(f"decoded images cannot be written to {path} ({trouble.strerror}); {hint}") from trouble
        if trouble.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
            raise DiskTrouble(f"writing decoded images to {path} failed ({trouble.strerror}); {hint}") from trouble
        raise


def key_of(kind: str, *parts: object) -> str:
    """The name of an entry that depends on `parts`."""
    return f"{kind}-{hashlib.blake2b(repr((VERSION, *parts)).encode('utf-8', 'surrogatepass'), digest_size=12).hexdigest()}"


@dataclass(frozen=True)
class Entry:
    folder: Path
    meta: dict[str, Any]

    def array(self, name: str, kind: Any, shape: tuple[int, ...] = (-1,)) -> np.ndarray:
        """A file of the entry as an array, mapped read-only."""
        path = self.folder / name
        if not path.stat().st_size:
            return np.zeros((0, *shape[1:]), kind)
        return np.memmap(path, kind, "r").reshape(shape)

    @property
    def x(self) -> np.ndarray:
        return self.array("x.u8", np.uint8, tuple(self.meta["shape"]))

    @property
    def hashes(self) -> np.ndarray:
        return self.array("hashes.u64", np.uint64)


def fetch(base: Path, key: str, build: Callable[[Path], dict[str, Any]], twin: Callable[[dict[str, Any]], str] | None = None) -> Entry:
    """The entry called `key`; where there is no good one, build(folder) writes its files and returns its meta.

    twin(meta) is the key of the same entry for one who asks with everything spelled out that `build` had to find out.
    """
    if entry := _named(base, key):
        return entry
    with explained(base), _alone(base / f"{key}.lock"):
        if entry := _named(base, key):
            return entry
        for left in base.glob(f"{key}.tmp-*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f"{key}.tmp-", dir=base, ignore_cleanup_errors=True) as work:
            (temporary := Path(work) / "entry").mkdir()
            meta = build(temporary)
            _seal(temporary, meta)
            _replace(temporary, base / key)
            if twin and (other := twin(meta)) != key:
                (Path(work) / "same").write_text(key)
                (Path(work) / "same").replace(base / f"{other}.same")
    entry = _open(base / key)
    if entry is None:
        raise DiskTrouble(f"what was just written to {base / key} cannot be read back; check that disk, or set LIKENESS_CACHE to a folder on another.")
    return entry


def _named(base: Path, key: str) -> Entry | None:
    """The good entry of that key, or the one that another key says is the same."""
    with suppress(OSError, ValueError):
        return _open(base / key) or _open(base / Path((base / f"{key}.same").read_text()).name)
    return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process builds the same entry."""
    with path.open("w") as handle:
        if fcntl:
            # A file system that has no locks only costs a second decoding.
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _seal(folder: Path, meta: dict[str, Any]) -> None:
    files = {p.name: [p.stat().st_size, _digest(p)] for p in sorted(folder.iterdir())}
    (folder / "entry.json").write_text(json.dumps(dict(meta=meta, files=files)))
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def _replace(new: Path, folder: Path) -> None:
    if folder.exists():  # a damaged one: two renames, so that no reader meets half of either
        folder.rename(new.parent / "damaged")
    new.rename(folder)
    sync(folder.parent)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(path: Path) -> str:
    """Of small files; the pixels have a hash per image, see _spot_check."""
    return "" if path.name == "x.u8" else hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _open(folder: Path) -> Entry | None:
    try:
        said = json.loads((folder / "entry.json").read_text())
        good = all((folder / n).stat().st_size == size and _digest(folder / n) == digest for n, (size, digest) in said["files"].items())
        entry = Entry(folder, said["meta"])
        return entry if good and _spot_check(entry) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _spot_check(entry: Entry, most: int = 64) -> bool:
    """Hash some images again, spread over the file: all of them would mean to read it whole at every start."""
    if "shape" not in entry.meta:
        return True
    rows = np.linspace(0, len(entry.x) - 1, min(most, len(entry.x))).astype(int)
    return len(entry.hashes) == len(entry.x) and [content_hash(entry.x[i]) for i in rows] == entry.hashes[rows].tolist()


def content_hash(image: np.ndarray) -> int:
    """64 bits of BLAKE2b of the pixels: among a million different images two agree with probability 3e-8."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest(), "little")


class Writer:
    """Write images one after another as x.u8 and hashes.u64, in as little memory as one batch of them."""

    def __init__(self, folder: Path, colour: str = "auto"):
        self.path = folder / "x.u8"
        self.file = self.path.open("wb+")
        self.colour, self.shape, self.hashes, self.binary = colour, (0, 0, 0), array("Q"), True

    def add(self, x: np.ndarray) -> None:
        """Append x, uint8 (n, C, S, S).  With colour "auto" the first one in colour turns all that came before to RGB."""
        x = as_colour(x, self.colour)
        if not self.hashes:
            self.shape = x.shape[1:]
        if x.shape[1] > self.shape[0]:
            self._to_rgb()
        self._append(np.ascontiguousarray(np.broadcast_to(x, (len(x), *self.shape))))

    def _append(self, x: np.ndarray) -> None:
        self.file.write(x.data)
        self.hashes.extend(content_hash(image) for image in x)
        self.binary = self.binary and is_binary(x)

    def _to_rgb(self) -> None:
        grey, before = self.path.with_suffix(".grey"), len(self.hashes)
        self.file.close()
        self.path.rename(grey)
        _, side, _ = self.shape
        self.file, self.shape, self.hashes = self.path.open("wb+"), (3, side, side), array("Q")
        old = np.memmap(grey, np.uint8, "r", shape=(before, 1, side, side))
        for i in range(0, before, 256):
            self._append(np.repeat(old[i : i + 256], 3, 1))
        del old
        grey.unlink()

    def finish(self) -> dict[str, Any]:
        """Close the files; returns the part of the entry's meta that describes them."""
        self.file.close()
        self.path.with_name("hashes.u64").write_bytes(self.hashes.tobytes())
        return dict(shape=[len(self.hashes), *self.shape], levels=2 if self.binary else 256)


def room_for(base: Path, size: int) -> None:
    """Refuse before hours of decoding what the disk cannot hold."""
    free = shutil.disk_usage(base).free
    if size > free:
        need = f"the decoded images need {size / 1e6:,.0f} MB and {base} has {free / 1e6:,.0f}"
        raise DiskTrouble(f"{need}; set LIKENESS_CACHE to a larger disk or use a smaller --size.")


def is_binary(x: np.ndarray) -> bool:
    """Only black and white?"""
    return not np.any((x != 0) & (x != 255))


def as_colour(x: np.ndarray, colour: str) -> np.ndarray:
    """uint8 (n, 1 or 3, H, W) as "grey" or "rgb"; "auto" leaves it.  Grey is the luma of ITU-R BT.601, as in Pillow."""
    if colour == "grey" and x.shape[1] == 3:
        weights = np.array([19595, 38470, 7471], np.uint32).reshape(3, 1, 1)
        return ((x * weights).sum(1, keepdims=True, dtype=np.uint32) + 0x8000 >> 16).astype(np.uint8)
    return np.repeat(x, 3, 1) if colour == "rgb" and x.shape[1] == 1 else x
