"""Images in, batches out.

    load("photos/", size=64)   a folder, an array file, or the name of a built-in set, as `Data`
    Data.batch(seed, seen, n)  the training images number seen ... seen+n-1 of an endless shuffled walk

Which images form a batch is a function of the seed and of how many were seen before, so a run
resumes by remembering one number.

    dataset.py   Data, and Reading: how it was asked to be read
    folder.py    a folder of images (listing.py, metadata.py, verdict.py)   decode.py, pixels.py   one file, one picture
    source.py    what a user typed: a name, points, a folder, a file
    pairs.py     folders of two kinds of pictures that are no classes   partners.py   domains with equal names
    archive.py   .zip and .tar as such a folder      parquet.py   and a table of images
    arrays.py    .npy, .npz, idx (formats.py)       named.py, downloads.py, shapes.py, moving_shapes.py, points.py   the sets that have a name
    frames.py    animations and videos as clips      clips.py   a folder of them
    cache.py     decoded once (writer.py), then mapped   split.py   what is held out   binarize.py   black and white, once and for all
    check.py     what is in it (near_duplicates.py: copies)
"""  # noqa: E501

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..core import Refusal
from ..storage import cache as kept
from ..storage.cache import Progress
from . import archive, arrays, clips, folder, formats, labels, moving_shapes, named
from .binarize import binarized
from .dataset import Data, Images, Reading, picture
from .pixels import ground
from .source import Source, parse
from .split import split, without_copies, without_new

FILES = "a .zip, .tar, Parquet, .npy, .npz or idx file"
__all__ = ["Data", "Reading", "load", "picture"]


def load(
    source: str | Path | Source,
    size: int | None = None,
    colour: str = "auto",
    binarize: bool = False,
    background: str = "white",
    white: float = 0.0,
    held_out: float = 0.0,
    validation: str = "auto",
    layout: str = "auto",
    task: str = "",
    to: str | Path = "",
    tiles: bool = False,
    swap: bool = False,
    frames: int = 0,
    *,
    classes: Sequence[str] | None = None,
    about: int = folder.ABOUT,
    apart: bool = False,
    cache: Path | str | None = None,
    progress: Progress | None = None,
) -> Data:
    """The images of a folder, of an array file, or of a set that has a name (data.named.NAMES, or shapes:N),
    or the points of one.

    The other arguments are the fields of Reading; those that were used are in Data.settings.  classes: their
    names as a run has written them down, whose order then counts (none for one without labels).  about: how
    metadata files are read (folder.ABOUT), an earlier version for a run from then.  apart: domains
    are split each for itself, whatever their files are called, likewise.  `cache` is the folder
    for decoded images (else LIKENESS_CACHE, XDG_CACHE_HOME/likeness or ~/.cache/likeness); progress(done,
    total) is called while something is decoded.

    Raises Refusal for a source that does not exist or could mean two things, BadData for one that holds too
    little, Offline where a set would have to be downloaded, DiskTrouble and NotAllowed where the cache cannot
    be written.
    """
    from . import sides  # which reads each side by what is here

    reading = Reading(
        size or 0,
        colour,
        binarize,
        background,
        white,
        held_out,
        validation,
        layout,
        task,
        str(to),
        tiles,
        swap,
        frames,
    )
    asked = parse(source)

    def known(images: Images) -> Images:
        if classes is None:
            return images
        y, names = labels.as_before(images.y, images.classes, images.names, classes)
        return replace(images, y=y, classes=names)

    return sides.load(sides.Ask(asked, reading, cache, progress, about, known, apart))[1]


def read(
    source: str | Source,
    reading: Reading,
    place: Path | str | None = None,
    progress: Progress | None = None,
    about: int = folder.ABOUT,
) -> Images:
    """What `source` holds, not yet split.  about: as in load()."""
    ground(reading.background)
    asked = parse(source)
    if asked.kind in ("name", "points"):
        _no_videos(asked.text, reading)
        return named.read(asked.text, reading, lambda: kept.root(place), progress)
    if not asked.text.strip():
        raise Refusal(
            "no data set was named; type a folder of images, an array file, or one of "
            f"{', '.join(named.NAMES)}."
        )
    path = asked.path
    assert path is not None, "only a name has none"
    if asked.kind == "nothing":
        raise Refusal(f"there is no folder, file or set called {asked.text!r}; {_closest(asked.text, path)}")
    if not (path.is_dir() or path.is_file()):
        raise Refusal(
            f"{asked.text!r} is neither a folder nor a regular file; name a folder of images, or {FILES}."
        )
    base = kept.root(place)
    if reading.frames:
        return clips.read(path, reading, base, progress)
    if path.is_file():
        packed = archive.format_of(path)
        return (
            folder.read(path, reading, base, progress, about)
            if packed
            else arrays.read(path, reading, base, progress)
        )
    files = formats.idx_folder(path)
    return (
        arrays.read_idx_folder(path, files, reading, base, progress)
        if files
        else folder.read(path, reading, base, progress, about)
    )


