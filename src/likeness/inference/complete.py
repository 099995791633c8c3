"""The rest of images of which a part is given: what the model holds possible there.

Draw k of image i is a function of seed, i and k alone: more images, or more draws of each, do not change it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import engine, figures
from ..core import BadData, Completes, Condition, Noise, Refusal, Spec, final
from ..data.dataset import Reading
from ..data.decode import Skip, decode
from . import sampling

AT_ONCE = 64
"""images drawn in one go"""
MOST = 2**20
"""draws of one image that have randomness of their own"""


def upper(spec: Spec, keep: float) -> Tensor:
    """Which pixels are known, bool (H, W), where the upper `keep` of the rows is given."""
    if not 0 <= keep <= 1:
        raise Refusal(
            f"a share of the rows lies from 0 to 1, and not at {keep:g}; half of the image is kept by 0.5."
        )
    return (torch.arange(spec.size) < round(keep * spec.size))[:, None].expand(spec.size, spec.size)


def mask(path: Path, spec: Spec) -> Tensor:
    """Which pixels are known, bool (H, W): the white ones of a picture that is as large as the model's
    images."""
    try:
        status = path.stat()
    except OSError as error:
        raise Refusal(
            f"the mask {path} cannot be read ({error.strerror}); name a black-and-white picture of "
            f"{spec.size}x{spec.size} pixels."
        ) from None
    result = decode(
        os.fsencode(path), (status.st_size, status.st_mtime_ns), Reading(size=spec.size, colour="grey")
    )
    if isinstance(result, Skip):
        raise BadData(
            f"the mask {path} cannot be used ({result.reason}: {result.detail}); name a black-and-white "
            f"picture of {spec.size}x{spec.size} pixels."
        )
    if result.size != (spec.size, spec.size):
        wide, high = result.size
        raise Refusal(
            f"the mask {path} is {wide} pixels wide and {high} high, and the images are "
            f"{spec.size}x{spec.size}; draw it in that size."
        )
    return torch.from_numpy(result.pixels[:3].mean(0) > 127)


def checked(known: Tensor, spec: Spec) -> Tensor:
    """A mask that fits the images, bool (H, W)."""
    if tuple(known.shape) != (spec.size, spec.size):
        raise Refusal(
            f"the mask has shape {tuple(known.shape)}, and the images are {spec.size}x{spec.size}; let it "
            "say of each pixel whether it is known."
        )
    return known.bool().cpu()


def complete(
    model: Completes, x: Tensor, y: Condition | None, known: Tensor, draws: int, seed: int
) -> Tensor:
    """The end of completing(): (B, draws, C, H, W) in memory."""
    return final(sampling.kept(completing(model, x, y, known, draws, seed))).images.unflatten(
        0, (len(x), draws)
    )


def completing(
    model: Completes, x: Tensor, y: Condition | None, known: Tensor, draws: int, seed: int
) -> Iterator[sampling.State]:
    """Each of x (B, C, H, W) `draws` times in a row with the pixels that are not known drawn anew, ever
    better.

    y: what the model is told of them.  known: bool (H, W).  Raises Refusal where all is known, or where the
    model draws in another order.
    """
    if known.all():
        raise Refusal("all of the image is given, and nothing is left to draw; keep less of it.")
    numbers = (torch.arange(len(x))[:, None] * MOST + torch.arange(draws)).flatten()
    key, there = engine.derive("complete", seed), known.to(engine.device())

    def way(some: Tensor) -> Iterator[Tensor]:
        image = some // MOST
        part, condition = x[image].to(engine.device()), None if y is None else y[image].to(engine.device())
        for drawn in model.complete(part, known, Noise(some, key, engine.device()), condition):
            yield torch.where(there, part, drawn.float())

    return sampling.walk(map(way, numbers.split(AT_ONCE)), len(numbers))


def page(x: Tensor, known: Tensor, drawn: Tensor) -> np.ndarray:
    """A row an image: the original, the part that was given, and the draws."""
    original = figures.pixels(x)
    inputs = np.where(known.numpy()[:, :, None], original, np.array(figures.TINT, np.uint8))
    draws = [figures.pixels(drawn[:, k]) for k in range(drawn.shape[1])]
    return figures.sheet(
        [original, inputs, *draws], ["original", "given", *(f"draw {k + 1}" for k in range(len(draws)))]
    )
