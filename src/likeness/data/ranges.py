"""Which values of a file are black and white: decided here for arrays, TIFF, PNG and PNM alike.

A range is declared (--white, black is 0), or follows from the type of number and from the values.  Values
that lie a little outside, as resampling with negative lobes (bicubic, Lanczos) and JPEG leave them, are
clipped and counted.  What was assumed, what was clipped, and that a range makes everything dark or flat,
stands in the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

Span = tuple[float, float]
"""values of black and of white"""
Outside = Callable[[Span], int]
"""how many values lie outside a range"""
CLOSE, SHARE = 0.3, 0.5
"""values outside of a range belong to it all the same, if they are no further away than this part of what
lies within, and no more than this share: bicubic enlargement (Pillow, x4) of black and white digits leaves
.26 and .40"""
NEAR = 0.02
"""as CLOSE, where a remedy is suggested: nobody should be advised to clip much"""
MOST = 1e12
"""largest --white"""
NARROW = 0.25
"""part of the range, below which everything is dark, or flat"""
USUAL = (1, 15, 255, 1023, 4095, 16383, 65535)
"""values of white that are common"""


@dataclass(frozen=True)
class Values:
    """All values of one kind in a data set, and what they were read as."""

    kind: str
    """a numpy type, or 8-bit, 16-bit and float of image files"""
    low: float
    high: float
    black: float
    white: float
    n: int = 0
    outside: int = 0
    """values that were clipped"""
    guessed: bool = False
    """neither declared nor the only meaning of the type"""

    def __or__(self, other: Values) -> Values:
        """Of both together."""
        return replace(
            self,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            white=max(self.white, other.white),
            n=self.n + other.n,
            outside=self.outside + other.outside,
            guessed=self.guessed or other.guessed,
        )


def choose(kinds: str, low: float, high: float, white: float, n: int, outside: Outside) -> Span | None:
    """The range of n values from low to high: what is declared, or the first that fits, or None.

    kinds: the kind of a numpy type: b, u, i or f; and B for uint8, whose only usual meaning is 0 to 255.
    """
    if white:
        return (0.0, white) if _fits((0.0, white), low, high, n, outside) else None
    if kinds == "b":
        return 0.0, 1.0
    if kinds == "f":
        return next((s for s in ((0.0, 1.0), (-1.0, 1.0)) if _fits(s, low, high, n, outside)), None)
    whole = low >= 0 and (1 < high <= 255 or (kinds == "B" and high == 0))
    return (0.0, 255.0) if whole else None


def _fits(span: Span, low: float, high: float, n: int, outside: Outside) -> bool:
    black, white = span
    if black <= low and high <= white:
        return True
    below, above = CLOSE * (min(high, white) - black), CLOSE * (white - max(low, black))
    return black - below <= low and high <= white + above and outside(span) <= SHARE * n


def levels(x: np.ndarray, span: Span, precision: Any = np.float64) -> np.ndarray:
    """Values of any type as uint8: black is 0, white 255, and what lies outside is clipped."""
    black, white = span
    scaled = (x.astype(precision) - precision(black)) * precision(255 / (white - black))
    return np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)


def beyond(x: np.ndarray, span: Span) -> int:
    """How many values lie outside the range."""
    return int(np.count_nonzero((x < span[0]) | (x > span[1])))


def remedy(low: float, high: float, n: int, outside: Outside) -> str:
    """What to type for values from low to high that have no range yet; what is named here is accepted."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "some are not finite numbers: np.nan_to_num(x) makes them 0"
    for white in (*(w for w in USUAL if high <= (1 + NEAR) * w < 4 * high), float(f"{high:.6g}")):
        near = 0 < white <= MOST and low >= -NEAR * white
        if near and _fits((0.0, white), low, high, n, outside):
            return f"say what white is, such as --white {white:.6g}"
    return f"as black is 0, no --white fits them; save {stretched(low, high)} instead, which lies from 0 to 1"


def remedies(unknown: Iterable[Values]) -> str:
    """What to type where files were skipped because nothing says what their white is: something that fits the
    values of all of them."""
    return "".join(
        f"; the {v.kind} values without a known white lie from {v.low:g} to {v.high:g} in all: "
        + remedy(v.low, v.high, v.n, lambda span: 0)
        for v in united(unknown)
    )


def stretched(low: float, high: float) -> str:
    """The expression that brings values x from low to high into 0 to 1."""
    if low == high:
        return "x * 0.0"
    return f"(x {'+' if low < 0 else '-'} {abs(low):.6g}) / {high - low:.6g}"


def united(values: Iterable[Values]) -> list[Values]:
    """Of each kind the values of all files together."""
    kinds = dict[str, list[Values]]()
    for one in values:
        kinds.setdefault(one.kind, []).append(one)
    return [reduce(Values.__or__, some) for some in kinds.values()]


def remarks(values: Iterable[Values]) -> str:
    """For the verdict: what was assumed, what was clipped, and what looks wrong."""
    return "".join(_assumed(v) + _clipped(v) + _narrow(v) for v in values)


def _assumed(v: Values) -> str:
    if not v.guessed:
        return ""
    text = f"; {v.kind} values from {v.low:g} to {v.high:g} are read with {v.black:g} as black and"
    text += f" {v.white:g} as white"
    if v.black < 0 and v.low >= -CLOSE:
        return f"{text}: if 0 is black, save x.clip(0, 1) instead"
    return f"{text}: if -1 is black, save (x + 1) / 2 instead" if v.low < 0 <= v.black else text


def _clipped(v: Values) -> str:
    if not v.outside:
        return ""
    by = max(v.black - v.low, v.high - v.white)
    what = "value lies" if v.outside == 1 else "values lie"
    return f"; {v.outside:,} of {v.n:,} {v.kind} {what} outside, by {by:.3g} at most, and clipped"


def _narrow(v: Values) -> str:
    """Data of 10, 12 or 14 bits in files of 16 look black; labels of classes in files of 8 do."""
    whole = v.white - v.black
    if not v.low < v.high or v.high - max(v.low, v.black) >= NARROW * whole:
        return ""
    if v.high - v.black >= NARROW * whole:
        return (
            f"; all {v.kind} values lie from {v.low:g} to {v.high:g}, so they are flat: if these should be "
            f"black and white, save {stretched(v.low, v.high)} instead"
        )
    usual = next((w for w in USUAL if v.high <= w < 4 * v.high), v.high)
    declared = v.black >= 0 and v.low >= -CLOSE * v.high
    remedy = f"say --white {usual:.6g}" if declared else f"save {stretched(v.low, v.high)} instead"
    return f"; the brightest {v.kind} value is {v.high:,g}, so they are dark: if it should be white, {remedy}"
