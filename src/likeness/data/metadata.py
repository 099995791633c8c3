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
from .labels import ENOUGH, NONE, blanks, natural
from .listing import Descriptions, Listing, Words, printable

TRAIN = (b"train", b"training")
HELD_OUT = (b"test", b"testing", b"validation", b"valid", b"val", b"dev", b"eval")


class Places(NamedTuple):
    """What the folders that images lie in say about them."""

    y: np.ndarray | None
    """int64, the class of each image; labels.NONE of one that lies in no class folder"""
    classes: tuple[str, ...]
    test: np.ndarray | None
    """bool, of the official test split"""
    beside: int = 0
    """images that are in no folder of the official split"""
    most: bool = True
    """the classes are those of enough training images; else y is None, and they are what there would be"""


def sort_out(listing: Listing, rows: Iterable[int]) -> Places:
    """Classes and official test split of the images of `rows`; None where there is no such thing.

    An official split is a folder named as in TRAIN beside one named as in HELD_OUT, in capitals or not: the
    latter is held out, and all else is trained on.  Classes are two or more folders that hold images
    directly, below the split where there is one.  An image beside these folders or further below is
    unlabelled, and so are those of a test folder that holds no folder of a class of training images.  Where
    half of the training images lie in no such folder there are no classes.
    """
    known: dict[bytes, int] = {}
    inside = np.array(
        [known.setdefault(listing.path(row).rpartition(b"/")[0], len(known)) for row in rows], np.int64
    )
    folders = list(known)
    tops = [f.partition(b"/")[0].lower() for f in folders]
    split = any(t in TRAIN for t in tops) and any(t in HELD_OUT for t in tops)
    asked = np.array([split and t in HELD_OUT for t in tops], np.bool_)
    beside = int(np.array([t not in TRAIN + HELD_OUT for t in tops], np.bool_)[inside].sum()) if split else 0
    test = asked[inside] if split else None
    names = [_class(f.partition(b"/")[2] if split else f) for f in folders]
    learnt = {name for name, held_out in zip(names, asked) if name and not held_out}
    for top in {t for t, held_out in zip(tops, asked) if held_out}:
        here = [k for k, t in enumerate(tops) if t == top]
        if not learnt & {names[k] for k in here}:
            names = ["" if k in here else name for k, name in enumerate(names)]
    classes = tuple(natural({name for name in names if name}))
    if len(classes) < 2:
        return Places(None, (), test, beside)
    y = np.array([classes.index(name) if name else NONE for name in names], np.int64)[inside]
    if (y[~asked[inside]] != NONE).mean() < ENOUGH:
        return Places(None, classes, test, beside, False)
    return Places(y, classes, test, beside)


def _class(folder: bytes) -> str:
    """The name of a folder that may hold a class; none of what is above or below these."""
    return "" if b"/" in folder else printable(folder)


def labelled(
    words: Sequence[Words], classes: tuple[str, ...], test: np.ndarray | None = None
) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """int64 class of each image and the names of the classes, by the labels written about them; NONE of one
    that has no label.  None where there are fewer than two classes, or half of the training images have none.

    The order is the declared one, else labels.natural.
    """
    none = blanks({w.label for w in words})
    names = {w.label for w in words} - none
    if len(names | set(classes)) < 2 or not names:
        return None
    order = classes if names <= set(classes) else tuple(natural(names))
    number = {name: k for k, name in enumerate(order)}
    y = np.array([number.get(w.label, NONE) for w in words], np.int64)
    train = y if test is None else y[~test]
    return (y, order) if (train != NONE).mean() >= ENOUGH else None


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
