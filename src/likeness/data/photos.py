"""Photos as they are: at their own size and aspect, upright, with the EXIF data, colour profile and
transparency that a file made of them should have.

A photo comes from a file, a folder, an archive, an array or a set with a name.  One that cannot be read is no
error among others that can: it comes as `Unused`, with the reason.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..core import BadData, Refusal
from . import archive, folder, read
from .dataset import Reading
from .decode import TURNS, Decoded, Skip, decoded, kind, read_bytes
from .listing import printable
from .source import Source, parse
from .writer import content_hash

ORIENTATION, WIDTH, HEIGHT = 0x0112, 0xA002, 0xA003
"""EXIF tags: how the camera was held, and PixelXDimension and PixelYDimension of the Exif IFD"""
EXIF_IFD = 0x8769
MOST_EXIF = 60_000
"""bytes that fit into a JPEG file"""


class Photo(NamedTuple):
    name: str
    """path of its file, relative to the folder or archive that was named"""
    pixels: np.ndarray
    """uint8 (1 or 3, H, W), upright; what is transparent lies on the background of the reading"""
    opacity: np.ndarray | None = None
    """uint8 (H, W); None where all is opaque"""
    exif: bytes = b""
    """without the orientation, which has been applied"""
    profile: bytes = b""
    """ICC, of these pixels"""
    key: int = 0
    """64-bit digest of the file or the pixels"""
    notes: tuple[str, ...] = ()
    """what had to be converted"""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[2], self.pixels.shape[1]


class Unused(NamedTuple):
    name: str
    reason: str
    detail: str = ""


class Found(NamedTuple):
    """A photo that is not read yet."""

    name: str
    read: Callable[[], Photo | Unused]
    folder: Path | None = None
    """in which its file lies, or the folder above it that was named"""
    deep: bool = False
    """whether all that is below that folder was named"""


def find(places: Sequence[str | Path], settings: dict[str, Any]) -> list[Found]:
    """All photos in these files, folders, archives, arrays and sets, in their order.

    settings: how the training images of a run were read: the background and the value of white count.
    Raises Refusal for a place that is not there, and what listing a folder or an archive raises.
    """
    known = {f.name for f in fields(Reading)} & {"background", "white"}
    # tiles are cut from photos that are read at full size
    reading = Reading(**{k: v for k, v in settings.items() if k in known}, tiles=True, size=4096)
    return [found for place in places for found in _found(parse(place), reading)]


def _found(asked: Source, reading: Reading) -> Iterator[Found]:
    path = asked.path
    if path is None or asked.kind in ("name", "points", "nothing") or not (path.is_dir() or path.is_file()):
        yield from _of_set(asked, reading)
        return
    if path.is_dir():
        yield from _listed(path, reading, path)
        return
    head = b""
    with suppress(OSError), path.open("rb") as file:  # reading it says what is wrong
        head = file.read(32)
    if not head or kind(head) or not (packed := archive.format_of(path)):
        if path.suffix.lower() in (".npy", ".npz") and head:
            yield from _of_set(asked, reading)
            return
        status = path.stat()
        blob = partial(read_bytes, os.fsencode(path), (status.st_size, status.st_mtime_ns), kind)
        name = printable(os.fsencode(path.name))
        yield Found(name, partial(opened, name, blob, reading), path.parent)
    elif packed:
        yield from _listed(path, reading, path.parent)


def _listed(path: Path, reading: Reading, place: Path) -> Iterator[Found]:
    """Of a folder or an archive."""
    listing = folder.listed(path)
    for i in range(len(listing)):
        name = printable(listing.path(i))
        yield Found(name, partial(opened, name, partial(listing.read, i), reading), place, path.is_dir())
    for odd, reason, detail in listing.odd:
        name = printable(odd)
        yield Found(name, partial(Unused, name, reason, detail))


def _of_set(asked: Source, reading: Reading) -> Iterator[Found]:
    """Of an array or a set that has a name."""
    images = read(asked, replace(reading, tiles=False, size=0))
    if images.x.ndim != 4 or images.x.dtype != np.uint8:
        raise Refusal(f"{asked.text} holds no still images; name photos, or a folder of them.")
    for i in range(len(images.x)):
        name = f"{i:06d}" if images.names is None else images.names[i]
        yield Found(name, partial(_row, images.x, i, name, int(images.hashes[i])))


def _row(x: np.ndarray, i: int, name: str, key: int) -> Photo:
    return Photo(name, np.array(x[i]), key=key)


def of_tensor(x: Any) -> list[Found]:
    """Images (B, 1 or 3, H, W) in [-1, 1].  Raises Refusal for another shape."""
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not len(x):
        raise Refusal(f"photos are (B, 1 or 3, H, W) in [-1, 1], and these are {tuple(x.shape)}.")
    levels = ((x.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    return [
        Found(f"{i:06d}", partial(_row, levels, i, f"{i:06d}", content_hash(levels[i])))
        for i in range(len(x))
    ]


def opened(name: str, read: Callable[[], bytes], reading: Reading) -> Photo | Unused:
    """The photo in the bytes that read() returns."""
    blobs, clear = list[bytes](), list[Image.Image | None]()

    def blob() -> bytes:
        blobs.append(read())
        return blobs[-1]

    def whole(image: Image.Image, size: int) -> Image.Image:
        clear.append(image.getchannel("A") if image.mode in ("LA", "RGBA") else None)
        return image

    result = decoded(blob, reading, whole)
    if isinstance(result, Skip) and result.values and result.values.kind == "8-bit":
        # the white that training images of another kind of file have is none of a photograph's
        result = decoded(blob, replace(reading, white=0.0), whole)
    if isinstance(result, Skip):
        return Unused(name, result.reason, result.detail)
    return _dressed(name, result, blobs[-1], clear[-1])


def _dressed(name: str, image: Decoded, blob: bytes, clear: Image.Image | None) -> Photo:
    """The pixels with what else their file holds."""
    exif, profile, turn, notes = b"", b"", 1, list(image.notes)
    with suppress(Exception), Image.open(io.BytesIO(blob)) as file:
        held = file.info.get("icc_profile") or b""
        # a profile of CMYK says nothing of the RGB that became of it
        profile = held if (file.mode in ("RGB", "RGBA", "P")) == (len(image.pixels) == 3) else b""
        turn = 1 if file.format == "HEIF" else int(file.getexif().get(ORIENTATION, 1))
        exif = upright(file.getexif(), image.pixels.shape[2], image.pixels.shape[1])
    if len(exif) > MOST_EXIF:
        exif, notes = b"", [*notes, f"EXIF of {len(exif):,} bytes, which is not kept"]
    opacity = None
    if clear is not None:
        turned = clear.transpose(TURNS[turn]) if "turned by EXIF" in image.notes else clear
        opacity = np.array(turned)
        opacity = opacity if (opacity < 255).any() else None
    return Photo(name, image.pixels, opacity, exif, profile, image.key, tuple(notes))


def beside(path: str | Path, width: int, height: int) -> tuple[bytes, bytes]:
    """EXIF data, without the orientation, and ICC profile of an image file, for a picture in colour of this
    size that is made of it; nothing of what it does not have."""
    with suppress(Exception), Image.open(os.path.expanduser(path)) as file:
        profile = file.info.get("icc_profile") if file.mode in ("RGB", "RGBA", "P") else b""
        exif = upright(file.getexif(), width, height)
        return (exif if len(exif) <= MOST_EXIF else b""), profile or b""
    return b"", b""


def upright(exif: Image.Exif, width: int, height: int) -> bytes:
    """The same data for a picture of this size whose pixels need not be turned; nothing where there are
    none."""
    inside = exif.get_ifd(EXIF_IFD)
    exif.pop(ORIENTATION, None)
    if not len(exif) and not inside:
        return b""
    for tag, value in ((WIDTH, width), (HEIGHT, height)):
        if tag in inside:
            inside[tag] = value
    return exif.tobytes()


def mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W), true where a picture of this size (width, height) is white.  Raises BadData, Refusal."""
    status = path.stat() if path.is_file() else None
    if status is None:
        raise Refusal(
            f"there is no mask {path}; name a picture of the photo's size that is white where the hole is."
        )
    read = partial(read_bytes, os.fsencode(path), (status.st_size, status.st_mtime_ns), kind)
    result = opened(path.name, read, Reading(tiles=True, size=4096, background="black"))
    if isinstance(result, Unused):
        raise BadData(f"{path} cannot be used ({result.reason}: {result.detail}); name another picture.")
    if result.size != size:
        raise BadData(
            f"the mask {path} has {result.size[0]} x {result.size[1]} pixels, and the photo {size[0]} x "
            f"{size[1]}; paint one of the photo's size, white where the hole is."
        )
    return np.asarray(result.pixels.max(0) >= 128)
