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
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, __version__

from ..core import BadData
from .about import captions, sort_out
from .cache import Entry, Progress, Writer, fetch, key_of, room_for
from .dataset import Images, Lines, Reading
from .listing import Listing, printable, walk
from .sniff import Decoded, Skip, decode

VERSION = 1
"""raised whenever the same file would become other pixels"""
SIZE = 64
MOST_SKIPPED = 0.2
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
    key = partial(key_of, "folder", VERSION, __version__, listing.digest())
    failed = base / f"{key(reading.key())}.skipped.txt"
    entry = fetch(
        base,
        key(reading.key()),
        lambda to: _build(listing, reading, to, failed, progress),
        lambda meta: key(reading.key(colour=("grey", "rgb")[meta["shape"][1] == 3])),
    )
    return _images(entry)


def _images(entry: Entry) -> Images:
    has = {p.name for p in entry.folder.iterdir()}
    names, texts = (Lines(entry.array(f"{n}.bin", np.uint8), entry.array(f"{n}.i64", np.int64)) if f"{n}.bin" in has else None for n in ("names", "texts"))
    y = np.array(entry.array("y.i64", np.int64)) if "y.i64" in has else None
    test = np.array(entry.array("test.u1", np.bool_)) if "test.u1" in has else None
    verdict = entry.meta["verdict"] + (f" -> {entry.folder / 'skipped.txt'}" if "skipped.txt" in has else "")
    return Images(entry.x, entry.hashes, verdict, entry.meta["levels"], y, tuple(entry.meta["classes"]), texts, names=names, test=test, entry=entry)


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


def _enough(listing: Listing, tally: Tally, failed: Path) -> None:
    """Stop where the folder is not what the user believes it to be."""
    used, skipped = len(tally.rows), len(tally.skipped)
    if used >= 2 and skipped <= MOST_SKIPPED * (used + skipped):
        return
    where = ""
    if skipped or listing.passed:
        failed.write_text(_list(listing, tally), encoding="utf-8")
        where = f"; the full list is {failed}"
    what = "two images at least are needed" if used < 2 else f"more than {MOST_SKIPPED:.0%} cannot be used, so it may be the wrong folder"
    raise BadData(f"{printable(listing.root)} holds {used:,} usable images and {skipped:,} others{_commonest(tally)}; {what}{where}.")


def _commonest(tally: Tally) -> str:
    """The ten commonest reasons, each with an example."""
    example = {reason: f"{printable(path)}: {detail}" for path, reason, detail in reversed(tally.skipped)}
    counts = Counter(reason for _, reason, _ in tally.skipped).most_common(10)
    return " (" + "; ".join(f"{n:,} {reason}, such as {example[reason]}" for reason, n in counts) + ")" if counts else ""


def _list(listing: Listing, tally: Tally) -> str:
    """One line a file: reason, detail, name."""
    rows = [(reason, detail, path) for path, reason, detail in tally.skipped] + [("passed over", why, path) for path, why in listing.passed]
    return "".join(f"{reason}\t{printable(detail.encode())}\t{printable(path)}\n" for reason, detail, path in rows)


def _describe(listing: Listing, tally: Tally, to: Path) -> dict[str, Any]:
    """Write what is known about the images beside them; returns the meta."""
    said = captions(listing)
    y, classes, test = sort_out(listing, tally.rows)
    _write_lines(to, "names", (printable(listing.path(row)) for row in tally.rows))
    if any(said.values()):
        _write_lines(to, "texts", (said.get(listing.path(row), "") for row in tally.rows))
    for name, values in (("y.i64", y), ("test.u1", test), ("sizes.i32", tally.sizes)):
        if values is not None:
            (to / name).write_bytes(values.tobytes())
    if tally.skipped or listing.passed:
        (to / "skipped.txt").write_text(_list(listing, tally), encoding="utf-8")
    captioned = sum(bool(said.get(listing.path(row))) for row in tally.rows) if any(said.values()) else None
    reasons = dict(Counter(reason for _, reason, _ in tally.skipped).most_common())
    return dict(
        verdict=_verdict(listing, tally, reasons, test, captioned), classes=classes, modes=dict(tally.modes), converted=dict(tally.notes), skipped=reasons
    )


def _write_lines(to: Path, name: str, texts: Iterable[str]) -> None:
    ends, total = array("q"), 0
    with (to / f"{name}.bin").open("wb") as file:
        for text in texts:
            total += file.write(text.encode())
            ends.append(total)
    (to / f"{name}.i64").write_bytes(ends.tobytes())


def _verdict(listing: Listing, tally: Tally, reasons: dict[str, int], test: np.ndarray | None, captioned: int | None) -> str:
    used, skipped = len(tally.rows), len(tally.skipped)
    converted = ", ".join(f"{n:,} {what}" for what, n in tally.notes.most_common())
    why = ", ".join(f"{n:,} {reason}" for reason, n in reasons.items())
    line = f"{used + skipped:,} images: {used:,} used{converted and f' ({converted})'}, {skipped:,} skipped{why and f' ({why})'}"
    line += f"; the {int(test.sum()):,} of the official test split are held out" if test is not None else ""
    line += f"; {captioned:,} have captions" if captioned is not None else ""
    return line + (f"; {len(listing.passed):,} other files passed over" if listing.passed else "")
