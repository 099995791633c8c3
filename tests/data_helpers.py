"""Pictures and files for the tests of the data package."""

from __future__ import annotations

import gzip
import io
import re
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from likeness.data import Data


def photo(seed: int = 0, w: int = 40, h: int = 40) -> Image.Image:
    """A colour picture with detail that falls off towards high frequencies, as in photographs; another one
    for every seed."""
    rng = np.random.default_rng(seed)
    scales = [rng.integers(0, 256, (k, k, 3), np.uint8) for k in (4, 8, 16)]
    x = sum(
        np.asarray(Image.fromarray(a).resize((w, h), Image.Resampling.BICUBIC), np.float64) * weight
        for a, weight in zip(scales, (0.55, 0.3, 0.15))
    )
    return Image.fromarray(np.asarray(x).round().astype(np.uint8))


def write_photos(folder: Path, n: int, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        photo(first + i).save(folder / f"photo{first + i:03}.png")


def encoded(image: Image.Image, format: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **how)
    return buffer.getvalue()


def idx_bytes(x: np.ndarray) -> bytes:
    return (
        struct.pack(">HBB", 0, 8, x.ndim)
        + struct.pack(f">{x.ndim}I", *x.shape)
        + x.astype(np.uint8).tobytes()
    )


def write_idx_set(
    folder: Path, n: int = 30, tests: int = 10, pack: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Four files named as those of MNIST."""
    rng = np.random.default_rng(1)
    parts = (
        rng.integers(0, 256, (n, 8, 8)),
        np.arange(n) % 10,
        rng.integers(0, 256, (tests, 8, 8)),
        np.arange(tests) % 10,
    )
    folder.mkdir(parents=True, exist_ok=True)
    names = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    for name, x in zip(names, parts):
        (folder / (name + ".gz" * pack)).write_bytes(gzip.compress(idx_bytes(x)) if pack else idx_bytes(x))
    return parts


def same(a: Data, b: Data) -> bool:
    return (
        a.fingerprint == b.fingerprint
        and np.array_equal(a.x, b.x)
        and np.array_equal(a.train, b.train)
        and a.settings == b.settings
    )


def counted(data: Data) -> str:
    """The verdict without how many are held out, which hangs on the bytes that an encoder makes."""
    return re.sub(r"; [\d,]+ are held out", "", data.verdict)


def no_leak(data: Data) -> bool:
    held = {data.x[i].tobytes() for i in data.held_out}
    return bool(held) and all(data.x[i].tobytes() not in held for i in data.train)
