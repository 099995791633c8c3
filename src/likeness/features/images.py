"""The images of a set as networks of the lab look at them: one after another, read and scaled as Keras'
load_img does.

Files are read as RGB, and the whole picture is pressed into a square by nearest neighbours.  Where that would
be wrong it is done as everywhere in this program: pictures are turned as their EXIF says, transparency is
laid on white, 16 bits become 8, and what cannot be used is told as such.
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .. import data
from ..core import BadData, Refusal
from ..data import beside
from ..data.binarize import drawn
from ..data.dataset import Reading
from ..data.decode import Scale, Skip, decoded, kind
from ..data.labels import NONE
from ..data.listing import Listing, printable
from ..data.metadata import sort_out
from ..data.pixels import SCALINGS, fit, ground, planes
from ..data.source import Source, parse
from ..data.writer import as_colour


@dataclass(frozen=True)
class Pictures:
    """The images of a set, one after another, each as uint8 (3, size, size) or as the reason why
    it is none."""

    total: int
    fingerprint: str
    get: Callable[[int], np.ndarray | Skip]
    name: Callable[[int], str]
    label: Callable[[int], str]

    def of(self, rows: np.ndarray) -> Pictures:
        """Some of them: rows int64 (n,)."""
        known = hashlib.blake2b(self.fingerprint.encode() + rows.tobytes(), digest_size=16).hexdigest()
        return Pictures(
            len(rows),
            known,
            lambda i: self.get(rows[i]),
            lambda i: self.name(rows[i]),
            lambda i: self.label(rows[i]),
        )


def some(n: int, total: int, seed: int) -> np.ndarray:
    """int64 (n,): which of `total` images a seed chooses, in their order."""
    return np.sort(np.random.default_rng((seed, 0x4E)).choice(total, n, replace=False))


def pictures(source: str | Source, size: int, scaling: str, reading: Reading | None = None) -> Pictures:
    """A folder, one file, an array, or a set that has a name.  Raises Refusal for points and what does not
    exist.

    reading: of what comes before the scaling; its own size counts only for what is no file, and is brought to
    it as in training ("fit").  That of a run of pairs or domains: side B alone of what holds both.
    """
    reading = reading or Reading()
    asked = parse(source)
    if asked.kind == "points":
        raise Refusal(
            f"{asked.text} holds points, and networks look at images; name a folder of these, an array, or "
            "digits."
        )
    if asked.path is not None and (listing := _listing(asked.path)) is not None:
        listing, fitted = beside.target(listing, reading)
        return _of_files(listing, size, scaling, reading, fitted)
    result = data.read(asked, reading if scaling == "fit" else replace(reading, size=0))
    known = hashlib.blake2b(
        repr(result.x.shape).encode() + result.hashes.tobytes(), digest_size=16
    ).hexdigest()

    def label(i: int) -> str:
        return "" if result.y is None or result.y[i] == NONE else result.classes[result.y[i]]

    def get(i: int) -> np.ndarray:
        return _levels(scaled(result.x[i], size, scaling), i, reading)

    return Pictures(
        len(result.x), known, get, lambda i: "" if result.names is None else result.names[i], label
    )


def _listing(path: Path) -> Listing | None:
    """The images of a folder or an archive, or the one image; nothing for an array or a folder of
    idx files."""
    try:
        if path.is_dir() or (path.is_file() and data.archive.format_of(path)):
            return None if path.is_dir() and data.formats.idx_folder(path) else data.folder.listed(path)
        with path.open("rb") as file:
            if not kind(file.read(32)):
                return None
        status = path.stat()
    except (OSError, ValueError):
        return None
    root, name = os.path.split(os.fsencode(path.resolve()))
    return Listing(
        root,
        bytearray(name),
        array("q", [len(name)]),
        array("q", [status.st_size]),
        array("q", [status.st_mtime_ns]),
    )


def _of_files(listing: Listing, size: int, scaling: str, reading: Reading, fitted: Scale) -> Pictures:
    """fitted: how "fit" scales them"""
    if not len(listing):
        raise BadData(f"{printable(listing.root)} holds no images; name another folder.")
    ground(reading.background)
    places = sort_out(listing, range(len(listing)))
    # A JPEG must not be decoded at half its size first: the nearest pixels would be others.
    within = replace(reading, size=4096 if scaling != "fit" else size)

    def get(i: int) -> np.ndarray | Skip:
        to = partial(_scaled, scaling=scaling, fitted=fitted)
        with HUSHED:
            result = decoded(partial(listing.read, i), within, lambda image, _: to(image, size))
        return result if isinstance(result, Skip) else _levels(result.pixels, i, reading)

    def label(i: int) -> str:
        return "" if places.y is None or places.y[i] == NONE else places.classes[places.y[i]]

    return Pictures(len(listing), listing.digest(), get, lambda i: printable(listing.path(i)), label)


def scaled(x: np.ndarray, size: int, scaling: str) -> np.ndarray:
    """One image uint8 (1 or 3, H, W), of `size` pixels a side."""
    image = Image.fromarray(np.ascontiguousarray(x[0] if len(x) == 1 else x.transpose(1, 2, 0)))
    return planes(_scaled(image, size, scaling))


def _scaled(image: Image.Image, size: int, scaling: str, fitted: Scale = fit) -> Image.Image:
    how = SCALINGS[scaling]
    if how is None:
        return fitted(image, size)
    return image if image.size == (size, size) else image.resize((size, size), how)


def _levels(x: np.ndarray, row: int, reading: Reading) -> np.ndarray:
    """uint8 (1 or 3, H, W) to (3, H, W): colours and black and white as the training images of such a reading
    have them."""
    x = as_colour(x[None], reading.colour)
    if reading.binarize:
        x = drawn(torch.from_numpy(np.array(x)) / 255, row).mul_(255).numpy()
    return np.repeat(x[0], 3, 0) if x.shape[1] == 1 else x[0]


class Hushed:
    """Pillow's warnings of odd files are not shown while a file is decoded: which are used, and why others
    are not, is told at the end.

    Filters belong to the whole process, so the first of several threads sets them and the last one puts back
    what was there.
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.before = warnings.catch_warnings()
                self.before.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
                warnings.simplefilter("error", Image.DecompressionBombWarning)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.before.__exit__(None, None, None)


HUSHED = Hushed()


def ahead(images: Pictures, first: int, chunk: int) -> Iterator[list[tuple[int, np.ndarray | Skip]]]:
    """Chunks of images from the `first` on, decoded by other threads while the network looks at
    those before."""
    threads = os.cpu_count() or 1
    todo, waiting = iter(range(first, images.total)), deque[tuple[int, Future[np.ndarray | Skip]]]()
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                # One more chunk than is asked for next, so that no thread waits for the network.
                waiting.extend(
                    (i, pool.submit(images.get, i)) for i in islice(todo, 2 * chunk + threads - len(waiting))
                )
                if not waiting:
                    return
                yield [
                    (i, result.result())
                    for i, result in (waiting.popleft() for _ in range(min(chunk, len(waiting))))
                ]
        finally:
            pool.shutdown(cancel_futures=True)
