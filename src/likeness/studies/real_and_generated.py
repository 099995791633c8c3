"""Real and generated images, side by side, such that nothing but what a model does can tell them apart.

    parts = yield from gather(makers(runs, data), data, n=2000, seed=0)       train, calibration, test
    parts.test.treated("JPEG 75", data.levels)

Both sides pass through the same 8 bits onto the same levels, and through the same treatments; there are as
many of one as of the other, in equal shares of each run; and no image, real or generated, is in two parts.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from .. import engine
from ..core import Model, Refusal, Samples, answers, ask
from ..data import Data, picture
from ..data.pixels import planes
from ..inference import sampling
from ..metrics.card import Score
from ..metrics.neighbours import grid as on_grid
from ..runs.run import Run

LEAST = 40
"""images a side, in each part, below which nothing is learnt or known"""
CHUNK = 2**21
"""values looked at in one go"""


# Who made the images


class Maker(NamedTuple):
    """A run whose images are to be told from real ones."""

    name: str
    run: Run
    model: Model
    """the run's, or a twin of it with live options turned"""


def makers(runs: Sequence[tuple[Run, dict[str, Any]]], data: Data) -> list[Maker]:
    """The runs, each with the live options to turn.  Raises Refusal for one that makes no images, or none
    like those of `data`."""
    if data.spec.points:
        raise Refusal(
            f"a detector looks at images, and {data.source} is points; likeness evaluate says how well "
            "drawn points are told apart from real ones."
        )
    for run, _ in runs:
        if run.config.spec.shape != data.spec.shape or run.config.spec.levels != data.levels:
            raise Refusal(
                f"{run.folder} makes images of another shape or other levels than those of {data.source}; "
                "compare it with the data it was trained on."
            )
        if not {"encode", "decode"} <= set(answers(run.model)):
            ask(run.model, "sample", "Only what makes images can be told from real ones.")
    folders = [run.folder for run, _ in runs]
    names = [f.name if [g.name for g in folders].count(f.name) == 1 else str(f) for f in folders]
    return [Maker(name, run, sampling.tuned(run.model, **live)) for name, (run, live) in zip(names, runs)]


def made(maker: Maker, data: Data, rows: np.ndarray, seed: int) -> np.ndarray:
    """As many images as there are rows: samples, or, of a model that has no samples, reconstructions of these
    rows.  uint8 (n, C, H, W)."""
    if isinstance(maker.model, Samples):
        # a stream of its own, or the detector would have met the very images that `likeness sample` writes
        y = sampling.conditions(
            maker.model, np.arange(len(rows)), data, classes=sampling.shares(data, len(rows), seed)
        )
        drawn = sampling.batches(sampling.draw(maker.model, y, len(rows), engine.derive("detect", seed)))
        return np.concatenate([on_grid(_numbers(x, maker).numpy(), data.levels) for x in drawn])
    parts = [
        engine.put(data.take(part)).x
        for part in np.array_split(rows, math.ceil(len(rows) / room(data.spec.dims)))
    ]
    with torch.no_grad():
        back = [maker.model.decode(maker.model.encode(x)).float().cpu() for x in parts]  # type: ignore[operator]
    return on_grid(torch.cat(back).numpy(), data.levels)


def _numbers(x: torch.Tensor, maker: Maker) -> torch.Tensor:
    if not bool(x.isfinite().all()):
        raise Refusal(
            f"samples of {maker.name} are not numbers; there is nothing to be told from real images."
        )
    return x


def room(dims: int) -> int:
    return max(1, min(256, CHUNK // dims))


# Rough handling


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def _resized(image: Image.Image, factor: float) -> Image.Image:
    smaller = image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.BICUBIC
    )
    return smaller.resize(image.size, Image.Resampling.BICUBIC)


TREATMENTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    **{f"JPEG {quality}": partial(_jpeg, quality=quality) for quality in (95, 75, 50)},
    **{f"resizing by {factor}": partial(_resized, factor=factor) for factor in (0.75, 0.5)},
}


def treated(x: np.ndarray, how: str, levels: int = 256) -> np.ndarray:
    """uint8 (n, C, H, W) after a treatment of each, and back on the grid, as any file is when it
    is judged."""
    images = (Image.fromarray(np.ascontiguousarray(a[0] if len(a) == 1 else a.transpose(1, 2, 0))) for a in x)
    return on_grid(picture(np.stack([planes(TREATMENTS[how](image)) for image in images])).numpy(), levels)


