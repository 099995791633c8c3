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
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from . import deep, ranges, unread
from .dataset import Reading
from .pixels import fit, ground, planes
from .ranges import Values
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
    """This file is not used: a reason of two words, which is counted, and a detail, which is listed.

    values: its own, where nothing says which of them is white.
    """

    def __init__(self, reason: str, detail: str = "", values: Values | None = None):
        super().__init__(reason, detail)
        self.reason, self.detail, self.values = reason, detail, values


@dataclass(frozen=True)
class Decoded:
    pixels: np.ndarray
    """uint8 (1 or 3, H, W): square, unless it was scaled otherwise"""
    size: tuple[int, int]
    """width and height in the file"""
    mode: str
    notes: tuple[str, ...]
    """what had to be converted"""
    values: Values | None = None
    """those of its colours in the file"""
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
    blob, format = b"", ""
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
            return replace(_pixels(image, blob, format, reading, scale), key=digest64(blob))
    except Skip as skip:
        return skip
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as why:
        return Skip("too large", str(why))
    # hostile files raise everything from struct.error to ZeroDivisionError in a decoder
    except Exception as why:
        if isinstance(why, UnidentifiedImageError) and (known := unread.picture(blob, format)):
            return Skip(*known)
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


def _pixels(image: Image.Image, blob: bytes, format: str, reading: Reading, scale: Scale) -> Decoded:
    size, mode = image.size, image.mode
    if mode not in KNOWN:
        raise Skip("damaged", f"unknown mode {mode}")
    notes = [_many(image, format)]
    if format == "JPEG" and not reading.tiles:
        # decodes at 1/2, 1/4 or 1/8 while that is large enough
        image.draft(None, (3 * reading.size, 3 * reading.size))
    with ONE_AT_A_TIME if math.prod(image.size) > LARGE else nullcontext():
        halved = deep.raw_mode(image)
        if halved and reading.white and deep.is_sealed(image):
            raise Skip(*unread.tiff(blob))
        deep.mended(image).load()
        wide = _values(image, blob, format, halved, reading)
        plain, kinds, values = _of_wide(image, *wide, reading) if wide else _eight_bits(image, reading)
        values = values if reading.white else _behind(values, blob, format, halved)
        plain = scale(plain, reading.size)
    # libheif has turned it already, by what counts there instead of EXIF
    turn = 1 if format == "HEIF" else _orientation(image)
    plain = _opaque(plain, reading)
    notes += [*kinds, "turned by EXIF" if turn in TURNS else ""]
    plain = plain.transpose(TURNS[turn]) if turn in TURNS else plain
    return Decoded(planes(plain), size, mode, tuple(filter(None, notes)), values)


MANY = {
    "JPEG": "MPO, its photograph",
    "TIFF": "several pages, the first",
    "HEIF": "several pictures, the main one",
}
"""what a file of several pictures is called, where it is no film: a telephone's MPO holds a photograph, and
beside it a preview, a depth map or the other eye's view"""


def _many(image: Image.Image, format: str) -> str:
    with suppress(Exception):  # its first picture may be whole all the same
        if getattr(image, "is_animated", False):
            return MANY.get(format, "animated, first frame")
    return ""


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # damaged EXIF beside good pixels
        return int(image.getexif().get(0x0112, 1))
    return 1


Plain = tuple[Image.Image, tuple[str, ...], Values]
"""as L, RGB, LA or RGBA; what had to be done for it; and the values of the file"""


def _eight_bits(image: Image.Image, reading: Reading) -> Plain:
    """A picture of 8 bits, or of 16 that Pillow has made 8."""
    mode = image.mode
    clear = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if clear:
        plain = image.convert("RGBA").convert("LA") if mode in GREY else image.convert("RGBA")
    else:
        wanted = "L" if mode in GREY else "RGB"
        plain = image if mode == wanted else image.convert(wanted)
    note = "transparent" if clear else mode if mode in ("CMYK", "LAB", "HSV", "YCbCr") else ""
    return _brightened(plain, note, reading)


def _brightened(plain: Image.Image, note: str, reading: Reading) -> Plain:
    """With white at 255, where less is declared to be white, as in masks and labels of classes."""
    colours = 1 if plain.mode in ("L", "LA") else 3
    extrema = plain.getextrema()
    each: Any = extrema if isinstance(extrema[0], tuple) else (extrema,)
    low, high = min(e[0] for e in each[:colours]), max(e[1] for e in each[:colours])
    if not 0 < reading.white < 255:
        return plain, (note,), Values("8-bit", low, high, 0, 255)
    n, counts = plain.width * plain.height * colours, np.array(plain.histogram()[: 256 * colours])
    outside = int(counts.reshape(colours, 256)[:, math.floor(reading.white) + 1 :].sum())
    span = _known("8-bit", "B", low, high, reading, n, lambda span: outside)
    table = ranges.levels(np.arange(256), span).tolist() * colours + list(range(256)) * (
        len(plain.getbands()) - colours
    )
    values = Values("8-bit", low, high, *span, n, outside)
    return plain.point(table), (note, f"8-bit, white {span[1]:g}"), values


