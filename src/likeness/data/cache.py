"""Decoded images on disk, outside the user's folders: made once, whole or not at all, then mapped.

An entry is a folder `<cache>/<key>/`.  Its key names everything that its content depends on, so an entry is
never
changed: it is valid, or it is damaged and made again.

    x.u8         pixels, uint8 (N, C, S, S) without a header
    hashes.u64   a hash of the pixels of each image
    keys.u64     a hash of what each image was made from
    ...          whatever else the reader writes
    entry.json   shapes, counts, and the size and digest of every other file, and when x.u8 was written;
    written last

Entries may belong to a family, those of one folder or file, of which the three used last are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..core import DiskTrouble
from ..storage import fsync
from ..storage.cache import explained
from .writer import content_hash

try:
    import fcntl
# Windows: two processes that start together both decode, and the second one's work is thrown away
except ImportError:
    fcntl = None  # type: ignore[assignment]
KEPT = 3
TINY = 1 << 24
"""bytes of pixels that are compared with their hashes at every start, in 40 ms"""


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

    @property
    def keys(self) -> np.ndarray | None:
        """Of what each image was made from, where that is not the image itself."""
        return self.array("keys.u64", np.uint64) if (self.folder / "keys.u64").exists() else None


Build = Callable[[Path], dict[str, Any]]


def fetch(
    base: Path, key: str, build: Build, twin: Callable[[dict[str, Any]], str] | None = None, family: str = ""
) -> Entry:
    """The entry called `key`; where there is no good one, build(folder) writes its files and returns its
    meta.

    twin(meta) is the key of the same entry for one who asks with everything spelled out that `build` had to
    find out. A new entry of a `family` pushes out the one that was not used for longest.
    """
    if entry := _named(base, key):
        return entry
    with explained(base), _alone(base / f"{key}.lock"):
        if entry := _named(base, key):
            return entry
        _sweep(base, key)
        with tempfile.TemporaryDirectory(prefix=f"{key}.tmp-", dir=base, ignore_cleanup_errors=True) as work:
            (temporary := Path(work) / "entry").mkdir()
            meta = build(temporary)
            _seal(temporary, meta)
            _replace(temporary, base / key)
            if twin and (other := twin(meta)) != key:
                (Path(work) / "same").write_text(key)
                (Path(work) / "same").replace(base / f"{other}.same")
        if family:
            _prune(base, family, key)
    entry = _open(base / key)
    if entry is None:
        raise DiskTrouble(
            f"what was just written to {base / key} cannot be read back; check that disk, or set "
            "LIKENESS_CACHE to a folder on another."
        )
    return entry


def _named(base: Path, key: str) -> Entry | None:
    """The good entry of that key, or the one that another key says is the same."""
    with suppress(OSError, ValueError):
        return _open(base / key) or _open(base / Path((base / f"{key}.same").read_text()).name)
    return None


@contextmanager
def _alone(path: Path, wait: bool = True) -> Iterator[bool]:
    """Wait until no other process builds the same entry; or without waiting, say whether none does."""
    with path.open("w") as handle:
        yield _locked(handle, wait)


def _locked(handle: IO[str], wait: bool) -> bool:
    """A file system that has no locks costs a second decoding, but nothing is deleted there."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return True
    except (OSError, AttributeError):
        return wait


def _sweep(base: Path, key: str) -> None:
    """Delete what killed processes left half made; `key` is locked by us."""
    for left in base.glob("*.tmp-*"):
        owner = left.name.partition(".tmp-")[0]
        with (
            suppress(OSError),
            nullcontext(True) if owner == key else _alone(base / f"{owner}.lock", wait=False) as free,
        ):
            if free:
                shutil.rmtree(left, ignore_errors=True)


def _prune(base: Path, family: str, key: str) -> None:
    """Keep the entries of a family that were used last.  Pixels that another process has mapped stay readable
    to it."""
    with suppress(OSError):
        for made in sorted(base.glob(f"{family}-*/entry.json"), key=lambda p: p.stat().st_mtime_ns)[:-KEPT]:
            if made.parent.name == key:
                continue
            with _alone(base / f"{made.parent.name}.lock", wait=False) as free:
                if free:
                    made.unlink()
                    shutil.rmtree(made.parent, ignore_errors=True)
        for same in base.glob(f"{family}-*.same"):
            if not (base / Path(same.read_text()).name).exists():
                same.unlink()


def _seal(folder: Path, meta: dict[str, Any]) -> None:
    files = {p.name: [p.stat().st_size, _digest(p)] for p in sorted(folder.iterdir())}
    (folder / "entry.json").write_text(json.dumps(dict(meta=meta, files=files, time=_time(folder))))
    for path in folder.iterdir():
        fsync(path)
    fsync(folder)


def _time(folder: Path) -> int:
    """When the pixels were last written to, in ns."""
    return (folder / "x.u8").stat().st_mtime_ns if (folder / "x.u8").exists() else 0


def _replace(new: Path, folder: Path) -> None:
    if folder.exists():  # a damaged one: two renames, so that no reader meets half of either
        folder.rename(new.parent / "damaged")
    new.rename(folder)
    fsync(folder.parent)


def _digest(path: Path) -> str:
    """Of small files; the pixels have a hash per image, see _sound."""
    return "" if path.name == "x.u8" else hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _open(folder: Path) -> Entry | None:
    try:
        manifest = json.loads((folder / "entry.json").read_text())
        good = all(
            (folder / n).stat().st_size == size and _digest(folder / n) == digest
            for n, (size, digest) in manifest["files"].items()
        )
        entry = Entry(folder, manifest["meta"])
        if not (good and _sound(entry, manifest["time"])):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    with suppress(OSError):  # so that the ones that are used are not the ones that are pruned
        os.utime(folder / "entry.json")
    return entry


def _sound(entry: Entry, time: int, most: int = 64) -> bool:
    """Compare pixels with their hashes: all where they are few, or where the file was written to since it was
    made; else some, spread over it.

    So damage by a program or a copy is found wherever it is, and the failing of a disk only where one of
    those some is hit: to read a large file whole at every start would take longer than many trainings.
    """
    if "shape" not in entry.meta:
        return True
    x, hashes, changed = entry.x, entry.hashes, _time(entry.folder) != time
    rows = range(len(x)) if changed or x.nbytes <= TINY else np.linspace(0, len(x) - 1, most).astype(int)
    good = len(hashes) == len(x) and all(content_hash(x[i]) == hashes[i] for i in rows)
    if good and changed:  # copied: looked at once
        with suppress(OSError):
            os.utime(entry.folder / "x.u8", ns=(time, time))
    return good


def room_for(base: Path, size: int) -> None:
    """Refuse before hours of decoding what the disk cannot hold."""
    free = shutil.disk_usage(base).free
    if size > free:
        need = f"the decoded images need {size / 1e6:,.0f} MB and {base} has {free / 1e6:,.0f}"
        raise DiskTrouble(f"{need}; set LIKENESS_CACHE to a larger disk or use a smaller --size.")
