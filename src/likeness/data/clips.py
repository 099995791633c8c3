"""A folder of videos as clips of equally many frames: listed at every start, decoded once into the cache.

    DATA --frames 16     each GIF, APNG, animated WebP, MP4, WebM ... and each sub-folder of frames is one
                         clip, its frames at equal distances in time (frames.py)

Folders around them are classes or an official split, as for images (metadata.py); captions are those of a
metadata.jsonl or metadata.csv, or of a .txt file beside each video and of its name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, __version__

from ..core import BadData, NotAllowed, Refusal
from ..storage.cache import Progress, family_of, key_of
from . import folder, frames, verdict
from .cache import fetch, room_for
from .dataset import Images, Reading
from .decode import Decoded
from .listing import CAPTIONS, Descriptions, Listing, Words, printable
from .metadata import descriptions
from .pixels import planes
from .writer import Writer, digest64

VERSION = 1
"""raised whenever the same video would become another clip"""
FILMS = (*frames.ANIMATIONS, *frames.VIDEOS)
NOTES = {
    "unequal size": "with frames of unequal size",
    "say no time": "with frames of no time, each shown 0.1 s",
    "damaged after": "damaged, of which the first frames are used",
    "only the first": "cut, for their length",
}
"""what frames.read() notes of one video, and how it is counted"""
STILL = "of one frame, which stands still"


@dataclass
class Films(Listing):
    """Videos below a folder; a folder of frames is one of them."""

    texts: list[tuple[bytes, int, int]] = field(default_factory=list)
    """.txt files beside them, with size and time of change"""

    def descriptions(self) -> Descriptions:
        known = {os.path.splitext(self.path(i))[0]: self.path(i) for i in range(len(self))}
        out = Descriptions()
        for path, *_ in self.texts:
            text = Path(os.fsdecode(os.path.join(self.root, path))).read_text("utf-8", "replace").strip()
            out.paths[known[os.path.splitext(path)[0]]] = Words(text)
        return out

    def rest(self) -> tuple[object, ...]:
        return (*super().rest(), self.texts)


def listed(path: Path) -> Films:
    """The videos below a folder, in the order of their names.  Raises NotAllowed where it may not be read."""
    films, beside = Films(os.fsencode(path.resolve())), list[tuple[bytes, int, int]]()
    _walk(films, path.resolve(), b"", beside, set())
    stems = {os.path.splitext(films.path(i))[0] for i in range(len(films))}
    films.texts = [row for row in beside if os.path.splitext(row[0])[0] in stems]
    return films


def _walk(
    films: Films, at: Path, inside: bytes, beside: list[tuple[bytes, int, int]], visited: set[tuple[int, int]]
) -> None:
    try:
        status = at.stat()
        if (status.st_dev, status.st_ino) in visited:
            return
        visited.add((status.st_dev, status.st_ino))
        entries = sorted(p for p in at.iterdir() if not p.name.startswith("."))
    except OSError as why:
        if not inside:
            raise NotAllowed(
                f"{at} cannot be listed ({why.strerror}); name a folder that you may read."
            ) from None
        films.odd.append((inside, "unreadable", f"folder: {why.strerror}"))
        return
    if inside and _of_frames(entries):
        stats = [p.stat() for p in entries]
        films.add(inside, sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats))
        return
    for path in entries:
        name = inside + b"/" + os.fsencode(path.name) if inside else os.fsencode(path.name)
        try:
            status = path.stat()
        except OSError as why:
            films.odd.append((name, "unreadable", why.strerror or str(why)))
            continue
        known = (name, status.st_size, status.st_mtime_ns)
        if stat.S_ISDIR(status.st_mode):
            _walk(films, path, name, beside, visited)
        elif os.fsencode(path.name.lower()) in CAPTIONS:
            films.captions.append(known)
        elif path.suffix.lower() == ".txt":
            beside.append(known)
        elif path.suffix.lower() in FILMS and stat.S_ISREG(status.st_mode):
            films.add(*known)
        else:
            films.passed.append((name, "no video by its ending"))


def _of_frames(entries: list[Path]) -> bool:
    """Whether a folder of these is one video: pictures alone, and the first of them does not move."""
    if not entries or not all(p.suffix.lower() in frames.STILLS and p.is_file() for p in entries):
        return False
    try:
        with Image.open(entries[0]) as image:
            return not getattr(image, "is_animated", False)
    except Exception:  # what is wrong with it is said where it is read
        return True


def read(path: Path, reading: Reading, base: Path, progress: Progress | None = None) -> Images:
    """One clip of reading.frames frames from each video below a folder: x uint8 (N, C, T, size, size).

    Raises Refusal for what is no folder, BadData where fewer than two, or under four fifths, can be used.
    """
    if not path.is_dir():
        raise Refusal(
            f"--frames {reading.frames} reads a folder of videos, and {path} is none; name the folder that "
            "they lie in (unpack an archive first)."
        )
    if reading.tiles or reading.binarize:
        raise Refusal("--tiles and --binarize are for still images; leave them out for videos.")
    reading, films = replace(reading, size=reading.size or folder.SIZE), listed(path)
    captions = lru_cache(partial(descriptions, films, folder.ABOUT))
    family, failed = family_of("clips", films.root), base / f"{family_of('clips', films.root)}.skipped.txt"
    entry = fetch(
        base,
        key_of(family, VERSION, __version__, frames.available(), films.digest(), reading.key()),
        partial(_build, films, reading, failed, progress, captions),
        family=family,
    )
    about = fetch(
        base,
        key_of(family_of("about", films.root), VERSION, entry.folder.name, films.rest()),
        partial(verdict.build, films, entry, captions, failed, reading.layout),
        family=family_of("about", films.root),
    )
    images = folder.images(entry, about)
    return replace(images, verdict=images.verdict.replace(" images:", " videos:", 1))


def _build(
    films: Films,
    reading: Reading,
    failed: Path,
    progress: Progress | None,
    captions: Callable[[], Descriptions],
    to: Path,
) -> dict[str, Any]:
    """Write the cache entry."""
    captions()  # a line that cannot be read stops before all decoding
    colours = 1 if reading.colour == "grey" else 3
    room_for(to, len(films) * reading.frames * reading.size**2 * colours)
    writer, tally = Writer(to, reading.colour), folder.Tally()
    for row, result in enumerate(_decoded(films, reading)):
        if isinstance(result, str):
            reason = result.partition(": ")[0]
            tally.failed.append((films.path(row), reason, result.partition(": ")[2]))
        else:
            writer.add(result.pixels[None], [result.key])
            c, t, h, w = result.pixels.shape
            tally.use(row, replace(result, pixels=result.pixels.reshape(c, t * h, w)))
        if progress:
            progress(row + 1, len(films))
    skipped = verdict.listed(films.odd + tally.failed)
    verdict.enough(films, len(tally.rows), skipped, failed, _advice(films))
    grey = reading.colour == "auto" and writer.shape[0] == 3 and tally.tint <= folder.TINT
    if grey:
        writer.to_grey()
    return writer.finish() | folder.describe(films, tally, to) | {"grey": grey}


def _advice(films: Films) -> str:
    return "" if len(films) else f"; videos end in {', '.join(FILMS)}, or are sub-folders of frames"


def _decoded(films: Films, reading: Reading) -> Iterator[Decoded | str]:
    """A clip (C, T, size, size) of each video, or why there is none: "reason: detail"."""
    for row in range(len(films)):
        path = Path(os.fsdecode(os.path.join(films.root, films.path(row))))
        try:
            film = frames.read(path, reading.size, reading.background)
            yield _clip(film, reading)
        except (BadData, OSError) as why:
            yield f"damaged: {printable(str(why).encode('utf-8', 'backslashreplace'))}"
        except Refusal:
            yield "videos that need pip install 'likeness[video]': read through PyAV, which is not here"


def _clip(film: frames.Film, reading: Reading) -> Decoded:
    x = np.stack([planes(Image.fromarray(image)) for image in frames.clip(film, reading.frames)], 1)
    notes = [said for note in film.notes for mark, said in NOTES.items() if mark in note]
    notes += [STILL] if len(film.frames) == 1 else []
    size = film.frames.shape[2], film.frames.shape[1]
    key = digest64(np.ascontiguousarray(film.frames).data)
    return Decoded(np.ascontiguousarray(x), size, "RGB", tuple(notes), None, key)
