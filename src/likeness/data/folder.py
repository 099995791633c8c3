"""A folder of images: listed at every start, decoded once into the cache.

Sub-folders of images are classes; train/ beside test/ or validation/ is an official split; a metadata.jsonl with `file_name` and `text` in
each line, as Hugging Face writes it, holds captions.  A file that cannot be used is skipped, counted and listed with its reason.
Training reads the cache, so a file that changes or goes later is no matter until the next start.
"""

from __future__ import annotations

import os
import warnings
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, __version__

from ..storage.cache import Progress, family_of, key_of
from . import verdict
from .cache import Entry, fetch, room_for
from .dataset import Images, Lines, Reading
from .decode import Decoded, Skip, decode
from .listing import Listing, printable, walk
from .metadata import captions, sort_out
from .writer import Writer

VERSION = 2
"""raised whenever the same file would become other pixels"""
SIZE = 64
CHUNK = 64


@dataclass
class Tally:
    """What happened to each file, in little memory."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    """index in the listing of each image used"""
    sizes: array[int] = field(default_factory=lambda: array("i"))
    modes: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    brightest: int = 0
    """of the 16-bit values"""
    failed: list[tuple[bytes, str, str]] = field(default_factory=list)

    def use(self, row: int, image: Decoded) -> None:
        self.rows.append(row)
        self.sizes.extend(image.size)
        self.modes[image.mode] += 1
        self.notes.update(image.notes)
        self.brightest = max(self.brightest, image.brightest)


def read(path: Path, reading: Reading, base: Path, progress: Progress | None = None) -> Images:
    """The images below a folder.  Raises BadData where fewer than two, or under four fifths, can be used."""
    reading = replace(reading, size=reading.size or SIZE)
    listing = walk(path)
    said = lru_cache(partial(captions, listing))
    pixels, about = (family_of(kind, listing.root) for kind in ("folder", "about"))
    key = partial(key_of, pixels, VERSION, __version__, listing.digest())
    failed = base / f"{pixels}.skipped.txt"

    def build(to: Path) -> dict[str, Any]:
        said()  # a line that cannot be read should stop before hours of decoding
        return _build(listing, reading, to, failed, progress)

    entry = fetch(base, key(reading.key()), build, lambda meta: key(reading.key(colour=("grey", "rgb")[meta["shape"][1] == 3])), pixels)
    told = fetch(base, key_of(about, entry.folder.name, listing.rest()), partial(verdict.build, listing, entry, said, failed), family=about)
    return _images(entry, told)


def _images(entry: Entry, told: Entry) -> Images:
    y = np.array(entry.array("y.i64", np.int64)) if (entry.folder / "y.i64").exists() else None
    test = np.array(entry.array("test.u1", np.bool_)) if (entry.folder / "test.u1").exists() else None
    full_list = str(told.folder / verdict.SKIPPED) if (told.folder / verdict.SKIPPED).exists() else ""
    return Images(
        entry.x,
        entry.hashes,
        told.meta["verdict"] + (f" -> {full_list}" if full_list else ""),
        entry.meta["levels"],
        y,
        tuple(entry.meta["classes"]),
        _lines(told, "texts"),
        names=_lines(entry, "names"),
        test=test,
        keys=entry.keys,
        entry=entry,
        skipped=told.meta["skipped"],
        full_list=full_list,
    )


def _lines(entry: Entry, name: str) -> Lines | None:
    there = (entry.folder / f"{name}.bin").exists()
    return Lines(entry.array(f"{name}.bin", np.uint8), entry.array(f"{name}.i64", np.int64)) if there else None


def _build(listing: Listing, reading: Reading, to: Path, failed: Path, progress: Progress | None) -> dict[str, Any]:
    """Write the cache entry of a folder."""
    room_for(to, len(listing) * reading.size**2 * (1 if reading.colour == "grey" else 3))
    writer, tally = Writer(to, reading.colour), Tally()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for row, found in enumerate(_decoded(listing, reading)):
            if isinstance(found, Skip):
                tally.failed.append((listing.path(row), found.reason, found.detail))
            else:
                writer.add(found.pixels[None], [found.key])
                tally.use(row, found)
            if progress and (row % CHUNK == 0 or row + 1 == len(listing)):
                progress(row + 1, len(listing))
    verdict.enough(listing, len(tally.rows), verdict.listed(listing.odd + tally.failed), failed)
    return writer.finish() | _describe(listing, tally, to)


def _decoded(listing: Listing, reading: Reading) -> Iterator[Decoded | Skip]:
    """Every file in order, decoded by as many threads as there are processors: Pillow lets go of the interpreter's lock."""
    chunks = [range(i, min(i + CHUNK, len(listing))) for i in range(0, len(listing), CHUNK)]
    ahead: deque[Future[list[Decoded | Skip]]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for chunk in chunks:
            ahead.append(_submit(pool, listing, chunk, reading))
            if len(ahead) > 2 * (os.cpu_count() or 1):
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()


def _submit(pool: ThreadPoolExecutor, listing: Listing, rows: range, reading: Reading) -> Future[list[Decoded | Skip]]:
    """Decode later, or at once where the system gives us no thread."""
    try:
        return pool.submit(_decode, listing, rows, reading)
    except RuntimeError:
        done: Future[list[Decoded | Skip]] = Future()
        done.set_result(_decode(listing, rows, reading))
        return done


def _decode(listing: Listing, rows: range, reading: Reading) -> list[Decoded | Skip]:
    return [decode(os.path.join(listing.root, listing.path(row)), (listing.sizes[row], listing.times[row]), reading) for row in rows]


def _describe(listing: Listing, tally: Tally, to: Path) -> dict[str, Any]:
    """Write what is known about the images beside them; returns the meta."""
    y, classes, test, beside = sort_out(listing, tally.rows)
    verdict.write_lines(to, "names", (printable(listing.path(row)) for row in tally.rows))
    verdict.write_rows(to / verdict.FAILED, verdict.listed(tally.failed))
    for name, values in (("y.i64", y), ("test.u1", test), ("sizes.i32", tally.sizes), ("rows.i64", tally.rows)):
        if values is not None:
            (to / name).write_bytes(values.tobytes())
    official = None if test is None else int(test.sum())
    told = dict(classes=classes, modes=dict(tally.modes), converted=dict(tally.notes), brightest=tally.brightest)
    return told | dict(official=official, beside=beside)
