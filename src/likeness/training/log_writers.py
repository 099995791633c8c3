"""The log of a run for other programs: `log.csv` for spreadsheets, event files for TensorBoard.

log.jsonl stays what it is and decides: whoever asks for another form, at the start or later, gets all of it.
A file goes on after the last step that it and the state share, so that no step stands in it twice; what a
crash has torn at its end is cut off first."""

from __future__ import annotations

import csv
import io
import re
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .. import engine, storage
from ..core import Refusal, closest
from ..figures import events
from ..runs.run import Run
from .loop import Step

CSV, EVENTS = "log.csv", "tensorboard/events.out.tfevents.likeness"
"""within the run folder; TensorBoard knows its files by the word tfevents"""


class Writer(Protocol):
    def line(self, line: dict[str, Any]) -> None:
        """Append a line of the log."""
        ...

    def picture(self, seen: int, path: Path) -> None:
        """Append a snapshot, a PNG file."""
        ...


def record(run: Run, formats: Sequence[str], steps: Iterator[Step]) -> Iterator[Step]:
    """Pass the steps on, and write their lines of the log and their snapshots in these formats (names of
    FORMATS).  A file that cannot be written is no reason to lose the training: it is noted, and left
    alone."""
    writers = list[Writer]()
    if engine.rank() == 0:
        _each(run, formats, lambda name: writers.append(FORMATS[name](run)))
    last = run.seen
    for step in steps:
        last = step.seen
        _write(run, writers, step.line, last)
        yield step
    _write(run, writers, None, last)  # the last snapshot comes after the last step


def _write(run: Run, writers: list[Writer], line: dict[str, Any] | None, seen: int) -> None:
    path = snapshot(run, seen)

    def append(writer: Writer) -> None:
        if line is not None:
            writer.line(line)
        if path is not None:
            writer.picture(seen, path)

    if line is not None or path is not None:
        writers[:] = _each(run, writers, append)


def _each(run: Run, items: Sequence[Any], do: Any) -> list[Any]:
    """Those for which it went well."""
    well = list[Any]()
    for item in items:
        try:
            do(item)
            well.append(item)
        except OSError as error:
            run.notes.append(str(storage.trouble(error, run.folder)))
        except Refusal as refusal:
            run.notes.append(str(refusal))
    return well


def snapshot(run: Run, seen: int) -> Path | None:
    path = run.folder / "samples" / f"{seen:012d}.png"
    return path if path.exists() else None


def snapshots(run: Run) -> list[tuple[int, Path]]:
    """All up to where the run is, with the number of images seen."""
    paths = sorted((run.folder / "samples").glob("*.png"))
    return [(int(p.stem), p) for p in paths if re.fullmatch(r"\d+", p.stem) and int(p.stem) <= run.seen]


def flat(line: dict[str, Any]) -> dict[str, float]:
    """A line of the log as names and numbers: losses as they are called, then seconds, speed and memory."""
    return {f"loss/{name}": value for name, value in line.get("losses", {}).items()} | {
        f"time/{name}": value for name, value in line.get("time", {}).items()
    }


# A table


class Table:
    """A line a row, a quantity a column: `seen` (images), then names as in flat()."""

    def __init__(self, run: Run):
        self.run, self.path = run, run.folder / CSV
        self.columns = list[str]()
        self._rewrite(run.log())

    def _rewrite(self, lines: Sequence[dict[str, Any]]) -> None:
        """All of the log, whole or not at all."""
        self.columns = list(dict.fromkeys(name for line in lines for name in flat(line)))
        text = self._text([["seen", *self.columns], *map(self._row, lines)] if lines else [])
        storage.write(self.path, text.encode())

    def _row(self, line: dict[str, Any]) -> list[Any]:
        values = flat(line)
        return [line["seen"], *(values.get(name, "") for name in self.columns)]

    def _text(self, rows: Sequence[Sequence[Any]]) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(rows)
        return out.getvalue()

    def line(self, line: dict[str, Any]) -> None:
        if not flat(line).keys() <= set(self.columns):  # a loss that was not there before
            self._rewrite(self.run.log())
            return
        with self.path.open("a") as file:
            file.write(self._text([self._row(line)]))

    def picture(self, seen: int, path: Path) -> None:
        """A table has no pictures."""


# TensorBoard


class Reached(NamedTuple):
    """What an event file holds up to a step."""

    size: int
    """bytes"""
    scalars: int
    pictures: int
    """images seen at the last of each; -1 where there is none"""


class Board:
    """One event file: the step is the number of images seen, the tags are the names of flat(), and `samples`
    the snapshots."""

    def __init__(self, run: Run):
        self.path = run.folder / EVENTS
        storage.make(self.path.parent)
        self.began = time.time() - run.seconds
        """when it would have begun, had it been trained without a pause: what older lines count from"""
        there = reached(self.path.read_bytes() if self.path.exists() else b"", run.seen)
        with self.path.open("ab") as file:
            file.truncate(there.size)
            if not there.size:
                file.write(events.record(events.first(self.began)))
        self.shown = there.pictures
        missing: list[tuple[int, int, Any]] = [
            (line["seen"], 0, line) for line in run.log() if line["seen"] > there.scalars
        ]
        pictures: list[tuple[int, int, Any]] = [(seen, 1, path) for seen, path in snapshots(run)]
        for seen, _, item in sorted([*missing, *pictures], key=lambda one: one[:2]):
            self.picture(seen, item) if isinstance(item, Path) else self.line(item)

    def _append(self, event: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(events.record(event))

    def line(self, line: dict[str, Any]) -> None:
        at = self.began + line.get("time", {}).get("seconds", 0.0)
        self._append(events.scalars(at, line["seen"], flat(line)))

    def picture(self, seen: int, path: Path) -> None:
        """Nothing where that one is there already."""
        if seen <= self.shown:
            return
        self.shown = seen
        png = path.read_bytes()
        width, height = struct.unpack(">II", png[16:24])
        self._append(events.image(time.time(), seen, "samples", png, height, width))


def reached(content: bytes, seen: int) -> Reached:
    """How much of an event file is whole and belongs to the first `seen` images."""
    size, scalars, pictures = 0, -1, -1
    for end, event in events.read(content):
        if event.step > seen:
            break
        size = end
        scalars = event.step if event.kind == "scalars" else scalars
        pictures = event.step if event.kind == "image" else pictures
    return Reached(size, scalars, pictures)


FORMATS: dict[str, type[Table] | type[Board]] = {"csv": Table, "tensorboard": Board}


def refuse(formats: Sequence[str]) -> None:
    """What is none of FORMATS, before anything is made."""
    if unknown := [name for name in formats if name not in FORMATS]:
        raise Refusal(f"a log cannot be written as {unknown[0]!r}; {closest(unknown[0], tuple(FORMATS))}")
