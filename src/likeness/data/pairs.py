"""Folders that hold two kinds of pictures which belong together: told from classes by names alone.

    images/ masks/                               pairs: what is called alike in both belongs together
    A/ B/, lr/ hr/, leftImg8bit/ gtFine/         likewise
    trainA/ trainB/ [testA/ testB/]              two domains, as CycleGAN has them (Zhu et al. 2017); or pairs
    train/images/ train/masks/ [test/images/ ...], A/train/ B/train/ ...   as without the split
    smile/ neutral/                              classes, which may be pairs where all names are equal

Folders of classes may well hold the same names, numbers or those of people, so equal names take no classes
away: only where the folders' names are usual for pairs, too, or for domains.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from ..core import Refusal

MOST = 12
"""folders of images; with more these are classes"""
ALIKE = 0.9
"""share of the smaller side that has a partner, at least, in pairs"""
SPLITS = "train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval"
LEARN = SPLITS[:2]
PICTURES = {
    "image",
    "images",
    "img",
    "imgs",
    "photo",
    "photos",
    "picture",
    "pictures",
    "input",
    "inputs",
    "source",
    "src",
    "rgb",
    "lr",
    "lowres",
    "leftimg8bit",
    "jpegimages",
}
PARTNERS = {
    "mask",
    "masks",
    "label",
    "labels",
    "segmentation",
    "segmentations",
    "seg",
    "annotation",
    "annotations",
    "annot",
    "gt",
    "groundtruth",
}
PARTNERS |= {
    "target",
    "targets",
    "output",
    "outputs",
    "dst",
    "edge",
    "edges",
    "sketch",
    "sketches",
    "depth",
    "normals",
    "segmentationclass",
    "hr",
    "highres",
    "gtfine",
    "gtcoarse",
}
SOURCES = {
    *("input", "source", "src", "conditioning", "condition", "control", "original", "before", "lr", "lowres"),
    *("a", "photo", "guide"),
}
"""words in the name of a column that holds A"""
TARGETS = {
    *("target", "output", "edited", "after", "mask", "label", "gt", "truth", "hr", "highres", "b", "result"),
    *("segmentation", "annotation", "depth", "edge", "edges"),
}
ENDING = re.compile(
    r"[-_. ](mask|masks|seg|segmentation|label|labels|labelids|gt|target|input|output|image|img|a|b|lr|hr"
    r"|leftimg8bit|gt(?:fine|coarse)(?:_[a-z]+)?)$"
)


class Layout(NamedTuple):
    """Two kinds of pictures, in folders whose paths are relative and have no slash at the end."""

    kind: Literal["pairs", "domains"]
    a: tuple[str, ...]
    """folders of the first kind to learn from"""
    b: tuple[str, ...]
    test_a: tuple[str, ...]
    """folders of the first kind to be held out, where the layout has an official split"""
    test_b: tuple[str, ...]
    matched: int
    """names that are in both"""
    alone: int
    """names that are in one only"""
    known: bool
    """the folders' names are usual for it; else all file names agree, as those in classes may, too"""


class Place(NamedTuple):
    split: str
    """one of SPLITS, or nothing"""
    role: str
    """what is left of the path: one name, in small letters"""


def recognise(names: Sequence[str]) -> Layout | None:
    """What the relative paths of all images in a folder, with / between their parts, look like; None where
    they are no such thing."""
    folders = set[str]()
    for name in names:
        folders.add(name.rpartition("/")[0])
        if len(folders) > MOST:
            return None
    places = {folder: result for folder, result in zip(sorted(folders), _places(sorted(folders))) if result}
    roles = sorted({p.role for p in places.values()})
    if len(places) < len(folders) or len(roles) != 2:
        return None
    stems = _stems(names, places)
    a, b = _order(*roles)
    called, alone = stems[a] & stems[b], len(stems[a] ^ stems[b])
    alike = len(called) >= max(2, ALIKE * min(len(stems[a]), len(stems[b])))
    certain = alike and not alone and telling(called)
    letters = (a, b) == ("a", "b")
    # trainA: unpaired, and numbered alike or not
    joined = letters and any(f.lower().rpartition("/")[2] not in ("a", "b", *SPLITS) for f in places)
    known = joined or (alike and (letters or (a in PICTURES and b in PARTNERS)))
    if not (certain or known):
        return None
    paired = certain or not joined
    sides = [
        tuple(f for f, p in places.items() if p.role == role and (p.split not in SPLITS[2:]) == learn)
        for learn in (True, False)
        for role in (a, b)
    ]
    if not (sides[0] and sides[1]):
        return None
    kind: Literal["pairs", "domains"] = "pairs" if paired else "domains"
    return Layout(kind, sides[0], sides[1], sides[2], sides[3], len(called), alone, known)


