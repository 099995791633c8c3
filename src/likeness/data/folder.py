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
from .decode import Decoded, Scale, Skip, decoded, heif_version
from .listing import Listing, printable, walk
from .metadata import descriptions
from .pixels import fit
from .ranges import Values, remedies
from .writer import Writer, tint

VERSION = 4
"""raised whenever the same file would become other pixels"""
TINT = 4
"""levels by which the channels of a pixel may differ in a picture without colour: JPEG, WebP, AVIF and HEIC
leave up to so many"""
ABOUT, LANCZOS = 4, 3
"""raised whenever the same files would have other captions, labels, verdicts or sides; PLAIN is read as
well, and LANCZOS: label maps beside images scaled by it, and one column of a table alone"""
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

    def use(self, row: int, image: Decoded, n: int = 1) -> None:
        """n: images that were made of it."""
        self.rows.extend([row] * n)
        self.sizes.extend(image.size * n)
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
    return read_listing(listed(path), reading, base, progress, about)


def read_listing(
    listing: Listing, reading: Reading, base: Path, progress: Progress | None = None, about: int = ABOUT
) -> Images:
    """As read(), of what is listed already."""
    reading = replace(reading, size=reading.size or SIZE)
    captions = lru_cache(partial(descriptions, listing, about))
    # a line that cannot be read should stop before hours of decoding
    entry = pixels(listing, reading, base, progress, first=captions)
    family, failed = family_of("about", listing.root), _failed(base, family_of("folder", listing.root))
    layout = (reading.layout,) if reading.layout == "classes" else ()
    layout = (*layout, "tiles") if reading.tiles else layout
    verdict_entry = fetch(
        base,
        key_of(family, about, entry.folder.name, listing.rest(), *layout),
        partial(verdict.build, listing, entry, captions, failed, reading.layout),
        family=family,
    )
    result = images(entry, verdict_entry)
    if not reading.tiles:
        return result
    rows = np.array(entry.array("rows.i64", np.int64))
    text = result.verdict.replace(" skipped", f" skipped{tiled(len(rows), reading)}", 1)
    return replace(result, whole=rows, verdict=text)


def tiled(n: int, reading: Reading) -> str:
    """What is said of photos that were cut."""
    return f", cut into {n:,} tiles of {reading.size} x {reading.size} at full resolution, split by photo"


def _failed(base: Path, family: str) -> Path:
    return base / f"{family}.skipped.txt"


def pixels(
    listing: Listing,
    reading: Reading,
    base: Path,
    progress: Progress | None = None,
    scale: Scale = fit,
    side: str = "",
    first: Callable[[], object] = lambda: None,
) -> Entry:
    """The images of a listing, decoded: x, hashes, keys, names, sizes, and `rows`, where each is listed.

    scale: as decode() has it.  side: what tells this way of reading these files from others.  first: called
    before anything is decoded.  Raises as read().
    """
    family = family_of(f"folder-{side}" if side else "folder", listing.root)

    def key(how: tuple[object, ...]) -> str:
        # which once looked at modes alone; what is spelled out is as it was
        version = VERSION + (how[1] == "auto")
        return key_of(family, version, __version__, *heif_version(), listing.digest(), how)

    def build(to: Path) -> dict[str, Any]:
        first()
        return _build(listing, reading, to, _failed(base, family), progress, scale)

    return fetch(
        base,
        key(reading.key()),
        build,
        lambda meta: key(reading.key(colour=("grey", "rgb")[meta["shape"][1] == 3])),
        family,
    )


def names(entry: Entry) -> Lines | None:
    """Of the files of its images."""
    return _lines(entry, "names")


def listed(path: Path) -> Listing:
    """The images of a folder, of an archive, or of the archives in a folder that holds these alone."""
    if path.is_file():
        return archive.pack(path, [path])
    archive.foreign(path)
    result = walk(path)
    shards = archive.shards(result)
    return archive.pack(path, shards, result) if shards else result


