"""How surprising an image is to a model, and where in it: -log2 p of the whole, of each pixel, and what the
model expected that to be.

A low number is not always a likely image: one colour is cheap for most models, whatever they were trained on
(Nalisnick et al., "Do Deep Generative Models Know What They Don't Know?", 2019).  So the rank among held-out
images stands beside it, and both ends of that are unusual.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import engine, figures, storage
from ..core import Batch, Model, Refusal, Surprises, ask, given
from .inputs import Inputs, who

CHUNK = 2**18
"""values of the images asked about in one go"""
REFERENCE = 500
"""held-out images among which an image is ranked"""
ROWS = 32
"""images on one picture"""
LONGEST = 40
"""letters of a file name on a picture"""


@dataclass(frozen=True, eq=False, repr=False)
class Scored:
    """What a model makes of some images, in their order."""

    x: Tensor
    """(B, C, H, W) in [-1, 1], as the model saw them"""
    names: tuple[str, ...]
    bits: np.ndarray
    """-log2 p / dims, (B,)"""
    of: str
    """what p is of beside the image, such as " given the class" """
    kind: str
    """exact, upper bound or estimate"""
    rank: np.ndarray
    """(B,), share of held-out images that are less surprising; NaN where none are known"""
    against: int
    """how many those are"""
    levels: int
    surprise: Tensor | None
    """-log2 p of each sub-pixel, (B, C, H, W), for a model that knows"""
    entropy: Tensor | None
    """what the model expected that to be"""
    recipe: dict[str, Any]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def order(self) -> np.ndarray:
        """The most surprising first."""
        return np.argsort(-self.bits, kind="stable")

    def rows(self) -> list[dict[str, Any]]:
        """An image each, the most surprising first; nats for black-and-white ones, as in the papers."""
        return [self._row(int(i)) for i in self.order]

    def _row(self, i: int) -> dict[str, Any]:
        each, dims = float(self.bits[i]), self.x[0].numel()
        row = dict(name=self.names[i], bits_per_dim=each, bits=each * dims)
        nats = dict(nats=each * dims * math.log(2)) if self.levels == 2 else {}
        return row | nats | dict(rank=float(self.rank[i]) if self.against else None)

    def page(self) -> np.ndarray:
        """A row an image, the most surprising first: the image, its surprise and entropy, of colour images
        the surprise of each channel too."""
        if self.surprise is None or self.entropy is None:
            raise Refusal(
                "these are numbers of whole images; maps come from a model that answers surprise, unless "
                f"maps=False.  {who('surprise')}"
            )
        chosen = self.order[:ROWS]
        x, met, expected = self.x[chosen], self.surprise[chosen], self.entropy[chosen]
        maps = {"surprise": met.sum(1), "entropy": expected.sum(1)} | _channels(met)
        top = _round(max(float(maps[name].quantile(0.998)) for name in ("surprise", "entropy")))
        columns = [figures.pixels(x), *(figures.heat(_place(m.numpy(), top)) for m in maps.values())]
        sheet = figures.sheet(columns, ["image", *maps], [self._note(int(i)) for i in chosen], tile=84)
        marks = [
            (float(_place(np.array(share * top), top)), f"{share * top:g}") for share in (0, 0.1, 0.5, 1)
        ]
        return figures.stacked(
            sheet, figures.legend(marks, "bits a pixel: -log2 p, and what the model expected it to be")
        )

    def _note(self, i: int) -> str:
        name = self.names[i] if len(self.names[i]) <= LONGEST else f"...{self.names[i][3 - LONGEST :]}"
        rank = f"\nmore than {self.rank[i]:.0%} of held-out images" if self.against else ""
        return f"{name}\n{self.bits[i]:.3f} bits/dim{self.of}{rank}"

    def save(self, target: str | Path) -> Path:
        """The maps as a picture (.png, .jpg, .webp), or all numbers as an array file (.npz)."""
        target = Path(target)
        ending = target.suffix.lower()
        if ending not in (*figures.ENDINGS, ".npz"):
            raise Refusal(
                f"{target}: maps are written as a picture ({', '.join(figures.ENDINGS)}), or as numbers into "
                ".npz."
            )
        page = self.page() if ending != ".npz" else None
        storage.make(target.parent)
        if page is not None:
            figures.write(target, page, self.recipe)
        else:
            storage.write(target, self._arrays())
        return target

    def _arrays(self) -> bytes:
        about = dict(
            names=np.array(self.names),
            bits_per_dim=self.bits,
            rank=self.rank,
            recipe=np.array(json.dumps(self.recipe, default=str)),
        )
        for name, m in (("surprise_bits", self.surprise), ("entropy_bits", self.entropy)):
            if m is not None:
                about[name] = m.numpy().astype(np.float32)
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **about)
        return file.getvalue()

    def _repr_png_(self) -> bytes | None:
        return None if self.surprise is None else figures.png(self.page(), self.recipe)

    def __repr__(self) -> str:
        lines = [
            f"{row['name']}: {row['bits_per_dim']:.3f} bits/dim{self.of}"
            + (f", rank {row['rank']:.0%}" if self.against else "")
            for row in self.rows()
        ]
        return "\n".join(lines)


def score(
    model: Model, inputs: Inputs, reference: Inputs | None, maps: bool, recipe: dict[str, Any]
) -> Scored:
    """Ask about every image, and about the held-out ones it is ranked among."""
    bits, kind = _bits(model, inputs.batch)
    usual = np.sort(_bits(model, reference.batch)[0]) if reference else np.empty(0)
    met, expected = _maps(model, inputs.batch) if maps and isinstance(model, Surprises) else (None, None)
    return Scored(
        inputs.batch.x,
        inputs.names,
        bits,
        given(model.spec.parts(model.takes)),
        kind,
        rank(bits, usual),
        len(usual),
        model.spec.levels,
        met,
        expected,
        recipe,
    )


def rank(bits: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Share of `usual` (sorted) below each of bits; of those equal to it half."""
    below, upto = np.searchsorted(usual, bits, "left"), np.searchsorted(usual, bits, "right")
    return (below + upto) / 2 / len(usual) if len(usual) else np.full(len(bits), np.nan)


