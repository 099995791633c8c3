"""The files of the named sets: where each comes from, and exactly what it must be.

A file is looked for under LIKENESS_DATA, then among earlier downloads, then fetched once, over https, into
the cache.  Whichever way it came, its bytes are compared with the table.  For idx files the table holds the
digest of the unpacked content, because the same content goes around plain, as .gz and as .xz.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import lzma
import os
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..core import BadData, NotAllowed, Offline
from ..storage.cache import Progress, where
from ..storage.partial import partial


@dataclass(frozen=True)
class Locked:
    name: str
    url: str
    fetched: int
    """bytes of the download"""
    bytes: int
    """bytes of the content that is compared: unpacked, except of a .tar.gz"""
    digest: str
    """sha256 of those bytes"""


_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_FASHION = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"


def _idx(base: str, *rows: tuple[str, int, int, str]) -> tuple[Locked, ...]:
    return tuple(
        Locked(name, f"{base}{name}.gz", fetched, size, digest) for name, fetched, size, digest in rows
    )


FILES: dict[str, tuple[Locked, ...]] = {
    "mnist": _idx(
        _MNIST,
        (
            "train-images-idx3-ubyte",
            9912422,
            47040016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "train-labels-idx1-ubyte",
            28881,
            60008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        (
            "t10k-images-idx3-ubyte",
            1648877,
            7840016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "t10k-labels-idx1-ubyte",
            4542,
            10008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": _idx(
        _FASHION,
        (
            "train-images-idx3-ubyte",
            26421880,
            47040016,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        (
            "train-labels-idx1-ubyte",
            29515,
            60008,
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        (
            "t10k-images-idx3-ubyte",
            4422102,
            7840016,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        (
            "t10k-labels-idx1-ubyte",
            5148,
            10008,
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    "cifar10": (
        Locked(
            "cifar-10-binary.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            *(170052171, 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
        ),
    ),
}
BATCHES = {
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
}
"""sha1 of the files inside the archive of CIFAR-10, as other projects publish them"""
LABELS, TEST_SHEET = "labels_51000.u8", "test_00.webp"
SHEETS = {
    "labels_51000.u8": "d0114f567637ddfb56ec887627543d3a898c4167ce8628fa3d253669de666b32",
    "test_00.webp": "5396149c0adced1861297092270a1e83f65fc531a5c2eb815ceb0161ba1a17eb",
    "train_00.webp": "981d05b23335110a817af882ad5d560a185e107b6ffe5d981470aa694d3ce359",
    "train_01.webp": "712abf567d025fe7e710b0b02660b81e4cb0dc66611da330fff43c9241d844ec",
    "train_02.webp": "eeb508a552ff7153504f5b85ffb0d2671f4ab72284bdf74520bcbe426539c0fb",
    "train_03.webp": "78fba725ab11e1d83015e1e6452017f4ee63f20c76b2568a54b78dc6dede1657",
    "train_04.webp": "2b29211f15c24292aede1ef54fc82a194594f89cad263cf13e3923d36723cf05",
    "train_05.webp": "cd988e66581aaa15c40268807f0dbdf689962970b99e4061abd6d438dbeb7520",
    "train_06.webp": "592bf2107ff088e92dc2c77f138637e93da61653e662da6f114722d1494feb06",
    "train_07.webp": "71daa942e7f502d80e81b63c1fe84ccf1ce2e3876ab5b594e6a33706cf44f25c",
    "train_08.webp": "36bc352d9bd321b6600d66ed99e5e98453798f7ba600f46be098bcee02445ede",
    "train_09.webp": "974069a377c966498122af8d662dc1efecf19d7bf3baff9bb1504af3ce19ab84",
    "train_10.webp": "fb77777e1c2af590954d34855cd7d34a5a9404e84370032426657e113b82a558",
    "train_11.webp": "e52174398ea267315412112afda2b277e468db7d7d97f99b83f23fe0a76fc6d8",
    "train_12.webp": "a112e0ec55f79f1c08f71da74721db1612fa5d3bd40517deaa47cb9d7500996e",
    "train_13.webp": "94ffcd981977c7f4e1122c871c643cf3e3fb265d9d45b90dddb5f1b29bc9b1c4",
    "train_14.webp": "ecb4eacd46fe4a2f6458174db8bcd149b1517db83237aee25227aba48b60334b",
    "train_15.webp": "3c224da3620207b7d63e5145b5eec1c6456037946fb05a713687dadff0027327",
    "train_16.webp": "912aa545a540196f25ef135940cb39ad8269b9cedbe2b1eebd0447637a2441fc",
    "train_17.webp": "76ac11d439ce453502ee756459e4dbc0e76df249b8195abb6f916549913a7a70",
    "train_18.webp": "09cbd8471e789c09f092261ff538ca1f5086efc5c75a05477ae123fc807c20cc",
    "train_19.webp": "7981fcaefb7ffc6d8c66f67cb84d5292abe0d61f57f81d4228f3c18fc7995602",
    "train_40.webp": "571a40af5bcbad0f69cffbce33c36dcf3de46ca93803afa47bd90486543367e5",
    "train_41.webp": "c2fb87a94856ba7af6c34d5567af41d0b04706c391df513c46d10cfe94a31402",
    "train_42.webp": "168934d95f0bfd04a6759f56ebe59d530f63043a79380ad9c8acd4cb27ca1b5c",
    "train_43.webp": "fd4a18a04955133a100163b2e27225f0043f3f0905fbf440b51a8056e98bb2d1",
    "train_44.webp": "6bdbc33f1fb36306356654a270cd5c9a2fae34eeba663bbf5ec5417fb912e3e5",
    "train_45.webp": "d56db48779fcf418aa2f252ae0bf30eb8b458e73484d64b297768919a541f6cf",
    "train_46.webp": "141e002f7a3be17af7f91fd939c84c48deb9cd263257d3fcf812b934c0ebd7e8",
    "train_47.webp": "5cda150be7049917ff23797dc655dbd2eb2b80911b65a506b07e130ee2e72132",
    "train_48.webp": "d63b52fa3c8fc1d270a0fb7d16b8ab3a390119f6479d814bac0e037e0a5f5fa4",
    "train_49.webp": "ec338f02be23886085c0987cef1799dd52d1888908e0205024346accaa35d377",
}
"""sha256 of lossless contact sheets of 25 x 40 images of CIFAR-10, and of the labels of all sheets"""
FOLDERS = {
    "mnist": ("mnist", "MNIST/raw", "MNIST"),
    "fashion-mnist": ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "FashionMNIST"),
    "cifar10": ("cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "CIFAR10", "."),
}
"""where people keep each set, below LIKENESS_DATA"""
LICENCES = {
    "mnist": "none stated by its authors (LeCun, Cortes & Burges)",
    "fashion-mnist": "MIT (Zalando SE)",
    "cifar10": "none stated; its authors ask to cite Krizhevsky 2009",
}


def places(name: str) -> Iterator[Path]:
    """Folders that exist in which the user may keep the set."""
    if home := os.environ.get("LIKENESS_DATA"):
        yield from (
            p for p in (Path(os.path.expanduser(home)) / f for f in FOLDERS[name]) if os.path.isdir(p)
        )


def lookup(name: str, file: str) -> Path | None:
    """The user's own copy of a file, plain or compressed."""
    names = [f + end for f in (file, file.replace("-idx", ".idx")) for end in ("", ".gz", ".xz")]
    return next((p / n for p in places(name) for n in names if (p / n).is_file()), None)


