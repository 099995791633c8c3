"""Images that a network takes for something else, though hardly a pixel has changed.

    x* = argmin  J(x)   where |x - x_0| <= budget and 0 <= x <= 255 and x is whole

Szegedy et al., "Intriguing properties of neural networks", 2014, found them; Goodfellow, Shlens & Szegedy,
"Explaining and Harnessing Adversarial Examples", 2015, that a step along the sign of the slope is enough;
Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018, walk in many such steps
and return to the budget after each.  J is the log odds against the class that is aimed at, or those for the
one that is to be left.

A file has 256 levels, and what lives between them is gone when it is saved.  So the network is shown rounded
images at every step, the slope goes through the rounding as if it were not there, and the budget is that of
the rounded image.  Whether it worked is asked of the file, read again as anybody would read it.

    linf    largest change of any number, in levels of 255
    l2      root of the sum of squared changes, of brightness 0 to 1
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import figures
from ..backbones.layers import Probe
from ..core import Refusal, Spec
from ..data import user_images
from ..engine.minimize import minimize
from .dream import State, Steepest
from .saliency import label, likeliest, logits, odds

STEPS = 40
PACE = 0.2
"""first step, as a share of the budget; with those after it five budgets are walked at most"""
BUDGETS = {"linf": 2.0, "l2": 2.0}
TOP = 255


class Budget(NamedTuple):
    norm: str
    size: float

    def check(self) -> None:
        if self.norm not in BUDGETS:
            raise Refusal(f"a budget is counted in one of {', '.join(BUDGETS)}, and not in {self.norm!r}.")
        least = 1.0 if self.norm == "linf" else 1 / TOP
        if not least <= self.size < math.inf:
            raise Refusal(
                f"a budget of {self.size:g} in {self.norm} leaves no room for a change that a file can "
                f"hold; the least is {least:.3g}."
            )

    @property
    def levels(self) -> float:
        """The same in levels."""
        return self.size if self.norm == "linf" else TOP * self.size

    def hold(self, change: Tensor) -> Tensor:
        """The nearest change (B, ...), in levels, that is within."""
        if self.norm == "linf":
            return change.clamp(-self.levels, self.levels)
        size = change.flatten(1).norm(dim=1).clamp(min=1e-12)
        return change * (self.levels / size).clamp(max=1).view(-1, *[1] * (change.ndim - 1))

    def settle(self, change: Tensor) -> Tensor:
        """A change (B, ...) that is within, in whole levels, and still within: rounded, but towards zero
        where that would be too much."""
        if self.norm == "linf":
            return change.round().clamp(-math.floor(self.levels), math.floor(self.levels))
        return torch.stack([self._trimmed(row) for row in change.flatten(1)]).view_as(change)

    def _trimmed(self, row: Tensor) -> Tensor:
        """Of the numbers whose size rounding has raised, those that it raised most go back first, until the
        rest may stay."""
        whole, lower = row.round(), row.trunc()
        too_much = float(whole.square().sum(dtype=torch.float64)) - self.levels**2
        if too_much <= 0:
            return whole
        order = (whole.abs() - row.abs()).argsort(descending=True, stable=True)
        saved = (whole.square() - lower.square())[order].double().cumsum(0)
        back = order[: int((saved < too_much).sum()) + 1]
        return whole.index_copy(0, back, lower[back])


def levels(x: Tensor) -> Tensor:
    """(B, C, H, W) in [-1, 1] as whole numbers from 0 to 255, in floats."""
    return ((x + 1) * (TOP / 2)).round().clamp(0, TOP)


def fool(net: Probe, x: Tensor, y: Tensor, budget: Budget, aim: bool, steps: int = STEPS) -> Iterator[State]:
    """Yield the best image so far that is within the budget around x (1, C, H, W) and on the 256 levels of a
    file; the last counts.

    y (1,): the class that it shall be taken for if `aim`, else the one that it shall no longer be taken for.
    The loss is the log odds of failure: below zero the other classes are together less (more) likely than y.
    """
    budget.check()
    first = levels(x)

    @torch.no_grad()
    def image(change: Tensor) -> Tensor:
        whole = first + budget.settle(budget.hold(change))
        return whole.clamp(0, TOP) / (TOP / 2) - 1

    def loss(change: Tensor) -> Tensor:
        shown = image(change) + (change - change.detach()) * (2 / TOP)
        result = odds(net, shown, y)
        return -result if aim else result

    def hold(change: Tensor) -> None:
        change.copy_(budget.hold((first + change).clamp(0, TOP) - first))

    best = State(0.0, x, math.inf)
    for state in minimize(
        [torch.zeros_like(first)],
        loss,
        steps,
        PACE * budget.levels,
        optimizer=partial(Steepest, norm=budget.norm),
        hold=hold,
    ):
        if float(state.loss) < best.loss:
            best = State(0.0, image(state.at[0]), float(state.loss))
        yield best._replace(share=state.step / max(steps, 1))


class Verdict(NamedTuple):
    """What became of it, by its file."""

    before: int
    """class"""
    after: int
    sure_before: float
    """of these classes"""
    sure_after: float
    sure_of_y: float
    """of the class that was aimed at, or to be left"""
    linf: int
    """largest change, in levels"""
    l2: float
    """root of the sum of squared changes, of brightness 0 to 1"""
    within: bool
    """the budget"""
    fooled: bool
    """the network, within the budget"""


def judge(net: Probe, x: Tensor, y: int, aim: bool, budget: Budget, file: Path) -> Verdict:
    """Ask the file, which should be of the size of x (1, C, H, W)."""
    again = user_images.images(str(file), Spec(x.shape[1], x.shape[2]), {}, 1).x.to(x)
    change = (levels(again) - levels(x)).double()
    linf, l2 = int(change.abs().max()), float(change.square().sum().sqrt()) / TOP
    within = (linf if budget.norm == "linf" else l2) <= budget.size * (1 + 1e-9)
    (before, sure_before), (after, sure_after) = (
        tuple(v[0].item() for v in likeliest(net, image)) for image in (x, again)
    )
    with torch.no_grad():
        sure_of_y = float(logits(net, again).softmax(1)[0, y])
    success = after == y if aim else after != y
    return Verdict(
        int(before), int(after), sure_before, sure_after, sure_of_y, linf, l2, within, within and success
    )


def worn(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What happens to images (1, C, H, W) on their way: each by its name, of the same size.  A change that no
    eye sees seldom survives it (Kurakin, Goodfellow & Bengio 2017, section 4)."""
    image, (high, wide) = Image.fromarray(figures.pixels(x)[0]), x.shape[2:]

    def back(shown: Image.Image) -> Tensor:
        whole = np.asarray(shown.resize((wide, high), Image.Resampling.BICUBIC))
        return torch.from_numpy(whole.copy()).permute(2, 0, 1)[None].to(x) / (TOP / 2) - 1

    yield "PNG", back(image)
    for quality in (90, 50):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        yield f"JPEG {quality}", back(Image.open(file))
    yield (
        "half the size",
        back(image.resize((max(1, wide // 2), max(1, high // 2)), Image.Resampling.LANCZOS)),
    )
    edge = (max(1, round(wide / 16)), max(1, round(high / 16)))
    yield "cropped by 1/16", back(image.crop((*edge, wide - edge[0], high - edge[1])))


def page(net: Probe, x: Tensor, fooled: Tensor, verdict: Verdict) -> np.ndarray:
    """The image, what was added, magnified around grey, and the result, all (1, C, H, W), with the likeliest
    classes of both."""
    change = levels(fooled) - levels(x)
    times = (TOP // 2) // max(verdict.linf, 1)
    added = figures.pixels(change * times / (TOP / 2))
    words = [
        _likeliest(net, x),
        f"at most {verdict.linf} of 255 levels\nL2 {verdict.l2:.3g}",
        _likeliest(net, fooled),
    ]
    columns = [figures.pixels(x), added, figures.pixels(fooled)]
    return figures.sheet(
        columns,
        ["image", f"what was added, {times} times", "result"],
        captions=[[w] for w in words],
        tile=TILE,
    )


TILE = 200


def _likeliest(net: Probe, x: Tensor) -> str:
    with torch.no_grad():
        p, y = logits(net, x).softmax(1)[0].sort(descending=True)
    return "\n".join(f"{q:.1%} {label(net, i)}" for q, i in zip(p[:3].tolist(), y[:3].tolist()))
