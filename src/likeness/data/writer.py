"""Images written one after another, in as little memory as one batch of them."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .pixels import at_once


def digest64(blob: bytes | memoryview) -> int:
    """64 bits of BLAKE2b: among a million different contents two agree with probability 3e-8."""
    return int.from_bytes(hashlib.blake2b(blob, digest_size=8).digest(), "little")


def content_hash(image: np.ndarray) -> int:
    """digest64 of the values."""
    return digest64(np.ascontiguousarray(image).data)


class Writer:
    """Write images, or clips, as x.u8 and hashes.u64, and the keys of their sources, which choose the split,
    as keys.u64."""

    def __init__(self, folder: Path, colour: str = "auto"):
        self.path = folder / "x.u8"
        self.file = self.path.open("wb+")
        self.shape: tuple[int, ...] = (0, 0, 0)
        self.colour, self.hashes, self.keys, self.binary = (
            colour,
            array("Q"),
            array("Q"),
            True,
        )

    def add(self, x: np.ndarray, keys: list[int] | None = None) -> None:
        """Append x, uint8 (n, C, S, S) or (n, C, T, S, S), and a key for each.  With colour "auto" the first
        one in colour turns all that came before to RGB."""
        x = as_colour(x, self.colour)
        if not self.hashes:
            self.shape = x.shape[1:]
        if x.shape[1] > self.shape[0]:
            self._to_rgb()
        self._append(np.ascontiguousarray(np.broadcast_to(x, (len(x), *self.shape))))
        self.keys.extend(keys or ())

    def _append(self, x: np.ndarray) -> None:
        self.file.write(x.data)
        self.hashes.extend(content_hash(image) for image in x)
        self.binary = self.binary and is_binary(x)

    def _to_rgb(self) -> None:
        self._as(3, lambda x: np.repeat(x, 3, 1))

    def to_grey(self) -> None:
        """Turn all that was written in colour to grey, as colour "grey" would have."""
        self._as(1, lambda x: as_colour(x, "grey"))

    def _as(self, channels: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Write everything again, with other channels."""
        before, count, (was, *rest) = self.path.with_suffix(".before"), len(self.hashes), self.shape
        self.file.close()
        self.path.rename(before)
        self.file, self.shape, self.hashes, self.binary = (
            self.path.open("wb+"),
            (channels, *rest),
            array("Q"),
            True,
        )
        old = np.memmap(before, np.uint8, "r", shape=(count, was, *rest))
        step = at_once(old)
        for i in range(0, count, step):
            self._append(change(old[i : i + step]))
        del old
        before.unlink()

    def finish(self) -> dict[str, Any]:
        """Close the files; returns the part of the entry's meta that describes them."""
        self.file.close()
        self.path.with_name("hashes.u64").write_bytes(self.hashes.tobytes())
        if self.keys:
            self.path.with_name("keys.u64").write_bytes(self.keys.tobytes())
        return dict(shape=[len(self.hashes), *self.shape], levels=2 if self.binary else 256)


def is_binary(x: np.ndarray) -> bool:
    """Only black and white?"""
    return not np.any((x != 0) & (x != 255))


def tint(x: np.ndarray) -> int:
    """Levels by which the channels of any pixel differ at most, of uint8 (..., C, H, W)."""
    return int((x.max(-3) - x.min(-3)).max(initial=0))


def as_colour(x: np.ndarray, colour: str) -> np.ndarray:
    """uint8 (n, 1 or 3, ...) as "grey" or "rgb"; "auto" leaves it.  Grey is the luma of ITU-R BT.601, as in
    Pillow."""
    if colour == "grey" and x.shape[1] == 3:
        weights = np.array([19595, 38470, 7471], np.uint32).reshape(3, *[1] * (x.ndim - 2))
        return ((x * weights).sum(1, keepdims=True, dtype=np.uint32) + 0x8000 >> 16).astype(np.uint8)
    return np.repeat(x, 3, 1) if colour == "rgb" and x.shape[1] == 1 else x
