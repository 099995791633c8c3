"""The way of a sampler from noise to images, frame by frame; and ways that leave it for another noise.

A Way walks as `likeness sample` does, with its randomness, and so ends at its images.  Where it branches, at
a frame of level (alpha, sigma), the image expected there is kept and its noise is drawn anew,

    x_t <- alpha x_0 + sigma eps',        eps' ~ N(0, I)

which is how SDEdit (Meng et al. 2022) sets out from an image.  Of a thousand steps not every frame is kept:
KEPT of them, evenly spread, the first and the last among them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from .. import engine, figures, storage
from ..core import Condition, Model, Noise, Refusal
from ..parts import samplers
from ..parts.denoising import Denoising
from ..parts.schedules import Level, Schedule
from . import sampling
from .inputs import answer

KEPT = 100
"""frames of a way that are kept, at most"""
COLUMNS = 9
"""frames on a strip"""


class Frame(NamedTuple):
    step: int
    """how many steps have been walked; 0 is noise alone"""
    at: Level
    x: Tensor
    """x_t, (n, C, H, W), float and in memory"""
    x_0: Tensor
    """the image that is expected there, (n, C, H, W)"""


@dataclass(frozen=True)
class Plan:
    """All that a way is a function of, beside the model and what its images are of."""

    seed: int = 0
    number: int = 0
    """of the sample of this seed"""
    live: dict[str, Any] = field(default_factory=dict)
    """options of the sampler, such as steps and eta"""
    branches: tuple[tuple[int, int], ...] = ()
    """steps after which the noise is drawn anew, and the seeds of that, in this order"""

    def facts(self) -> dict[str, Any]:
        return dict(
            seed=self.seed, number=self.number, branches=[list(b) for b in self.branches], **self.live
        )

    def studio(self, label: int | None) -> dict[str, Any]:
        """What a picture says of the screen that shows its plan."""
        lane = dict(self.live, branches=[list(b) for b in self.branches])
        plan = dict(seed=self.seed, number=self.number, label=label, lanes=[lane])
        return dict(screen="diffusion", hash=dict(plan=plan))


def frames(model: Model, plan: Plan, y: Condition | None = None, n: int = 1) -> Iterator[Frame]:
    """Every frame of images number plan.number ... of the seed, from noise on; of a way that branches, of its
    last branch only what follows it and what led there.

    y: what the images are of, n rows.  Raises Refusal where the model takes no noise away, an option is none
    of its own, or a branch is beyond the last step.
    """
    answer(model, "denoise")
    able = sampling.tuned(model, **plan.live)
    if not isinstance(able, Denoising) or len(able.spec.shape) != 3 or able.spec.points:
        raise Refusal("frames are of images on their way from noise; open the run of a model of images.")
    levels = able.levels()
    asked = [step for step, _ in plan.branches]
    if any(not 0 <= step < len(levels) - 1 for step in asked) or sorted(set(asked)) != asked:
        raise Refusal(
            f"branches leave after one of the steps 0 to {len(levels) - 2}, each later than the one before; "
            f"and these are {', '.join(map(str, asked))}."
        )
    return _frames(able, levels, plan, y, n)


@torch.no_grad()
def _frames(
    model: Denoising, levels: Sequence[Level], plan: Plan, y: Condition | None, n: int
) -> Iterator[Frame]:
    noise = engine.sampling_noise(plan.seed, plan.number, n)
    y = model.drawn_for(noise, None if y is None else y.to(engine.device()))
    x = samplers.start(levels, noise, *model.spec.shape)
    first, x_0 = 0, samplers.ask(lambda x, t: model.aim(x, t, y), x, levels[0])
    for step, seed in (*plan.branches, (len(levels), 0)):
        for i, state in _walked(model, levels, first, x, x_0, noise, y):
            x, x_0 = state.x, state.x_0
            if i >= step:
                break
            yield _frame(i, state)
        if step < len(levels):
            numbers = range(plan.number, plan.number + n)
            noise = Noise(numbers, engine.derive("branch", seed), engine.device())
            at = levels[step]
            x, first = at.alpha * x_0 + at.sigma * noise.normal(*model.spec.shape), step


def _walked(
    model: Denoising,
    levels: Sequence[Level],
    first: int,
    x: Tensor,
    x_0: Tensor,
    noise: Noise,
    y: Condition | None,
) -> Iterator[tuple[int, samplers.State]]:
    """Steps from number `first` on, which is where x is."""
    yield first, samplers.State(x, x_0, levels[first])
    yield from enumerate(model.walk(levels[first:], x, noise, y), first + 1)


def _frame(step: int, state: samplers.State) -> Frame:
    return Frame(step, state.at, state.x.float().cpu(), state.x_0.float().cpu())


def count(model: Model, plan: Plan) -> int:
    """Steps of the way."""
    return len(cast(Denoising, sampling.tuned(model, **plan.live)).levels()) - 1


def keeps(step: int, steps: int) -> bool:
    """Whether the frame after so many of all steps is one of KEPT."""
    return steps < KEPT or step * (KEPT - 1) // steps != (step - 1) * (KEPT - 1) // steps


def finished(frame: Frame, model: Model) -> Tensor:
    """The image that sample() gives, of a last frame: in [-1, 1] where it has levels."""
    return frame.x.clamp(-1, 1) if model.spec.levels else frame.x


def unit(frame: Frame) -> Tensor:
    """x_t as it is shown: divided by sqrt(alpha^2 + sigma^2)."""
    return frame.x / float(np.hypot(frame.at.alpha, frame.at.sigma))


def strip(kept: Sequence[Frame], model: Model) -> np.ndarray:
    """x_t of some of the frames, and below each the image expected there, uint8 (height, width, 3)."""
    last = len(kept) - 1
    shown = [kept[i] for i in sorted({round(k * last / (COLUMNS - 1)) for k in range(COLUMNS)})]
    columns = []
    for frame in shown:
        x = finished(frame, model) if frame.at.sigma == 0 else unit(frame)
        columns.append(figures.pixels(torch.stack([x, frame.x_0], 1).flatten(0, 1)))
    names = [f"t {figures.compact(frame.at.t)}" for frame in shown]
    return figures.sheet(columns, names, ["x_t", "expected x_0"] * len(kept[0].x))


def save(kept: Sequence[Frame], model: Model, target: Path, recipe: dict[str, Any]) -> list[Path]:
    """A strip; beside it an array file of all frames, which holds those of a way that was cancelled, too; and
    the image itself, where the way has come to its end.

    Of the array file x_t is float16 and x_0 uint8 (frames, n, C, H, W); step, t, alpha, sigma (frames,).
    """
    recipe = recipe | dict(frames=len(kept), whole=kept[-1].at.sigma == 0)
    at = np.array([frame.at for frame in kept], np.float64)
    x_0 = torch.stack([frame.x_0 for frame in kept]).clamp(-1, 1).add(1).mul(127.5).round().byte()
    file = io.BytesIO()
    np.savez_compressed(
        file,
        allow_pickle=False,
        x_t=torch.stack([frame.x for frame in kept]).half().numpy(),
        x_0=x_0.numpy(),
        step=np.array([frame.step for frame in kept], np.int32),
        t=at[:, 0],
        alpha=at[:, 1],
        sigma=at[:, 2],
        recipe=np.array(json.dumps(recipe, default=str)),
    )
    storage.make(target.parent)
    figures.write(target, strip(kept, model), recipe)
    written = [target, target.with_suffix(".npz")]
    storage.write(written[1], file.getvalue())
    if kept[-1].at.sigma == 0:
        written.append(target.with_name(f"{target.stem}-image.png"))
        figures.write(written[2], figures.pixels(finished(kept[-1], model)[:1])[0], recipe)
    return written


def levels_between(schedule: Schedule, low: float, high: float, n: int) -> list[Level]:
    """n levels, evenly spread in log SNR from `low` to `high`: what a page needs to add noise itself."""
    ratios = torch.exp(-torch.linspace(low, high, n, dtype=torch.float64) / 2)
    return schedule.at(schedule.time(ratios).tolist())
