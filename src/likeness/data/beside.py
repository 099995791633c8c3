"""Folders and archives that hold two sides: which files are A and which are B, and the images of both.

    images/ masks/, A/ B/, trainA/ trainB/ ...   by the names of folders (pairs.py); equal names are a pair
    two columns of images in Parquet files       a pair each row
    metadata.jsonl, metadata.csv                 two columns that name files: a pair each line
    --layout side-by-side                        both in one file, twice as wide as high: A is the left half
    DATA --to OTHER --layout pairs               equal names in two folders

Each side is decoded into a cache entry of its own, with the channels that it has.  A pair of which a file
cannot be read is left out of both.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..core import Refusal
from ..storage.cache import Progress
from . import folder, label_maps, metadata, pairs, ranges, seams, verdict
from .archive import InOrder, Packed
from .cache import Entry
from .dataset import Images, Reading
from .decode import Decoded, Scale, Skip, decoded
from .listing import IMAGES, Descriptions, Listing, Words, printable
from .pixels import fit
from .ranges import Values

SHOWN = 3
"""names in a sentence"""
Kind = Literal["pairs", "domains"]
Row = dict[str, str]


class Chosen(Listing):
    """Some files of a listing, in an order of their own; one of them may come twice."""

    def __init__(self, base: Listing, rows: Sequence[int], name: str = ""):
        """name: of the folder that they lie in, for sentences"""
        super().__init__(os.path.join(base.root, name.encode()) if name else base.root)
        self.base, self.rows, self.packed = base, list(rows), base.packed

    def __len__(self) -> int:
        return len(self.rows)

    def path(self, i: int) -> bytes:
        return self.base.path(self.rows[i])

    def read(self, i: int) -> bytes:
        return self.base.read(self.rows[i])

    def readers(self, rows: Sequence[int]) -> tuple[list[Callable[[], bytes]], int]:
        if in_order(self.base):
            return self.base.readers([self.rows[i] for i in rows])
        return super().readers(rows)

    def digest(self) -> str:
        h = hashlib.blake2b(repr(self.base.root).encode(), digest_size=16)
        h.update(self.base.digest().encode() if self.base.packed else b"")
        for i in self.rows:
            h.update(repr((self.base.path(i), self.base.sizes[i], self.base.times[i])).encode())
        return h.hexdigest()

    def of(self, rows: Sequence[int]) -> Chosen:
        out = Chosen(self.base, [self.rows[i] for i in rows])
        out.root = self.root
        return out


@dataclass
class Plan:
    """Which files are what.  Of pairs, the rows of both sides belong together."""

    kind: Kind
    a: Chosen
    b: Chosen
    test_a: np.ndarray | None = None
    """bool: of the official split"""
    test_b: np.ndarray | None = None
    words: Sequence[Words] | None = None
    """what is written about each image of B"""
    halves: bool = False
    """both sides are halves of one file"""
    notes: list[str] = field(default_factory=list)

    def of(self, rows: np.ndarray) -> Plan:
        """Some of the pairs."""
        some = rows.tolist()
        test_a, test_b = (None if test is None else test[rows] for test in (self.test_a, self.test_b))
        words = None if self.words is None else [self.words[i] for i in some]
        sides = self.a.of(some), self.b.of(some)
        return Plan(self.kind, *sides, test_a, test_b, words, self.halves, list(self.notes))

    @property
    def swapped(self) -> Plan:
        """With A and B exchanged; halves stay what they are, and their images are exchanged."""
        return replace(self, a=self.b, b=self.a, test_a=self.test_b, test_b=self.test_a)


# Which files are what


def plan(listing: Listing, reading: Reading, about: int) -> Plan | None:
    """By what the reading asks for, or by names; None where the images are one set.  Raises Refusal where
    there is no such thing as was asked for."""
    if reading.layout in ("classes", "together"):
        return None
    if in_order(listing):
        return _of_table(listing, reading.layout, about) if about > folder.LANCZOS else None
    if reading.layout == "side-by-side":
        return halves(listing, about)
    columns = None if reading.layout == "domains" else _by_columns(listing)
    if columns is not None:
        return columns
    return _by_folders(listing, reading.layout, about)


def in_order(listing: Listing) -> bool:
    return isinstance(listing, Packed) and any(isinstance(shard, InOrder) for shard in listing.shards)


def _of_table(listing: Listing, layout: str, about: int) -> Plan | None:
    """Pairs by two columns of images in Parquet files; None where they have not two, or their names do not
    tell and nobody calls them pairs."""
    assert isinstance(listing, Packed)
    names = {tuple(getattr(shard, "images", ())) for shard in listing.shards}
    order = pairs.columns(names.pop()) if len(names) == 1 else None
    if order is None or layout not in ("auto", "pairs"):
        return None
    if layout == "auto" and not any(map(pairs.role, order)):
        return None
    rows = range(len(listing))
    sides = [replace(listing, shards=[shard.of_column(name) for shard in listing.shards]) for name in order]  # type: ignore[attr-defined]
    a, b = (Chosen(side, rows, name) for side, name in zip(sides, order))
    known = metadata.descriptions(listing, about)
    words = [known.of(listing, i) for i in rows] if known.paths or known.rows else None
    test = metadata.sort_out(listing, rows).test if rows else None
    out = Plan("pairs", a, b, test, test, words)
    out.notes.append(f"two columns of images: {order[0]} is the source, {order[1]} the target")
    return out


def _images(listing: Listing) -> list[int]:
    """Rows that are images by their ending, or have none."""
    return [i for i in range(len(listing)) if listing.path(i).lower().endswith(IMAGES)]


def _by_folders(listing: Listing, layout: str, about: int) -> Plan | None:
    if layout == "auto" and (_too_many(listing) or _declared(listing, about)):
        return None
    rows = _images(listing)
    names = [printable(listing.path(i)) for i in rows]
    inside = [k for k, name in enumerate(names) if "/" in name]
    loose = [names[k] for k in range(len(names)) if "/" not in names[k]]
    rows, names = [rows[k] for k in inside], [names[k] for k in inside]
    if layout == "auto":
        result = pairs.recognise(names)
        if result is None or not result.known:
            return None
    else:
        result = pairs.asked(names, "pairs" if layout == "pairs" else "domains", printable(listing.root))
    out = _of_layout(listing, rows, names, result)
    if loose:
        many = "1 image lies" if len(loose) == 1 else f"{len(loose):,} images lie"
        out.notes.append(f"{many} in neither folder, and nothing is made of that: {_some(loose)}")
    return out


def _too_many(listing: Listing) -> bool:
    """More folders than pairs ever have; no name is decoded for that."""
    folders = set[bytes]()
    for i in range(len(listing)):
        folders.add(listing.path(i).rpartition(b"/")[0])
        if len(folders) > pairs.MOST + 1:
            return True
    return len(folders) < 2


def _declared(listing: Listing, about: int) -> bool:
    """Whether somebody has written down classes of these images, which then are what they are."""
    if not listing.captions:
        return False
    known = metadata.descriptions(listing, about)
    words = [known.of(listing, i) for i in range(len(listing))]
    return metadata.labelled(words, known.classes) is not None


def _of_layout(listing: Listing, rows: list[int], names: list[str], layout: pairs.Layout) -> Plan:
    folders = [name.rpartition("/")[0] for name in names]
    name_a, name_b = (one[0] if len(one) == 1 else "" for one in (layout.a, layout.b))
    if layout.kind == "pairs":
        both = pairs.partners(layout, names)
        at_a, at_b = ([rows[pair[side]] for pair in both] for side in (0, 1))
        test = np.array([folders[i] in layout.test_a for i, _ in both], np.bool_)
        tests = test if test.any() else None
        out = Plan("pairs", Chosen(listing, at_a, name_a), Chosen(listing, at_b, name_b), tests, tests)
        alone = sorted(set(range(len(names))) - {i for pair in both for i in pair})
        out.notes += _alone([names[i] for i in alone])
        return out
    sides = []
    for learn, held in ((layout.a, layout.test_a), (layout.b, layout.test_b)):
        own = [i for i in range(len(names)) if folders[i] in learn or folders[i] in held]
        test = np.array([folders[i] in held for i in own], np.bool_)
        sides.append(([rows[i] for i in own], test if test.any() and not test.all() else None))
    (at_a, test_a), (at_b, test_b) = sides
    return Plan("domains", Chosen(listing, at_a, name_a), Chosen(listing, at_b, name_b), test_a, test_b)


def _alone(names: list[str]) -> list[str]:
    if not names:
        return []
    one = len(names) == 1
    many = "1 image without a partner is" if one else f"{len(names):,} images without a partner are"
    return [f"{many} left out: {_some(names)}"]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def halves(listing: Listing, about: int) -> Plan:
    """Both sides of each pair in one file."""
    rows = _images(listing)
    known = metadata.descriptions(listing, about) if listing.captions else Descriptions()
    words = [known.of(listing, i) for i in rows] if known.paths or known.rows else None
    test = metadata.sort_out(listing, rows).test if rows else None
    a, b = Chosen(listing, rows), Chosen(listing, rows)
    return Plan("pairs", a, b, test, test, words, True)


def of_two(a: Listing, b: Listing) -> Plan:
    """Pairs of equal names in two folders.  Raises Refusal where there are none."""
    known: dict[str, int] = {}
    for i in _images(b):
        known.setdefault(pairs.stem(printable(b.path(i))), i)
    both = [(i, known[stem]) for i in _images(a) if (stem := pairs.stem(printable(a.path(i)))) in known]
    if len(both) < 2:
        raise Refusal(
            f"{printable(a.root)} and {printable(b.root)} hold {len(both)} pictures of equal names, and "
            "pairs are told by these; call the partners alike, or leave --layout pairs out: two domains."
        )
    out = Plan("pairs", Chosen(a, [i for i, _ in both]), Chosen(b, [j for _, j in both]))
    used_a, used_b = {i for i, _ in both}, {j for _, j in both}
    alone = [printable(a.path(i)) for i in _images(a) if i not in used_a]
    alone += [printable(b.path(i)) for i in _images(b) if i not in used_b]
    out.notes += _alone(alone)
    return out


def one_sided(listing: Listing) -> str:
    """What to say of a folder that has but one of trainA and trainB; nothing of any other."""
    tops = set[str]()
    for i in range(len(listing)):
        tops.add(printable(listing.path(i).partition(b"/")[0]))
        if len(tops) > 4:
            return ""
    sides = {m[2] for top in tops if (m := re.fullmatch(r"(train|test)[-_]?([AB])", top))}
    if len(sides) != 1 or not all(re.fullmatch(r"(train|test)[-_]?[AB]", top) for top in tops):
        return ""
    here = sides.pop()
    empty = "B" if here == "A" else "A"
    return f"; this is domain {here} alone, and there is no image of domain {empty} (train{empty}/)"


# Two columns of a metadata file


def _by_columns(listing: Listing) -> Plan | None:
    """Pairs by metadata files each line of which names two images; None where no file has such columns."""
    rows = {listing.path(i): i for i in range(len(listing))} if listing.captions else {}
    at_a, at_b, words, strange, told = list[int](), list[int](), list[Words](), list[str](), ""
    for k, (path, size, _) in enumerate(listing.captions):
        table = _table(listing, k) if size else []
        inside = os.fsdecode(posixpath.dirname(path))
        names = _columns(table, inside, rows)
        if names is None:
            continue
        told = f"{printable(path)}: {names[0]} is the source, {names[1]} the target"
        for row in table:
            i, j = (rows.get(_place(inside, row.get(name, ""))) for name in names)
            if i is None or j is None:
                strange.append(row.get(names[0] if i is None else names[1], ""))
                continue
            at_a.append(i)
            at_b.append(j)
            words.append(Words(row.get("text", ""), row.get("label", "")))
    if not at_a:
        return None
    b = Chosen(listing, at_b)
    test = metadata.sort_out(b, range(len(b))).test
    out = Plan("pairs", Chosen(listing, at_a), b, test, test, words if any(map(any, words)) else None)
    out.notes.append(told)
    if strange:
        safe = [printable(os.fsencode(name)) for name in strange]
        out.notes.append(f"{len(strange):,} lines name no image here and are left out: {_some(safe)}")
    alone = sorted(set(_images(listing)) - {*at_a, *at_b})
    out.notes += _alone([printable(listing.path(i)) for i in alone])
    return out


def _place(inside: str, name: str) -> bytes:
    with suppress(UnicodeError):
        return os.fsencode(posixpath.normpath(posixpath.join(inside, name)))
    return b""


def _table(listing: Listing, k: int) -> list[Row]:
    """The lines of metadata file k whose cells are text or numbers; nothing of one that is no table: what is
    wrong with it is for metadata.descriptions to say."""
    with suppress(Skip, ValueError, csv.Error, RecursionError):
        text = listing.beside(k).decode("utf-8-sig")
        if listing.captions[k][0].lower().endswith(b".csv"):
            by = metadata.delimiter(text)
            table = csv.DictReader(io.StringIO(text, newline=""), delimiter=by)
            return [{str(n).strip(): v for n, v in row.items() if isinstance(v, str)} for row in table]
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        if all(isinstance(line, dict) for line in lines):
            return [
                {n: _text(v) for n, v in line.items() if isinstance(v, str | int | float)} for line in lines
            ]
    return []


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _columns(table: list[Row], inside: str, rows: dict[bytes, int]) -> tuple[str, str] | None:
    """The columns of A and of B, where there are two in which nearly every cell names an image."""
    if not table:
        return None
    few = table[:100]
    names = [
        name
        for name in table[0]
        if sum(_place(inside, row.get(name, "")) in rows for row in few) > len(few) / 2
    ]
    if len(names) < 2:
        return None
    order = pairs.columns(names)
    if order is None:
        raise Refusal(
            f"the metadata have {len(names)} columns that name images ({', '.join(names)}), and a pair has "
            "two; leave two of them, such as file_name and target_file_name."
        )
    return order


# One of them


def target(listing: Listing, reading: Reading) -> tuple[Listing, Scale]:
    """Of files that are looked at as a run looked at its own: side B of pairs or of two domains, and how
    they are brought to their size.  All of them where the run had one set, or these are no such thing."""
    whole: tuple[Listing, Scale] = listing, fit
    if reading.layout not in ("pairs", "domains", "side-by-side") or reading.task or reading.to:
        return whole
    if reading.layout == "side-by-side" and not _twice_as_wide(listing):
        return whole
    with suppress(Refusal):
        of = plan(listing, reading, folder.ABOUT)
        if of is not None:
            of = of.swapped if reading.swap and not of.halves else of
            halves: tuple[Scale, Scale] = (_right, _left)
            k = int(reading.swap)
            part = partial(_whole_half, 1 - k) if of.halves else None
            maps = of.kind == "pairs" and label_maps.there(of.b, range(len(of.b)), Reading(size=8), part)
            if of.halves:
                return of.b, partial(_nearest_half, 1 - k) if maps else halves[k]
            return of.b, label_maps.nearest if maps else fit
    return whole


def _twice_as_wide(listing: Listing) -> bool:
    rows = _images(listing)[:1]
    found = [decoded(partial(listing.read, i), Reading(size=8), partial(_whole_half, 0)) for i in rows]
    return bool(found) and isinstance(found[0], Decoded)


# Their images


def read(
    plan: Plan, reading: Reading, base: Path, progress: Progress | None, about: int = folder.ABOUT
) -> tuple[Images, Images]:
    """The images of both sides; of pairs row for row.  about: as folder.read() has it.  Raises BadData
    where too few of a side can be used, Refusal where photos of one pair are not cut alike."""
    reading = replace(reading, size=reading.size or folder.SIZE)
    if plan.halves and reading.tiles:
        raise Refusal("--tiles cuts photos, and each file here holds two squares; leave one of the two out.")

    how: list[tuple[Scale, str]] = [(fit, "A"), (fit, "B")]
    if plan.halves:
        how = [(_left, "left"), (_right, "right")]
    if plan.kind == "pairs" and about > folder.LANCZOS:
        how = _of_label_maps(plan, reading, how)

    def decode(plan: Plan) -> tuple[Entry, Entry]:
        a, b = (
            folder.pixels(side, reading, base, progress, *one) for side, one in zip((plan.a, plan.b), how)
        )
        return a, b

    entries = decode(plan)
    lost = _lost(plan, entries)
    if plan.kind == "domains":
        a, b = (_side(plan, k, entry, reading, lost[k]) for k, entry in enumerate(entries))
        return a, b
    good = np.intersect1d(_rows(entries[0]), _rows(entries[1]))
    if len(good) < len(plan.b):
        whole, plan = plan, plan.of(good)
        plan.notes.append(_left_out(len(whole.b) - len(good), [*lost[0], *lost[1]]))
        entries = decode(plan)
    if not np.array_equal(_rows(entries[0]), _rows(entries[1])):
        raise Refusal(
            "--tiles cuts both photos of a pair alike, and these are not of one size; make them so, or leave "
            "--tiles out."
        )
    a, b = (_side(plan, k, entry, reading, lost[k]) for k, entry in enumerate(entries))
    return a, linked(a, b)


def _of_label_maps(plan: Plan, reading: Reading, how: list[tuple[Scale, str]]) -> list[tuple[Scale, str]]:
    """How each side is scaled, and its name in the cache; of label maps by the nearest neighbour, which is
    noted in the plan."""
    out = []
    for k, (side, (scale, name)) in enumerate(zip((plan.a, plan.b), how)):
        part = partial(_whole_half, k) if plan.halves else None
        if reading.tiles or not label_maps.there(side, range(len(side)), reading, part):
            out.append((scale, name))
            continue
        scale = partial(_nearest_half, k) if plan.halves else label_maps.nearest
        out.append((scale, f"{name}-labels"))
        plan.notes.append(
            f"side {'AB'[k]} is label maps: scaled by the nearest neighbour, so no values in between arise"
        )
    return out


def _whole_half(k: int, image: Image.Image, size: int) -> Image.Image:
    return _half(image, k)


def _nearest_half(k: int, image: Image.Image, size: int) -> Image.Image:
    return label_maps.nearest(_half(image, k), size)


def _rows(entry: Entry) -> np.ndarray:
    return np.array(entry.array("rows.i64", np.int64))


def _lost(plan: Plan, entries: Sequence[Entry]) -> list[list[tuple[str, str, str]]]:
    """Reason, detail and name of each file that cannot be used, by side."""
    out = [verdict.read_rows(entry.folder / verdict.FAILED) for entry in entries]
    return [out[0], []] if plan.halves else out


def _left_out(count: int, lost: Sequence[tuple[str, str, str]]) -> str:
    many = f"{count:,} pairs are" if count > 1 else "1 pair is"
    return f"{many} left out, since one side cannot be used: " + _some([f"{n} ({why})" for why, _, n in lost])


def _side(plan: Plan, k: int, entry: Entry, reading: Reading, lost: Sequence[tuple[str, str, str]]) -> Images:
    """Side k, 0 for A and 1 for B."""
    rows, test = _rows(entry), (plan.test_a, plan.test_b)[k]
    test = None if test is None else test[rows]
    written = plan.words if k else None
    words = None if written is None else [written[i] for i in rows]
    y, classes = (words and metadata.labelled(words, (), test)) or (None, ())
    texts = [w.text for w in words] if words and any(w.text for w in words) else None
    reasons = dict(Counter(why for why, _, _ in lost))
    full_list = str(entry.folder / verdict.FAILED) if plan.kind == "domains" and lost else ""
    text = _verdict(plan, k, rows, entry, test, reasons, reading)
    text += f"; {sum(t != '' for t in texts):,} have captions" if texts else ""
    return Images(
        entry.x,
        entry.hashes,
        text + (f" -> {full_list}" if full_list else ""),
        entry.meta["levels"],
        y,
        classes,
        texts,
        names=folder.names(entry),
        test=test,
        keys=entry.keys,
        entry=entry,
        skipped=reasons,
        full_list=full_list,
        whole=rows if reading.tiles else None,
    )


def _verdict(
    plan: Plan,
    k: int,
    rows: np.ndarray,
    entry: Entry,
    test: np.ndarray | None,
    reasons: dict[str, int],
    reading: Reading,
) -> str:
    """What is said of pairs, or of one of two domains."""
    meta, used, skipped = entry.meta, len(np.unique(rows)), sum(reasons.values())
    if plan.kind == "pairs":
        line = f"{used:,} pairs"
    else:
        why = ", ".join(f"{n:,} {reason}" for reason, n in reasons.items())
        line = f"{used + skipped:,} images: {used:,} used, {skipped:,} skipped{why and f' ({why})'}"
    line += folder.tiled(len(rows), reading) if reading.tiles else ""
    done = ", ".join(f"{n:,} {what}" for what, n in sorted(meta["converted"].items(), key=lambda x: -x[1]))
    line += f" ({done})" if done else ""
    line += f"; the {int(test.sum()):,} of the official test split are held out" if test is not None else ""
    line += verdict.GREY if meta.get("grey") and plan.kind == "domains" else ""
    line += ranges.remarks(Values(**values) for values in meta["values"])
    return line + "".join(f"; {note}" for note in plan.notes if k)


def _left(image: Image.Image, size: int) -> Image.Image:
    return fit(_half(image, 0), size)


def _right(image: Image.Image, size: int) -> Image.Image:
    return fit(_half(image, 1), size)


def _half(image: Image.Image, k: int) -> Image.Image:
    """The left or the right square.  Raises Skip for a picture of another shape."""
    w, h = image.size
    if abs(w - 2 * h) > 2:  # a JPEG that is decoded at a fraction of its size may be one off
        raise Skip("no two squares", f"{w}x{h} is not twice as wide as high")
    return image.crop((0, 0, w // 2, h) if k == 0 else (w - w // 2, 0, w, h))


def side_by_side(listing: Listing, images: Images, reading: Reading) -> bool:
    """Whether every file is exactly twice as wide as high, nothing says that there are classes, and most
    files look like two pictures: a panorama is as wide."""
    if images.entry is None or images.y is not None or not (images.entry.folder / "sizes.i32").exists():
        return False
    sizes = images.entry.array("sizes.i32", np.int32, (-1, 2))
    return bool(len(sizes) > 1 and (sizes[:, 0] == 2 * sizes[:, 1]).all()) and seams.most(
        listing, _rows(images.entry), reading
    )


# Copies


def linked(a: Images, b: Images) -> Images:
    """B, split by what each pair was made from, and so that no side of a pair is on both sides."""
    keys = (one.hashes if one.keys is None else one.keys for one in (a, b))
    return replace(b, copies=together(a, b), keys=both(*keys))


def together(a: Images, b: Images) -> np.ndarray:
    """uint64 (N,): equal for pairs that share an image of A or of B, or are linked by such; what the split is
    made by, so that no held-out pair has a side in common with a training pair.

    A side of a single colour, such as the mask of nothing, is shared by pairs that have nothing to do with
    each other, and links none.
    """
    sides = [_numbers(one) for one in (a, b)]
    label = np.arange(len(b.hashes))
    while True:
        before = label
        for side in sides:
            lowest = np.full(int(side.max()) + 1, len(label), np.int64)
            np.minimum.at(lowest, side, label)
            label = lowest[side]
        if np.array_equal(label, before):
            break
    out = np.full(len(label), 2**64 - 1, np.uint64)
    np.minimum.at(out, label, both(a.hashes, b.hashes))
    return out[label]


def both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """uint64 (N,): a digest of each pair of digests."""
    mixed: np.ndarray = (a * np.uint64(0x9E3779B97F4A7C15)) ^ b  # modulo 2**64
    return mixed


def _numbers(images: Images) -> np.ndarray:
    """int64 (N,): equal for equal images, but for those of a single colour."""
    hashes, first, inverse, counts = np.unique(
        images.hashes, return_index=True, return_inverse=True, return_counts=True
    )
    out = inverse.astype(np.int64)
    for k in np.flatnonzero(counts > 1):
        one = images.x[first[k]]
        if (one.max((1, 2)) == one.min((1, 2))).all():
            rows = np.flatnonzero(inverse == k)
            out[rows] = len(hashes) + rows
    return out
