"""Image files that carry their recipe, and what may stand in a page."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from .. import __version__
from ..core import BadData, DiskTrouble, NotAllowed, Refusal

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
"""endings of a picture that is one file, in any case of letters"""
DESCRIPTION = 0x010E
"""the EXIF tag ImageDescription, which holds the recipe of a WebP file"""
WIDEST = dict(JPEG=65_500, WebP=16_383)
"""pixels a side that these formats allow"""
COMMENT = 65_000
"""bytes that the comment of a JPEG file may have (65,533 by ITU-T T.81)"""


def _recipe_json(recipe: dict[str, Any]) -> str:
    return json.dumps(dict(likeness=__version__) | recipe, sort_keys=True, default=str)


def comment(recipe: dict[str, Any]) -> bytes:
    """The recipe as the comment of a JPEG file, whose room is small: the longest entries of one that is too
    long are left out, and `left_out` names them."""
    kept, left_out = dict(recipe), list[str]()
    while len(text := _recipe_json(kept).encode()) > COMMENT and kept.keys() - {"left_out"}:
        longest = max(kept.keys() - {"left_out"}, key=lambda k: len(_recipe_json({k: kept[k]})))
        del kept[longest]
        left_out.append(longest)
        kept["left_out"] = left_out
    return text


def png(image: np.ndarray, recipe: dict[str, Any]) -> bytes:
    """A PNG file of uint8 (H, W, 3) or (H, W) that says in its text chunk `likeness` how it was made: the
    same bytes for the same input."""
    text = PngImagePlugin.PngInfo()
    text.add_text("likeness", _recipe_json(recipe))
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", pnginfo=text, optimize=True)
    return file.getvalue()


def jpeg(image: np.ndarray, recipe: dict[str, Any]) -> bytes:
    """A tenth of the bytes, for pages with many large images: JPEG of quality 90, the recipe in
    its comment."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90, comment=comment(recipe))
    return file.getvalue()


def webp(image: np.ndarray, recipe: dict[str, Any]) -> bytes:
    """Lossless WebP, the recipe in its EXIF tag ImageDescription."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[DESCRIPTION] = _recipe_json(recipe)
    Image.fromarray(image).save(file, "WEBP", lossless=True, exif=exif)
    return file.getvalue()


def encode(path: Path, image: np.ndarray, recipe: dict[str, Any]) -> bytes:
    """The picture in the format that the ending of `path` names, one of ENDINGS.  Raises Refusal for another
    ending, and where the picture is too large for the format."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise Refusal(f"{path}: a picture is written as one of: {', '.join(ENDINGS)}.")
    if ending == ".png":
        return png(image, recipe)
    kind = "WebP" if ending == ".webp" else "JPEG"
    if max(image.shape[:2]) > WIDEST[kind]:
        raise Refusal(
            f"{path}: the picture has {image.shape[1]} x {image.shape[0]} pixels, and {kind} allows "
            f"{WIDEST[kind]:,} a side; name a .png."
        )
    return (webp if kind == "WebP" else jpeg)(image, recipe)


def uri(file: bytes) -> str:
    """A PNG or JPEG file as the address of itself, for a page that needs no other file."""
    kind = "png" if file.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def write_png(path: Path, image: np.ndarray, recipe: dict[str, Any]) -> None:
    """Replace `path` whole or not at all by a PNG file.  Raises DiskTrouble or NotAllowed."""
    _replace(path, png(image, recipe))


def write(path: Path, image: np.ndarray, recipe: dict[str, Any]) -> None:
    """Replace `path` whole or not at all, in the format of its ending.  Raises Refusal as encode() does,
    DiskTrouble or NotAllowed."""
    _replace(path, encode(path, image, recipe))


def create(path: Path, file: bytes) -> None:
    """A new file, whole or not at all.  Raises FileExistsError where there is anything of that name, also a
    link that leads nowhere, and DiskTrouble or NotAllowed."""
    _replace(path, file, _appear)


