"""What lies in a folder: one walk that reads no file, keeps names in one piece of memory, and
never writes."""

from __future__ import annotations

import hashlib
import os
import stat
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..core import NotAllowed
from .decode import kind, read_bytes

BESIDE = (
    *(
        b".txt",
        b".json",
        b".jsonl",
        b".csv",
        b".tsv",
        b".md",
        b".xml",
        b".yaml",
        b".yml",
        b".html",
        b".db",
        b".ini",
        b".log",
    ),
    *(b".npy", b".npz", b".pt", b".pth", b".ckpt", b".safetensors", b".h5", b".parquet"),
    *(b".mp4", b".m4v", b".mov", b".avi", b".mkv", b".webm", b".mp3", b".wav"),
    *(b".zip", b".tar", b".gz", b".tgz", b".xz", b".bz2", b".zst", b".7z", b".rar"),
)
"""endings of what commonly lies beside images; with hidden files they are passed over, and not counted as
images that failed"""
IMAGES = (
    b".png",
    b".jpg",
    b".jpeg",
    b".webp",
    b".bmp",
    b".gif",
    b".tif",
    b".tiff",
    b".avif",
    b".ppm",
    b".pgm",
    b".heic",
    b".heif",
    b".hif",
)
CAPTIONS = (b"metadata.jsonl", b"metadata.csv")


class Words(NamedTuple):
    """What is written about one image."""

    text: str = ""
    label: str = ""


@dataclass
class Descriptions:
    """What is written about images: by name in a metadata file, by row in the archive that holds
    the images."""

    paths: dict[bytes, Words] = field(default_factory=dict)
    rows: dict[int, Words] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    """in their order, where that is declared"""
    notes: list[str] = field(default_factory=list)
    """what metadata files hold that is not used, and why"""

    def of(self, listing: Listing, row: int) -> Words:
        return self.paths.get(listing.path(row)) or self.rows.get(row) or Words()


@dataclass
class Listing:
    root: bytes
    packed = False
    """no path leads to what is listed"""
    blob: bytearray = field(default_factory=bytearray)
    """relative paths of the files, one after another"""
    ends: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    times: array[int] = field(default_factory=lambda: array("q"))
    """of the last change, in ns"""
    captions: list[tuple[bytes, int, int]] = field(default_factory=list)
    odd: list[tuple[bytes, str, str]] = field(default_factory=list)
    """path, reason and detail of what cannot be read: links that lead nowhere, pipes, folders without
    permission"""
    passed: list[tuple[bytes, str]] = field(default_factory=list)
    """path and reason of what does not claim to be one"""

    def __len__(self) -> int:
        return len(self.ends)

    def path(self, i: int) -> bytes:
        """Relative to the folder."""
        return bytes(self.blob[self.ends[i - 1] if i else 0 : self.ends[i]])

    def add(self, name: bytes, size: int, time: int) -> None:
        self.blob += name
        self.ends.append(len(self.blob))
        self.sizes.append(size)
        self.times.append(time)

    def read(self, i: int) -> bytes:
        """The whole of file i, if it begins as images do.  Raises Skip."""
        return read_bytes(os.path.join(self.root, self.path(i)), (self.sizes[i], self.times[i]), kind)

    def beside(self, k: int) -> bytes:
        """The whole of file k of `captions`.  Raises Skip."""
        path, size, time = self.captions[k]
        return read_bytes(os.path.join(self.root, path), (size, time))

    def readers(self, rows: Sequence[int]) -> tuple[list[Callable[[], bytes]], int]:
        """read() of each of these rows, for any thread, and the bytes held meanwhile.  One thread asks, and
        in order."""
        return [partial(self.read, row) for row in rows], 0

    def descriptions(self) -> Descriptions:
        """What stands beside the pixels themselves; files in `captions` are not among it."""
        return Descriptions()

    def digest(self) -> str:
        """Changes with the name, size or time of change of any file that may be an image."""
        h = hashlib.blake2b(repr(self.root).encode(), digest_size=16)
        for part in (self.blob, self.ends, self.sizes, self.times):
            h.update(part)
        return h.hexdigest()

    def rest(self) -> tuple[object, ...]:
        """What the digest leaves out, because no pixel depends on it."""
        return self.captions, self.odd, self.passed


def printable(name: bytes) -> str:
    """A file name as it can safely be shown and written down: what is not UTF-8 or not printable
    is escaped."""
    text = name.decode("utf-8", "backslashreplace")
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    )


def walk(folder: Path) -> Listing:
    """List a folder and all below it, in an order that depends on names alone.

    Links are followed, each folder is entered once, so a loop of links ends.  Raises NotAllowed where the
    folder itself may not be read.
    """
    result = Listing(os.fsencode(folder.resolve()))
    visited: set[tuple[int, int]] = set()
    todo = [b""]
    while todo:
        inside = todo.pop()
        below: list[tuple[bool, bytes]] = []
        for name, entry, status in _entries(result, inside, visited):
            if stat.S_ISDIR(status.st_mode):
                below.append((entry.is_symlink(), name))
            else:
                _file(result, name, status)
        # Folders before links to folders, so that what is in both has its own name; the stack turns the order
        # round.
        todo += [name for _, name in sorted(below, reverse=True)]
    return result


def _entries(
    listing: Listing, inside: bytes, visited: set[tuple[int, int]]
) -> Iterator[tuple[bytes, os.DirEntry[bytes], os.stat_result]]:
    """The entries of one folder in the order of their names, but for those that are listed as odd or passed
    over."""
    try:
        here = os.stat(os.path.join(listing.root, inside))
        if (here.st_dev, here.st_ino) in visited:
            listing.passed.append((inside, "a folder listed already under another name"))
            return
        visited.add((here.st_dev, here.st_ino))
        with os.scandir(os.path.join(listing.root, inside)) as scan:
            entries = sorted(scan, key=lambda e: e.name)
        if inside.lower().endswith(IMAGES):
            listing.passed.append((inside, "a folder named like an image"))
    except OSError as why:
        if not inside:
            raise NotAllowed(
                f"{printable(listing.root)} cannot be listed ({why.strerror}); name a folder that you "
                "may read."
            ) from None
        listing.odd.append((inside, "unreadable", f"folder: {why.strerror}"))
        return
    for entry in entries:
        name = inside + b"/" + entry.name if inside else entry.name
        if entry.name.startswith(b".") or entry.name == b"__MACOSX":
            listing.passed.append((name, "hidden"))
            continue
        try:
            yield name, entry, entry.stat()
        except OSError as why:
            listing.odd.append(
                (name, "dangling links" if entry.is_symlink() else "unreadable", why.strerror or str(why))
            )


def _file(listing: Listing, name: bytes, status: os.stat_result) -> None:
    lower = name.lower()
    if not stat.S_ISREG(status.st_mode):
        mode = stat.filemode(status.st_mode)
        listing.odd.append((name, "not regular files", mode)) if lower.endswith(
            IMAGES
        ) else listing.passed.append((name, f"no regular file: {mode}"))
    elif os.path.basename(lower) in CAPTIONS:
        listing.captions.append((name, status.st_size, status.st_mtime_ns))
    elif lower.endswith(BESIDE):
        listing.passed.append((name, "not an image by its ending"))
    else:
        listing.add(name, status.st_size, status.st_mtime_ns)