def asked(names: Sequence[str], kind: Literal["pairs", "domains"], root: str) -> Layout:
    """Two folders that somebody calls pairs or domains, whatever their names are.  Raises Refusal where there
    are not two, or nothing in them is called alike."""
    folders = sorted({n.rpartition("/")[0] for n in names})
    places = {f: p for f, p in zip(folders, _places(folders)) if p}
    roles = sorted({p.role for p in places.values()})
    if len(places) < len(folders) or len(roles) != 2:
        some = ", ".join(folders[:6]) + (" ..." if len(folders) > 6 else "")
        raise Refusal(
            f"--layout {kind} is for two folders of images (A and B, with a test part of each or not), and "
            f"{root} has images in {some or 'none'}.  For domains that lie apart, name both: A --to B."
        )
    a, b = _order(*roles)
    a, b = (b, a) if b in PICTURES and a not in PICTURES else (a, b)
    stems = _stems(names, places)
    called, alone = stems[a] & stems[b], len(stems[a] ^ stems[b])
    if kind == "pairs" and len(called) < 2:
        raise Refusal(
            f"{root}: {len(called)} names are in both folders ({a}, {b}), and pairs are told by equal names; "
            "call the partners alike, or read them as --layout domains."
        )
    sides = [
        tuple(f for f, p in places.items() if p.role == role and (p.split not in SPLITS[2:]) == learn)
        for learn in (True, False)
        for role in (a, b)
    ]
    if not (sides[0] and sides[1]):
        raise Refusal(
            f"{root} has images of {a if sides[0] else b} to learn from, and none of the other side."
        )
    return Layout(kind, sides[0], sides[1], sides[2], sides[3], len(called), alone, True)


def partners(layout: Layout, names: Sequence[str]) -> list[tuple[int, int]]:
    """Indices into `names` of the pictures that belong together, the first kind first, in the order of these;
    a folder never with one of another split."""
    folders = sorted({n.rpartition("/")[0] for n in names})
    where = dict(zip(folders, _places(folders)))
    first, second = {*layout.a, *layout.test_a}, {*layout.b, *layout.test_b}
    known: dict[tuple[str, str], int] = {}
    for i, name in enumerate(names):
        folder = name.rpartition("/")[0]
        if folder in second and (place := where[folder]):
            known.setdefault((place.split, stem(name)), i)
    result: list[tuple[int, int]] = []
    for i, name in enumerate(names):
        folder = name.rpartition("/")[0]
        if folder in first and (place := where[folder]) and (place.split, stem(name)) in known:
            result.append((i, known[place.split, stem(name)]))
    return result


def _places(folders: Sequence[str]) -> list[Place | None]:
    """Of each folder; parents that all share say nothing."""
    parts = [f.split("/") for f in folders]
    shared = 0
    while (
        len(parts) > 1
        and all(len(p) > shared + 1 for p in parts)
        and len({p[shared] for p in parts}) == 1
        and parts[0][shared].lower() not in SPLITS
    ):
        shared += 1
    return [_place([p.lower() for p in path[shared:]]) for path in parts]


def _place(parts: list[str]) -> Place | None:
    splits = [p for p in parts if p in SPLITS]
    rest = [p for p in parts if p not in SPLITS]
    if len(rest) != 1 or not rest[0] or len(splits) > 1:
        return None
    joined = re.fullmatch(rf"({'|'.join(SPLITS)})[-_]?([ab])", rest[0])
    if joined and not splits:
        return Place(joined[1], joined[2])
    return Place(splits[0] if splits else "", rest[0])


def columns(names: Sequence[str]) -> tuple[str, str] | None:
    """The columns of A and of B among those of images; None where a pair cannot be told from them."""
    names = [name for name in names if role(name)] if len(names) > 2 else names
    if len(names) != 2:
        return None
    one, other = names
    swapped = role(one) == "b" or (role(other) == "a" and role(one) != "a")
    return (other, one) if swapped else (one, other)


def role(column: str) -> str:
    """Whether its name says that it holds A or B."""
    words = set(re.split(r"[^a-z0-9]+", column.lower()))
    return "a" if words & SOURCES else "b" if words & TARGETS else ""


def stem(name: str) -> str:
    """What partners have in common: without folder, ending, and words such as _mask."""
    return ENDING.sub("", name.rpartition("/")[2].rpartition(".")[0].lower())


def _stems(names: Iterable[str], places: dict[str, Place]) -> dict[str, set[str]]:
    """By role; what lies in different splits is different."""
    out: dict[str, set[str]] = {p.role: set() for p in places.values()}
    for name in names:
        place = places[name.rpartition("/")[0]]
        out[place.role].add(f"{place.split}/{stem(name)}")
    return out


def _order(one: str, other: str) -> tuple[str, str]:
    """The pictures first, then their partners."""
    return (other, one) if other in PICTURES and one in PARTNERS else (one, other)


def telling(stems: set[str]) -> bool:
    """Whether names are more than numbers: without digits at least three, and half of all, still differ."""
    return len({re.sub(r"\d+", "", s) for s in stems}) >= max(3, len(stems) / 2)