def _appear(temporary: Path, path: Path) -> None:
    """Rename where nothing has that name."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name first
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            os.replace(temporary, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    else:
        temporary.unlink(missing_ok=True)


def _replace(path: Path, file: bytes, put: Callable[[Path, Path], None] | None = None) -> None:
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{get_ident()}")
    try:
        with temporary.open("wb") as f:
            f.write(file)
            f.flush()
            os.fsync(f.fileno())
        (put or os.replace)(temporary, path)
    except BaseException as error:  # also Ctrl-C
        temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError) or isinstance(error, FileExistsError):
            raise
        kind = NotAllowed if isinstance(error, PermissionError) else DiskTrouble
        raise kind(
            f"the picture {path} could not be written ({error.strerror or error}); make room, or name "
            "another folder."
        ) from error


def read_recipe(path: Path) -> dict[str, Any]:
    """How a picture was made.  Raises Refusal if it is not one of ours, BadData if it is damaged.  No pixel
    is decoded."""
    try:
        file = path.read_bytes()
    except OSError as error:
        raise Refusal(
            f"{path} cannot be read ({error.strerror}); name a picture that likeness wrote."
        ) from None
    return recipe_in(file, str(path))


def recipe_in(file: bytes, name: str = "this picture") -> dict[str, Any]:
    """The same of the bytes of a file."""
    text = _recipe_text(file)
    if text is None:
        raise Refusal(
            f"{name} carries no recipe; only pictures that likeness wrote do, and only while nobody has "
            "saved them anew."
        )
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError):
        recipe = None
    if not isinstance(recipe, dict):
        raise BadData(f"the recipe in {name} is damaged; make the picture again.")
    return recipe


def _recipe_text(file: bytes) -> bytes | None:
    """The JSON of a recipe in a PNG, JPEG or WebP file; None where there is none."""
    if file[:4] == b"RIFF" and file[8:12] == b"WEBP":
        return _description(file)
    if file[:4] == b"GIF8":
        return _gif_comment(file)
    return _comment(file) if file[:2] == b"\xff\xd8" else _text(file, b"likeness")


def _description(file: bytes) -> bytes | None:
    """ImageDescription in the EXIF chunk of a WebP file."""
    at, exif = 12, Image.Exif()
    while at + 8 <= len(file):
        kind, length = struct.unpack_from("<4sI", file, at)
        if kind == b"EXIF":
            try:
                with warnings.catch_warnings(action="ignore"):
                    exif.load(file[at + 8 : at + 8 + length])
                    text = exif.get(DESCRIPTION)
            except Exception:  # Pillow raises many kinds on damaged EXIF
                return None
            return text.encode() if isinstance(text, str) and text.startswith("{") else None
        at += 8 + length + length % 2
    return None


def _gif_comment(file: bytes) -> bytes | None:
    """The comment extension of a GIF file (GIF89a, section 24), if it is a JSON object: blocks of up to 255
    bytes, each behind its length."""
    at = file.find(b"\x21\xfe")
    text, at = b"", at + 2
    if at < 2:
        return None
    while at < len(file) and file[at]:
        text += file[at + 1 : at + 1 + file[at]]
        at += 1 + file[at]
    return text if text.startswith(b"{") else None


def _comment(file: bytes) -> bytes | None:
    """The COM segment of a JPEG file before its pixels (ITU-T T.81, B.2.4.5), if it is a JSON object."""
    at = 2
    while at + 4 <= len(file) and file[at] == 0xFF and file[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", file, at + 2)
        if file[at + 1] == 0xFE:
            text = file[at + 4 : at + 2 + length]
            return text if text.startswith(b"{") else None
        at += 2 + length
    return None


def _text(file: bytes, keyword: bytes) -> bytes | None:
    """The tEXt chunk of that keyword (PNG specification, 11.3.4.3)."""
    at = 8
    while file[:8] == b"\x89PNG\r\n\x1a\n" and at + 8 <= len(file):
        length, kind = struct.unpack_from(">I4s", file, at)
        content = file[at + 8 : at + 8 + length]
        if kind == b"tEXt" and content.startswith(keyword + b"\0"):
            return content[len(keyword) + 1 :]
        at += length + 12
    return None
