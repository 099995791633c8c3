"""Clips for people: a grid of them that moves, written as GIF, APNG, animated WebP, MP4 or WebM, with its
recipe.

Frames keep their time: Pillow merges frames that are equal and adds up their times, so that a file may hold
fewer pictures than a clip has frames and still shows each as long as it should.
"""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin
from torch import Tensor

from ..core import Refusal
from .files import DESCRIPTION, _recipe_json
from .grids import grid

MOVING = (".gif", ".apng", ".webp", ".mp4", ".webm")
"""endings of a picture that moves"""
CODECS = {".mp4": ("libx264", "h264", "mpeg4"), ".webm": ("libvpx-vp9", "libvpx")}
"""encoders by ending, of which the first that PyAV has is used"""
SECONDS = 0.1
"""that each frame is shown, unless told otherwise"""


def moving(x: Tensor, columns: int | None = None, scale: int | None = None) -> np.ndarray:
    """Clips (B, C, T, H, W) in [-1, 1] side by side as grid() has images: uint8 (T, height, width, 3)."""
    if not x.shape[2]:
        raise Refusal("a clip without frames shows nothing; ask for one or more.")
    return np.stack([grid(frame, columns, scale=scale) for frame in x.unbind(2)])


def encode_film(path: Path, pages: np.ndarray, recipe: dict[str, Any], seconds: float = SECONDS) -> bytes:
    """The frames uint8 (T, height, width, 3), shown `seconds` each, in the format that the ending of `path`
    names, one of MOVING.  Raises Refusal for another ending, and for MP4 and WebM where PyAV is missing."""
    ending = path.suffix.lower()
    if ending not in MOVING:
        raise Refusal(f"{path}: a clip is written as one of: {', '.join(MOVING)}.")
    if ending in CODECS:
        return _video(path, pages, recipe, seconds)
    text, time, file = _recipe_json(recipe), round(1000 * seconds), io.BytesIO()
    first, *others = [Image.fromarray(page) for page in pages]
    how: dict[str, Any] = dict(save_all=True, append_images=others, duration=time, loop=0)
    if ending == ".gif":
        first.save(file, "GIF", comment=text.encode()[:60_000], **how)
    elif ending == ".webp":
        exif = Image.Exif()
        exif[DESCRIPTION] = text
        first.save(file, "WEBP", lossless=True, exif=exif, **how)
    else:
        info = PngImagePlugin.PngInfo()
        info.add_text("likeness", text)
        first.save(file, "PNG", pnginfo=info, **how)
    return file.getvalue()


def _video(path: Path, pages: np.ndarray, recipe: dict[str, Any], seconds: float) -> bytes:
    """Through PyAV.  Sides are made even by a line of paper, since these formats halve the resolution of
    colours."""
    try:
        av: Any = importlib.import_module("av")
    except ImportError:
        raise Refusal(
            f"{path}: MP4 and WebM are written through PyAV, which is not installed here: pip install "
            "'likeness[video]'; .gif, .apng and .webp need nothing."
        ) from None
    ending = path.suffix.lower()
    known = [name for name in CODECS[ending] if name in av.codecs_available]
    if not known:
        raise Refusal(f"{path}: this PyAV has none of {', '.join(CODECS[ending])}; write a .webp or .gif.")
    pages = np.pad(pages, ((0, 0), (0, pages.shape[1] % 2), (0, pages.shape[2] % 2), (0, 0)), mode="edge")
    file = io.BytesIO()
    with av.open(file, "w", format=ending[1:]) as container:
        container.metadata["comment"] = _recipe_json(recipe)
        stream = container.add_stream(known[0], rate=_rate(seconds))
        stream.height, stream.width = pages.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = max(1_000_000, int(pages[0].size * 2 / seconds))
        for page in pages:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(page, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _rate(seconds: float) -> Any:
    """Frames a second."""
    from fractions import Fraction

    return Fraction(1 / seconds).limit_denominator(1000)
