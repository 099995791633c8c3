"""Archives of images, read where they lie: a .zip, a .tar or a Parquet file, or a folder of these and of
nothing else.

Nothing is unpacked to disk, and names of members are compared and shown, never opened: whatever they say,
none leads out of its archive. Folders inside mean what they mean outside, without those that all images
share.  In a .tar, files of one key belong together as WebDataset has it: the key of a/b.c.jpg is a/b, up to
the first dot of its last part; .txt is its caption, .cls its class, .json both.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tarfile
import zipfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from ..core import BadData, NotAllowed, Refusal
from . import unread
from .decode import Skip, kind, read_stream
from .listing import BESIDE, CAPTIONS, IMAGES, Descriptions, Listing, Words, printable
from .metadata import HELD_OUT, TRAIN

ENDINGS = (b".zip", b".tar", b".parquet")
NOTES = (b"txt", b"cls", b"json")
MOST = 20_000_000
"""members of one data set"""
MOST_NOTE = 1 << 20
"""bytes of a caption, of a class, and of a header in a .tar"""
RATIO, SMALL = 200, 1 << 20
"""a member that unpacks to more than so many times its size, and more than so many bytes, is no photograph"""
Known = Callable[[bytes], object]


class Member(NamedTuple):
    name: bytes
    size: int
    at: int
    """where it is, for the reader of its archive"""
    wrong: tuple[str, str] | None = None
    """reason and detail of what cannot be read"""


class Shard(Protocol):
    path: Path
    stamp: tuple[int, int]
    """size and time of change (ns)"""

    def members(self) -> Iterator[Member]: ...

    def read(self, at: int, size: int, known: Known | None = None) -> bytes:
        """The whole of a member, if it begins as `known` says.  Raises Skip."""
        ...


class InOrder:
    """A shard whose members are best read one after another, and which says itself what is written about
    each."""

    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        raise NotImplementedError

    def words(self) -> Iterator[Words]:
        raise NotImplementedError


@dataclass
class Packed(Listing):
    """The images in archives."""

    packed = True
    shards: Sequence[Shard] = ()
    leads: Sequence[bytes] = ()
    """of each shard, b"train/" or the like where its own name says what it is of, else nothing"""
    of: array[int] = field(default_factory=lambda: array("i"))
    """shard of each image"""
    at: array[int] = field(default_factory=lambda: array("q"))
    beside_at: list[tuple[int, int]] = field(default_factory=list)
    """shard and place of each of `captions`"""
    notes: list[tuple[int, bytes, Member]] = field(default_factory=list)
    """shard, key and member of what WebDataset has beside images"""
    cut: int = 0
    """bytes of the folders that all names share"""

    def path(self, i: int) -> bytes:
        return self.leads[self.of[i]] + super().path(i)[self.cut :]

    def read(self, i: int) -> bytes:
        return self.shards[self.of[i]].read(self.at[i], self.sizes[i], kind)

    def beside(self, k: int) -> bytes:
        shard, at = self.beside_at[k]
        return self.shards[shard].read(at, self.captions[k][1])

    def readers(self, rows: Sequence[int]) -> tuple[list[Callable[[], bytes]], int]:
        if not any(isinstance(self.shards[self.of[i]], InOrder) for i in (rows[0], rows[-1])):
            return super().readers(rows)
        held = [_held(partial(self.read, i)) for i in rows]
        return [partial(_give, blob) for blob in held], sum(
            len(blob) for blob in held if isinstance(blob, bytes)
        )

    def descriptions(self) -> Descriptions:
        out, first = Descriptions(), 0
        for shard in self.shards:
            if isinstance(shard, InOrder):
                out.rows |= {
                    first + row: words for row, words in enumerate(shard.words()) if words != Words()
                }
                out.classes, first = out.classes or shard.classes, first + len(shard)
        if self.notes:
            of_key = self._notes()
            out.rows |= {
                i: of_key[k]
                for i in range(len(self))
                if (k := (self.of[i], key(Listing.path(self, i))[0])) in of_key
            }
        return out

    def _notes(self) -> dict[tuple[int, bytes], Words]:
        texts: dict[tuple[int, bytes], Words] = {}
        order = {b"json": 0, b"txt": 1, b"cls": 1}
        for shard, of, member in sorted(self.notes, key=lambda note: order[key(note[2].name)[1]]):
            with suppress(Skip):
                words = _words(key(member.name)[1], self.shards[shard].read(member.at, member.size))
                before = texts.get((shard, of), Words())
                texts[shard, of] = Words(words.text or before.text, words.label or before.label)
        return texts

    def digest(self) -> str:
        return super().digest() + repr(
            [(str(s.path), s.stamp, lead) for s, lead in zip(self.shards, self.leads)]
        )


def _held(read: Callable[[], bytes]) -> bytes | Skip:
    try:
        return read()
    except Skip as skip:
        return skip


def _give(blob: bytes | Skip) -> bytes:
    if isinstance(blob, Skip):
        raise blob
    return blob


def key(name: bytes) -> tuple[bytes, bytes]:
    """WebDataset's key of a member, and the ending in small letters."""
    folder, slash, base = name.rpartition(b"/")
    first, _, ending = base.partition(b".")
    return folder + slash + first, ending.lower()


