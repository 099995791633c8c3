"""Pictures whose values are the numbers of classes and not brightness: masks beside images.

Lanczos makes values between those of two neighbours, which are classes that nobody drew; the nearest
neighbour keeps to those that are there.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
from PIL import Image

from .dataset import Reading
from .decode import GREY, Decoded, Scale, decoded
from .listing import Listing, printable
from .pairs import PARTNERS, PICTURES, SPLITS

FEW, LOOKED = 64, 8
"""values that a label map has at most, and files of a side that are looked at"""
SMOOTH = PICTURES | {"hr", "highres", "edge", "edges", "sketch", "sketches", "depth", "normals"}
"""names of folders of pictures: thin lines and slopes are scaled smoothly, however few values they have"""
MAPS = PARTNERS - SMOOTH - {"target", "targets", "output", "outputs", "dst"}
"""names of folders of label maps; of the others, their values tell"""


def nearest(image: Image.Image, size: int) -> Image.Image:
    """pixels.fit() without values in between: the short side becomes `size`, the middle of the long one
    stays."""
    w, h = image.size
    short = min(w, h)
    left, top = (w - short) // 2, (h - short) // 2
    square = (left, top, left + short, top + short)
    if short == size:
        return image.crop(square)
    return image.resize((size, size), Image.Resampling.NEAREST, square)


def there(side: Listing, rows: Sequence[int], reading: Reading, part: Scale | None = None) -> bool:
    """Whether these files of a side are label maps: by their folder's name, else where they are grey or
    indexed and have at most FEW values together.  part: cuts out of a file what belongs to the side."""
    if not len(rows):
        return False
    name = _folder(side, rows[0])
    if part is None and name in MAPS:
        return True
    if part is None and name in SMOOTH:
        return False
    values = set[int]()
    for i in {rows[int(k)] for k in np.linspace(0, len(rows) - 1, min(LOOKED, len(rows)))}:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = decoded(partial(side.read, i), reading, part or _whole)
        if not isinstance(found, Decoded):
            continue
        if found.mode not in (*GREY, "P", "PA"):
            return False
        weights = np.array([1, 256, 65536][: len(found.pixels)])[:, None, None]
        values.update(np.unique((found.pixels * weights).sum(0)).tolist())
        if len(values) > FEW:
            return False
    return bool(values)


def _whole(image: Image.Image, size: int) -> Image.Image:
    return image


def _folder(side: Listing, row: int) -> str:
    """The innermost folder of a file that is no split, in small letters."""
    whole = printable(os.path.join(side.root, side.path(row))).lower().split("/")[:-1]
    return next((name for name in reversed(whole) if name not in SPLITS), "")
