"""What the places and neighbours of image files say about them: classes, an official split, captions."""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core import BadData
from .decode import Skip
from .labels import ENOUGH, NONE, blanks, natural
from .listing import Descriptions, Listing, Words, printable

TRAIN = (b"train", b"training")
PLAIN = 2
"""the last version of folder.ABOUT in which metadata files were read as they are for runs from then"""
DELIMITERS = ",;\t"
COLUMNS = 12
"""columns of a table that are named, at most"""
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


def descriptions(listing: Listing, about: int = PLAIN + 1) -> Descriptions:
    """What every metadata file and the archive itself say; where several speak of one image, each adds what
    it knows, and the last one counts.

    about: PLAIN is how runs made before have read them: by commas alone, no label in JSON, and what is said
    last about an image is all that is known of it.  Raises BadData.
    """
    out = listing.descriptions()
    here = {listing.path(i) for i in range(len(listing))} if listing.captions else set()
    for k, (path, size, _) in enumerate(listing.captions):
        if not size:
            continue
        try:
            blob = listing.beside(k)
        except Skip as why:
            raise BadData(
                f"{printable(path)} cannot be read ({why.reason}: {why.detail}); repair or remove it."
            ) from None
        read, strange = (_rows if path.lower().endswith(b".csv") else _lines), list[str]()
        for name, words in read(blob, printable(path), about, out.notes):
            inside = posixpath.join(os.fsdecode(posixpath.dirname(path)), name)
            whole = os.fsencode(posixpath.normpath(inside))
            before = out.paths.get(whole, Words()) if about > PLAIN else Words()
            out.paths[whole] = Words(words.text or before.text, words.label or before.label)
            if whole not in here:
                strange.append(name)
        if strange:
            out.notes.append(_nowhere(printable(path), strange))
    return out


def _nowhere(where: str, names: Sequence[str]) -> str:
    example = printable(os.fsencode(names[0]))
    many = f"{len(names):,} rows name" if len(names) > 1 else "1 row names"
    return f"{where}: {many} no image here{', such as' if len(names) > 1 else ':'} {example}"


def _lines(blob: bytes, where: str, about: int, notes: list[str]) -> Iterator[tuple[str, Words]]:
    """A JSON object a line, with file_name and text, label or both.  Raises BadData."""
    lines, bare = 0, 0
    for number, line in enumerate(blob.splitlines(), 1):
        if line.strip():
            name, words = _entry(line, f"{where}, line {number}", about)
            lines, bare = lines + 1, bare + (words == Words())
            yield name, words
    if lines and lines == bare:
        notes.append(f"{where}: no line has a text or a label")


def _entry(line: bytes, where: str, about: int) -> tuple[str, Words]:
    try:
        row = json.loads(line)
        name, text = row["file_name"], row.get("text") or ""
        name.encode("utf-8", "surrogateescape"), text.encode()
        return name, Words(text, _label(row.get("label")) if about > PLAIN else "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadData(
            f"{where} should be a JSON object with a file_name and a text, "
            "such as "
            f'{{"file_name": '
            f'"a.png", "text": "a cat"}}.'
        ) from None


def _label(value: Any) -> str:
    """Text or a number; of anything else nothing, since it is no class."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return printable(text.strip().encode("utf-8", "replace")) if number or isinstance(value, str) else ""


def _rows(blob: bytes, where: str, about: int, notes: list[str]) -> Iterator[tuple[str, Words]]:
    """A table with the columns file_name and text, label or both; nothing but a note of one that lacks them,
    which speaks of something else.

    Raises BadData for a line that is none of a table.
    """
    text = _text(blob, where)
    by = delimiter(text) if about > PLAIN else ","
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=by)
    try:
        columns = [name.strip() if about > PLAIN else name for name in table.fieldnames or ()]
        lacking = [] if "file_name" in columns else ["file_name"]
        lacking += ["text or label"] if not {"text", "label"} & set(columns) else []
        if lacking:
            names = ", ".join(printable(name.encode("utf-8", "replace")) for name in columns[:COLUMNS])
            end = ", ..." if len(columns) > COLUMNS else ""
            notes.extend([f"{where}: no column {lacking[0]} (columns: {names}{end})"] if columns else [])
            return
        table.fieldnames = columns
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


def delimiter(text: str) -> str:
    """What stands between the columns of a table: that which makes a column file_name, or the commonest."""
    head = text.lstrip("\r\n").partition("\n")[0]
    whole = (by for by in DELIMITERS if "file_name" in [name.strip(' "\r') for name in head.split(by)])
    return next(whole, max(DELIMITERS, key=head.count))


def _text(blob: bytes, where: str) -> str:
    try:
        return blob.decode("utf-8-sig")
    except UnicodeDecodeError as why:
        line = blob.count(b"\n", 0, why.start) + 1
        raise BadData(f"{where}, line {line} is not UTF-8 text; save it again as CSV in UTF-8.") from None
