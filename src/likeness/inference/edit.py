"""Images drawn anew from where they are still seen through noise.

Meng et al., "SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations", 2022.  Noise
is added until what is wrong with an image is hidden, a rough stroke or a pasted patch, and what is right with
it, its place and colours, is not; then the model takes the noise away.  The strength decides between the two:
0 keeps the image, 1 forgets it.

Draw k of image i is a function of seed, i and k alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from .. import engine, figures
from ..core import Condition, Noise, Redraws, Refusal, final
from . import sampling
from .complete import AT_ONCE, MOST


def redraw(model: Redraws, x: Tensor, y: Condition | None, strength: float, draws: int, seed: int) -> Tensor:
    """The end of redrawing(): (B, draws, C, H, W) in memory."""
    return final(sampling.kept(redrawing(model, x, y, strength, draws, seed))).images.unflatten(
        0, (len(x), draws)
    )


def redrawing(
    model: Redraws, x: Tensor, y: Condition | None, strength: float, draws: int, seed: int
) -> Iterator[sampling.State]:
    """Each of x (B, C, H, W) `draws` times in a row, from x itself on ever better.  y: what they shall
    become."""
    if not 0 <= strength <= 1:
        raise Refusal(
            f"--strength {strength:g} is no share of the way from 0, which keeps the image, to 1, which "
            "forgets it; type --strength 0.5 for half of it."
        )
    if draws > MOST:
        raise Refusal(
            f"--draws {draws} of one image are more than have randomness of their own; type --draws {MOST} "
            "or less."
        )
    numbers = (torch.arange(len(x))[:, None] * MOST + torch.arange(draws)).flatten()
    key = engine.derive("redraw", seed)

    def way(some: Tensor) -> Iterator[Tensor]:
        image = some // MOST
        part, condition = x[image].to(engine.device()), None if y is None else y[image].to(engine.device())
        return chain([part], model.redraw(part, strength, Noise(some, key, engine.device()), condition))

    return sampling.walk(map(way, numbers.split(AT_ONCE)), len(numbers))


def page(x: Tensor, drawn: Tensor) -> np.ndarray:
    """A row an image: the original, and the draws."""
    draws = [figures.pixels(drawn[:, k]) for k in range(drawn.shape[1])]
    return figures.sheet(
        [figures.pixels(x), *draws], ["original", *(f"draw {k + 1}" for k in range(len(draws)))]
    )
