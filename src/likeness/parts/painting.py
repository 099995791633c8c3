"""The picture whose style is learnt: read from a file as training images are, or drawn by code."""

from __future__ import annotations

import hashlib
import os
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core import BadData
from ..data import user_images

SIDE = 8
"""pixels a side that a painting must have"""
COLOURS = ((214, 72, 48), (240, 176, 40), (38, 92, 152), (24, 44, 92), (236, 226, 196), (70, 140, 110))
"""of the mosaic"""


def painting(file: str, size: int) -> Tensor:
    """The picture in `file` as (1, 3, H, W) in [-1, 1], its shorter side `size` pixels unless it has fewer;
    the mosaic where no file is named.  Transparent parts are white.  Raises BadData."""
    if not file:
        return torch.from_numpy(mosaic(size))[None]
    try:
        x = user_images.whole(file, scale=partial(reduced, size=size)).x
    except BadData as why:
        raise BadData(f"--style: {why}") from None
    if min(x.shape[2:]) < SIDE:
        raise BadData(f"--style {file} has {x.shape[3]}x{x.shape[2]} pixels; {SIDE} a side are needed.")
    return x


def reduced(image: Image.Image, _: int = 0, *, size: int) -> Image.Image:
    """Scaled so that the shorter side is `size` at most (Lanczos, antialiased)."""
    share = size / min(image.size)
    if share >= 1:
        return image
    wide, high = (max(SIDE, round(side * share)) for side in image.size)
    return image.resize((wide, high), Image.Resampling.LANCZOS, reducing_gap=3.0)


def digest(file: str) -> str:
    """SHA-256 of the file, or of nothing for the mosaic; "" where it cannot be read."""
    if not file:
        return hashlib.sha256().hexdigest()
    path = os.path.expanduser(file)
    if not os.path.isfile(path):  # a pipe would be waited for
        return ""
    try:
        with open(path, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""


def mosaic(size: int) -> np.ndarray:
    """Bent bands of six colours with dark seams, float32 (3, size, size) in [-1, 1]."""
    y, x = np.mgrid[:size, :size] / 32
    height = x + 0.8 * np.sin(1.9 * y) + 0.5 * np.sin(2.3 * x + 1.1 * y)
    band, within = np.floor(height).astype(int) % len(COLOURS), height % 1
    shade = np.where((within < 0.12) | (within > 0.88), -0.9, 0.25 * np.sin(9 * y + 3 * within))
    light = np.asarray(COLOURS, np.float32)[band].transpose(2, 0, 1) / 127.5 - 1
    return np.clip(np.where(shade < -0.5, shade, light + shade), -1, 1).astype(np.float32)
