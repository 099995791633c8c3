"""Two domains whose files are called alike: who belongs to whom is kept from training, and scores use it.

Some domains hold the same things, drawn by two hands: of a held-out image of A the right image of B is then
known.  Names say it, where they say more than numbers: two heaps of photos that are both numbered from 1 have
nothing to do with each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import beside, pairs
from .dataset import Images
from .split import split

HEX = re.compile(r"[0-9a-f]+([-_][0-9a-f]+)*")
SPARSE = 4
"""times as wide as they are many are hexadecimal numbers that are names, such as code points"""


@dataclass(frozen=True)
class Partners:
    """Both domains, with what is to be held out of each; and which image of B each of A should become."""

    a: Images
    b: Images
    of: np.ndarray
    """int64 (N,): row of B, or -1, for each row of A"""
    names: int
    """that are in both"""

    def truth(self, held_out: np.ndarray) -> np.ndarray | None:
        """uint8 (n, C, H, W) of B for rows of A; None where one of them has none."""
        at = self.of[held_out]
        return None if (at < 0).any() else np.asarray(self.b.x[at])


def found(a: Images, b: Images, share: float) -> Partners | None:
    """Split by names, so that the same are held out on both sides; None where names say nothing.

    Where a side has an official split, what is called like its test images is held out on the other side,
    too.  share: as split() has it.
    """
    if a.names is None or b.names is None or a.whole is not None or b.whole is not None:
        return None
    stems = [[pairs.stem(name) for name in side.names or ()] for side in (a, b)]
    first = [_first(side) for side in stems]
    both = sorted(first[0].keys() & first[1].keys())
    fewest = min(map(len, first))
    once = all(len(own) >= pairs.ALIKE * len(side) for own, side in zip(first, stems))
    if not once or len(both) < max(4, pairs.ALIKE * fewest) or not telling(both):
        return None
    of = np.array([first[1].get(stem, -1) for stem in stems[0]], np.int64)
    held_out = _official(a, b, stems)
    if not held_out:
        rows = [np.array([own[stem] for stem in both]) for own in first]
        held_out = {both[k] for k in _chosen((a, rows[0]), (b, rows[1]), share)}
    tests = [np.array([stem in held_out for stem in side], np.bool_) for side in stems]
    return Partners(replace(a, test=tests[0]), replace(b, test=tests[1]), of, len(both))


def telling(stems: Sequence[str]) -> bool:
    """Whether equal ones are more than chance: they differ in more than digits, or are hexadecimal and far
    apart."""
    if pairs.telling(set(stems)):
        return True
    if not all(HEX.fullmatch(stem) for stem in stems):
        return False
    numbers = {int(re.split("[-_]", stem)[0], 16) for stem in stems}
    letters = sum(bool(re.search("[a-f]", stem)) for stem in stems)
    return letters > len(stems) / 2 and max(numbers) - min(numbers) > SPARSE * len(stems)


def _first(stems: Sequence[str]) -> dict[str, int]:
    out: dict[str, int] = {}
    for i, stem in enumerate(stems):
        out.setdefault(stem, i)
    return out


def _official(a: Images, b: Images, stems: Sequence[Sequence[str]]) -> set[str]:
    """Names of the test images of either side."""
    sides = zip((a, b), stems)
    return {s for side, own in sides if side.test is not None for s, test in zip(own, side.test) if test}


def _chosen(a: tuple[Images, np.ndarray], b: tuple[Images, np.ndarray], share: float) -> np.ndarray:
    """Which of the partners, rows of A and rows of B, are held out: by the bytes of both, copies together."""
    one, other = _some(*a), _some(*b)
    keys = (side.hashes if side.keys is None else side.keys for side in (one, other))
    return split(beside.together(one, other), None, beside.both(*keys), share)[1]


class _Rows:
    """Some images, read when they are asked for."""

    def __init__(self, x: np.ndarray, rows: np.ndarray):
        self.x, self.rows = x, rows

    def __getitem__(self, k: int) -> np.ndarray:
        return np.asarray(self.x[self.rows[k]])


def _some(images: Images, rows: np.ndarray) -> Images:
    x: Any = _Rows(images.x, rows)
    keys = None if images.keys is None else images.keys[rows]
    return Images(x, images.hashes[rows], "", keys=keys)
