"""A folder or an archive of images: listed at every start, decoded once into the cache.

Sub-folders of images are classes; train/ beside test/ or validation/ is an official split; a metadata.jsonl
or metadata.csv with `file_name` and `text`, as Hugging Face writes it, holds captions.  A file that cannot be
used is skipped, counted and listed with its reason. Training reads the cache, so a file that changes or goes
later is no matter until the next start.
"""

from __future__ import annotations

import os
import warnings
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, __version__

from ..storage.cache import Progress, family_of, key_of
from . import archive, verdict
from .cache import Entry, fetch, room_for
from .dataset import Images, Lines, Reading
from .decode import Decoded, Skip, decoded, heif_version
from .listing import Listing, printable, walk
from .metadata import descriptions
from .ranges import Values, remedies
from .writer import Writer, tint

VERSION = 4
"""raised whenever the same file would become other pixels"""
TINT = 4
"""levels by which the channels of a pixel may differ in a picture without colour: JPEG, WebP, AVIF and HEIC
leave up to so many"""
ABOUT = 3
"""raised whenever the same files would have other captions, labels or verdicts; PLAIN is read as well"""
SIZE = 64
CHUNK = 64
HELD = 1 << 28
"""bytes of files that wait in memory to be decoded, about, where they do not wait on the disk"""


