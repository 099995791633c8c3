"""What the places and neighbours of image files say about them: classes, an official split, captions."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterable

import numpy as np

from ..core import BadData
from .listing import Listing, printable
from .sniff import Skip, read_bytes

TRAIN = b"train"
HELD_OUT = (b"test", b"validation", b"val", b"valid")


def sort_out(listing: Listing, rows: Iterable[int]) -> tuple[np.ndarray | None, tuple[str, ...], np.ndarray | None]:
    """Classes of the images of `rows`, the names of these, and which are of the official test split; None where there is no such thing.

    An official split is a folder train/ beside at least one of test/, validation/, val/ and valid/, with no image outside of them; all but
    train/ is held out.  Classes are two or more folders that hold every image directly, below the split where there is one.
    """
    known: dict[bytes, int] = {}
    inside = np.array([known.setdefault(listing.path(row).rpartition(b"/")[0], len(known)) for row in rows], np.int64)
    folders = list(known)
    tops = {f.partition(b"/")[0] for f in folders}
    split = TRAIN in tops and len(tops) > 1 and tops <= {TRAIN, *HELD_OUT}
    test = np.array([split and f.partition(b"/")[0] != TRAIN for f in folders])
    below = [f.partition(b"/")[2] if split else f for f in folders]
    classes = sorted(set(below))
    if len(classes) < 2 or any(not f or b"/" in f for f in below):
        return None, (), test[inside] if split else None
    number = np.array([classes.index(f) for f in below], np.int64)
    return number[inside], tuple(map(printable, classes)), test[inside] if split else None


def captions(listing: Listing) -> dict[bytes, str]:
    """Captions by path, from every metadata.jsonl (one JSON object a line, `file_name` beside it, `text`).  Raises BadData."""
    said: dict[bytes, str] = {}
    for path, size, time in listing.captions:
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