def _bits(model: Model, batch: Batch) -> tuple[np.ndarray, str]:
    result = _each(ask(model, "bits_per_dim"), batch)
    return torch.cat([bits.values.double().cpu() for bits in result]).numpy(), result[0].kind


def _maps(model: Surprises, batch: Batch) -> tuple[Tensor, Tensor]:
    result = _each(lambda part: (model.surprise(part.x, part.y), model.entropy(part.x, part.y)), batch)
    met, expected = (torch.cat([nats.float().cpu() for nats in both]) / math.log(2) for both in zip(*result))
    return met, expected


@torch.no_grad()
def _each(ask: Callable[[Batch], Any], batch: Batch) -> list[Any]:
    return [ask(engine.put(part)) for part in batch.split(max(1, min(256, CHUNK // batch.x[0].numel())))]


def _channels(met: Tensor) -> dict[str, Tensor]:
    """A map for each channel, where there are several."""
    n = met.shape[1]
    names = ("of red", "of green", "of blue") if n == 3 else tuple(f"of channel {c + 1}" for c in range(n))
    return {} if n == 1 else {name: met[:, c] for c, name in enumerate(names)}


def _place(bits: np.ndarray, top: float) -> np.ndarray:
    """Where on the scale of colours.  By the square root: between a pixel that is certain and one that is a
    toss-up lies one bit, and surprises have ten."""
    return np.sqrt(np.clip(bits, 0, None) / top)


def _round(value: float) -> float:
    """The next round number."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 1.5, 2, 3, 5, 7, 10) if m * power >= value * (1 - 1e-9))
