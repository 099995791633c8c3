"""What is in a data set, before anyone learns from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..storage.cache import Progress
from . import sides
from .dataset import Data, Images, Reading
from .labels import NONE
from .near_duplicates import exact_groups, near_groups
from .pixels import at_once
from .source import Source, parse

MOST_EXAMPLES = 10


@dataclass(frozen=True)
class Copies:
    """Groups of images that are one picture."""

    groups: int
    images: int
    """in all of these groups"""
    examples: tuple[tuple[str, ...], ...]
    """names or row numbers in the ten largest groups, at most ten each"""


@dataclass(frozen=True)
class Check:
    """The answer of `likeness check DATA`."""

    source: str
    verdict: str
    """one line; where files were skipped it ends with the path of the full list"""
    fingerprint: str
    images: int
    shape: tuple[int, ...]
    """channels, height, width of what a model sees"""
    levels: int
    train: int
    held_out: int
    classes: dict[str, int]
    """images in each class"""
    captions: int
    """images with a caption"""
    original_sizes: dict[str, int]
    """the twenty commonest "WIDTHxHEIGHT" in the files, and how many have it; empty where the data were no
    files"""
    short_sides: dict[str, int]
    """images by the shorter side of their file, in doubling steps such as "64-127"; empty likewise"""
    enlarged: int
    """images whose file is smaller than what a model sees"""
    modes: dict[str, int]
    """Pillow's modes of the files"""
    converted: dict[str, int]
    skipped: dict[str, int]
    """files skipped, by reason"""
    full_list: str
    """path of the list of skipped files with reasons, or nothing"""
    blank: int
    """images of a single colour; of points none is counted"""
    exact: Copies
    near: Copies
    """see data.near for what counts; exact copies are not counted again, and points have none"""
    kind: str = ""
    """"pairs" or "two domains", or nothing; what stands above is then about B, which is learnt"""
    source_shape: tuple[int, ...] = ()
    """channels, height, width of A, which it is learnt from"""
    others: int = 0
    """images of domain A"""
    others_train: int = 0
    others_held_out: int = 0

    def describe(self) -> dict[str, Any]:
        """The same as a dictionary for JSON."""
        return asdict(self)


def check(
    source: str | Path | Source,
    reading: Reading | None = None,
    *,
    cache: Path | str | None = None,
    progress: Progress | None = None,
) -> Check:
    """Look through a data set.  Raises what data.load raises."""
    reading = reading or Reading()
    asked = parse(source)
    result, data = sides.load(sides.Ask(asked, reading, cache, progress))
    meta = result.entry.meta if result.entry else {}
    return Check(
        source=asked.text,
        verdict=data.verdict,
        fingerprint=data.fingerprint,
        images=len(data.x),
        shape=data.spec.shape,
        levels=data.levels,
        train=len(data.train),
        held_out=len(data.held_out),
        classes={}
        if data.y is None
        else dict(
            zip(data.classes, np.bincount(data.y[data.y != NONE], minlength=len(data.classes)).tolist())
        ),
        captions=sum(bool(t) for t in data.texts or ()),
        **_originals(result),
        modes=meta.get("modes", {}),
        converted=meta.get("converted", {}),
        skipped=result.skipped,
        full_list=result.full_list,
        blank=0 if data.spec.points else _blank(result.x),
        exact=_copies(exact_groups(result.hashes), data.names),
        near=_copies([] if data.spec.points else near_groups(result.x, result.hashes), data.names),
        **_other_side(data),
    )


def _other_side(data: Data) -> dict[str, Any]:
    """What there is beside the images that are learnt."""
    if (a := data.other) is not None:
        numbers = dict(others=len(a.x), others_train=len(a.train), others_held_out=len(a.held_out))
        return dict(kind="two domains", source_shape=tuple(a.x.shape[1:]), **numbers)
    return {} if data.pairs is None else dict(kind="pairs", source_shape=tuple(data.pairs.shape[1:]))


def _originals(images: Images) -> dict[str, Any]:
    """Of files only."""
    if images.entry is None or not (images.entry.folder / "sizes.i32").exists():
        return dict(original_sizes={}, short_sides={}, enlarged=0)
    sizes = images.entry.array("sizes.i32", np.int32, (-1, 2))
    pairs, counts = np.unique(sizes, axis=0, return_counts=True)
    commonest = Counter({f"{w}x{h}": int(n) for (w, h), n in zip(pairs, counts)}).most_common(20)
    short = sizes.min(1)
    steps, each = np.unique(np.log2(short).astype(int), return_counts=True)
    sides = {f"{2**k}-{2 ** (k + 1) - 1}": int(n) for k, n in zip(steps.tolist(), each)}
    return dict(
        original_sizes=dict(commonest), short_sides=sides, enlarged=int((short < images.x.shape[2]).sum())
    )


def _blank(x: np.ndarray) -> int:
    step = at_once(x)
    parts = (x[i : i + step] for i in range(0, len(x), step))
    return sum(int((p.max((2, 3)) == p.min((2, 3))).all(1).sum()) for p in parts)


def _copies(groups: Sequence[np.ndarray], names: Sequence[str] | None) -> Copies:
    def name(row: int) -> str:
        return names[row] if names is not None else str(row)

    examples = tuple(tuple(name(int(row)) for row in g[:MOST_EXAMPLES]) for g in groups[:MOST_EXAMPLES])
    return Copies(len(groups), sum(map(len, groups)), examples)
