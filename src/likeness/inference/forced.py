"""Images of an autoregressive model in which some pixels are fixed, wherever these lie.

    p(x_free | x_fixed)  ~  prod_i p(x_i | x_1 ... x_{i-1})

Where all that is fixed comes first, drawing the rest one by one is exact.  Elsewhere what is drawn has not
heard of what is fixed behind it.  So many images are drawn at once, each carries the probability of the fixed
pixels that it has met as its weight, and after a row in which the weights have become unequal the images are
drawn anew in proportion to them: sequential Monte Carlo (Doucet & Johansen, "A Tutorial on Particle Filtering
and Smoothing", 2009, section 3.5; resampling is systematic).  The images are draws from the conditional law in
the limit of many; with few they are near it where the fixed pixels were not too surprising.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..core import Condition, Noise
from ..parts.autoregressive import Autoregressive, choose
from ..parts.causal import Memory
from ..parts.conditionals import level, value

UNEQUAL = 0.5
"""share of the images that must still count (effective sample size); below it they are drawn anew"""


class Drawn(NamedTuple):
    x: Tensor
    """(N, C, H, W): what is not drawn yet is black"""
    log_weight: Tensor
    """(N,) nats, of the fixed pixels since the images were drawn anew"""
    effective: float
    """the least share of the images that counted on the way"""
    y: Condition | None = None
    """the classes that were drawn, of a conditional model"""


@torch.no_grad()
def conditioned(
    model: Autoregressive, x: Tensor, fixed: Tensor, noise: Noise, y: Condition | None = None
) -> Iterator[Drawn]:
    """Yield after each row with something to draw, and at the end.

    x: (C, H, W) on the model's grid.  fixed: bool (H, W).  noise: of N images at once.
    """
    size, n, fixed = model.spec.size, len(noise), fixed.to(noise.device).bool()
    free = ~fixed
    rows = free.any(1).nonzero()[:, 0].tolist()
    whole = x.to(noise.device, next(model.parameters()).dtype)
    image = torch.where(fixed, whole, -1.0).expand(n, -1, -1, -1).clone()
    if not rows:
        yield Drawn(image, torch.zeros(n, device=noise.device), 1.0)
        return
    y = model.choose_class(noise, image, _before(free)) if y is None or y.label is None else y
    chance = noise.uniform(size, size, model.spec.channels)
    shuffle = noise.uniform(size)[0]  # one number a row for all images
    weight, effective = torch.zeros(n, device=noise.device), 1.0
    memory = Memory(size)
    for r in range(rows[-1] + 1):
        memory.row, memory.column = r, 0
        model.row(image, memory, y)
        if r < rows[0]:
            model.take(image, memory, y)
            continue
        for memory.column in range(size):
            weight += _pixel(
                model, image, memory, y, chance[:, r, memory.column], bool(fixed[r, memory.column])
            )
            model.note(image, memory)
        if (share := counted(weight)) < UNEQUAL and r < rows[-1]:
            effective = min(effective, share)
            which = resampled(weight, float(shuffle[r]))
            image, weight = image[which], torch.zeros_like(weight)
            y = None if y is None else y[which]
            memory = _replayed(model, image, y, r)
        yield Drawn(image.clone(), weight, effective, y)
    if rows[-1] + 1 < size:  # what follows has its say, too
        weight = weight - model.surprise(image, y)[:, :, rows[-1] + 1 :].flatten(1).sum(1)
    yield Drawn(image, weight, min(effective, counted(weight)), y)


def _before(free: Tensor) -> Tensor:
    """The pixels that come before the first free one, bool (H, W)."""
    return (free.flatten().cumsum(0) == 0).view_as(free)


def _pixel(
    model: Autoregressive, x: Tensor, memory: Memory, y: Condition | None, chance: Tensor, fixed: bool
) -> Tensor:
    """Draw a pixel of x in place, or leave it and return its log-probability, (N,)."""
    here, nats = memory.here(x), torch.zeros(len(x), device=x.device)
    for k in range(model.spec.channels):
        if k == 0 or model.p.sequential:
            out = model.answer(x, memory, y, False)
        logits = model.p.logits(here, out, k)[:, 0, 0]
        if fixed:
            there = level(here[:, k, 0, 0], model.spec.levels)
            nats += logits.log_softmax(-1).gather(1, there[:, None])[:, 0]
        else:
            drawn = choose(logits / model.temperature, chance[:, k])
            here[:, k, 0, 0] = value(drawn, model.spec.levels).to(x.dtype)
    return nats


def _replayed(model: Autoregressive, x: Tensor, y: Condition | None, upto: int) -> Memory:
    """What the layers would remember, had these images been drawn so far: rows 0 ... upto."""
    memory = Memory(model.spec.size)
    for memory.row in range(upto + 1):
        memory.column = 0
        model.row(x, memory, y)
        model.take(x, memory, y)
    return memory


def counted(log_weight: Tensor) -> float:
    """Effective sample size over the number of images: (sum w)^2 / (n sum w^2)."""
    w = (log_weight - log_weight.max()).double().exp()
    return float(w.sum().square() / (len(w) * w.square().sum()))


def resampled(log_weight: Tensor, u: float) -> Tensor:
    """Which image each of as many new ones is, int64 (N,): systematically, by u in (0, 1)."""
    upto = log_weight.double().softmax(0).cumsum(0)
    at = (torch.arange(len(upto), device=upto.device) + u) / len(upto) * upto[-1]
    return torch.searchsorted(upto, at.clamp(max=upto[-1])).clamp(max=len(upto) - 1)
