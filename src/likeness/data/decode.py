"""One file becomes pixels, or a reason why not.  Files are hostile: nothing here trusts an ending, a header
or a size."""

from __future__ import annotations

import importlib
import io
import math
import os
import stat
import threading
import zlib
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from .dataset import Reading
from .pixels import fit, ground, planes
from .writer import digest64

MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    **{b"P%d" % n: "PPM" for n in range(1, 7)},
}
HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
"""brands of ISO/IEC 23008-12 in the first box of what telephones call .heic"""
MOST_PIXELS, MOST_SIDE, MOST_ASPECT, LEAST_SIDE, MOST_BYTES = 50_000_000, 30_000, 20, 8, 1 << 29
LARGE = 8_000_000
"""pixels; threads decode larger pictures one after another, because each takes hundreds of megabytes"""
ONE_AT_A_TIME = threading.Lock()
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
KNOWN = (*GREY, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


Scale = Callable[[Image.Image, int], Image.Image]


class Skip(Exception):
    """This file is not used: a reason of two words, which is counted, and a detail, which is listed."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Decoded:
    pixels: np.ndarray
    """uint8 (1 or 3, H, W): square, unless it was scaled otherwise"""
    size: tuple[int, int]
    """width and height in the file"""
    mode: str
    notes: tuple[str, ...]
    """what had to be converted"""
    brightest: int = 0
    """value of 16 bits, where it has such"""
    key: int = 0
    """64-bit digest of the file"""


def kind(head: bytes) -> str | None:
    """The image format that a file's first bytes announce, or None: then it is opened no further."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = {head[i : i + 4] for i in (8, *range(16, len(head), 4))}
        return "AVIF" if brands & {b"avif", b"avis"} else "HEIF" if brands & HEIF else None
    result = next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)
    return None if result == "PPM" and head[2:3] not in b" \t\r\n#" else result


def decode(path: bytes, listed: tuple[int, int], reading: Reading, scale: Scale = fit) -> Decoded | Skip:
    """The picture in a file that had this size and time of change (ns) when it was listed, or why there is
    none.

    scale(image, reading.size) brings it to its size: a square, unless told otherwise.
    """
    return decoded(lambda: read_bytes(path, listed, kind), reading, scale)


def decoded(read: Callable[[], bytes], reading: Reading, scale: Scale = fit) -> Decoded | Skip:
    """The picture in the bytes that read() returns, wherever it has them from, or why there is none; read()
    may raise Skip."""
    try:
        blob = read()
        format = kind(blob[:32]) or ""
        if format == "PNG":
            check_png(blob)
        Image.init()
        if format == "HEIF" and not heif_opener():
            raise Skip(
                "HEIC photographs need pip install 'likeness[heic]'",
                "Pillow reads them through pillow-heif, which is not installed here",
            )
        with Image.open(io.BytesIO(blob), formats=[format] if format in Image.OPEN else []) as image:
            _check_size(image.size, reading)
            return replace(_pixels(image, format, reading, scale), key=digest64(blob))
    except Skip as skip:
        return skip
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as why:
        return Skip("too large", str(why))
    # hostile files raise everything from struct.error to ZeroDivisionError in a decoder
    except Exception as why:
        # whose own text holds an address in memory
        text = "not what its first bytes say" if isinstance(why, UnidentifiedImageError) else str(why)
        cut = isinstance(why, EOFError) or "truncat" in text.lower() or "end of file" in text.lower()
        return Skip("truncated" if cut else "damaged", f"{type(why).__name__}: {text[:200]}")


def read_bytes(path: bytes, listed: tuple[int, int], known: Callable[[bytes], object] | None = None) -> bytes:
    """The whole file at once, so that it cannot change under the decoder; no more than 32 bytes where these
    are not `known`.  Raises Skip."""
    try:
        handle = os.open(
            path,
            os.O_RDONLY
            | getattr(os, "O_NONBLOCK", 0)
            | getattr(os, "O_CLOEXEC", 0)
            | getattr(os, "O_BINARY", 0),
        )
        with os.fdopen(handle, "rb") as file:
            now = os.fstat(handle)
            if not stat.S_ISREG(now.st_mode) or (now.st_size, now.st_mtime_ns) != listed:
                raise Skip(
                    "changed meanwhile", "not as it was when the folder was listed; run the command again"
                )
            head = file.read(32) if known else b""
            if known and head and not known(head):
                raise Skip("not images", f"begins with {head[:8]!r}")
            if now.st_size > MOST_BYTES:
                raise Skip("too large", f"{now.st_size:,} bytes")
            file.seek(0)
            blob = file.read()
    except FileNotFoundError:
        raise Skip("changed meanwhile", "gone since the folder was listed") from None
    except OSError as why:
        raise Skip("unreadable", why.strerror or str(why)) from None
    if not blob:
        raise Skip("empty", "zero bytes")
    return blob