def _words(ending: bytes, blob: bytes) -> Words:
    """What a .txt, .cls or .json says; nothing where it says something else."""
    text = blob.decode("utf-8", "replace").strip()
    if ending == b"txt":
        return Words(text)
    if ending == b"cls":
        return Words(label=text if text.isprintable() else "")
    with suppress(ValueError, RecursionError):
        row = json.loads(text)
        if isinstance(row, dict):
            caption = next((row[k] for k in ("text", "caption") if isinstance(row.get(k), str)), "")
            label = next(
                (
                    row[k]
                    for k in ("label", "cls")
                    if isinstance(row.get(k), str | int) and not isinstance(row[k], bool)
                ),
                "",
            )
            return Words(caption.encode("utf-8", "replace").decode(), str(label))
    return Words()


# Which files are archives


def foreign(path: Path, head: bytes = b"") -> None:
    """Raises Refusal for what holds images in a way that is not read here: told by its first bytes or its
    name."""
    if advice := unread.advice(path, head):
        files = "What can be read: a folder, .zip, .tar or .parquet of image files, .npy, .npz and idx."
        raise Refusal(f"{path} {advice}.  {files}")


def format_of(path: Path) -> str:
    """zip, tar or parquet by the first bytes of a file, or nothing; a .npz is none.  Raises Refusal for a
    compressed .tar and what `foreign` knows."""
    try:
        with path.open("rb") as file:
            head = file.read(520)
    except OSError as why:
        raise NotAllowed(f"{path} may not be read by you ({why.strerror}).") from None
    foreign(path, head)
    if head[:4] == b"PAR1":
        return "parquet"
    if head[257:262] == b"ustar" or path.name.lower().endswith(".tar"):
        return "tar"
    if re.search(r"\.(tgz|tbz2?|txz|tzst|tar\.\w+)$", path.name.lower()):
        raise Refusal(
            f"{path} is a compressed .tar, in which no image can be reached without unpacking all before "
            "it; unpack it, and name the folder."
        )
    return "zip" if head[:4] in (b"PK\3\4", b"PK\5\6") and not _of_arrays(path) else ""


