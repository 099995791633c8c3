"""Names of classes: their order, what means that there is none, and which classes nobody learns from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

NONE = -1
"""the class of an unlabelled image; core.NONE, which lies beside torch"""
BLANK = "", "-1", "nan"
"""labels that say that there is none: an empty cell, what scikit-learn and Hugging Face write, and what
pandas does"""
ENOUGH = 0.5
"""share of the training images that need a label: below it the labels are of something else"""
SHOWN = 12
"""names in a sentence, at most"""


def natural(names: Iterable[str]) -> list[str]:
    """In the order of numbers where all names are numbers, else of text in which runs of digits count as
    numbers: 1, 2, 10; -90, 0, 90; class2, class10."""
    names = list(names)
    if all(re.fullmatch(r"[+-]?\d+(\.\d+)?", name, re.ASCII) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names, key=lambda name: (_parts(name), name))


def _parts(name: str) -> list[tuple[int, int, str]]:
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", name, flags=re.ASCII)
        if part
    ]


def blanks(names: Iterable[str]) -> set[str]:
    """Which of these labels mean "unlabelled".  -1 is a class where it has only 1 beside it, as support
    vector machines count, and among names that are no numbers from 0 on."""
    names = set(names)
    rest = names - {*BLANK}
    numbers = all(re.fullmatch(r"\d+(\.\d+)?(e\+\d+)?", name, re.ASCII) for name in rest)
    return names & ({*BLANK} if numbers and rest != {"1"} else {*BLANK} - {"-1"})


def tidy(y: np.ndarray | None, classes: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """int64 (n,) classes, in natural order and with NONE where the name says that there is none."""
    if y is None:
        return None, ()
    none = blanks(classes)
    order = tuple(natural(name for name in classes if name not in none))
    if not order:
        return None, ()
    number = {name: k for k, name in enumerate(order)}
    return np.array([number.get(name, NONE) for name in classes], np.int64)[y], order


def as_before(
    y: np.ndarray | None, classes: tuple[str, ...], names: Sequence[str] | None, wanted: Sequence[str]
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The labels by the classes that a run has written down, `wanted`: in their order, and with those that
    were classes when it was made (-1, a folder of unlabelled tests).  Unchanged where they are others."""
    if tuple(wanted) == classes:
        return y, classes
    if y is None or not wanted:
        return (None, ()) if not wanted else (y, classes)
    number = {name: k for k, name in enumerate(wanted)}
    extra = [name for name in wanted if name not in classes]
    if not set(classes) <= number.keys():
        return y, classes
    now = np.array([number[name] for name in classes], np.int64)[y]
    if len(extra) == 1 and extra[0] in BLANK:
        now[y == NONE] = number[extra[0]]
    elif extra and names is not None:
        for row in np.flatnonzero(y == NONE):
            folder = names[int(row)].rpartition("/")[0].rpartition("/")[2]
            now[row] = number.get(folder, NONE)
    else:
        now[y == NONE] = NONE
    return now, tuple(wanted)


def absent(y: np.ndarray | None, train: np.ndarray, classes: Sequence[str]) -> tuple[int, ...]:
    """The classes that no training image has."""
    if y is None:
        return ()
    return tuple(np.setdiff1d(np.arange(len(classes)), y[train]).tolist())


def some(names: Sequence[str], most: int = SHOWN) -> str:
    """For a sentence."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