def complete(name: str) -> bool:
    """Whether nothing would have to be downloaded."""
    return all(lookup(name, f.name) or downloaded(where(), name, f).is_file() for f in FILES[name]) or (
        name == "cifar10" and bool(batches() or sheets())
    )


def downloaded(base: Path, name: str, locked: Locked) -> Path:
    return base / "downloads" / name / locked.url.rsplit("/", 1)[-1]


def batches() -> list[Path]:
    """The user's copies of the six files that the archive of CIFAR-10 holds, or none."""
    return next(
        (
            files
            for files in ([p / n for n in BATCHES] for p in places("cifar10"))
            if all(f.is_file() for f in files)
        ),
        [],
    )


def sheets() -> list[Path]:
    """The user's contact sheets of CIFAR-10 in the order of their names, and their labels; or none."""
    result = ([*sorted(p.glob("train_*.webp")), p / TEST_SHEET, p / LABELS] for p in places("cifar10"))
    return next((files for files in result if len(files) > 2 and all(f.is_file() for f in files)), [])


def verified(name: str, path: Path, kind: str, digest: str) -> bytes:
    """The bytes of one of the user's files.  Raises BadData where they are others than the table says."""
    try:
        blob = path.read_bytes()
    except OSError as why:
        raise BadData(f"{path} cannot be read ({why.strerror}); put a good copy in its place.") from None
    if hashlib.new(kind, blob, usedforsecurity=False).hexdigest() != digest:
        raise BadData(_other(name, path, kind, digest))
    return blob