def _no_videos(name: str, reading: Reading) -> None:
    own = moving_shapes.FRAMES if name.partition(":")[0] == "moving-shapes" else 0
    if reading.frames not in (0, own):
        has = f"has clips of {own} frames" if own else "has still images"
        raise Refusal(f"--frames reads a folder of videos, and {name} {has}; leave it out.")


def _closest(source: str, path: Path) -> str:
    beside: list[str] = []
    with suppress(OSError, ValueError):
        beside = [str(path.with_name(p.name)) for p in path.parent.iterdir()]
    near = difflib.get_close_matches(source, [*named.NAMES, *beside], 1)
    return f"did you mean {near[0]!r}?" if near else f"the sets are {', '.join(named.NAMES)}."


def finish(asked: Source, images: Images, reading: Reading, place: Path | str | None) -> Data:
    copies = images.hashes if images.copies is None else images.copies
    train, held_out = split(copies, _test(images, reading), images.keys, reading.held_out)
    train, held_out, combinations = without_new(train, held_out, images.new)
    if reading.binarize:
        images = binarized(images, lambda: kept.root(place), asked.text)
        train = without_copies(train, held_out, images.hashes)
    new = 0 if combinations is None else len(combinations)
    dropped = len(images.x) - len(train) - len(held_out) - new
    end = f" -> {images.full_list}" if images.full_list else ""
    notes = [] if images.test is not None else [f"; {len(held_out):,} are held out"]
    notes += [f"; {new:,} more are of combinations that are never learnt"] if new else []
    notes += [f"; left out of training as copies of held-out images: {dropped:,}"] if dropped else []
    if gone := labels.absent(images.y, train, images.classes):
        notes += [
            f"; of {labels.some([images.classes[k] for k in gone])} every image is held out: nobody learns it"
        ]
    used = (
        reading
        if not images.levels
        else replace(reading, size=images.x.shape[-1], colour=("grey", "rgb")[images.x.shape[1] == 3])
    )
    if asked.kind in ("name", "points") and os.path.exists(asked.text):
        notes.append(
            f"; {asked.text} is a built-in set, and what is called so here is {os.path.join('.', asked.text)}"
        )
    verdict = images.verdict.removesuffix(end) + "".join(notes) + end
    known = images.y, images.classes, images.texts, images.attributes, images.names, images.levels
    data = Data(asked.text, "", images.x, train, held_out, *known, asdict(used), verdict, images.modes)
    data = replace(data, combinations=combinations)
    return replace(data, fingerprint=_fingerprint(data, images.hashes), parts=_parts(data, images.hashes))


def _test(images: Images, reading: Reading) -> np.ndarray | None:
    """bool (N,): the rows to hold out, where something says which; all tiles of a photo go together."""
    if images.test is not None or images.whole is None or images.keys is None:
        return images.test
    photos, first = np.unique(images.whole, return_index=True)
    keys = images.keys[first]
    return np.isin(images.whole, photos[split(keys, None, keys, reading.held_out)[1]])


def _parts(data: Data, hashes: np.ndarray) -> dict[str, str]:
    """What the fingerprint is of, piece by piece."""
    pieces = {
        "pixels": [np.sort(hashes).tobytes()],
        "labels": [repr(data.classes).encode(), b"" if data.y is None else data.y.tobytes()],
        "captions": [text.encode() + b"\0" for text in data.texts or () if data.attributes is None],
        "split": [data.train.tobytes(), data.held_out.tobytes()],
        "order": [hashes.tobytes()],
    }
    return {name: hashlib.blake2b(b"".join(some), digest_size=8).hexdigest() for name, some in pieces.items()}


def _fingerprint(data: Data, hashes: np.ndarray) -> str:
    digest = hashlib.blake2b(repr((data.x.shape, data.classes, data.levels)).encode(), digest_size=16)
    for part in (hashes, data.train, data.held_out, data.y):
        digest.update(b"" if part is None else part.tobytes())
    for text in data.texts or () if data.attributes is None else ():
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
