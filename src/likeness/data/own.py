"""Images that a person brings to a trained model: read as its training images were."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..core import BadData, Spec
from . import read
from .dataset import Reading, picture
from .sniff import Skip, decode, kind
from .writer import as_colour


def images(source: str, spec: Spec, settings: dict[str, Any], n: int) -> Tensor:
    """The first n images of a file, a folder or an array, as (B, C, H, W) in [-1, 1] of the model's shape.

    settings: how the training images were read.  Raises what data.load raises, and BadData for a single file that is no image.
    """
    known = {f.name for f in fields(Reading)}
    reading = Reading(**{k: v for k, v in settings.items() if k in known} | {"size": spec.size, "colour": "grey" if spec.channels == 1 else "rgb"})
    path = Path(os.path.expanduser(source))
    x = _one(path, reading) if os.path.isfile(path) and kind(_head(path)) else read(source, reading).x[:n]
    return picture(np.array(x) if spec.levels != 2 else np.where(x > 127, np.uint8(255), np.uint8(0)))


def _head(path: Path) -> bytes:
    with suppress(OSError), path.open("rb") as file:  # read() says what is wrong
        return file.read(32)
    return b""


def _one(path: Path, reading: Reading) -> np.ndarray:
    status = path.stat()
    found = decode(os.fsencode(path), (status.st_size, status.st_mtime_ns), reading)
    if isinstance(found, Skip):
        raise BadData(f"{path} cannot be used ({found.reason}: {found.detail}); name another image.")
    return as_colour(found.pixels[None], reading.colour)
