"""Samples of a run, number by number: sample i is sample i in whatever batch, process or order it is drawn."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import engine
from ..core import Condition, Model, Refusal, Samples, check_options, final
from ..data import Data
from ..runs.run import Run

CHUNK = 2**21
"""values of the images asked about in one go"""


def tuned(model: Model, **live: Any) -> Model:
    """The same weights with some live options set; the model itself keeps its own."""
    known = {f.name for f in fields(model) if f.metadata.get("live")}
    if wrong := sorted(live.keys() - known):
        there = f"live options are: {', '.join(sorted(known))}" if known else "it has none"
        raise Refusal(f"{wrong[0]} is not an option that can be set on a trained {type(model).__name__.lower()}; {there}.")
    twin = copy.copy(model)
    for name, value in live.items():
        setattr(twin, name, value)
    check_options(type(model).__name__.lower(), twin)
    return twin


def samples(run: Run, model: Model, n: int, seed: int) -> Tensor:
    """Samples 0 ... n-1 of the run, (n, C, H, W) in [-1, 1] in memory, drawn in batches; classes take turns."""
    return torch.cat(list(draw(run, model, n, seed)))


def draw(run: Run, model: Model, n: int, seed: int, classes: np.ndarray | None = None) -> Iterator[Tensor]:
    """The same, batch by batch; classes (n,): of each sample, or they take turns."""
    assert isinstance(model, Samples)
    size, labels = max(1, min(256, CHUNK // run.config.spec.dims)), run.config.spec.labels
    for i in range(0, n, size):
        m = min(size, n - i)
        turns = np.arange(i, i + m) % max(labels, 1) if classes is None else classes[i : i + m]
        y = Condition(torch.from_numpy(turns).to(engine.device())) if labels else None
        with torch.no_grad():
            x = final(model.sample(engine.sampling_noise(seed, i, m), y))
        yield (x.float().clamp(-1, 1) if run.config.spec.levels else x.float()).cpu()


def shares(data: Data, n: int, seed: int) -> np.ndarray | None:
    """Classes of n samples that are as frequent as in the training images, or None: else unequal classes alone would tell samples from data."""
    if data.y is None or not data.spec.labels or not len(data.train):
        return None
    known = np.random.default_rng((seed, 0xC1A)).permutation(data.y[data.train])
    return np.resize(known, n)