Wide = tuple[np.ndarray, int, str]
"""colours of more than 8 bits, (H, W, 1 or 3) and perhaps opacity after them; their number; and their kind"""


def _values(image: Image.Image, blob: bytes, format: str, halved: str, reading: Reading) -> Wide | None:
    """The values of a picture of more than 8 bits, if they are needed: Pillow's own 8 bits are what runs have
    learnt from where no white is declared."""
    if format == "PPM" and reading.white and (raw := deep.pnm(blob)):
        return raw[0], raw[0].shape[2], "16-bit"
    if image.mode[0] in "IF":
        return _one_channel(image, reading), 1, "16-bit" if image.mode[0] == "I" else "float"
    if halved and reading.white:
        x = deep.values(blob, format)
        x = deep.undivided(x) if halved.startswith("RGBa") else x
        return x[..., :3] if halved.startswith("RGBX") else x, 1 if halved.startswith("LA") else 3, "16-bit"
    return None


def _one_channel(image: Image.Image, reading: Reading) -> np.ndarray:
    x = np.asarray(image)[..., None]
    # PhotometricInterpretation: 0 is white. Pillow heeds it only in pixels of 8 bits.
    if image.mode.startswith("I;16") and deep.tags_of(image).get(262) == 0:
        return np.int32(reading.white or 65535) - x.astype(np.int32)
    return x


def _behind(values: Values, blob: bytes, format: str, halved: str) -> Values:
    """The values that Pillow has made 8 or 16 bits of; exactly where they are dark, since the remedy is to
    say which of them should be white."""
    if format == "PPM" and (raw := deep.pnm(blob)):
        return Values("16-bit", float(raw[0].min()), float(raw[0].max()), 0, raw[1])
    if not halved:
        return values
    low, high = values.low * 256, values.high * 256 + 255
    if high < ranges.NARROW * 65535:
        x = deep.values(blob, format)[..., : 1 if halved.startswith("LA") else 3]
        low, high = float(x.min()), float(x.max())
    return Values("16-bit", low, high, 0, 65535)


def _of_wide(image: Image.Image, x: np.ndarray, colours: int, kind: str, reading: Reading) -> Plain:
    """Wide pixels: white is what --white says, else 65535 for whole numbers that fit in 16 bits, and 1 for
    fractions."""
    seen = x[..., :colours]
    low, high = float(seen.min()), float(seen.max())
    span = _known(
        kind, "f" if kind == "float" else "u", low, high, reading, seen.size, lambda s: ranges.beyond(seen, s)
    )
    if x.dtype == np.uint16:
        y = ranges.levels(np.arange(65536), span, np.float32)[seen]
    else:
        y = ranges.levels(seen, span, np.float32)
    clear = _opacity(image, x, colours)
    y = y if clear is None else np.concatenate([y, clear], -1)
    outside = 0 if span[0] <= low and high <= span[1] else ranges.beyond(seen, span)
    values = Values(kind, low, high, *span, seen.size, outside, kind == "float" and not reading.white)
    note = f"16-bit, white {span[1]:g}" if kind == "16-bit" else "float"
    plain = Image.fromarray(y[..., 0] if y.shape[2] == 1 else y)
    return plain, (note, "" if clear is None else "transparent"), values


def _opacity(image: Image.Image, x: np.ndarray, colours: int) -> np.ndarray | None:
    """uint8 (H, W, 1), if any is stated: for each pixel, or by the one colour that is transparent."""
    if x.shape[2] > colours:
        return (x[..., colours:] >> 8).astype(np.uint8)
    key = image.info.get("transparency")
    if key is None or x.dtype != np.uint16:
        return None
    return np.where((x == np.array(key)).all(-1, keepdims=True), 0, 255).astype(np.uint8)


def _known(
    kind: str, letter: str, low: float, high: float, reading: Reading, n: int, outside: ranges.Outside
) -> ranges.Span:
    """The values of black and white of one file.  Raises Skip where nothing says what they are.

    What other files of the folder hold is not known here, so that -1 to 1 is not guessed: one file may not be
    read otherwise than the next.
    """
    white = reading.white or (65535.0 if letter == "u" else 1.0)
    if letter == "u" and not reading.white:
        fits = low >= 0 and high <= white
    else:
        fits = ranges.choose(letter, low, high, white, n, outside) is not None
    if not fits:
        finite = math.isfinite(low) and math.isfinite(high)
        raise Skip(
            "no known white",
            f"pixels from {low:g} to {high:g}, where 0 is black and {white:g} white; "
            f"{ranges.remedy(low, high, n, outside)}",
            Values(kind, low, high, 0.0, white, n) if finite else None,
        )
    return 0.0, white


def _opaque(image: Image.Image, reading: Reading) -> Image.Image:
    """Lay what is transparent on the background."""
    if image.mode not in ("LA", "RGBA"):
        return image
    colour = ground(reading.background)
    under = Image.new("RGBA", image.size, (*colour, 255))
    flat = Image.alpha_composite(under, image.convert("RGBA"))
    return flat.convert("L" if image.mode == "LA" and len(set(colour)) == 1 else "RGB")
