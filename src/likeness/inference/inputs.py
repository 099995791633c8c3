"""The images that a run is asked about: held-out ones, or somebody's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import engine, models
from ..core import QUESTIONS, Batch, Condition, Model, Noise, Refusal, Spec, answers, ask
from ..data import Data
from ..data.binarize import drawn
from ..parts.conditionals import level, value


class Inputs(NamedTuple):
    batch: Batch
    names: tuple[str, ...]


def held_out(data: Data, n: int, seed: int) -> Inputs:
    """n of them by chance, or all there are, each with the noise of its own place in the data."""
    rows = np.random.default_rng((seed, 0x91E)).permutation(data.held_out)[:n]
    if not len(rows):
        raise Refusal(f"no image of {data.source} was held out; name images of your own.")
    kind = "point" if data.spec.points else "image"
    names = tuple(f"{kind} {row}" if data.names is None else data.names[int(row)] for row in rows)
    return Inputs(data.take(rows, Noise(torch.from_numpy(rows), engine.derive("given", seed))), names)


def own(
    x: Tensor, y: Condition | None, names: Sequence[str] | None, spec: Spec, seed: int, binarize: bool = False
) -> Inputs:
    """Images (B, C, H, W) in [-1, 1], put on the grid of levels that the model knows.

    binarize: its training images were made black and white by chance, and so are these, as rows 0, 1, ... of
    such a set: cut off at the middle, strokes would be without the ragged edges that the model expects.
    """
    if x.shape[1:] != spec.shape or not len(x):
        raise Refusal(
            f"the images of this run are {spec.shape}, and an array of {tuple(x.shape)} was given; make it "
            f"(B, {', '.join(map(str, spec.shape))})."
        )
    names = tuple(names or (f"image {i}" for i in range(len(x))))
    x = x.float().cpu()
    x = drawn((x + 1) / 2) * 2.0 - 1 if binarize else on_grid(x, spec.levels)
    return Inputs(Batch(x, y, Noise(range(len(x)), engine.derive("own", seed))), names)


def on_grid(x: Tensor, levels: int) -> Tensor:
    """The nearest of the model's levels; what is on the grid already keeps its bits."""
    if not levels:
        return x
    nearest = value(level(x.clamp(-1, 1), levels), levels)
    return torch.where((x - nearest).abs() < 1e-5, x, nearest)


def answer(model: Model, question: str, hint: str = "") -> Any:
    """core.ask, whose refusal names the models that do answer."""
    return ask(model, question, hint if question in answers(model) else hint + who(question))


def who(question: str) -> str:
    """The end of a refusal: which models answer it."""
    able = [name for name in models.NAMES if isinstance(models.load(name), QUESTIONS[question])]
    return f"These do: {', '.join(able) or 'none'}."
