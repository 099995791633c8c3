"""Samples of a run, number by number: sample i is sample i in whatever batch, process or order it
is drawn."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import engine
from ..core import Condition, Model, Refusal, ask, check_options, words
from ..data import Data

CHUNK = 2**21
"""values of the images asked about in one go"""
MOST = 256
"""images drawn in one go, at most"""


def tuned(model: Model, **live: Any) -> Model:
    """The same weights with some live options set; the model itself keeps its own."""
    known = {f.name for f in fields(model) if f.metadata.get("live")}
    if wrong := sorted(live.keys() - known):
        there = f"live options are: {', '.join(sorted(known))}" if known else "it has none"
        flags = frozenset(f"--{name.replace('_', '-')}" for name in known) | {"-n", "--seed", "--label"}
        hint = words.argument(wrong[0], live[wrong[0]], words.Asked("sample", flags))
        raise Refusal(
            f"{wrong[0]} is not an option that can be set on a trained {type(model).__name__.lower()}; "
            f"{hint or f'{there}.'}"
        )
    twin = copy.copy(model)
    for name, value in live.items():
        setattr(twin, name, value)
    check_options(type(model).__name__.lower(), twin)
    return twin


# What a sample is a sample of


def conditions(
    model: Model,
    numbers: np.ndarray,
    data: Data | None = None,
    *,
    label: int | None = None,
    classes: np.ndarray | None = None,
) -> Condition | None:
    """What samples number `numbers`, int64 (n,), are samples of, by what the model takes: a Condition of n
    rows in memory, or None.

    Classes that training images have take turns by the number, unless `label` is the class of all of them,
    or `classes` (n,) has that of each.  Of a model that takes a text or an image, sample i is of what
    held-out example i has, all of them in turns (training examples where none is held out).  Raises Refusal
    where such a model is asked without its data.
    """
    parts = model.spec.parts(model.takes)
    whole, labels = tuple(name for name in parts if name != "label"), "label" in parts
    learnt = np.array(model.spec.learnt or (0,))
    turns = learnt[numbers % len(learnt)] if classes is None else classes
    of = (
        torch.from_numpy(np.asarray(turns if label is None else np.full(len(numbers), label), np.int64))
        if labels
        else None
    )
    if not whole:
        return None if of is None else Condition(of)
    beside = _beside(model, numbers, data, whole)
    own = beside.label if label is None and classes is None and labels else of
    return Condition(
        own, beside.tokens if "tokens" in whole else None, beside.image if "image" in whole else None
    )


def _beside(model: Model, numbers: np.ndarray, data: Data | None, whole: tuple[str, ...]) -> Condition:
    """What examples of the data have beside themselves: the parts `whole`, and their class."""
    name, wanted = (
        type(model).__name__.lower(),
        " and ".join({"tokens": "a text", "image": "an image"}[t] for t in whole),
    )
    if data is None:
        raise Refusal(f"{name} draws from {wanted}, which only its data have; ask the run where these are.")
    there = None if data.other is None else _turn(data.other, numbers)
    y = data.take(_turn(data, numbers), there=there).y
    if lacking := [t for t in whole if y is None or t not in y.parts()]:
        raise Refusal(
            f"{name} draws from {wanted}, and the examples of {data.source} have no {lacking[0]}; name the "
            "data that it was trained on."
        )
    assert y is not None
    return y


def _turn(data: Data, numbers: np.ndarray) -> np.ndarray:
    """Held-out rows number `numbers`, all of them in turns; training rows where none is held out."""
    rows = data.held_out if len(data.held_out) else data.train
    return rows[numbers % len(rows)]


def shares(data: Data, n: int, seed: int) -> np.ndarray | None:
    """Classes of n samples that are as frequent as in the training images, or None: else unequal classes
    alone would tell samples from data."""
    if data.y is None or not data.spec.labels or not len(data.labelled.train):
        return None
    known = np.random.default_rng((seed, 0xC1A)).permutation(data.y[data.labelled.train])
    return np.resize(known, n)


# Walking


@dataclass(frozen=True, eq=False)
class State:
    """How far the drawing of n images is."""

    x: Tensor
    """(m, C, H, W): the batch that is being drawn, as it is now and where it is computed"""
    first: int
    """how many of the n come before it"""
    n: int
    done: bool = False
    """nothing better follows: x is float and in memory"""
    before: tuple[Tensor, ...] = ()
    """the batches that are done, if they are kept"""

    @property
    def share(self) -> float:
        return (self.first + len(self.x) * self.done) / max(self.n, 1)

    @property
    def images(self) -> Tensor:
        """All that there is so far, (first + m, C, H, W), float and in memory."""
        return torch.cat([*self.before, self.x.float().cpu()])


@torch.no_grad()
def walk(ways: Iterable[Iterable[Tensor]], n: int) -> Iterator[State]:
    """Batch after batch, each from its first version (m, C, H, W) to its last, which comes once more when it
    is in memory."""
    first = 0
    for way in ways:
        for x in way:
            yield State(x, first, n)
        yield State(x.float().cpu(), first, n, done=True)
        first += len(x)


def draw(
    model: Model, y: Condition | None, n: int, seed: int, first: int = 0, at_once: int = MOST
) -> Iterator[State]:
    """Samples number first ... first+n-1 of this seed, each in whatever company, at most `at_once` together.
    y: n rows, from conditions()."""
    size = max(1, min(at_once, CHUNK // model.spec.dims))
    sample = ask(model, "sample")

    def way(i: int) -> Iterable[Tensor]:
        m = min(size, n - i)
        states: Iterable[Tensor] = sample(
            engine.sampling_noise(seed, first + i, m), None if y is None else y[i : i + m].to(engine.device())
        )
        return states

    return walk(map(way, range(0, n, size)), n)


def kept(states: Iterable[State]) -> Iterator[State]:
    """The same with all that is done beside what is being drawn; the last one has everything."""
    before: tuple[Tensor, ...] = ()
    for state in states:
        yield replace(state, before=before)
        if state.done:
            before = (*before, state.x)


def batches(states: Iterable[State]) -> Iterator[Tensor]:
    """Only what is done: (m, C, H, W), float and in memory."""
    return (state.x for state in states if state.done)


def samples(model: Model, n: int, seed: int, data: Data | None = None, **of: Any) -> Tensor:
    """Samples 0 ... n-1 of the model, (n, C, H, W) in memory; images in [-1, 1].  of: label or classes, as
    conditions() takes them."""
    x = torch.cat(list(batches(draw(model, conditions(model, np.arange(n), data, **of), n, seed))))
    return x.clamp(-1, 1) if model.spec.levels else x
