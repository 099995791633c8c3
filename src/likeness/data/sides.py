"""Two sides of one set: a source A, which a Condition holds, beside each image of B (pairs), or a second
domain A, of which nobody knows what belongs to what.

    DATA --task T            A is made from each image (tasks.py)
    DATA --to OTHER          two domains, each read as a set of its own
    images/ masks/ ...       by the names of folders and files (beside.py)
    outlines, hidden-map ... drawn by code (drawn.py)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Refusal
from ..storage import cache as kept
from ..storage.cache import Progress
from . import archive, beside, drawn, finish, folder, formats, named, read, tasks
from . import partners as alike
from .dataset import Data, Images, Reading
from .listing import Listing, printable
from .pixels import ground
from .source import Source, parse

Known = Callable[[Images], Images]
"""gives images the classes of a run"""
Both = tuple[Images, Data]
"""the images of B as they were read, and the data"""


@dataclass(frozen=True)
class Ask:
    """What is to be read, and how."""

    source: Source
    reading: Reading
    place: Path | str | None = None
    """the cache folder"""
    progress: Progress | None = None
    about: int = folder.ABOUT
    known: Known = lambda images: images
    apart: bool = False
    """domains are split each for itself, whatever their files are called"""

    def read(self, source: Source | None = None, known: Known | None = None) -> Both:
        """One set, by itself."""
        images = self.images(source, known)
        return images, finish(source or self.source, images, self.alone, self.place)

    def images(self, source: Source | None = None, known: Known | None = None) -> Images:
        """Of one set, not yet split."""
        source = source or self.source
        return (known or self.known)(read(source, self.alone, self.place, self.progress, self.about))

    @property
    def alone(self) -> Reading:
        """How one side is read, as a set of its own."""
        asked = self.reading.layout
        layout = asked if asked in ("classes", "together") else "auto"
        return replace(self.reading, task="", to="", swap=False, layout=layout)

    @property
    def base(self) -> Path:
        return kept.root(self.place)


def load(ask: Ask) -> Both:
    """Raises as data.load."""
    ground(ask.reading.background)
    _refuse(ask)
    if ask.reading.task:
        return _task(ask)
    if ask.reading.frames and not ask.reading.to:
        return _single(ask, *ask.read())
    if ask.reading.to:
        return _two_places(ask, parse(ask.reading.to))
    if (name := _own(ask.source)) is not None:
        return _drawn(ask, name)
    if (listing := _listing(ask.source)) is not None:
        return _folder(ask, listing)
    if ask.reading.layout not in ("auto", "classes", "together"):
        raise Refusal(
            f"--layout {ask.reading.layout} is for a folder or an archive of images, and {ask.source.text} "
            "is none; for two of these, type DATA --to OTHER."
        )
    return _single(ask, *ask.read())


def _own(source: Source) -> str | None:
    """The name of a set that has two sides of its own."""
    name = source.text.partition(":")[0]
    return name if source.kind == "name" and name in drawn.KINDS else None


def _listing(source: Source) -> Listing | None:
    """What lies in a folder or an archive; None of an array file, a name, or nothing."""
    path = source.path
    if source.kind not in ("folder", "file") or path is None or not source.text.strip():
        return None
    if path.is_file():
        return folder.listed(path) if archive.format_of(path) else None
    return folder.listed(path) if path.is_dir() and not formats.idx_folder(path) else None


def _refuse(ask: Ask) -> None:
    """What does not go together."""
    reading, own = ask.reading, _own(ask.source) is not None
    if reading.task and (reading.to or own or reading.swap):
        what = "--to" if reading.to else "--swap" if reading.swap else ask.source.text
        raise Refusal(
            f"--task {reading.task} makes the source of each image from that image, and {what} speaks of "
            "another source; leave one of the two out."
        )
    if reading.binarize and (reading.task or reading.to or own):
        raise Refusal("--binarize is for one set of images, and here are two sides; leave it out.")
    if reading.to and own:
        raise Refusal(f"{ask.source.text} has two sides of its own; leave --to out.")
    if reading.tiles and (not reading.size or (ask.source.path is None and not reading.to)):
        why = "type how large, such as --size 64" if not reading.size else "name a folder of photos"
        raise Refusal(f"--tiles cuts photos into squares of --size; {why}.")


def _single(ask: Ask, images: Images, data: Data) -> Both:
    """One set, after all."""
    if ask.reading.swap:
        raise Refusal(
            f"--swap exchanges the two sides of a set, and {ask.source.text} has one; leave it out."
        )
    return images, data


def _task(ask: Ask) -> Both:
    name = ask.reading.task
    images, data = ask.read()
    task = tasks.of(name, ask.source.text, data.x)
    settings = data.settings | dict(task=name)
    data = replace(data.with_pairs(tasks.made(task, data.x), f"{name} {tasks.VERSION}"), settings=settings)
    return images, _noted(data, f"; --task {name}: the source of each is made from it, {_shape(data.pairs)}")


def _two_places(ask: Ask, to: Source) -> Both:
    """DATA --to OTHER."""
    if ask.reading.layout == "pairs":
        return _pairs_of_two(ask, to)
    if ask.reading.layout == "side-by-side":
        raise Refusal("--layout side-by-side is of files that hold both sides; leave --to out.")
    a, b = (to, ask.source) if ask.reading.swap else (ask.source, to)
    return _two_domains(ask, (a, ask.images(a, lambda images: images)), (b, ask.images(b)))


def _two_domains(ask: Ask, a: tuple[Source, Images], b: tuple[Source, Images]) -> Both:
    """Split by names where these are alike on both sides, else each for itself."""
    partners = None if ask.apart else alike.found(a[1], b[1], ask.reading.held_out)
    sides = (a[1], b[1]) if partners is None else (partners.a, partners.b)
    first, second = (
        finish(source, images, ask.alone, ask.place) for (source, _), images in zip((a, b), sides)
    )
    data = _domains(ask, first, second)
    if partners is not None:
        truth = partners.truth(first.held_out)
        scores = "" if truth is None else ", and the truth of those of A is used for scores alone"
        note = (
            f"; {partners.names:,} names are in both, so held-out images are those of the same names{scores}"
        )
        data = _noted(replace(data, truth=truth), note)
    return sides[1], _noted(data, _in_both(*sides))


def _in_both(a: Images, b: Images) -> str:
    """What to say of images that lie in both domains."""
    same = int(np.isin(a.hashes, b.hashes).sum()) if a.x.shape[1:] == b.x.shape[1:] else 0
    many = "1 image of A lies" if same == 1 else f"{same:,} images of A lie"
    return f"; {many} in B, too, pixel for pixel" if same else ""


def _pairs_of_two(ask: Ask, to: Source) -> Both:
    here, there = (_listing(source) for source in (ask.source, to))
    if here is not None and there is not None:
        return _read_plan(ask, beside.of_two(here, there))
    a, b = (ask.read(source, lambda images: images)[0] for source in (ask.source, to))
    if len(a.x) != len(b.x):
        raise Refusal(
            f"{ask.source.text} holds {len(a.x):,} images and {to.text} {len(b.x):,}, and the pairs of "
            "arrays are told by their places; leave --layout pairs out: two domains."
        )
    if ask.reading.swap:
        a, b = b, a
    b = ask.known(beside.linked(a, b))
    return b, _pairs(ask, a, b)


def _folder(ask: Ask, listing: Listing) -> Both:
    """A folder or an archive: one set, pairs or two domains."""
    plan = beside.plan(listing, ask.reading, ask.about)
    if plan is not None:
        return _read_plan(ask, plan)
    images = ask.known(folder.read_listing(listing, ask.alone, ask.base, ask.progress, ask.about))
    if (
        ask.reading.layout == "auto"
        and not ask.reading.tiles
        and beside.side_by_side(listing, images, ask.alone)
    ):
        plan = beside.halves(listing, ask.about)
        plan.notes.append(
            "every file is exactly twice as wide as high and most break off in the middle, so each is taken "
            "for a pair side by side; if they are single pictures: --layout together"
        )
        return _read_plan(ask, plan)
    data = finish(ask.source, images, ask.alone, ask.place)
    return _single(ask, images, _noted(data, beside.one_sided(listing)))


def _read_plan(ask: Ask, plan: beside.Plan) -> Both:
    if ask.reading.binarize:
        raise Refusal("--binarize is for one set of images, and here are two sides; leave it out.")
    a, b = beside.read(plan, ask.reading, ask.base, ask.progress, ask.about)
    layout = "side-by-side" if plan.halves else plan.kind
    ask = replace(ask, reading=replace(ask.reading, layout=layout))
    a, b = (b, a) if ask.reading.swap else (a, b)
    b = ask.known(b)
    if plan.kind == "pairs":
        return b, _pairs(ask, a, b)
    names = [printable(side.root) for side in (plan.a, plan.b)]
    names = names[::-1] if ask.reading.swap else names
    first, second = (Source(name, ask.source.kind) for name in names)
    return _two_domains(ask, (first, a), (second, b))


def _pairs(ask: Ask, a: Images, b: Images) -> Data:
    """Row for row."""
    data = finish(ask.source, b, ask.alone, ask.place)
    digest = hashlib.blake2b(a.hashes.tobytes(), digest_size=16).hexdigest()
    data = data.with_pairs(a.x, digest)
    data = replace(data, settings=_settings(ask, data), parts=data.parts | {"A": digest})
    sides = f"source A {_shape(a.x)}, target B {_shape(b.x)}"
    return _noted(data, f"; {sides}; a model that takes no image learns B alone")


def _domains(ask: Ask, a: Data, b: Data) -> Data:
    """Raises BadData where they do not fit."""
    data = b.with_domain(a)
    verdict = (
        f"two domains.  A, {a.source}: {a.verdict}.  B, {b.source}: {b.verdict}.  A model that takes no "
        "image learns B alone"
    )
    parts = b.parts | {"A": a.fingerprint}
    return replace(data, source=ask.source.text, settings=_settings(ask, data), verdict=verdict, parts=parts)


def _settings(ask: Ask, data: Data) -> dict[str, Any]:
    """The colour stays as it was asked for: one side may be grey and the other not."""
    asked = {name: getattr(ask.reading, name) for name in ("colour", "layout", "task", "to", "swap")}
    return data.settings | asked


def _drawn(ask: Ask, name: str) -> Both:
    sides = drawn.read(name, named.count(ask.source.text), ask.reading, ask.base, ask.progress)
    b = ask.known(sides.b)
    if sides.pairs:
        b = beside.linked(sides.a, b)
        return b, _pairs(ask, sides.a, b)
    first, second = (finish(ask.source, images, ask.alone, ask.place) for images in (sides.a, b))
    return b, replace(_domains(ask, first, second), truth=sides.truth(first.held_out))


def _shape(x: Any) -> str:
    return " x ".join(map(str, x.shape[1:]))


def _noted(data: Data, note: str) -> Data:
    """The same with more to its verdict, before the path of the list of skipped files."""
    text, arrow, full_list = data.verdict.partition(" -> ")
    return replace(data, verdict=f"{text}{note}{arrow}{full_list}")
