"""Any runs on one page: compare.html, and the same cards as a table, as CSV and as JSON.

    compare(runs, [read(run) for run in runs]).write(Path("runs"))

reports/ranking.py says what stands beside what, and what may be ranked.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import storage
from ..core import Refusal
from ..evaluation.exam import Drawn
from ..metrics.card import Score
from ..runs.run import Run
from . import compare_page, terminal
from .ranking import Column, Row, column_of, rows_of, shown, unique

PAGE, CSV, JSON = "compare.html", "compare.csv", "compare.json"


def compare(
    runs: Sequence[Run],
    scores: Sequence[Sequence[Score] | Refusal],
    drawn: Sequence[Drawn | None] | None = None,
) -> Comparison:
    """Hold runs against each other by the scores of each, or by a Refusal that says why it has none.

    drawn: of each the samples that were scored, to be shown; those of others are drawn, of the seed of their
    scores.  Raises Refusal if there is no run.
    """
    if not runs:
        raise Refusal("there is no run to compare; name one or more: likeness evaluate RUN...")
    columns = tuple(
        column_of(*each)
        for each in zip(
            unique([run.folder for run in runs]), runs, scores, drawn or [None] * len(runs), strict=True
        )
    )
    return Comparison(columns, tuple(rows_of(columns)))


@dataclass(frozen=True, eq=False)
class Comparison:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def table(self, width: int = 120) -> str:
        """For a terminal: as many runs side by side as `width` characters hold, the others below."""
        head = ["", *(_printable(c.name) for c in self.columns)]
        lines = [head, *(_texts(row) for row in self.rows)]
        wide = [max(len(line[i]) for line in lines) for i in range(len(head))]
        blocks = ["\n".join(self._block(lines, wide, chosen)) for chosen in _blocks(wide, width)]
        reasons = dict.fromkeys(row.why for row in self.rows if row.why)
        why = [
            f"{reason}: {', '.join(_printable(row.key.name) for row in self.rows if row.why == reason)}"
            for reason in reasons
        ]
        warnings = [
            _printable(f"warning: {column.name}: {text}")
            for column in self.columns
            for text in column.warnings
        ]
        return "\n\n".join([*blocks, "\n".join([LEGEND, *why, *warnings])])

    def _block(self, lines: list[list[str]], wide: list[int], chosen: list[int]) -> Iterator[str]:
        before = ""
        for line, row in zip(lines, (None, *self.rows)):
            if row and row.group != before:
                before = row.group
                yield before.upper()
            yield "  ".join(line[i].ljust(wide[i]) for i in [0, *chosen]).rstrip()

    def csv(self) -> str:
        """A line a card.  Text that a spreadsheet would take for a formula begins with an
        apostrophe there."""
        file = io.StringIO()
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(["run", "model", "group", "measure", *FIELDS, "warning", "place", "why"])
        for row in self.rows:
            for column, card, place in zip(self.columns, row.cells, row.places):
                if card is not None:
                    values = card.as_dict()
                    line = [
                        column.name,
                        column.model,
                        row.group,
                        row.key.name,
                        *(values[f] for f in FIELDS),
                        card.warning,
                        place,
                        row.why,
                    ]
                    writer.writerow([_harmless(value) for value in line])
        return file.getvalue()

    def json(self) -> str:
        """Valid JSON: what is no number is null."""
        runs = [
            dict(name=c.name, folder=c.folder, seen=c.seen, warnings=c.warnings, setup=c.setup)
            for c in self.columns
        ]
        rows = [
            dict(group=row.group, measure=row.key.name, unit=row.key.unit, of=row.key.of, why=row.why)
            | dict(
                cells=[
                    card and dict(card.as_dict(), run=c.name, place=p)
                    for c, card, p in zip(self.columns, row.cells, row.places)
                ]
            )
            for row in self.rows
        ]
        return terminal.document(dict(runs=runs, rows=rows), indent=1)

    def page(self) -> str:
        """All of it as one HTML document, which needs no other file, no network and no script."""
        return compare_page.page(self.columns, self.rows)

    def write(self, folder: Path) -> Path:
        """Replace compare.html, compare.csv and compare.json in `folder`, which is made if need be; returns
        the page."""
        storage.make(folder)
        for name, text in ((CSV, self.csv()), (JSON, self.json()), (PAGE, self.page())):
            storage.write(folder / name, text.encode(errors="backslashreplace"))
        return folder / PAGE


# Text


FIELDS = (
    "of",
    "value",
    "low",
    "high",
    "unit",
    "better",
    "kind",
    "n",
    "against",
    "split",
    "seed",
    "floor",
    "network",
    "network_sha",
    "resize",
)
PLACES = {"best": "*", "tie": "=", "": ""}
LEGEND = (
    "* better than every run it may be held against, 95 % intervals apart; = none is better; ! a warning "
    "stands on it"
)


def _texts(row: Row) -> list[str]:
    """The row for a terminal: values with intervals, and how they are marked."""
    unit = f", {row.key.unit}" if row.key.unit else ""
    name = f"{row.key.name}{unit}" if row.key.of == "model" else f"  {row.key.of}"
    return [
        _printable(name),
        *(_text(card, place) if card else "-" for card, place in zip(row.cells, row.places)),
    ]


def _text(card: Score, place: str) -> str:
    value = shown(card) if isinstance(card.value, int) else card.number
    return f"{value} {PLACES[place]}{'!' if card.warning else ''}".rstrip()


def _blocks(wide: Sequence[int], width: int) -> Iterator[list[int]]:
    """Numbers of the columns, 1 ..., that fit beside the first."""
    chosen: list[int] = []
    for i in range(1, len(wide)):
        if chosen and wide[0] + sum(wide[j] + 2 for j in [*chosen, i]) > width:
            yield chosen
            chosen = []
        chosen.append(i)
    yield chosen


def _printable(text: str) -> str:
    """Nothing that moves the cursor, and nothing that cannot be written."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _harmless(value: Any) -> Any:
    """Text that no spreadsheet calculates, wherever it sees the beginning of a cell."""
    return (
        re.sub(r"(^|[,;])(?=\s*[=+\-@＝＋－＠])", r"\1'", _printable(value))
        if isinstance(value, str)
        else value
    )
