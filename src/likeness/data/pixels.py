"""One picture, as Pillow or numpy holds it, becomes uint8 pixels of one size."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageColor

from ..core import Refusal

AT_ONCE = 1 << 24


def at_once(x: np.ndarray) -> int:
    """How many rows of x to work on together: counted in values, because one picture may be 64 bytes or 50
    MB."""
    return max(1, AT_ONCE // max(1, math.prod(x.shape[1:])))


def ground(name: str) -> tuple[int, int, int]:
    """The colour that a name or #rrggbb stands for.  Raises Refusal for anything else."""
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError:
        raise Refusal(
            f"data: --background {name!r} is no colour; type a name such as white, or #rrggbb."
        ) from None


def fit(image: Image.Image, size: int) -> Image.Image:
    """Scale so that the short side is `size` (Lanczos, antialiased), keep the middle of the long one."""
    w, h = image.size
    short = min(w, h)
    if (w, h) == (size, size):
        return image
    left, top = (w - short) / 2, (h - short) / 2
    if short == size:
        return image.crop((int(left), int(top), int(left) + size, int(top) + size))
    return image.resize(
        (size, size), Image.Resampling.LANCZOS, (left, top, left + short, top + short), reducing_gap=3.0
    )


def within(image: Image.Image, size: int) -> Image.Image:
    """Scale so that the long side is at most `size` (Lanczos, antialiased); nothing is cut off or
    enlarged."""
    w, h = image.size
    share = size / max(w, h)
    if share >= 1:
        return image
    return image.resize(
        (max(1, round(w * share)), max(1, round(h * share))), Image.Resampling.LANCZOS, reducing_gap=3.0
    )


def planes(image: Image.Image) -> np.ndarray:
    """An L or RGB image as uint8 (1 or 3, H, W)."""
    x = np.asarray(image)
    return x[None] if x.ndim == 2 else x.transpose(2, 0, 1)


def resize(x: np.ndarray, size: int) -> np.ndarray:
    """fit() for arrays: uint8 (n, 1 or 3, H, W) becomes (n, 1 or 3, size, size); of clips (n, C, T, H, W)
    every frame."""
    if x.shape[-2:] == (size, size):
        return x
    if x.ndim == 5:
        n, c, t = x.shape[:3]
        frames = resize(x.swapaxes(1, 2).reshape(n * t, c, *x.shape[3:]), size)
        return frames.reshape(n, t, c, size, size).swapaxes(1, 2)
    pictures = (
        Image.fromarray(np.ascontiguousarray(a[0] if len(a) == 1 else a.transpose(1, 2, 0))) for a in x
    )
    return np.stack([planes(fit(p, size)) for p in pictures])


SCALINGS: dict[str, Image.Resampling | None] = {
    **{
        name: Image.Resampling[name.upper()]
        for name in ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
    },
    "fit": None,
}
"""how a picture becomes a square: pressed into it by one of Pillow's resamplings, or by our readers' way,
which cuts off what is too long"""
