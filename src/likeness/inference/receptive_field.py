"""The receptive field of a prediction: which pixels it depends on, and how much.

Of the prediction of pixel i in an image x, |d log p(x_i | x_1 ... x_{i-1}) / d x_j| for every pixel j: a row
of the Jacobian. The stack of masked convolutions of a plain PixelCNN never sees a wedge of the pixels above
and to the right, whatever its depth, and this shows it (van den Oord et al. 2016b, figure 1).

In float64, so that only what is not there is exactly zero.  A model that looks levels up in a table has no
derivative: there each pixel is changed to another level, and how far log p(x_i) moves is what counts.

log p(x_i) may well change with x_i, whose level it is asked about.  Whether the prediction itself has seen
it, its entropy says: that must change with nothing but what comes before.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import engine, figures
from ..core import Batch, Condition, Model
from ..parts.conditionals import level, value

AT_ONCE = 64
"""changed images looked at in one go"""
FLOOR = 6
"""powers of ten below the strongest that have colours of their own"""
UNSEEN, OWN = figures.TINT, (220, 40, 40)


@dataclass(frozen=True, eq=False)
class Field:
    name: str
    row: int
    column: int
    """of the pixel that is predicted"""
    influence: Tensor
    """(H, W), float64: mean over images, sum over channels; nats for a whole unit of brightness, or for a
    changed level"""
    ahead: Tensor
    """bool (H, W): the pixels, of it and of the later ones, of which the prediction knows what it must not"""
    how: str
    """derivatives, or changed levels"""

    @property
    def before(self) -> Tensor:
        """bool (H, W): the pixels that are drawn earlier."""
        h, w = self.influence.shape
        return torch.arange(h * w).view(h, w) < self.row * w + self.column

    @property
    def seen(self) -> int:
        return int((self.influence[self.before] != 0).sum())

    @property
    def leaks(self) -> int:
        """Pixels that it depends on of itself and the later ones: 0, or the model is no
        factorisation at all."""
        return int(self.ahead.sum())

    @property
    def says(self) -> str:
        own = bool(self.ahead[self.row, self.column])
        leaks = [
            *(["ITSELF"] if own else []),
            *([f"{self.leaks - own} LATER ones"] if self.leaks > own else []),
        ]
        return (f"sees {self.seen} of {int(self.before.sum())} earlier pixels") + (
            f"\nand {' and '.join(leaks)}: a defect" if leaks else ""
        )

    def as_dict(self) -> dict[str, Any]:
        return dict(
            name=self.name,
            row=self.row,
            column=self.column,
            seen=self.seen,
            earlier=int(self.before.sum()),
            later=self.leaks,
            how=self.how,
        )


def places(size: int) -> dict[str, tuple[int, int]]:
    return {"the middle": (size // 2, size // 2), "the last row": (size - 1, size // 2)}


def fields(model: Model, batch: Batch, name: str) -> list[Field]:
    """Of the pixels of places(), over the images of batch, for a model that answers surprise."""
    wide, batch = copy.deepcopy(model).double(), engine.put(batch)
    x = batch.x.double()
    return [_field(wide, x, batch.y, name, *at) for at in places(model.spec.size).values()]


def at(model: Model, x: Tensor, y: Condition | None, row: int, column: int) -> Field:
    """Of one pixel of images x (B, C, H, W), for a model that answers surprise."""
    wide, device = copy.deepcopy(model).double(), engine.device()
    there = None if y is None else y.to(device)
    return _field(wide, x.to(device).double(), there, type(model).__name__.lower(), row, column)


def _field(model: Any, x: Tensor, y: Condition | None, name: str, row: int, column: int) -> Field:
    result, how = _slopes(model.surprise, x, y, row, column).abs().sum((0, 1)), "derivatives"
    # a derivative that stands at its own pixel alone comes from the level that is asked about, not from what
    # is seen
    elsewhere = torch.ones_like(result, dtype=torch.bool)
    elsewhere[row, column] = False
    if result[elsewhere].any() or (row, column) == (0, 0):
        undecided = _slopes(model.entropy, x, y, row, column)
    else:
        result, how = _changes(model, x, y, row, column), "changed levels"
        undecided = _own_changes(model, x, y, row, column)
    ahead = (undecided != 0) & ~_earlier(x.shape[1:], row, column).to(x.device)
    later = (torch.arange(result.numel(), device=x.device) > row * result.shape[1] + column).view_as(result)
    return Field(name, row, column, result.cpu(), (ahead.any(1).any(0) | (later & (result != 0))).cpu(), how)


def _earlier(shape: Sequence[int], row: int, column: int) -> Tensor:
    """bool (C, C, H, W): which sub-pixels come before each channel of a pixel."""
    (n, h, w), here = shape, torch.zeros(shape[0], *shape, dtype=torch.bool)
    here[:] = (torch.arange(h * w) < row * w + column).view(h, w)
    here[:, :, row, column] = torch.ones(n, n).tril(-1).bool()
    return here


def _slopes(nats: Callable[..., Tensor], x: Tensor, y: Condition | None, row: int, column: int) -> Tensor:
    """d nats / dx, (C, C, H, W), of each channel at (row, column): mean size over images, from one pass back;
    zeros where there is no way back."""
    total = x.new_zeros(x.shape[1], *x.shape[1:])
    for i in range(len(x)):
        with torch.enable_grad():
            image = x[i : i + 1].clone().requires_grad_()
            asked = nats(image, None if y is None else y[i : i + 1])[0, :, row, column]
            for c in range(len(asked) if asked.requires_grad else 0):
                slope = torch.autograd.grad(asked[c], image, retain_graph=True, allow_unused=True)[0]
                total[c] += 0 if slope is None else slope[0].abs()
    return total / len(x)


@torch.no_grad()
def _own_changes(model: Any, x: Tensor, y: Condition | None, row: int, column: int) -> Tensor:
    """(C, C, H, W): how far the entropy of each channel moves with the level of each one of its own pixel;
    elsewhere zero."""
    total, far = x.new_zeros(x.shape[1], *x.shape[1:]), _far(x, model.spec.levels)
    for c in range(x.shape[1]):
        other = x.clone()
        other[:, c, row, column] = far[:, c, row, column]
        moved = model.entropy(other, y)[:, :, row, column] - model.entropy(x, y)[:, :, row, column]
        total[:, c, row, column] = moved.abs().mean(0)
    return total


def _far(x: Tensor, levels: int) -> Tensor:
    """Half the range of levels away."""
    return value((level(x, levels) + max(1, levels // 2)) % levels, levels).to(x.dtype)


@torch.no_grad()
def _changes(model: Any, x: Tensor, y: Condition | None, row: int, column: int) -> Tensor:
    """(H, W): how far log p at (row, column) moves when all channels of a pixel go to a level half the range
    away."""
    (h, w), far = x.shape[-2:], _far(x, model.spec.levels)
    total = torch.zeros(h * w, dtype=x.dtype, device=x.device)
    for i in range(len(x)):
        for some in torch.arange(h * w, device=x.device).split(AT_ONCE):
            here = torch.nn.functional.one_hot(some, h * w).view(-1, 1, h, w).bool()
            label = None if y is None else y[i : i + 1].repeat(len(some))
            # both in batches of one size: of another the same image may be rounded otherwise
            met, other = (
                model.surprise(torch.where(moved, far[i], x[i]), label)[:, :, row, column]
                for moved in (torch.zeros_like(here), here)
            )
            total[some] += (other - met).abs().sum(1)
    return total.view(h, w) / len(x)


def page(runs: Sequence[Sequence[Field]], n: int) -> np.ndarray:
    """A column a run, a row a place; the pixel that is predicted is marked, and earlier ones that it does not
    see have a colour of their own."""
    columns = [np.stack([_panel(field) for field in fields]) for fields in runs]
    captions = [[field.says for field in fields] for fields in runs]
    sheet = figures.sheet(columns, [fields[0].name for fields in runs], captions=captions, tile=196)
    marks = [(1 - k / FLOOR, "1" if k == 0 else f"1e-{k}") for k in range(0, FLOOR + 1, 2)]
    how = sorted({field.how for fields in runs for field in fields})
    others = [
        (OWN, "the pixel that is predicted"),
        (UNSEEN, "drawn earlier, and not seen"),
        ((figures.PAPER,) * 3, "drawn later"),
    ]
    text = f"influence on log p, by {' or '.join(how)}, mean of {n} images; the strongest is 1"
    return figures.stacked(sheet, figures.legend(marks, text, others))


def _panel(field: Field) -> np.ndarray:
    """uint8 (H, W, 3), on a logarithmic scale of its own."""
    seen = field.influence.numpy()
    top = max(float(seen[field.before.numpy()].max(initial=0.0)), 1e-300)
    with np.errstate(divide="ignore"):
        image = figures.heat(np.log10(seen / top) / FLOOR + 1)
    image[(seen == 0) & field.before.numpy()] = UNSEEN
    image[(seen == 0) & ~field.before.numpy()] = figures.PAPER
    image[field.row, field.column] = OWN
    return image
