"""The receptive field of a prediction: which pixels it depends on, and how much.

Of the prediction of pixel i in an image x, |d log p(x_i | x_1 ... x_{i-1}) / d x_j| for every pixel j: a row of the Jacobian.
The stack of masked convolutions of a plain PixelCNN never sees a wedge of the pixels above and to the right, whatever its
depth, and this shows it (van den Oord et al. 2016b, figure 1).

In float64, so that only what is not there is exactly zero.  A model that looks levels up in a table has no derivative:
there each pixel is changed to another level, and how far log p(x_i) moves is what counts.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import engine, pictures
from .core import Batch, Model
from .parts.conditionals import level, value

AT_ONCE = 64
"""changed images looked at in one go"""
FLOOR = 6
"""powers of ten below the strongest that have colours of their own"""
UNSEEN, OWN = pictures.TINT, (220, 40, 40)


@dataclass(frozen=True, eq=False)
class Field:
    name: str
    row: int
    column: int
    """of the pixel that is predicted"""
    influence: Tensor
    """(H, W), float64: mean over images, sum over channels; nats for a whole unit of brightness, or for a changed level"""
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
        """Later pixels that it depends on: 0, or the model is no factorisation at all."""
        after = ~self.before
        after[self.row, self.column] = False
        return int((self.influence[after] != 0).sum())

    @property
    def says(self) -> str:
        leaks = f"\nand {self.leaks} LATER ones: a defect" if self.leaks else ""
        return f"sees {self.seen} of {int(self.before.sum())} earlier pixels{leaks}"

    def as_dict(self) -> dict[str, Any]:
        return dict(name=self.name, row=self.row, column=self.column, seen=self.seen, earlier=int(self.before.sum()), later=self.leaks, how=self.how)


def places(size: int) -> dict[str, tuple[int, int]]:
    return {"the middle": (size // 2, size // 2), "the last row": (size - 1, size // 2)}


def fields(model: Model, batch: Batch, name: str) -> list[Field]:
    """Of the pixels of places(), over the images of batch, for a model that answers surprise."""
    wide, batch = copy.deepcopy(model).double(), engine.put(batch)
    x = batch.x.double()
    return [_field(wide, x, batch.y, name, *at) for at in places(model.spec.size).values()]


def _field(model: Any, x: Tensor, y: Tensor | None, name: str, row: int, column: int) -> Field:
    found = _slopes(model, x, y, row, column)
    # a derivative that stands at its own pixel alone comes from the level that is asked about, not from what is seen
    elsewhere = torch.ones_like(found, dtype=torch.bool)
    elsewhere[row, column] = False
    if found[elsewhere].any() or (row, column) == (0, 0):
        return Field(name, row, column, found.cpu(), "derivatives")
    return Field(name, row, column, _changes(model, x, y, row, column).cpu(), "changed levels")


def _slopes(model: Any, x: Tensor, y: Tensor | None, row: int, column: int) -> Tensor:
    """(H, W) from one pass back through the network; zeros where there is no way back."""
    total = torch.zeros(x.shape[-2:], dtype=x.dtype, device=x.device)
    for i in range(len(x)):
        with torch.enable_grad():
            image = x[i : i + 1].clone().requires_grad_()
            nats = model.surprise(image, None if y is None else y[i : i + 1])[:, :, row, column]
            slopes = [torch.autograd.grad(nats[0, c], image, retain_graph=True, allow_unused=True)[0] for c in range(nats.shape[1]) if nats.requires_grad]
        total += sum((s[0].abs().sum(0) for s in slopes if s is not None), torch.zeros_like(total))
    return total / len(x)


@torch.no_grad()
def _changes(model: Any, x: Tensor, y: Tensor | None, row: int, column: int) -> Tensor:
    """(H, W): how far log p at (row, column) moves when all channels of a pixel go to a level half the range away."""
    h, w, levels = *x.shape[-2:], model.spec.levels
    far = value((level(x, levels) + max(1, levels // 2)) % levels, levels).to(x.dtype)
    total = torch.zeros(h * w, dtype=x.dtype, device=x.device)
    for i in range(len(x)):
        label = None if y is None else y[i : i + 1]
        met = model.surprise(x[i : i + 1], label)[:, :, row, column]
        for some in torch.arange(h * w, device=x.device).split(AT_ONCE):
            here = torch.nn.functional.one_hot(some, h * w).view(-1, 1, h, w).bool()
            other = model.surprise(torch.where(here, far[i], x[i]), None if label is None else label.expand(len(some)))[:, :, row, column]
            total[some] += (other - met).abs().sum(1)
    return total.view(h, w) / len(x)


def page(runs: Sequence[Sequence[Field]], n: int) -> np.ndarray:
    """A column a run, a row a place; the pixel that is predicted is marked, and earlier ones that it does not see have a colour of their own."""
    columns = [np.stack([_panel(field) for field in fields]) for fields in runs]
    captions = [[field.says for field in fields] for fields in runs]
    sheet = pictures.sheet(columns, [fields[0].name for fields in runs], captions=captions, tile=196)
    marks = [(1 - k / FLOOR, "1" if k == 0 else f"1e-{k}") for k in range(0, FLOOR + 1, 2)]
    how = sorted({field.how for fields in runs for field in fields})
    others = [(OWN, "the pixel that is predicted"), (UNSEEN, "drawn earlier, and not seen"), ((pictures.PAPER,) * 3, "drawn later")]
    text = f"influence on log p, by {' or '.join(how)}, mean of {n} images; the strongest is 1"
    return pictures.stacked(sheet, pictures.legend(marks, text, others))


def _panel(field: Field) -> np.ndarray:
    """uint8 (H, W, 3), on a logarithmic scale of its own."""
    seen = field.influence.numpy()
    top = max(float(seen[field.before.numpy()].max(initial=0.0)), 1e-300)
    with np.errstate(divide="ignore"):
        image = pictures.heat(np.log10(seen / top) / FLOOR + 1)
    image[(seen == 0) & field.before.numpy()] = UNSEEN
    image[(seen == 0) & ~field.before.numpy()] = pictures.PAPER
    image[field.row, field.column] = OWN
    return image
