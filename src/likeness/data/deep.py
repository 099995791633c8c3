"""Values of 16 bits of a picture in colour, of which Pillow keeps 8.

Pillow unpacks such pixels by a raw mode, RGB;16B or RGB;16L, which takes the first or the second byte of each
value.  Decoded once by the one and once by the other, no bit is lost, whatever holds the pixels: PNG,
interlaced or not, and TIFF in strips or tiles, in either byte order, compressed in any way that Pillow knows.
"""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import numpy as np
from PIL import Image

OTHER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""byte order that takes the byte which the other one leaves"""
PNM = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" + rb"\s")


def raw_mode(image: Image.Image) -> str:
    """How Pillow will unpack the pixels of a picture that is not loaded yet, if it would halve the bits of
    each; else nothing."""
    tiles: Any = getattr(image, "tile", ())
    mode = f"{image.mode};16{_order(image)}" if is_apart(image) else _raw(tiles[0]) if tiles else ""
    return mode if re.fullmatch(r"(RGB|RGBA|RGBa|RGBX|LA);16[BLN]", mode) else ""


def _raw(tile: Any) -> str:
    args = tile.args if isinstance(tile.args, str) else tile.args[0] if tile.args else ""
    return args if isinstance(args, str) else ""


def is_apart(image: Image.Image) -> bool:
    """Whether this is a TIFF of 16 bits, not compressed, with each channel in a place of its own: Pillow
    takes its bytes for pixels of 8 bits, so that noise comes out."""
    tiles: Any = getattr(image, "tile", ())
    return bool(tiles) and set(tags_of(image).get(258, ())) == {16} and _raw(tiles[0]) == "R"


def is_sealed(image: Image.Image) -> bool:
    """Whether this is one that is compressed: libtiff itself then halves the values."""
    tiles: Any = getattr(image, "tile", ())
    return bool(tiles) and tiles[0].codec_name == "libtiff" and tags_of(image).get(284) == 2


def tags_of(image: Image.Image) -> Any:
    """The tags of a TIFF; none of another file."""
    return getattr(image, "tag_v2", {})


def _order(image: Image.Image) -> str:
    return "B" if tags_of(image).prefix == b"MM" else "L"


def mended(image: Image.Image) -> Image.Image:
    """The same picture, of which Pillow will read what is in it."""
    if is_apart(image):
        mode, tiles = raw_mode(image), getattr(image, "tile", ())
        vars(image)["tile"] = [_unpacked(tile, mode) for tile in tiles]
    return image


def _unpacked(tile: Any, mode: str) -> Any:
    """A part of a file, its pixels unpacked by that raw mode."""
    if _raw(tile) in tuple("RGBAX"):
        mode = _raw(tile) + mode[mode.index(";") :]
    return tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode)


def values(blob: bytes, format: str) -> np.ndarray:
    """uint16 (H, W, 2, 3 or 4) of a file with a raw_mode(): colours, and after these what is opaque."""
    with Image.open(io.BytesIO(blob), formats=[format]) as image:
        mode = raw_mode(image)
    if mode.startswith("LA"):  # four bytes a pixel
        both = _decoded(blob, format, "RGBA").astype(np.uint16)
        return np.stack([both[..., 0] << 8 | both[..., 1], both[..., 2] << 8 | both[..., 3]], -1)
    mode = mode.replace("RGBa", "RGBA")  # divided by what is opaque only below, with all the bits
    high, low = (_decoded(blob, format, m) for m in (mode, mode[:-1] + OTHER[mode[-1]]))
    return high.astype(np.uint16) << 8 | low


def _decoded(blob: bytes, format: str, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(blob), formats=[format]) as image:
        image.tile = [_unpacked(tile, mode) for tile in image.tile]
        image.load()
        return np.asarray(image)


def undivided(x: np.ndarray) -> np.ndarray:
    """Colours that were multiplied by what is opaque (TIFF's associated alpha), as they were before."""
    colours, opaque = x[..., :-1].astype(np.float64), x[..., -1:].astype(np.float64)
    plain = np.rint(np.divide(colours * 65535, opaque, out=np.zeros_like(colours), where=opaque > 0))
    return np.concatenate([plain.clip(0, 65535).astype(np.uint16), x[..., -1:]], -1)


def pnm(blob: bytes) -> tuple[np.ndarray, int] | None:
    """Values of a PGM or PPM of more than 8 bits, uint16 (H, W, 1 or 3), which Pillow scales, and the largest
    that its header allows; None for any other."""
    if not (head := PNM.match(blob)) or not 255 < int(head[4]) < 65536:
        return None
    channels, (width, height, white) = 3 if head[1] in b"36" else 1, map(int, head.groups()[1:])
    n = width * height * channels
    if head[1] in b"56":
        x = np.frombuffer(blob, ">u2", n, head.end())
    else:
        x = np.array(re.sub(rb"#[^\r\n]*", b"", blob[head.end() :]).split()[:n], np.uint16)
    return x.astype(np.uint16).reshape(height, width, channels), white
