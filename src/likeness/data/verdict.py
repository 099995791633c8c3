"""What is said about a folder as a whole: its captions, what was skipped and why, and one line of verdict.

It has an entry of its own in the cache, because a new caption, note or hidden file must not cost decoding all
images again.
"""

from __future__ import annotations

import os
import shlex
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import BadData
from . import pairs
from .cache import Entry
from .dataset import Lines
from .frames import VIDEOS
from .labels import NONE
from .listing import Descriptions, Listing, printable
from .metadata import Places, labelled, sort_out
from .ranges import Values, remarks

MOST_SKIPPED = 0.2
NAMED = 3
"""files without a class that are named"""
Row = tuple[str, str, str]
"""reason, detail and name, printable"""
FAILED, SKIPPED = "failed.txt", "skipped.txt"
GREY = "; stored in colour, grey in every pixel, and read as grey: --colour rgb reads three channels"


def build(
    listing: Listing, entry: Entry, captions: Callable[[], Descriptions], failed: Path, how: str, to: Path
) -> dict[str, Any]:
    """Write the entry that goes with `entry`, the decoded images.  how: Reading.layout.  Raises BadData where
    too little can be used."""
    skipped, rows = listed(listing.odd) + read_rows(entry.folder / FAILED), entry.array("rows.i64", np.int64)
    enough(listing, len(rows), skipped, failed)
    words_of = captions()
    words = [words_of.of(listing, int(row)) for row in rows] if words_of.paths or words_of.rows else []
    captioned = (
        sum(bool(w.text) for w in words)
        if any(w.text for w in (*words_of.paths.values(), *words_of.rows.values()))
        else None
    )
    if captioned is not None:
        write_lines(to, "texts", (w.text for w in words))
    places = sort_out(listing, rows.tolist())
    declared = labelled(words, words_of.classes, places.test)
    count = sum(bool(w.label) for w in words)
    if declared is not None and places.y is not None and _labelled(declared[0]) < _labelled(places.y):
        declared = None
    if skipped or listing.passed:
        write_rows(to / SKIPPED, skipped + passed_over(listing))
    reasons = dict(Counter(reason for reason, _, _ in skipped).most_common())
    names = Lines(entry.array("names.bin", np.uint8), entry.array("names.i64", np.int64))
    y, classes = declared or (places.y, places.classes)
    unsure = declared is None and how != "classes"
    layout = pairs.recognise(_classed(names, places)) if unsure else None
    if y is None or (layout is not None and layout.known):
        y, classes = None, ()
    for name, values in (("y.i64", y), ("test.u1", places.test)):
        if values is not None:
            (to / name).write_bytes(values.tobytes())
    verdict = _verdict(
        len(np.unique(rows)),
        reasons,
        entry.meta | dict(official=None if places.test is None else int(places.test.sum())),
        captioned,
        len(listing.passed),
        count if declared is None else 0,
        _kinds(listing, layout, places)
        if layout and layout.known
        else _unlabelled(names, y, places, declared is not None) + (_maybe_pairs(layout) if layout else ""),
        places.beside,
        words_of.notes,
    )
    return dict(skipped=reasons, verdict=verdict, classes=classes, layout=layout and layout._asdict())


def _labelled(y: np.ndarray) -> int:
    """How many images have a class."""
    return int((y != NONE).sum())


def _classed(names: Sequence[str], places: Places) -> Sequence[str]:
    """What lies in folders that may be classes: a file beside two folders makes classes of no pairs."""
    return names if places.y is None else [names[int(i)] for i in np.flatnonzero(places.y != NONE)]


def _unlabelled(names: Sequence[str], y: np.ndarray | None, places: Places, declared: bool) -> str:
    """Which files have no class where others have one, and whether that is the end of all classes."""
    if y is None:
        return (
            f"; {', '.join(places.classes[:3])}{' ...' * (len(places.classes) > 3)} are no classes, since "
            "most images lie in none of these folders"
            if not places.most
            else ""
        )
    rows = np.flatnonzero(y == NONE)
    if not len(rows):
        return ""
    why = "nothing is written about them" if declared else "in no class folder"
    which = ", ".join(names[int(i)] for i in rows[:NAMED])
    return f"; {len(rows):,} unlabelled, {why}{', such as' if len(rows) > NAMED else ':'} {which}"


