"""Static binarisation: each pixel of each image becomes black or white, once and for all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..storage.cache import family_of, key_of
from .cache import fetch
from .dataset import Images
from .pixels import at_once
from .writer import Writer

if TYPE_CHECKING:
    from torch import Tensor

KEY = 0xB1A51
SMALL = 1 << 22
"""bytes that are binarised anew at every start, in memory"""


def binarized(images: Images, base: Callable[[], Path], source: str = "") -> Images:
    """Each pixel becomes 255 with the probability of its brightness, else 0 (Salakhutdinov & Murray 2008,
    section 6.1).

    The noise belongs to the row and to this function, so it is the same in every run and on every machine.
    Copies of one grey picture become different binary ones; they still lie on one side of the split, which is
    made from the grey pictures.
    """
    family = family_of("binary", os.path.abspath(source))
    key = key_of(family, images.x.shape, hashlib.blake2b(images.hashes.tobytes()).hexdigest())
    if images.x.nbytes > SMALL:
        entry = fetch(base(), key, lambda folder: _build(images.x, folder), family=family)
        return replace(images, x=entry.x, hashes=entry.hashes, levels=2)
    with tempfile.TemporaryDirectory() as place:
        entry = fetch(Path(place), key, lambda folder: _build(images.x, folder))
        return replace(images, x=np.array(entry.x), hashes=np.array(entry.hashes), levels=2)


def drawn(brightness: Tensor, first: int = 0) -> Tensor:
    """Each pixel of (B, C, H, W) from 0 to 1 black or white, as 0 or 1; the randomness is that of rows first,
    first + 1, ..."""
    import torch

    from ..core import Noise

    noise = Noise(torch.arange(first, first + len(brightness)), KEY).uniform(*brightness.shape[1:])
    return (noise < brightness).to(torch.uint8)


def _build(x: np.ndarray, folder: Path) -> dict[str, Any]:
    import torch

    writer, step = Writer(folder), at_once(x)
    for i in range(0, len(x), step):
        part = torch.from_numpy(np.array(x[i : i + step]))
        writer.add(drawn(part / 255, i).mul_(255).numpy())
    return writer.finish()
