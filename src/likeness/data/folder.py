"""A folder of images: listed at every start, decoded once into the cache.

Sub-folders of images are classes; train/ beside test/ or validation/ is an official split; a metadata.jsonl with `file_name` and `text` in
each line, as Hugging Face writes it, holds captions.  A file that cannot be used is skipped, counted and listed with its reason.
Training reads the cache, so a file that changes or goes later is no matter until the next start.
"""

from __future__ import annotations

import json
import os
import warnings
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, __version__

from ..core import BadData
from .cache import Progress, Writer, fetch, key_of, room_for
from .dataset import Images, Lines, Reading
from .listing import IMAGES, Listing, printable, walk
from .sniff import Decoded, Skip, decode

VERSION = 1
"""raised whenever the same file would become other pixels"""
SIZE = 64
MOST_SKIPPED = 0.2
HELD_OUT = ("test", "validation", "val", "valid")
CHUNK = 64


@dataclass
class Tally:
    """What happened to each file, in little memory."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    """index in the listing of each image used"""
    sizes: array[int] = field(default_factory=lambda: array("i"))
    modes: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    skipped: list[tuple[bytes, str, str]] = field(default_factory=list)

    def use(self, row: int, image: Decoded) -> None:
        self.rows.append(row)
        self.sizes.extend(image.size)
        self.modes[image.mode] += 1
        self.notes.update(image.notes)


def read(path: Path, reading: Reading, base: Path, progress: Progress | None = None) -> Images:
    """The images below a folder.  Raises BadData where fewer than two, or under four fifths, can be used."""
    reading = replace(reading, size=reading.size or SIZE)
    listing = walk(path)

    def key(colour: str) -> str:
        return key_of("folder", VERSION, __version__, listing.digest(), reading.size, colour, reading.background, reading.white)

    entry = fetch(
        base, key(reading.colour), lambda to: _build(listing, reading, to, base / f"{key(reading.colour)}.skipped.txt", progress), lambda meta: key(meta["colour"])
    )
    meta = entry.meta
    names, texts = (Lines(entry.array(f"{n}.bin", np.uint8), entry.array(f"{n}.i64", np.int64)) if n in meta["lines"] else None for n in ("names", "texts"))
    y = np.array(entry.array("y.i64", np.int64)) if meta["classes"] else None
    test = np.array(entry.array("test.u1", np.bool_)) if meta["split"] else None
    arrow = f" -> {entry.folder / 'skipped.txt'}" if meta["listed"] else ""
    return Images(entry.x, entry.hashes, meta["verdict"] + arrow, meta["levels"], y, tuple(meta["classes"]), texts, names=names, test=test, entry=entry)


def _build(listing: Listing, reading: Reading, to: Path, failed: Path, progress: Progress | None) -> dict[str, Any]:
    """Write the cache entry of a folder."""
    room_for(to, len(listing) * reading.size**2)
    writer, tally = Writer(to, reading.colour), Tally(skipped=list(listing.odd))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for row, found in enumerate(_decoded(listing, reading)):
            if isinstance(found, Skip):
                tally.skipped.append((listing.path(row), found.reason, found.detail))
            else:
                writer.add(found.pixels[None])
                tally.use(row, found)
            if progress and (row % CHUNK == 0 or row + 1 == len(listing)):
                progress(row + 1, len(listing))
    _enough(listing, tally, failed)
    return writer.finish() | _describe(listing, tally, to) | dict(colour=("grey", "rgb")[writer.shape[0] == 3])


def _decoded(listing: Listing, reading: Reading) -> Iterator[Decoded | Skip]:
    """Every file in order; threads help since Pillow decodes without holding the interpreter's lock."""
    chunks = [range(i, min(i + CHUNK, len(listing))) for i in range(0, len(listing), CHUNK)]
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            ahead: deque[Future[list[Decoded | Skip]]] = deque()
            for chunk in chunks:
                ahead.append(pool.submit(_decode, listing, chunk, reading))
                if len(ahead) > 2 * (os.cpu_count() or 1):
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
    finally:
        pass


def _decode(listing: Listing, rows: range, reading: Reading) -> list[Decoded | Skip]:
    out: list[Decoded | Skip] = []
    for row in rows:
        try:
            out.append(decode(os.path.join(listing.root, listing.path(row)), (listing.sizes[row], listing.times[row]), reading))
        except Skip as skip:
            out.append(skip)
    return out