def _of_arrays(path: Path) -> bool:
    """Whether a zip is an .npz, by what is in it; one that cannot be opened is what it is called."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if not n.endswith("/")]
    except Exception:
        return path.suffix != ".zip"
    return all(n.endswith(".npy") for n in names) if names else path.suffix != ".zip"


def shards(listing: Listing) -> list[Path]:
    """The archives in a folder that holds no image beside them, in the order of their names.

    Raises Refusal where they are of several kinds, which may well be the same images twice.
    """
    names = sorted(name for name, why in listing.passed if why != "hidden" and name.lower().endswith(ENDINGS))
    if not names or any(_is_image(listing, i) for i in range(len(listing))):
        return []
    kinds = sorted({name.lower().rpartition(b".")[2].decode() for name in names})
    if len(kinds) > 1:
        raise Refusal(
            f"{printable(listing.root)} holds archives of several kinds ({', '.join(kinds)}); name one of "
            "these files, or a folder with one kind."
        )
    return [Path(os.fsdecode(os.path.join(listing.root, name))) for name in names]


def _is_image(listing: Listing, i: int) -> bool:
    if listing.path(i).lower().endswith(IMAGES):
        return True
    with suppress(OSError), open(os.path.join(listing.root, listing.path(i)), "rb") as file:
        return kind(file.read(32)) is not None
    return False


def _leads(root: Path, paths: Sequence[Path]) -> list[bytes]:
    """The official split that the names of shards speak of, as in train-00000-of-00004.parquet, where some
    are to learn from and some held out."""
    result = (
        [next((w for w in _names(p.relative_to(root)) if w in TRAIN + HELD_OUT), b"") for p in paths]
        if paths != [root]
        else [b""]
    )
    whole = any(w in TRAIN for w in result) and any(w in HELD_OUT for w in result)
    return [w + b"/" if w and whole else b"" for w in result]


def _names(path: Path) -> Iterator[bytes]:
    for part in (*path.parts[:-1], path.stem):
        yield from re.split(rb"[^a-z]+", os.fsencode(part.lower()))


# Listing


def pack(root: Path, paths: Sequence[Path], beside: Listing | None = None) -> Packed:
    """List the images in archives; `beside`: what else lies in their folder.

    Raises BadData for one that is damaged or encrypted, NotAllowed for one that may not be read, Refusal
    where a library is missing.
    """
    result = Packed(os.fsencode(root.resolve()), leads=_leads(root, paths))
    result.shards = [_opened(path) for path in paths]
    if beside is not None:
        inputs = {os.fsencode(p) for p in paths}
        result.odd = list(beside.odd)
        result.passed = [(n, why) for n, why in beside.passed if os.path.join(beside.root, n) not in inputs]
        result.passed += [(beside.path(i), "not an image by its first bytes") for i in range(len(beside))]
    shared: list[bytes] | None = None
    for number, shard in enumerate(result.shards):
        for member in _safely(shard):
            listed = _member(result, number, shard, member)
            if listed:
                folders = member.name.split(b"/")[:-1]
                shared = folders if shared is None else [a for a, _ in _alike(shared, folders)]
            if len(result) + len(result.odd) + len(result.passed) > MOST:
                raise BadData(f"{shard.path} holds more than {MOST:,} files; split it, or name an array.")
    result.cut = sum(len(part) + 1 for part in shared or ())
    result.captions = [(name[result.cut :], size, time) for name, size, time in result.captions]
    return result


def _alike(a: list[bytes], b: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for pair in zip(a, b):
        if pair[0] != pair[1]:
            return
        yield pair


def _opened(path: Path) -> Shard:
    what = format_of(path)
    try:
        if what == "parquet":
            from .parquet import Parquet

            return Parquet(path)
        return Zip(path) if what == "zip" else Tar(path)
    except PermissionError:
        raise NotAllowed(f"{path} may not be read by you.") from None
    except (BadData, Refusal):
        raise
    except Exception as why:  # hostile files raise everything in a reader of archives
        raise BadData(
            f"{path} cannot be read as a {what or 'archive'} ({str(why)[:200] or type(why).__name__}); make "
            "or fetch it again."
        ) from None


def _safely(shard: Shard) -> Iterator[Member]:
    """Its members with clean names; where its list breaks off, one that says so."""
    members = shard.members()
    while True:
        try:
            member = next(members)
        except StopIteration:
            return
        except Exception as why:
            yield Member(
                os.fsencode(shard.path.name),
                0,
                0,
                ("truncated", f"its list breaks off: {str(why)[:200] or type(why).__name__}"),
            )
            return
        parts = [p for p in member.name.split(b"/") if p not in (b"", b".")]
        if b".." in parts:
            member = member._replace(
                wrong=("named outside of their archive", "nothing is read from or written to such a place")
            )
        if parts:
            yield member._replace(name=b"/".join(parts))


def _member(packed: Packed, number: int, shard: Shard, member: Member) -> bool:
    """Sort one in, as listing.walk does a file; says whether its place counts."""
    name, lower = member.name, member.name.lower()
    if isinstance(shard, InOrder):
        _add(packed, number, member)
        return True
    if any(p.startswith(b".") or p == b"__MACOSX" for p in name.split(b"/") if p != b".."):
        packed.passed.append((name, "hidden"))
    elif member.wrong:
        counted = lower.endswith(IMAGES) or member.wrong[0] == "truncated"
        packed.odd.append((name, *member.wrong)) if counted else packed.passed.append(
            (name, f"{member.wrong[0]}: {member.wrong[1]}")
        )
    elif os.path.basename(lower) in CAPTIONS:
        packed.captions.append((name, member.size, shard.stamp[1]))
        packed.beside_at.append((number, member.at))
        return True
    elif isinstance(shard, Tar) and key(name)[1] in NOTES and member.size <= MOST_NOTE:
        packed.notes.append((number, key(name)[0], member))
    elif lower.endswith(BESIDE):
        packed.passed.append((name, "not an image by its ending"))
    else:
        _add(packed, number, member)
        return True
    return False


def _add(packed: Packed, number: int, member: Member) -> None:
    packed.add(member.name, member.size, packed.shards[number].stamp[1])
    packed.of.append(number)
    packed.at.append(member.at)


# The formats


def stamp(file: IO[bytes]) -> tuple[int, int]:
    now = os.fstat(file.fileno())
    return now.st_size, now.st_mtime_ns


def unchanged(file: IO[bytes], listed: tuple[int, int]) -> None:
    if stamp(file) != listed:
        raise Skip(
            "changed meanwhile", "the archive is not as it was when it was listed; run the command again"
        )


class Tar:
    """A .tar that is not compressed, so that each member lies at a place of its own."""

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            self.stamp = stamp(file)
            # raises where it is none
            tarfile.open(fileobj=_Careful(file.fileno(), closefd=False), mode="r:").close()

    def members(self) -> Iterator[Member]:
        with _Careful(self.path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
                name = info.name.encode("utf-8", "surrogateescape")
                if info.isreg() and not info.issparse():
                    yield Member(name, info.size, info.offset_data)
                elif not info.isdir():
                    what = "links in archives" if info.issym() or info.islnk() else "not regular files"
                    yield Member(name, 0, 0, (what, f"type {info.type!r} of member"))
            file.seek(tar.offset)
            if file.read(512).strip(b"\0"):
                raise tarfile.ReadError("a header is damaged")

    def read(self, at: int, size: int, known: Known | None = None) -> bytes:
        try:
            with self.path.open("rb", buffering=0) as file:
                unchanged(file, self.stamp)
                file.seek(at)
                return read_stream(file, size, known)
        except OSError as why:
            raise Skip("unreadable", why.strerror or str(why)) from None


class _Careful(io.FileIO):
    """A file of which no header makes anyone read more than a little at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MOST_NOTE:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return super().read(size)


