"""Photos written as files, with what the file of a photo should have: recipe, EXIF data, colour profile,
transparency."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from ..core import Refusal
from .files import DESCRIPTION, ENDINGS, WIDEST, _recipe_json, _replace, comment, create

QUALITY = 95
"""of JPEG, with colours at full resolution"""


def encode(
    path: Path,
    image: np.ndarray,
    recipe: dict[str, Any],
    opacity: np.ndarray | None = None,
    exif: bytes = b"",
    profile: bytes = b"",
) -> bytes:
    """uint8 (H, W, 1 or 3) in the format that the ending of `path` names, one of ENDINGS.

    opacity: uint8 (H, W), which JPEG has no place for.  The recipe is where read_recipe() looks for it: of
    WebP that is the EXIF tag ImageDescription, whose text is lost.  Raises Refusal for a size that the format
    does not allow."""
    ending, file = path.suffix.lower(), io.BytesIO()
    if ending not in ENDINGS:
        raise Refusal(f"{path}: a photo is written as one of: {', '.join(ENDINGS)}.")
    kind = {".png": "PNG", ".webp": "WebP"}.get(ending, "JPEG")
    if max(image.shape[:2]) > WIDEST.get(kind, 1 << 31):
        raise Refusal(
            f"{path}: the result has {image.shape[1]} x {image.shape[0]} pixels, and {kind} allows "
            f"{WIDEST[kind]:,} a side; type --format png."
        )
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    if opacity is not None and kind != "JPEG":
        picture.putalpha(Image.fromarray(opacity))
    known: dict[str, Any] = dict(icc_profile=profile) if profile else {}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("likeness", _recipe_json(recipe))
        picture.save(file, "PNG", pnginfo=text, **known, **(dict(exif=exif) if exif else {}))
    elif kind == "JPEG":
        known |= dict(exif=exif) if exif else {}
        picture.save(file, "JPEG", quality=QUALITY, subsampling=0, comment=comment(recipe), **known)
    else:
        whole = Image.Exif()
        if exif:
            whole.load(exif)
        whole[DESCRIPTION] = _recipe_json(recipe)
        picture.save(file, "WEBP", lossless=True, exact=True, method=2, exif=whole, **known)
    return file.getvalue()


def write(path: Path, image: np.ndarray, recipe: dict[str, Any], new: bool = False, **more: Any) -> None:
    """Replace `path` whole or not at all.  new: raise FileExistsError where there is anything of that name.
    more: of encode().  Raises Refusal, DiskTrouble or NotAllowed."""
    (create if new else _replace)(path, encode(path, image, recipe, **more))