@dataclass
class Tally:
    """What happened to each file, in little memory."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    """index in the listing of each image used"""
    sizes: array[int] = field(default_factory=lambda: array("i"))
    modes: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    values: dict[str, Values] = field(default_factory=dict)
    """of each kind, those of all images used"""
    unknown: list[Values] = field(default_factory=list)
    """of files of which nothing says what white is"""
    tint: int = 0
    """levels by which the channels of any pixel differ; of no picture after one in colour"""
    failed: list[tuple[bytes, str, str]] = field(default_factory=list)

    def use(self, row: int, image: Decoded) -> None:
        self.rows.append(row)
        self.sizes.extend(image.size)
        self.modes[image.mode] += 1
        self.notes.update(image.notes)
        if (values := image.values) is not None:
            known = self.values.get(values.kind)
            self.values[values.kind] = known | values if known else values
        if self.tint <= TINT:
            self.tint = max(self.tint, tint(image.pixels))


def read(
    path: Path, reading: Reading, base: Path, progress: Progress | None = None, about: int = ABOUT
) -> Images:
    """The images below a folder or in an archive.  about: the version of ABOUT by which metadata files are
    read.  Raises BadData where fewer than two, or under four fifths, can be used."""
    reading = replace(reading, size=reading.size or SIZE)
    listing = listed(path)
    captions = lru_cache(partial(descriptions, listing, about))
    pixels, family = (family_of(kind, listing.root) for kind in ("folder", "about"))
    failed = base / f"{pixels}.skipped.txt"

    def key(how: tuple[object, ...]) -> str:
        # which once looked at modes alone; what is spelled out is as it was
        version = VERSION + (how[1] == "auto")
        return key_of(pixels, version, __version__, *heif_version(), listing.digest(), how)

    def build(to: Path) -> dict[str, Any]:
        captions()  # a line that cannot be read should stop before hours of decoding
        return _build(listing, reading, to, failed, progress)

    entry = fetch(
        base,
        key(reading.key()),
        build,
        lambda meta: key(reading.key(colour=("grey", "rgb")[meta["shape"][1] == 3])),
        pixels,
    )
    layout = () if reading.layout == "auto" else (reading.layout,)
    verdict_entry = fetch(
        base,
        key_of(family, about, entry.folder.name, listing.rest(), *layout),
        partial(verdict.build, listing, entry, captions, failed, reading.layout),
        family=family,
    )
    return _images(entry, verdict_entry)


def listed(path: Path) -> Listing:
    """The images of a folder, of an archive, or of the archives in a folder that holds these alone."""
    if path.is_file():
        return archive.pack(path, [path])
    archive.foreign(path)
    result = walk(path)
    shards = archive.shards(result)
    return archive.pack(path, shards, result) if shards else result


def _images(entry: Entry, about: Entry) -> Images:
    y = np.array(about.array("y.i64", np.int64)) if (about.folder / "y.i64").exists() else None
    test = np.array(about.array("test.u1", np.bool_)) if (about.folder / "test.u1").exists() else None
    full_list = str(about.folder / verdict.SKIPPED) if (about.folder / verdict.SKIPPED).exists() else ""
    return Images(
        entry.x,
        entry.hashes,
        about.meta["verdict"] + (f" -> {full_list}" if full_list else ""),
        entry.meta["levels"],
        y,
        tuple(about.meta["classes"]),
        _lines(about, "texts"),
        names=_lines(entry, "names"),
        test=test,
        keys=entry.keys,
        entry=entry,
        skipped=about.meta["skipped"],
        full_list=full_list,
    )


def _lines(entry: Entry, name: str) -> Lines | None:
    there = (entry.folder / f"{name}.bin").exists()
    return (
        Lines(entry.array(f"{name}.bin", np.uint8), entry.array(f"{name}.i64", np.int64)) if there else None
    )


def _build(
    listing: Listing, reading: Reading, to: Path, failed: Path, progress: Progress | None
) -> dict[str, Any]:
    """Write the cache entry of a folder."""
    room_for(to, len(listing) * reading.size**2 * (1 if reading.colour == "grey" else 3))
    writer, tally = Writer(to, reading.colour), Tally()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for row, result in enumerate(_decoded(listing, reading)):
            if isinstance(result, Skip):
                tally.failed.append((listing.path(row), result.reason, result.detail))
                tally.unknown.extend(filter(None, [result.values]))
            else:
                writer.add(result.pixels[None], [result.key])
                tally.use(row, result)
            if progress and (row % CHUNK == 0 or row + 1 == len(listing)):
                progress(row + 1, len(listing))
    skipped = verdict.listed(listing.odd + tally.failed)
    verdict.enough(listing, len(tally.rows), skipped, failed, remedies(tally.unknown))
    only_stored = reading.colour == "auto" and writer.shape[0] == 3 and tally.tint <= TINT
    if only_stored:
        writer.to_grey()
    return writer.finish() | _describe(listing, tally, to) | {"grey": only_stored}


def _decoded(listing: Listing, reading: Reading) -> Iterator[Decoded | Skip]:
    """Every file in order, decoded by as many threads as there are processors: Pillow lets go of the
    interpreter's lock."""
    chunks = [range(i, min(i + CHUNK, len(listing))) for i in range(0, len(listing), CHUNK)]
    ahead: deque[tuple[Future[list[Decoded | Skip]], int]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for chunk in chunks:
            readers, held = listing.readers(chunk)
            ahead.append((_submit(pool, readers, reading), held))
            while len(ahead) > 2 * (os.cpu_count() or 1) or (ahead and sum(held for _, held in ahead) > HELD):
                yield from ahead.popleft()[0].result()
        while ahead:
            yield from ahead.popleft()[0].result()


def _submit(
    pool: ThreadPoolExecutor, readers: list[Callable[[], bytes]], reading: Reading
) -> Future[list[Decoded | Skip]]:
    """Decode later, or at once where the system gives us no thread."""
    try:
        return pool.submit(_decode, readers, reading)
    except RuntimeError:
        done: Future[list[Decoded | Skip]] = Future()
        done.set_result(_decode(readers, reading))
        return done


def _decode(readers: list[Callable[[], bytes]], reading: Reading) -> list[Decoded | Skip]:
    return [decoded(read, reading) for read in readers]


def _describe(listing: Listing, tally: Tally, to: Path) -> dict[str, Any]:
    """Write what is known about the images beside them; returns the meta."""
    verdict.write_lines(to, "names", (printable(listing.path(row)) for row in tally.rows))
    verdict.write_rows(to / verdict.FAILED, verdict.listed(tally.failed))
    for name, values in (("sizes.i32", tally.sizes), ("rows.i64", tally.rows)):
        (to / name).write_bytes(values.tobytes())
    return dict(
        modes=dict(tally.modes),
        converted=dict(tally.notes),
        values=[asdict(values) for values in tally.values.values()],
    )
