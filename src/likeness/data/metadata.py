"""What the places and neighbours of image files say about them: classes, an official split, captions."""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..core import BadData
from .decode import Skip
from .listing import Descriptions, Listing, Words, printable

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

    An official split is a folder named as in TRAIN beside one named as in HELD_OUT, in capitals or not: the
    latter is held out, and all else is trained on.  Classes are two or more folders that hold every image
    directly, below the split where there is one.
    """
    known: dict[bytes, int] = {}
    inside = np.array(
        [known.setdefault(listing.path(row).rpartition(b"/")[0], len(known)) for row in rows], np.int64
    )
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


def labelled(words: Sequence[Words], classes: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """int64 class of each image and the names of the classes, by the labels written about them; None where
    not every image has one.

    The order is the declared one, else that of numbers where all labels are whole numbers, else the
    alphabet's.
    """
    names = {w.label for w in words}
    if "" in names or len(names | set(classes)) < 2:
        return None
    whole = all(n.isdecimal() and n.isascii() and len(n) < 19 for n in names)
    order = (
        classes
        if names <= set(classes)
        else tuple(sorted(names, key=lambda n: (int(n), n) if whole else (0, n)))
    )
    number = {name: k for k, name in enumerate(order)}
    return np.array([number[w.label] for w in words], np.int64), order


def descriptions(listing: Listing) -> Descriptions:
    """What every metadata file and the archive itself say.  Raises BadData."""
    out = listing.descriptions()
    for k, (path, size, _) in enumerate(listing.captions):
        if not size:
            continue
        try:
            blob = listing.beside(k)
        except Skip as why:
            raise BadData(
                f"{printable(path)} cannot be read ({why.reason}: {why.detail}); repair or remove it."
            ) from None
        for name, words in (_rows if path.lower().endswith(b".csv") else _lines)(blob, printable(path)):
            out.paths[
                os.fsencode(posixpath.normpath(posixpath.join(os.fsdecode(posixpath.dirname(path)), name)))
            ] = words
    return out


def _lines(blob: bytes, where: str) -> Iterator[tuple[str, Words]]:
    """A JSON object a line, with file_name and text.  Raises BadData."""
    for number, line in enumerate(blob.splitlines(), 1):
        if line.strip():
            name, text = _entry(line, f"{where}, line {number}")
            yield name, Words(text)


def _entry(line: bytes, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
        name, text = row["file_name"], row.get("text") or ""
        name.encode("utf-8", "surrogateescape"), text.encode()
        return name, text
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadData(
            f"{where} should be a JSON object with a file_name and a text, "
            "such as "
            f'{{"file_name": '
            f'"a.png", "text": "a cat"}}.'
        ) from None


def _rows(blob: bytes, where: str) -> Iterator[tuple[str, Words]]:
    """A table with the columns file_name and text, label or both; nothing of one that has no file_name, which
    speaks of something else.

    Raises BadData for a line that is none of a table.
    """
    table = csv.DictReader(io.StringIO(_text(blob, where), newline=""), strict=True)
    try:
        if not {"text", "label"} & set(table.fieldnames or ()) or "file_name" not in (table.fieldnames or ()):
            return
        for row in table:
            if None in row or None in row.values() or not row["file_name"]:
                raise csv.Error("it has more or fewer fields than the first line, or no file_name")
            yield row["file_name"], Words(row.get("text", ""), row.get("label", "").strip())
    except csv.Error as why:
        line = f"{where}, line {table.reader.line_num}"
        raise BadData(
            f"{line} cannot be read ({why}); the first line names the columns, such as "
            "file_name,text,label, and each other has as many."
        ) from None


def _text(blob: bytes, where: str) -> str:
    try:
        return blob.decode("utf-8-sig")
    except UnicodeDecodeError as why:
        line = blob.count(b"\n", 0, why.start) + 1
        raise BadData(f"{where}, line {line} is not UTF-8 text; save it again as CSV in UTF-8.") from None