def images(entry: Entry, about: Entry) -> Images:
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
    listing: Listing,
    reading: Reading,
    to: Path,
    failed: Path,
    progress: Progress | None,
    scale: Scale = fit,
) -> dict[str, Any]:
    """Write the cache entry of a folder."""
    room_for(to, len(listing) * reading.size**2 * (1 if reading.colour == "grey" else 3))
    writer, tally = Writer(to, reading.colour), Tally()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for row, result in enumerate(_decoded(listing, reading, scale)):
            result = _cut(result, reading)
            if isinstance(result, Skip):
                tally.failed.append((listing.path(row), result.reason, result.detail))
                tally.unknown.extend(filter(None, [result.values]))
            else:
                x = result.pixels if reading.tiles else result.pixels[None]
                writer.add(x, [result.key] * len(x))
                tally.use(row, result, len(x))
            if progress and (row % CHUNK == 0 or row + 1 == len(listing)):
                progress(row + 1, len(listing))
    skipped = verdict.listed(listing.odd + tally.failed)
    verdict.enough(listing, len(set(tally.rows)), skipped, failed, remedies(tally.unknown))
    only_stored = reading.colour == "auto" and writer.shape[0] == 3 and tally.tint <= TINT
    if only_stored:
        writer.to_grey()
    return writer.finish() | describe(listing, tally, to) | {"grey": only_stored}


def _cut(result: Decoded | Skip, reading: Reading) -> Decoded | Skip:
    """A whole photo becomes tiles, (n, C, size, size), where these are asked for."""
    if isinstance(result, Skip) or not reading.tiles:
        return result
    c, h, w = result.pixels.shape
    size, down, across = reading.size, h // reading.size, w // reading.size
    if not (down and across):
        return Skip("smaller than a tile", f"{w}x{h}, and --size is {size}")
    top, left = (h - down * size) // 2, (w - across * size) // 2  # what is left over is cut off evenly
    whole = result.pixels[:, top : top + down * size, left : left + across * size]
    tiles = whole.reshape(c, down, size, across, size).transpose(1, 3, 0, 2, 4)
    return replace(result, pixels=tiles.reshape(-1, c, size, size))


def _decoded(listing: Listing, reading: Reading, scale: Scale) -> Iterator[Decoded | Skip]:
    """Every file in order, decoded by as many threads as there are processors: Pillow lets go of the
    interpreter's lock."""
    step = 1 if reading.tiles else CHUNK  # whole photos wait in memory
    chunks = [range(i, min(i + step, len(listing))) for i in range(0, len(listing), step)]
    ahead: deque[tuple[Future[list[Decoded | Skip]], int]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for chunk in chunks:
            readers, held = listing.readers(chunk)
            ahead.append((_submit(pool, readers, reading, scale), held))
            while len(ahead) > 2 * (os.cpu_count() or 1) or (ahead and sum(held for _, held in ahead) > HELD):
                yield from ahead.popleft()[0].result()
        while ahead:
            yield from ahead.popleft()[0].result()


def _submit(
    pool: ThreadPoolExecutor, readers: list[Callable[[], bytes]], reading: Reading, scale: Scale
) -> Future[list[Decoded | Skip]]:
    """Decode later, or at once where the system gives us no thread."""
    try:
        return pool.submit(_decode, readers, reading, scale)
    except RuntimeError:
        done: Future[list[Decoded | Skip]] = Future()
        done.set_result(_decode(readers, reading, scale))
        return done


def _decode(readers: list[Callable[[], bytes]], reading: Reading, scale: Scale) -> list[Decoded | Skip]:
    return [decoded(read, reading, _as_it_is if reading.tiles else scale) for read in readers]


def _as_it_is(image: Image.Image, size: int) -> Image.Image:
    return image


def describe(listing: Listing, tally: Tally, to: Path) -> dict[str, Any]:
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