def _verdict(
    used: int,
    reasons: dict[str, int],
    meta: dict[str, Any],
    captioned: int | None,
    passed: int,
    labels: int,
    kinds: str,
    beside: int,
    notes: Sequence[str],
) -> str:
    skipped, official = sum(reasons.values()), meta["official"]
    converted = ", ".join(
        f"{n:,} {what}" for what, n in sorted(meta["converted"].items(), key=lambda item: -item[1])
    )
    why = ", ".join(f"{n:,} {reason}" for reason, n in reasons.items())
    line = (
        f"{used + skipped:,} images: {used:,} used{converted and f' ({converted})'}, {skipped:,} "
        f"skipped{why and f' ({why})'}"
    )
    line += f"; the {official:,} of the official test split are held out" if official is not None else ""
    line += f"; {beside:,} outside of its folders are trained on" if beside else ""
    line += f"; {captioned:,} have captions" if captioned is not None else ""
    line += "".join(f"; {note}" for note in notes)
    line += (
        (
            f"; {labels:,} have labels, which make no classes: half of the images need one, and two kinds at "
            "least"
        )
        if labels
        else ""
    )
    line += GREY if meta.get("grey") else ""
    line += kinds + remarks(Values(**values) for values in meta["values"])
    return line + (f"; {passed:,} other files passed over" if passed else "")


def _kinds(listing: Listing, layout: pairs.Layout, places: Places) -> str:
    """What two folders look like that are no classes, and what to type."""
    what = f"pairs, of which {layout.matched:,} are called alike" if layout.kind == "pairs" else "two domains"
    root = os.fsdecode(listing.root)
    one = shlex.join(["likeness", "train", "vae", os.path.join(root, layout.a[0])])
    instead = (
        (f"name one of them ({one})")
        if os.path.isdir(root) and not listing.packed
        else ("unpack it, and name one of these folders")
    )
    mixed = "they are no classes, and a model of both mixes two kinds of pictures"
    classes = "; if they are classes: --layout classes" if places.y is not None else ""
    return f"; {', '.join(layout.a)} and {', '.join(layout.b)} look like {what}: {mixed}; {instead}{classes}"


def _maybe_pairs(layout: pairs.Layout) -> str:
    """What two classes may be whose images have the same names, and how to say so."""
    return (
        f"; {', '.join(layout.a)} and {', '.join(layout.b)} are taken for classes, though all "
        f"{layout.matched:,} names are in both: if these are pairs, call the folders A and B"
    )


def enough(listing: Listing, used: int, skipped: list[Row], failed: Path, advice: str = "") -> None:
    """Stop where the folder is not what the user believes it to be."""
    if used >= 2 and len(skipped) <= MOST_SKIPPED * (used + len(skipped)):
        return
    place = ""
    if skipped or listing.passed:
        write_rows(failed, skipped + passed_over(listing))
        place = f"; the full list is {failed}"
    what = (
        "two images at least are needed"
        if used < 2
        else (f"more than {MOST_SKIPPED:.0%} cannot be used, so it may be the wrong folder")
    )
    advice = advice or _videos(listing, used)
    raise BadData(
        f"{printable(listing.root)} holds {used:,} usable images and {len(skipped):,} "
        f"others{_commonest(skipped)}; {what}{advice}{place}."
    )


def _videos(listing: Listing, used: int) -> str:
    """What to type where there are no images because they are videos."""
    count = sum(os.path.splitext(path)[1].lower().decode("latin1") in VIDEOS for path, _ in listing.passed)
    return f"; {count:,} videos lie there: --frames 16 reads them as clips" if count > used else ""


def _commonest(skipped: list[Row]) -> str:
    """The ten commonest reasons, each with an example."""
    example = {reason: f"{name}: {detail}" for reason, detail, name in reversed(skipped)}
    counts = Counter(reason for reason, _, _ in skipped).most_common(10)
    return (
        " (" + "; ".join(f"{n:,} {reason}, such as {example[reason]}" for reason, n in counts) + ")"
        if counts
        else ""
    )


def listed(rows: Iterable[tuple[bytes, str, str]]) -> list[Row]:
    """From path, reason and detail."""
    return [
        (reason, printable(detail.encode("utf-8", "surrogateescape")), printable(path))
        for path, reason, detail in rows
    ]


def passed_over(listing: Listing) -> list[Row]:
    return [("passed over", why, printable(path)) for path, why in listing.passed]


def write_rows(path: Path, rows: list[Row]) -> None:
    """One line a file; what is printable holds no tab and no end of line."""
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[Row]:
    return [tuple(line.split("\t")) for line in path.read_text(encoding="utf-8").splitlines()]  # type: ignore[misc]


def write_lines(to: Path, name: str, texts: Iterable[str]) -> None:
    """As Lines reads them."""
    ends, total = array("q"), 0
    with (to / f"{name}.bin").open("wb") as file:
        for text in texts:
            total += file.write(text.encode())
            ends.append(total)
    (to / f"{name}.i64").write_bytes(ends.tobytes())
