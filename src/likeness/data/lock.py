"""The files of the named sets: where each comes from, and exactly what it must be.

A file is looked for under LIKENESS_DATA, then among earlier downloads, then fetched once, over https, into the cache.  Whichever way it
came, its bytes are compared with the table.  For idx files the table holds the digest of the unpacked content, because the same content goes
around plain, as .gz and as .xz.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import tempfile
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..core import BadData, NotAllowed, Offline
from .cache import Progress, explained, root, sync


@dataclass(frozen=True)
class Locked:
    name: str
    url: str
    fetched: int
    """bytes of the download"""
    bytes: int
    """bytes of the content that is compared: unpacked, except of a .tar.gz"""
    digest: str
    """sha256 of those bytes"""


_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_FASHION = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"


def _idx(base: str, *rows: tuple[str, int, int, str]) -> tuple[Locked, ...]:
    return tuple(Locked(name, f"{base}{name}.gz", fetched, size, digest) for name, fetched, size, digest in rows)


FILES: dict[str, tuple[Locked, ...]] = {
    "mnist": _idx(
        _MNIST,
        ("train-images-idx3-ubyte", 9912422, 47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        ("train-labels-idx1-ubyte", 28881, 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        ("t10k-images-idx3-ubyte", 1648877, 7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        ("t10k-labels-idx1-ubyte", 4542, 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
    "fashion-mnist": _idx(
        _FASHION,
        ("train-images-idx3-ubyte", 26421880, 47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        ("train-labels-idx1-ubyte", 29515, 60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        ("t10k-images-idx3-ubyte", 4422102, 7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        ("t10k-labels-idx1-ubyte", 5148, 10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    ),
    "cifar10": (
        Locked(
            "cifar-10-binary.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            *(170052171, 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
        ),
    ),
}
FOLDERS = {
    "mnist": ("mnist", "MNIST/raw", "MNIST"),
    "fashion-mnist": ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "FashionMNIST"),
    "cifar10": ("cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "CIFAR10", "."),
}
"""where people keep each set, below LIKENESS_DATA"""
LICENCES = {
    "mnist": "none stated by its authors (LeCun, Cortes & Burges)",
    "fashion-mnist": "MIT (Zalando SE)",
    "cifar10": "none stated; its authors ask to cite Krizhevsky 2009",
}


def places(name: str) -> Iterator[Path]:
    """Folders that exist in which the user may keep the set."""
    if home := os.environ.get("LIKENESS_DATA"):
        yield from (p for p in (Path(home).expanduser() / f for f in FOLDERS[name]) if p.is_dir())


def lookup(name: str, file: str) -> Path | None:
    """The user's own copy of a file, plain or compressed."""
    names = [f + end for f in (file, file.replace("-idx", ".idx")) for end in ("", ".gz", ".xz")]
    return next((p / n for p in places(name) for n in names if (p / n).is_file()), None)


def complete(name: str) -> bool:
    """Whether nothing would have to be downloaded."""
    downloads = root() / "downloads" / name
    return any(places(name)) or all((downloads / f.url.rsplit("/", 1)[-1]).exists() for f in FILES[name])


def content(name: str, locked: Locked, base: Path, progress: Progress | None = None) -> bytes:
    """The verified content of a file.  Raises BadData for another content, Offline where there is neither file nor network."""
    path = lookup(name, locked.name) or _download(name, locked, base, progress)
    try:
        with _unpacked(path, locked) as file:
            blob = file.read(locked.bytes + 1)
    except PermissionError:
        raise NotAllowed(f"{path} may not be read by you.") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as why:
        raise BadData(f"{path} is damaged ({why}); delete it, or put a good copy in its place.") from None
    if len(blob) != locked.bytes or hashlib.sha256(blob).hexdigest() != locked.digest:
        raise BadData(f"{path} is not the file that {name} is made of: its sha256 should be {locked.digest}; delete it, or put a good copy in its place.")
    return blob


def _unpacked(path: Path, locked: Locked) -> IO[bytes]:
    """A .tar.gz is compared as it is."""
    ending = "" if locked.name.endswith(".gz") else path.suffix
    openers = {".gz": gzip.open, ".xz": lzma.open}
    return openers[ending](path, "rb") if ending in openers else path.open("rb")  # type: ignore[operator]


def _download(name: str, locked: Locked, base: Path, progress: Progress | None) -> Path:
    path = base / "downloads" / name / locked.url.rsplit("/", 1)[-1]
    if path.exists():
        return path
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            for part in _fetch(name, locked, path):
                with explained(path):
                    file.write(part)
                if progress:
                    progress(file.tell(), locked.fetched)
        sync(Path(temporary))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _fetch(name: str, locked: Locked, path: Path) -> Iterator[bytes]:
    """The body in pieces.  A body of another length never becomes a file, so a broken connection can simply be tried again."""
    left = locked.fetched
    try:
        with urllib.request.urlopen(locked.url, timeout=30) as answer:
            while part := answer.read(1 << 16):
                left -= len(part)
                if left < 0:
                    break
                yield part
    except (OSError, ValueError) as why:
        raise Offline(_where(name, locked, path, str(getattr(why, "reason", why)))) from None
    if left:
        raise Offline(_where(name, locked, path, f"it should be {locked.fetched:,} bytes long and is not"))


def _where(name: str, locked: Locked, path: Path, why: str) -> str:
    folder = FOLDERS[name][0]
    return (
        f"{name} needs {locked.url}, which cannot be fetched ({why}); fetch it elsewhere and put it at {path}, "
        f"or into {folder}/ of a folder that LIKENESS_DATA names; `digits` and `shapes` need no network."
    )
