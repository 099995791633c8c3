"""What the places and neighbours of image files say about them: classes, an official split, captions."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..core import BadData
from .decode import Skip, read_bytes
from .listing import Listing, printable

TRAIN = (b"train", b"training")
HELD_OUT = (b"test", b"testing", b"validation", b"valid", b"val", b"dev", b"eval")


class Places(NamedTuple):
    """What the folders that images lie in say about them."""

    y: np.ndarray | None
    """int64, the class of each image"""
    classes: tuple[str, ...]
    test: np.ndarray | None
    """bool, of the official test split"""
    beside: int = 0
    """images that are in no folder of the official split"""


def sort_out(listing: Listing, rows: Iterable[int]) -> Places:
    """Classes and official test split of the images of `rows`; None where there is no such thing.

    An official split is a folder named as in TRAIN beside one named as in HELD_OUT, in capitals or not: the latter is held out, and all
    else is trained on.  Classes are two or more folders that hold every image directly, below the split where there is one.
    """
    known: dict[bytes, int] = {}
    inside = np.array([known.setdefault(listing.path(row).rpartition(b"/")[0], len(known)) for row in rows], np.int64)
    folders = list(known)
    tops = [f.partition(b"/")[0].lower() for f in folders]
    split = any(t in TRAIN for t in tops) and any(t in HELD_OUT for t in tops)
    test = np.array([t in HELD_OUT for t in tops], np.bool_)[inside] if split else None
    beside = int(np.array([t not in TRAIN + HELD_OUT for t in tops], np.bool_)[inside].sum()) if split else 0
    below = [f.partition(b"/")[2] if split else f for f in folders]
    classes = sorted(set(below))
    if len(classes) < 2 or any(not f or b"/" in f for f in below):
        return Places(None, (), test, beside)
    number = np.array([classes.index(f) for f in below], np.int64)
    return Places(number[inside], tuple(map(printable, classes)), test, beside)


def captions(listing: Listing) -> dict[bytes, str]:
    """Captions by path, from every metadata.jsonl (one JSON object a line, `file_name` beside it, `text`).  Raises BadData."""
    said: dict[bytes, str] = {}
    for path, size, time in listing.captions:
        if not size:
            continue
        try:
            blob = read_bytes(os.path.join(listing.root, path), (size, time))
        except Skip as why:
            raise BadData(f"{printable(path)} cannot be read ({why.reason}: {why.detail}); repair or remove it.") from None
        for number, line in enumerate(blob.splitlines(), 1):
            if line.strip():
                name, text = _entry(line, f"{printable(path)}, line {number}")
                said[os.fsencode(posixpath.normpath(posixpath.join(os.fsdecode(posixpath.dirname(path)), name)))] = text
    return said


def _entry(line: bytes, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
        name, text = row["file_name"], row.get("text") or ""
        name.encode("utf-8", "surrogateescape"), text.encode()
        return name, text
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadData(f'{where} should be a JSON object with a file_name and a text, such as {{"file_name": "a.png", "text": "a cat"}}.') from None
