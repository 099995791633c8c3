"""What can be said of image files that people bring: what they say of themselves, and what a detector says of
them.

    for finding in judge(detect.load(Path("detector")), [Path("photo.png")]): print(finding.text)

Both can be wrong.  Anybody can write a provenance into a file, and saving it anew with most programs removes
it; a detector knows the traces of the runs that it was trained against, at its own size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from .. import figures
from ..core import BadData, Refusal
from ..data import Reading, picture
from ..data.decode import Skip, decode
from ..data.writer import as_colour
from .detector import Detector
from .real_and_generated import on_grid

MOST_FILE, MOST_TEXT, MOST_LINES = 2**26, 120, 12
"""of a provenance, which anybody may have written: bytes of a file that is searched for it, characters of
each entry that are shown, entries"""


MISSING = "there is no such file"


class Finding(NamedTuple):
    """What can be said of a file."""

    file: str
    verdict: Literal["real", "generated", "cannot tell", "no image"]
    p: float | None
    """probability that it is generated, if as many are as are not"""
    provenance: dict[str, str]
    """what the file itself says, which anybody can have written; empty where it says nothing"""
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        carries = ", ".join(f"{k} {v}" for k, v in self.provenance.items())
        says = f"carries likeness' provenance: {carries}" if carries else ""
        likely = "" if self.p is None else f"P(generated) {self.p:.3f}"
        return f"{self.file}: " + "; ".join(filter(None, (says, self.verdict, likely, *self.remarks)))


def judge(detector: Detector, paths: Sequence[Path]) -> Iterator[Finding]:
    """Each image file, and those in a folder: first what it says of itself, then what the detector says of
    it.

    What is no image, or not there at all, is a finding, too.
    """
    spec, kept = (
        detector.model.spec,
        {k: v for k, v in detector.reading.items() if k in ("background", "white")},
    )
    how = Reading(size=spec.size, colour="grey" if spec.channels == 1 else "rgb", **kept)
    for path in _files(paths):
        yield _finding(detector, path, how)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        yield from (
            sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
            if path.is_dir()
            else (path,)
        )


def _finding(detector: Detector, path: Path, how: Reading) -> Finding:
    if not path.exists():
        return Finding(clean(str(path), 300), "no image", None, {}, (MISSING,))
    origin, remarks = provenance(path)
    result = (
        decode(os.fsencode(path), (path.stat().st_size, path.stat().st_mtime_ns), how)
        if path.is_file()
        else Skip("no regular file")
    )
    name = clean(str(path), 300)
    if isinstance(result, Skip):
        return Finding(
            name,
            "no image",
            None,
            origin,
            (*remarks, clean(": ".join(filter(None, (result.reason, result.detail))), MOST_TEXT)),
        )
    if origin.get("n", "1") != "1" and "number" not in origin and result.size != (how.size, how.size):
        page = (
            f"a page of {origin['n']} images; have them written into a folder, likeness sample RUN -o "
            "folder/, and judge each"
        )
        return Finding(name, "cannot tell", None, origin, (*remarks, page))
    x = on_grid(
        picture(np.array(as_colour(result.pixels[None], how.colour))).numpy(), detector.model.spec.levels
    )
    heard = detector.hear(x, np.zeros(1, np.int64))
    verdict: Any = {0: "real", 1: "generated"}.get(int(heard.says[0]), "cannot tell")
    return Finding(name, verdict, float(heard.p[0, 1]), origin, (*remarks, *_scaled(result.size, how.size)))


def _scaled(size: tuple[int, int], side: int) -> tuple[str, ...]:
    return (
        ()
        if size == (side, side)
        else (f"scaled from {size[0]}x{size[1]} to {side}x{side}, which hides traces of single pixels",)
    )


def provenance(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """What a file says of its own making, fit to be shown; and what is odd about that."""
    try:
        if path.stat().st_size > MOST_FILE:
            return {}, ()
        recipe = figures.read_recipe(path)
        return {
            clean(str(k), MOST_TEXT): clean(str(v), MOST_TEXT) for k, v in list(recipe.items())[:MOST_LINES]
        }, ()
    except (BadData, RecursionError, ValueError):
        return {}, ("carries a provenance of likeness that is damaged",)
    except (Refusal, OSError):
        return {}, ()


def clean(text: str, most: int) -> str:
    """At most that many characters, none of which can steer a terminal, turn the direction of writing or
    break a line."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: most + 1])
    return shown if len(text) <= most else shown[:most] + "…"