# The two sides


class Sides(NamedTuple):
    """As many real images as generated ones; these in equal shares of each maker."""

    real: np.ndarray
    """uint8 (n, C, H, W)"""
    made: np.ndarray
    """uint8 (n, C, H, W)"""
    maker: np.ndarray
    """int64 (n,): number of the maker of made[i], against which real[i] stands"""

    def of(self, chosen: np.ndarray) -> Sides:
        return Sides(*(part[chosen] for part in self))

    def without(self, maker: int) -> Sides:
        return self.of(self.maker != maker)

    def joined(self, other: Sides) -> Sides:
        return Sides(*(np.concatenate(pair) for pair in zip(self, other)))

    def treated(self, how: str, levels: int) -> Sides:
        return Sides(treated(self.real, how, levels), treated(self.made, how, levels), self.maker)

    def roughened(self, levels: int, seed: int) -> Sides:
        """Each image after a treatment that is drawn for it."""
        out, rng = Sides(*(part.copy() for part in self)), np.random.default_rng((seed, 0x0DD))
        for x in out[:2]:
            lot = rng.integers(0, len(TREATMENTS), len(x))
            for i, how in enumerate(TREATMENTS):
                if (lot == i).any():
                    x[lot == i] = treated(x[lot == i], how, levels)
        return out

    def mixed(self, levels: int, seed: int) -> Sides:
        """One half of each maker's as they are, the other roughened: files that people bring are of both
        kinds."""
        plain = np.arange(len(self.maker)) // (self.maker.max() + 1) % 2 == 0
        return self.of(plain).joined(self.of(~plain).roughened(levels, seed))


class Parts(NamedTuple):
    """No image stands in two of them."""

    train: Sides
    calibration: Sides
    test: Sides
    """of held-out images"""


class Progress(NamedTuple):
    doing: str
    share: float
    """of all trainings, 0 to 1"""
    score: Score | None = None
    """a card that has just become known"""


def gather(makers: Sequence[Maker], data: Data, n: int, seed: int) -> Generator[Progress, None, Parts]:
    """Real and generated images: up to n a side to learn from, n to be tested on, and half as many to
    calibrate on.

    Raises Refusal where the data hold too few.
    """
    k, rows = len(makers), _rows(data, n, seed, len(makers))
    fakes = [np.empty((len(part), *data.spec.shape), np.uint8) for part in rows]
    for j, maker in enumerate(makers):
        yield Progress(f"images of {maker.name}", 0.0)
        own = [part[j::k] for part in rows]
        pieces = np.split(
            made(maker, data, np.concatenate(own), seed), np.cumsum([len(part) for part in own])[:-1]
        )
        for fake, piece in zip(fakes, pieces):
            fake[j::k] = piece
    return Parts(
        *(Sides(_real(data, part), fake, np.arange(len(part)) % k) for part, fake in zip(rows, fakes))
    )


def halves(data: Data, n: int, seed: int) -> Parts:
    """The same with real images on both sides, up to n each: nothing is there to be told apart."""
    pairs = ((part[0::2], part[1::2]) for part in _rows(data, 2 * n, seed, 2))
    return Parts(*(Sides(_real(data, a), _real(data, b), np.zeros(len(a), np.int64)) for a, b in pairs))


def _rows(data: Data, n: int, seed: int, share: int) -> list[np.ndarray]:
    """Rows to learn from, to calibrate on and to be tested on: as many of each as `share` makers can share
    out evenly."""
    rng = np.random.default_rng((seed, 0xFA4E))
    train, held = rng.permutation(data.train), rng.permutation(data.held_out)
    calibration = min(n // 2, len(train) // 5)
    sizes = [
        size // share * share for size in (min(n, len(train) - calibration), calibration, min(n, len(held)))
    ]
    if min(sizes) < LEAST:
        have = f"{data.source} has {len(train):,} training and {len(held):,} held-out images"
        raise Refusal(
            f"{have}, and {n:,} a side were asked for: {LEAST} are the least to learn from, to calibrate on "
            "and to be tested on; name a larger folder of real images with --data FOLDER, or train the run "
            "anew on more images, or with more of them held out: --held-out 0.3"
        )
    return [train[: sizes[0]], train[len(train) - sizes[1] :], held[: sizes[2]]]


def _real(data: Data, rows: np.ndarray) -> np.ndarray:
    return on_grid(picture(np.asarray(data.x[rows])).numpy(), data.levels)
