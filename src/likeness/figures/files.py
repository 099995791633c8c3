"""Image files that carry their recipe, and what may stand in a page."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from .. import __version__
from ..core import BadData, DiskTrouble, NotAllowed, Refusal


def _recipe_json(recipe: dict[str, Any]) -> str:
    return json.dumps(dict(likeness=__version__) | recipe, sort_keys=True, default=str)


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
    Image.fromarray(image).save(file, "JPEG", quality=90, comment=_recipe_json(recipe).encode()[:65_000])
    return file.getvalue()


def uri(file: bytes) -> str:
    """A PNG or JPEG file as the address of itself, for a page that needs no other file."""
    kind = "png" if file.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def write_png(path: Path, image: np.ndarray, recipe: dict[str, Any]) -> None:
    """Replace `path` whole or not at all.  Raises DiskTrouble or NotAllowed."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as f:
            f.write(png(image, recipe))
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException as error:  # also Ctrl-C
        temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
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
        text = _text(path.read_bytes(), b"likeness")
    except OSError as error:
        raise Refusal(
            f"{path} cannot be read ({error.strerror}); name a PNG file that likeness wrote."
        ) from None
    if text is None:
        raise Refusal(
            f"{path} carries no recipe; only PNG files that likeness wrote do, and only while nobody has "
            "saved them anew."
        )
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError):
        recipe = None
    if not isinstance(recipe, dict):
        raise BadData(f"the recipe in {path} is damaged; make the picture again.")
    return recipe


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
