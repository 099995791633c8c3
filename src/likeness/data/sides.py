"""Two sides of one set: a source A, which a Condition holds, beside each image of B (pairs), or a second
domain A, of which nobody knows what belongs to what.

    --task T DATA            A is made from each image (tasks.py)
    DATA --to OTHER          two domains, each read as a set of its own
    outlines, hidden-map ... drawn by code (drawn.py)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core import Refusal
from ..storage import cache as kept
from ..storage.cache import Progress
from . import drawn, finish, named, read, tasks
from .dataset import Data, Images, Reading
from .source import Source, parse

ALONE = dict(task="", to="", swap=False)
"""of Reading, for a side that is read as a set of its own"""
Classes = Callable[[Images], Images]


def load(
    asked: Source,
    reading: Reading,
    place: Path | str | None = None,
    progress: Progress | None = None,
    about: int = 0,
    classes: Classes = lambda images: images,
) -> Data | None:
    """The data with both sides, or None where there is but one.  classes: gives the images of B those of a
    run.  Raises as data.load."""
    _refuse(asked, reading)
    if reading.task:
        return _task(asked, reading, place, progress, about, classes)
    if reading.to:
        return _domains(asked, parse(reading.to), reading, place, progress, about, classes)
    if asked.kind == "name" and (name := asked.text.partition(":")[0]) in drawn.KINDS:
        sides = drawn.read(name, named.count(asked.text), reading, kept.root(place), progress)
        return _drawn(asked, sides, reading, place, classes)
    return None


def _refuse(asked: Source, reading: Reading) -> None:
    """What does not go together."""
    own = asked.kind == "name" and asked.text.partition(":")[0] in drawn.KINDS
    if reading.task and (reading.to or own or reading.swap):
        what = "--to" if reading.to else "--swap" if reading.swap else asked.text
        raise Refusal(
            f"--task {reading.task} makes the source of each image from that image, and {what} speaks of "
            "another source; leave one of the two out."
        )
    if reading.binarize and (reading.task or reading.to or own):
        raise Refusal("--binarize is for one set of images, and here are two sides; leave it out.")
    if reading.to and own:
        raise Refusal(f"{asked.text} has two sides of its own; leave --to out.")


def _task(
    asked: Source,
    reading: Reading,
    place: Path | str | None,
    progress: Progress | None,
    about: int,
    classes: Classes,
) -> Data:
    data = finish(asked, classes(read(asked, reading, place, progress, about)), reading, place)
    task = tasks.of(reading.task, asked.text, data.x)
    digest = f"{reading.task} {tasks.VERSION}"
    channels, size, _ = task.shape
    note = f"; --task {reading.task}: the source of each is made from it, {channels} x {size} x {size}"
    return told(data.with_pairs(tasks.made(task, data.x), digest), note)


def _domains(
    a: Source,
    b: Source,
    reading: Reading,
    place: Path | str | None,
    progress: Progress | None,
    about: int,
    classes: Classes,
) -> Data:
    alone = replace(reading, **ALONE)

    def side(source: Source, known: Classes) -> Data:
        return finish(source, known(read(source, alone, place, progress, about)), alone, place)

    a, b = (b, a) if reading.swap else (a, b)
    first, second = side(a, lambda images: images), side(b, classes)
    return joined(first, second, reading, b.text if reading.swap else a.text)


def joined(a: Data, b: Data, reading: Reading, source: str) -> Data:
    """Domain A beside domain B, which `source` and the reading find again.  Raises BadData."""
    settings = b.settings | dict(task=reading.task, to=reading.to, swap=reading.swap)
    data = b.with_domain(a)
    verdict = (
        f"two domains: A, {a.source}: {a.verdict}; B, {b.source}: {b.verdict}; a model that takes no image "
        "learns B alone"
    )
    parts = b.parts | {"the other domain": a.fingerprint}
    return replace(data, source=source, settings=settings, verdict=verdict, parts=parts)


def _drawn(
    asked: Source, sides: drawn.Sides, reading: Reading, place: Path | str | None, classes: Classes
) -> Data:
    b = finish(asked, classes(sides.b), reading, place)
    if sides.pairs:
        digest = hashlib.blake2b(sides.a.hashes.tobytes(), digest_size=16).hexdigest()
        data = b.with_pairs(sides.a.x, digest)
        note = "; pairs: " + _shape(sides.a.x) + " beside each; a model that takes no image learns B alone"
        return told(data, note)
    a = finish(asked, sides.a, replace(reading, swap=False), place)
    return replace(joined(a, b, reading, asked.text), truth=sides.truth(a.held_out))


def _shape(x: Any) -> str:
    return " x ".join(map(str, x.shape[1:]))


def told(data: Data, note: str) -> Data:
    """The same with more to its verdict, before the path of the list of skipped files."""
    text, arrow, full_list = data.verdict.partition(" -> ")
    return replace(data, verdict=f"{text}{note}{arrow}{full_list}")