class Zip:
    """A .zip, whose list stays in memory and whose members do not."""

    def __init__(self, path: Path):
        self.path, self.file = path, path.open("rb")
        self.stamp, self.archive = stamp(self.file), zipfile.ZipFile(self.file)
        self.infos = self.archive.infolist()
        images = [i for i in self.infos if os.fsencode(i.filename.lower()).endswith(IMAGES)]
        if images and all(i.flag_bits & 1 for i in images):
            raise BadData(
                f"{path} is encrypted, and no password is asked for here; unpack it with yours, and name "
                "the folder."
            )

    def members(self) -> Iterator[Member]:
        for at, info in enumerate(self.infos):
            name, mode = (
                info.filename.replace("\\", "/").encode("utf-8", "surrogateescape"),
                stat.S_IFMT(info.external_attr >> 16),
            )
            wrong = None
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                wrong = "encrypted", "unpack the archive with its password"
            elif mode not in (0, stat.S_IFREG):
                wrong = (
                    "links in archives" if mode == stat.S_IFLNK else "not regular files",
                    ("member of another type"),
                )
            elif info.file_size > max(SMALL, RATIO * info.compress_size):
                wrong = "too large", f"unpacks from {info.compress_size:,} to {info.file_size:,} bytes"
            yield Member(name, info.file_size, at, wrong)

    def read(self, at: int, size: int, known: Known | None = None) -> bytes:
        unchanged(self.file, self.stamp)
        try:
            with self.archive.open(self.infos[at]) as file:
                return read_stream(file, size, known)
        except Skip:
            raise
        except NotImplementedError as why:
            raise Skip("packed in an unknown way", str(why)) from None
        except Exception as why:  # as above
            raise Skip(
                "truncated" if isinstance(why, EOFError) else "damaged",
                f"{type(why).__name__}: {str(why)[:200]}",
            ) from None