def _other(name: str, path: Path, kind: str, digest: str) -> str:
    return (
        f"{path} is not the file that {name} is made of: its {kind} should be {digest}; delete it, or put a "
        "good copy in its place."
    )


def content(name: str, locked: Locked, base: Path, progress: Progress | None = None) -> bytes:
    """The verified content of a file.  Raises BadData for another content, Offline where there is neither
    file nor network."""
    path = lookup(name, locked.name) or _download(name, locked, base, progress)
    try:
        with _unpacked(path, locked) as file:
            blob = file.read(locked.bytes + 1)
    except PermissionError:
        raise NotAllowed(f"{path} may not be read by you.") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as why:
        raise BadData(f"{path} is damaged ({why}); delete it, or put a good copy in its place.") from None
    if len(blob) != locked.bytes or hashlib.sha256(blob).hexdigest() != locked.digest:
        raise BadData(_other(name, path, "sha256", locked.digest))
    return blob


def _unpacked(path: Path, locked: Locked) -> IO[bytes]:
    """A .tar.gz is compared as it is."""
    ending = "" if locked.name.endswith(".gz") else path.suffix
    openers = {".gz": gzip.open, ".xz": lzma.open}
    return openers[ending](path, "rb") if ending in openers else path.open("rb")  # type: ignore[operator]


def _download(name: str, locked: Locked, base: Path, progress: Progress | None) -> Path:
    path = downloaded(base, name, locked)
    if path.exists():
        return path
    with partial(path, "the download") as file:
        for part in _fetch(name, locked, path):
            file.write(part)
            if progress:
                progress(file.tell(), locked.fetched)
    return path


def _fetch(name: str, locked: Locked, path: Path) -> Iterator[bytes]:
    """The body in pieces.  A body of another length never becomes a file, so a broken connection can simply
    be tried again."""
    left = locked.fetched
    again = "run the same command again, or "
    try:
        with urllib.request.urlopen(locked.url, timeout=30) as answer:
            while part := answer.read(1 << 16):
                left -= len(part)
                if left < 0:
                    break
                yield part
    except (OSError, ValueError, http.client.HTTPException) as why:
        broken = f"it broke off after {locked.fetched - left:,} of {locked.fetched:,} bytes: "
        text = (broken if left < locked.fetched else "") + str(getattr(why, "reason", why))
        raise Offline(_where(name, locked, path, text, again if left < locked.fetched else "")) from None
    if left:
        got = f"more than {locked.fetched:,}" if left < 0 else f"{locked.fetched - left:,}"
        wrong = f"it should be {locked.fetched:,} bytes long and is not, of {got} that came"
        raise Offline(_where(name, locked, path, wrong, again))


def _where(name: str, locked: Locked, path: Path, why: str, again: str = "") -> str:
    folder = FOLDERS[name][0]
    return (
        f"{name} needs {locked.url}, which cannot be fetched ({why}); {again}fetch it elsewhere and put it "
        f"at {path}, or into {folder}/ of a folder that LIKENESS_DATA names; `digits` and `shapes` need no "
        "network."
    )
