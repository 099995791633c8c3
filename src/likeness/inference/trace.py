"""One image and the way to it: sub-pixel by sub-pixel, or noise level by noise level.

An autoregressive model is traced by what it held possible before each sub-pixel (pixel_by_pixel.py), a model
that takes noise away by its frames (trajectory.py).  Image number k of a seed is that of `sample`, with all
of its way beside it as arrays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ..core import Condition, Denoises, Model, Refusal, answers
from ..runs.run import Config
from . import inputs, pixel_by_pixel, trajectory


class Trained(Protocol):
    """What of an opened run is asked: api.Trained has it."""

    model: Model
    config: Config

    def _conditions(self, first: int, n: int, label: str | int | None) -> Condition | None: ...
    def _recipe(self, **facts: Any) -> dict[str, Any]: ...
    def class_of(self, label: str | int | None) -> int | None: ...
    def named_class(self, label: str | int | None) -> dict[str, Any]: ...


@dataclass(frozen=True, eq=False)
class Traced:
    """x: the image as it is at the end, (1, C, H, W), or as far as it was to be drawn."""

    x: Tensor
    way: pixel_by_pixel.Drawing | list[trajectory.Frame]
    run: Trained
    recipe: dict[str, Any]

    def save(self, target: Path) -> list[Path]:
        """A picture, and beside it the arrays; returns what was written."""
        if isinstance(self.way, list):
            return trajectory.save(self.way, self.run.model, target, self.recipe)
        return [*pixel_by_pixel.save(self.way, target, self.recipe)]

    @property
    def says(self) -> str:
        if isinstance(self.way, list):
            return f"{len(self.way)} frames of {self.way[-1].step} steps"
        bits = float(self.way.total[0])
        return f"{self.way.place:,} sub-pixels, {bits:.1f} bits, {bits / max(1, self.way.place):.4f} bits/dim"


def trace(
    run: Trained,
    x: Tensor | None,
    seed: int,
    number: int,
    label: str | int | None,
    known: int,
    of: int,
    fix: Mapping[int, int],
    heat: Mapping[int, float],
    until: int | None,
    branch: Sequence[tuple[int, int]],
    live: dict[str, Any],
) -> Traced:
    """See api.Trained.trace."""
    facts = run._recipe() | run.named_class(label)
    pixels = x is not None or known or of or fix or heat or until is not None
    if isinstance(run.model, Denoises) and "predictive" not in answers(run.model):
        if pixels:
            raise Refusal(
                "images, pixels and temperatures are of models that draw pixel by pixel; leave them out."
            )
        plan = trajectory.Plan(seed, number, live, tuple(branch))
        steps = trajectory.count(run.model, plan)
        way = trajectory.frames(run.model, plan, run._conditions(plan.number, 1, label))
        kept = [frame for frame in way if trajectory.keeps(frame.step, steps)]
        recipe = facts | plan.facts() | dict(studio=plan.studio(run.class_of(label)))
        return Traced(trajectory.finished(kept[-1], run.model), kept, run, recipe)
    inputs.answer(run.model, "predictive", "" if not branch else "Only frames of a denoiser branch.  ")
    if branch:
        raise Refusal(
            "--branch leaves the way of a denoiser; a model that draws pixel by pixel goes on with --known."
        )
    spec, temperature = run.config.spec, float(live.pop("temperature", 1.0))
    if live:
        raise Refusal(f"a drawing is a function of its temperature alone; leave --{next(iter(live))} out.")
    own = (
        inputs.own(x, None, None, spec, 0, run.config.data.get("binarize", False)).batch.x
        if x is not None
        else None
    )
    start = None if own is None else own[0]
    pairs = ((0, temperature), *sorted(heat.items()))
    drawn = pixel_by_pixel.Plan(seed, number, known, start, dict(fix), pairs)
    y = run._conditions(of if known else number, 1, label)
    drawing = pixel_by_pixel.Drawing(run.model, drawn, y).to(spec.dims if until is None else until)
    recipe = facts | dict(
        of=of,
        upto=drawing.place,
        studio=drawn.studio(drawing.place, of, run.class_of(label), spec.levels),
    )
    return Traced(drawing.x.float().cpu(), drawing, run, recipe)


def place(text: str, run: Trained) -> tuple[int, str]:
    """ "ROW,COLUMN,CHANNEL=VALUE", counted from 1, as the number of a sub-pixel and the value.  Raises
    Refusal."""
    spec, found = run.config.spec, re.fullmatch(r"(\d+),(\d+)(?:,(\d+))?=(\S+)", text)
    at = [int(part or 1) - 1 for part in found.groups()[:3]] if found else [-1]
    if not found or min(at) < 0 or max(at[:2]) >= spec.size or at[2] >= spec.channels:
        raise Refusal(
            f"{text}: a sub-pixel is ROW,COLUMN,CHANNEL=VALUE, counted from 1 up to "
            f"{spec.size},{spec.size},{spec.channels}; such as 1,1,1=0."
        )
    return (at[0] * spec.size + at[1]) * spec.channels + at[2], found[4]


def pair(text: str) -> tuple[int, int]:
    """ "STEP=SEED".  Raises Refusal."""
    found = re.fullmatch(r"(\d{1,9})=(\d{1,9})", text)
    if not found:
        raise Refusal(f"--branch {text}: a branch is STEP=SEED, such as 10=1.")
    return int(found[1]), int(found[2])


def value(text: str, kind: type) -> Any:
    """A number of that kind.  Raises Refusal."""
    try:
        return kind(text)
    except ValueError:
        raise Refusal(f"{text} is no {'whole ' if kind is int else ''}number.") from None
