"""One image, sub-pixel by sub-pixel, and what the model holds possible before each.

Drawing walks as `likeness sample` and `likeness complete` do, with their randomness, and so ends at their
images; it may be stopped anywhere, and a Plan says all that the image is a function of.  A sub-pixel may be
fixed to a level.  Those after it are drawn from p(rest | it and all before); those before it have not heard
of it, since an autoregressive model knows no other order.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from .. import engine, figures, storage
from ..core import Condition, Model, Noise, Predicts, Refusal
from ..parts.autoregressive import choose
from ..parts.conditionals import level, value
from .inputs import answer

MOST = 3072
"""sub-pixels that an address holds"""


class Place(NamedTuple):
    """A sub-pixel, counted from 0."""

    row: int
    column: int
    channel: int

    @classmethod
    def number(cls, place: int, channels: int, size: int) -> Place:
        """Sub-pixel number `place` in the order of drawing."""
        pixel, channel = divmod(place, channels)
        return cls(*divmod(pixel, size), channel)


@dataclass(frozen=True)
class Plan:
    """All that an image is a function of, beside the model and what it is told."""

    seed: int = 0
    number: int = 0
    """of the sample of this seed; of a completion, of the draw"""
    known: int = 0
    """pixels of `start` that are kept, from the first on; 0 draws a whole image"""
    start: Tensor | None = field(default=None, compare=False)
    """(C, H, W) in [-1, 1], on the grid of levels"""
    fixed: Mapping[int, int] = field(default_factory=dict)
    """the level of sub-pixels that are not drawn, by their number in the order of drawing"""
    heat: tuple[tuple[int, float], ...] = ((0, 1.0),)
    """from which sub-pixel on which temperature, rising"""

    def temperature(self, place: int) -> float:
        return next((t for first, t in reversed(self.heat) if first <= place), 1.0)

    def noise(self, draws: int = 1) -> Noise:
        """Of `likeness sample`, or of `likeness complete` where a part is known; of so many draws from
        `number` on."""
        if not self.known:
            return engine.sampling_noise(self.seed, self.number, draws)
        numbers = range(self.number, self.number + draws)
        return Noise(numbers, engine.derive("complete", self.seed), engine.device())

    def facts(self) -> dict[str, Any]:
        """For a recipe."""
        return dict(
            seed=self.seed,
            number=self.number,
            known=self.known,
            fixed={str(k): v for k, v in sorted(self.fixed.items())},
            heat=[list(pair) for pair in self.heat],
        )

    def studio(self, upto: int, of: int, label: int | None, levels: int) -> dict[str, Any]:
        """What a picture says of the screen that shows its plan; of what is kept only as much as an address
        holds."""
        plan = self.facts() | dict(of=of, label=label)
        if self.known:
            start = None if self.start is None else level(self.start, levels).flatten().tolist()
            plan |= dict(start=start if start and len(start) <= MOST else None)
        return dict(screen="pixels", hash=dict(plan=plan, upto=upto) if plan.get("start", 1) else {})


class Drawing:
    """`draws` images of a plan, as far as they are: the same arithmetic whenever and however often it is
    interrupted."""

    def __init__(self, model: Model, plan: Plan, y: Condition | None = None, draws: int = 1):
        """y: what the images are of, one row each.  Raises Refusal where the model does not draw so, or the
        plan does not fit its images."""
        answer(model, "predictive")
        self.model, self.plan, self.spec = cast(Predicts, model), plan, model.spec
        self._check()
        weight = next(model.parameters())
        self.y = None if y is None else y.to(weight.device)
        self.x = torch.full((draws, *self.spec.shape), -1.0, device=weight.device, dtype=weight.dtype)
        self.place = plan.known * self.spec.channels
        """sub-pixels that are known"""
        self.bits = torch.full((draws, *self.spec.shape), math.nan)
        """-log2 p of each, at temperature 1, (draws, C, H, W); NaN where none is drawn"""
        self.entropy = self.bits.clone()
        """what that was expected to be"""
        self.log_p: Tensor | None = None
        """log p of every level of the sub-pixel that was drawn last, (draws, levels)"""
        if plan.known:
            self._keep()
        self.chance = plan.noise(draws).uniform(self.spec.size, self.spec.size, self.spec.channels)
        self._asked = self.model.predictive(self.x, plan.known, self.y)

    def _check(self) -> None:
        plan, spec = self.plan, self.spec
        if len(spec.shape) != 3:
            raise Refusal("clips are not drawn pixel by pixel; open the run of a model of images.")
        if not 0 <= plan.known < spec.size**2:
            raise Refusal(
                f"{plan.known} of {spec.size**2} pixels are to be kept, and something must be left to draw; "
                "keep fewer."
            )
        if plan.known and (plan.start is None or plan.start.shape != spec.shape):
            raise Refusal(f"what is kept must be an image of shape {spec.shape}; name one.")
        wrong = [k for k, v in plan.fixed.items() if not (0 <= k < spec.dims and 0 <= v < spec.levels)]
        if wrong:
            raise Refusal(
                f"sub-pixel {wrong[0]} cannot be fixed to level {plan.fixed[wrong[0]]}: there are sub-pixels "
                f"0 to {spec.dims - 1:,}, and levels 0 to {spec.levels - 1}."
            )
        if not all(0.01 <= t <= 100 for _, t in plan.heat):
            raise Refusal("a temperature lies between 0.01 and 100; 1 is the model itself.")

    @torch.no_grad()
    def _keep(self) -> None:
        """What the plan keeps, and its bits, by one pass over all of it."""
        assert self.plan.start is not None
        known = (torch.arange(self.spec.size**2) < self.plan.known).view(self.spec.size, self.spec.size)
        start = self.plan.start.to(self.x)
        self.x[:] = torch.where(known.to(start.device), start, self.x)
        for kept, ask in ((self.bits, "surprise"), (self.entropy, "entropy")):
            if hasattr(self.model, ask):
                nats = getattr(self.model, ask)(self.x[:1], None if self.y is None else self.y[:1])
                kept[:] = torch.where(known, nats.float().cpu() / math.log(2), kept)

    @property
    def done(self) -> bool:
        return self.place == self.spec.dims

    def step(self) -> Place:
        """Draw the next sub-pixel, or take the level that is fixed."""
        k = self.plan.fixed.get(self.place)
        return self._put(None if k is None else torch.full((len(self.x),), k, device=self.x.device))

    def put(self, levels: Tensor) -> Place:
        """The same with the levels (draws,) that it had before."""
        return self._put(levels.to(self.x.device))

    @torch.no_grad()
    def _put(self, levels: Tensor | None) -> Place:
        at = Place.number(self.place, self.spec.channels, self.spec.size)
        logits = next(self._asked)
        if levels is None:
            chance = self.chance[:, at.row, at.column, at.channel]
            levels = choose(logits / self.plan.temperature(self.place), chance)
        self.x[:, at.channel, at.row, at.column] = value(levels, self.spec.levels).to(self.x.dtype)
        self.log_p = logits.double().log_softmax(-1)
        here = (slice(None), at.channel, at.row, at.column)
        self.bits[here] = (-self.log_p.gather(1, levels[:, None])[:, 0] / math.log(2)).float().cpu()
        self.entropy[here] = expected_bits(self.log_p).float().cpu()
        self.place += 1
        return at

    def to(self, place: int) -> Drawing:
        """Draw until so many sub-pixels are known."""
        while self.place < min(place, self.spec.dims):
            self.step()
        return self

    @property
    def levels(self) -> np.ndarray:
        """int32 (draws, C, H, W); -1 where nothing is drawn yet."""
        k = level(self.x.float().cpu(), self.spec.levels).int().numpy()
        return np.where(self.drawn, k, -1).astype(np.int32)

    @property
    def drawn(self) -> np.ndarray:
        """bool (C, H, W)."""
        n, spec = np.arange(self.spec.dims) < self.place, self.spec
        return np.ascontiguousarray(n.reshape(spec.size, spec.size, spec.channels).transpose(2, 0, 1))

    @property
    def total(self) -> np.ndarray:
        """Bits of all that is drawn, or kept, of each image, (draws,)."""
        result: np.ndarray = self.bits.double().nan_to_num(0.0).flatten(1).sum(1).numpy()
        return result


def expected_bits(log_p: Tensor) -> Tensor:
    """Entropy in bits of log-probabilities (..., levels)."""
    return -(log_p.exp() * log_p.clamp(min=-1e4)).sum(-1) / math.log(2)


@torch.no_grad()
def possible(model: Model, x: Tensor, place: Place, y: Condition | None = None) -> Tensor:
    """log p of every level of one sub-pixel of images x (B, C, H, W), given those before it, (B, levels)."""
    asked = answer(model, "predictive")(x.clone(), place.row * model.spec.size + place.column, y)
    for _ in range(place.channel):
        next(asked)
    result: Tensor = next(asked).double().log_softmax(-1)
    return result


def save(drawing: Drawing, target: Path, recipe: dict[str, Any]) -> tuple[Path, Path]:
    """The first image as a picture of its own size, what is not drawn being black, and beside it an array
    file with levels, bits, entropy and the order of drawing, in nats where it says so."""
    recipe = recipe | drawing.plan.facts() | dict(drawn=drawing.place, bits=float(drawing.total[0]))
    picture = figures.pixels(drawing.x[:1])[0]
    spec, file = drawing.spec, io.BytesIO()
    order = [Place.number(i, spec.channels, spec.size) for i in range(spec.dims)]
    np.savez_compressed(
        file,
        allow_pickle=False,
        levels=drawing.levels[0],
        nats=(drawing.bits[0] * math.log(2)).numpy(),
        entropy_nats=(drawing.entropy[0] * math.log(2)).numpy(),
        order=np.array(order, np.int32),
        recipe=np.array(json.dumps(recipe, default=str)),
    )
    storage.make(target.parent)
    beside = target.with_suffix(".npz")
    figures.write(target, picture, recipe)
    storage.write(beside, file.getvalue())
    return target, beside