@cache
def heif_opener() -> bool:
    """Whether Pillow reads HEIC here; the first call teaches it to, where pillow-heif is installed."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def heif_version() -> tuple[str, ...]:
    """Of pillow-heif, without importing it; nothing where there is none."""
    with suppress(PackageNotFoundError):
        return (version("pillow-heif"),)
    return ()


def read_stream(file: IO[bytes], size: int, known: Callable[[bytes], object] | None = None) -> bytes:
    """As read_bytes, of a file inside another one, which claims to be `size` bytes long: neither more nor
    less is believed.  Raises Skip."""
    if not size:
        raise Skip("empty", "zero bytes")
    head = file.read(min(32, size))
    if known and not known(head):
        raise Skip("not images", f"begins with {head[:8]!r}")
    if size > MOST_BYTES:
        raise Skip("too large", f"{size:,} bytes")
    blob = head + file.read(size - len(head))
    if len(blob) < size:
        raise Skip("truncated", f"{len(blob):,} of {size:,} bytes are there")
    return blob


def check_png(blob: bytes) -> None:
    """Compare the checksum of every critical chunk, since Pillow skips those of the pixels.  Raises Skip."""
    at, view = 8, memoryview(blob)
    while at + 12 <= len(blob):
        length, name = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        end = at + 8 + length
        if end + 4 > len(blob):
            break
        if name[:1].isupper() and zlib.crc32(view[at + 4 : end]) != int.from_bytes(
            view[end : end + 4], "big"
        ):
            raise Skip("damaged", f"the checksum of chunk {name!r} is wrong")
        if name == b"IEND":
            return
        at = end + 4
    raise Skip("truncated", "the file ends before its last chunk")


def _check_size(size: tuple[int, int], reading: Reading) -> None:
    """From the header alone: a picture of 120 megapixels fits in 15 kB."""
    w, h = size
    least = min(LEAST_SIDE, reading.size)
    if w * h > MOST_PIXELS or max(w, h) > MOST_SIDE:
        raise Skip(
            "too large", f"{w}x{h}: more than {MOST_PIXELS // 10**6} megapixels, or a side over {MOST_SIDE}"
        )
    if min(w, h) < least:
        raise Skip("too small", f"{w}x{h}: a side under {least}")
    if max(w, h) > MOST_ASPECT * min(w, h):
        raise Skip("too elongated", f"{w}x{h}: one side over {MOST_ASPECT} times the other")


def _pixels(image: Image.Image, format: str, reading: Reading, scale: Scale) -> Decoded:
    size, mode = image.size, image.mode
    if mode not in KNOWN:
        raise Skip("damaged", f"unknown mode {mode}")
    notes = [_animated(image)]
    if format == "JPEG":
        # decodes at 1/2, 1/4 or 1/8 while that is large enough
        image.draft(None, (3 * reading.size, 3 * reading.size))
    with ONE_AT_A_TIME if math.prod(image.size) > LARGE else nullcontext():
        image.load()
        plain, note, brightest = _eight_bits(image, reading)
        plain = scale(plain, reading.size)
    # libheif has turned it already, by what counts there instead of EXIF
    turn = 1 if format == "HEIF" else _orientation(image)
    plain = _opaque(plain, reading)
    notes += [note, "turned by EXIF" if turn in TURNS else ""]
    plain = plain.transpose(TURNS[turn]) if turn in TURNS else plain
    return Decoded(planes(plain), size, mode, tuple(filter(None, notes)), brightest)


def _animated(image: Image.Image) -> str:
    with suppress(Exception):  # its first picture may be whole all the same
        if getattr(image, "is_animated", False):
            return "animated, first frame"
    return ""


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # damaged EXIF beside good pixels
        return int(image.getexif().get(0x0112, 1))
    return 1


def _eight_bits(image: Image.Image, reading: Reading) -> tuple[Image.Image, str, int]:
    """As L, RGB, LA or RGBA, with what had to be done for it, and the brightest of 16-bit values where white
    was not declared."""
    mode = image.mode
    if mode[0] in "IF":
        return _scaled(image, reading)
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        grey = mode in GREY
        return image.convert("RGBA").convert("LA") if grey else image.convert("RGBA"), "transparent", 0
    wanted = "L" if mode in GREY else "RGB"
    return (
        image if mode == wanted else image.convert(wanted),
        mode if mode in ("CMYK", "LAB", "HSV", "YCbCr") else "",
        0,
    )


def _scaled(image: Image.Image, reading: Reading) -> tuple[Image.Image, str, int]:
    """Wide pixels: white is what --white says, else 65535 for whole numbers that fit in 16 bits, and 1 for
    fractions."""
    x = np.array(image, np.float32)
    low, high = float(x.min()), float(x.max())
    white = reading.white or (65535.0 if image.mode[0] == "I" else 1.0)
    if not (low >= 0 and high <= white):
        raise Skip(
            "no known white",
            f"pixels from {low:g} to {high:g}, where 0 is black and {white:g} white; say what white is with "
            "--white",
        )
    np.rint(np.multiply(x, np.float32(255 / white), out=x), out=x)
    whole = image.mode[0] == "I"
    note = f"16-bit, white {white:g}" if whole else "float"
    return Image.fromarray(x.astype(np.uint8)), note, int(high) if whole and not reading.white else 0


def _opaque(image: Image.Image, reading: Reading) -> Image.Image:
    """Lay what is transparent on the background."""
    if image.mode not in ("LA", "RGBA"):
        return image
    colour = ground(reading.background)
    under = Image.new("RGBA", image.size, (*colour, 255))
    flat = Image.alpha_composite(under, image.convert("RGBA"))
    return flat.convert("L" if image.mode == "LA" and len(set(colour)) == 1 else "RGB")
