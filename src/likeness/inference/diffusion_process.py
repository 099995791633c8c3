"""Pictures of a denoising model.

forward     held-out images with increasing noise: x_t at some times (Ho et al. 2020, eq. 4)
reverse     the path of a sampler from noise to an image: x_t, and below it the denoised image D(x_t)
schedule    log signal-to-noise ratio over time, of several runs in one chart
rate        bits gained at each noise level: SNR E||x - D||^2 / 2 over log SNR; the area under it is the rate
            of the bound
distortion  error of the denoised image over the bits gained so far (Ho et al. 2020, section 4.3 and figure 5)

A noisy image is shown divided by sqrt(alpha^2 + sigma^2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .. import engine, figures, storage
from ..core import Batch, Refusal, ask, closest
from ..data import Data
from ..parts import bounds, samplers
from ..parts.denoising import Denoiser
from ..parts.schedules import Level, mixed
from ..runs.run import Run
from . import inputs, sampling

COLUMNS, PANELS = 9, 5
"""times shown on the way, of images and of points, whose pictures are larger"""
LEVELS = 60
"""points of a curve"""
POINTS = 1500
"""points in the plane shown at once"""


def draw(
    runs: Sequence[tuple[Run, Data]],
    picture: str,
    target: Path,
    n: int | None = None,
    seed: int = 0,
    x: Tensor | None = None,
    **live: Any,
) -> dict[str, Any]:
    """Write what page() makes; returns its recipe."""
    image, recipe = page(runs, picture, n, seed, x, **live)
    storage.make(target.parent)
    figures.write(target, image, recipe)
    return recipe


def page(
    runs: Sequence[tuple[Run, Data]],
    picture: str,
    n: int | None = None,
    seed: int = 0,
    x: Tensor | None = None,
    **live: Any,
) -> tuple[np.ndarray, dict[str, Any]]:
    """One picture of all the runs, uint8 (height, width, 3), and its recipe.  n: images a run, or images
    averaged over for the rate.

    x: images (B, C, H, W) of your own.  live: options that have been set on the models, for the recipe.
    """
    if picture not in PICTURES:
        raise Refusal(f"there is no picture {picture!r}; {closest(picture, tuple(PICTURES))}")
    for run, _ in runs:
        ask(
            run.model,
            "denoise",
            "The way from noise to an image is that of ddpm, edm, flowmatching and meanflow.",
        )
    with torch.no_grad():
        image = PICTURES[picture](runs, n, seed, x)
    recipe = dict(
        picture=picture,
        n=n,
        seed=seed,
        **live,
        runs=[dict(run=run.folder.name, seen=run.seen) for run, _ in runs],
    )
    return image, recipe


def forward(runs: Sequence[tuple[Run, Data]], n: int | None, seed: int, x: Tensor | None) -> np.ndarray:
    pages = []
    for run, data in runs:
        model, clean = _model(run), _images(run, data, n, seed, x).x
        noise, levels = (
            engine.sampling_noise(seed, 0, len(clean)),
            model.schedule.levels((PANELS if run.config.spec.points else COLUMNS) - 1)[::-1],
        )
        eps = noise.normal(*clean.shape[1:])
        columns = [_unit(mixed(model.schedule, clean, eps, _times(at, clean)), at) for at in levels]
        pages.append(_sheet(columns, [_name(at) for at in levels], []))
    return figures.stacked(*pages, gap=16)


def reverse(runs: Sequence[tuple[Run, Data]], n: int | None, seed: int, x: Tensor | None) -> np.ndarray:
    pages = []
    for run, data in runs:
        model, count = _model(run), POINTS if run.config.spec.points else n or 4
        noise, levels = engine.sampling_noise(seed, 0, count), model.levels()
        condition = sampling.conditions(model, np.arange(count), data)
        y = None if condition is None else condition.to(engine.device())
        first = samplers.start(levels, noise, *run.config.spec.shape)
        way = [
            samplers.State(first, model.aim(first, _times(levels[0], first), y), levels[0]),
            *model.walk(levels, first, noise, y),
        ]
        columns = PANELS if run.config.spec.points else COLUMNS
        shown = [way[i] for i in sorted({round(k * (len(way) - 1) / (columns - 1)) for k in range(columns)})]
        noisy, expected = [_unit(state.x, state.at) for state in shown], [state.x_0 for state in shown]
        pages.append(
            _sheet(
                [_alternate(a, b) for a, b in zip(noisy, expected)],
                [_name(s.at) for s in shown],
                ["x_t", "expected x_0"] * count,
            )
        )
    return figures.stacked(*pages, gap=16)


def schedule(runs: Sequence[tuple[Run, Data]], n: int | None, seed: int, x: Tensor | None) -> np.ndarray:
    lines = []
    for run, _ in runs:
        clock = _model(run).schedule
        times = torch.linspace(clock.cleanest, clock.noisiest, LEVELS, dtype=torch.float64).tolist()
        result = [(t / clock.noisiest, clock.level(t).log_snr) for t in times]
        lines.append((f"{run.folder.name} ({run.config.model})", *np.array(result).T))
    return figures.chart(lines, "time, as a share of the whole", "log SNR")


def rate(runs: Sequence[tuple[Run, Data]], n: int | None, seed: int, x: Tensor | None) -> np.ndarray:
    lines = []
    for run, data in runs:
        log_snr, _, nats = by_log_snr(run, data, n, seed, x)
        lines.append(
            (
                f"{run.folder.name}: {torch.trapezoid(nats, log_snr):.3f} nats a dimension in all",
                log_snr.numpy(),
                nats.numpy(),
            )
        )
    return figures.chart(
        lines,
        "log SNR: noise on the left, the image on the right",
        "nats a dimension, for each unit of log SNR",
    )


def distortion(runs: Sequence[tuple[Run, Data]], n: int | None, seed: int, x: Tensor | None) -> np.ndarray:
    lines = []
    for run, data in runs:
        log_snr, error, nats = by_log_snr(run, data, n, seed, x)
        bits = torch.cumulative_trapezoid(nats, log_snr) / math.log(2)
        lines.append((run.folder.name, np.append(0, bits.numpy()), error.sqrt().numpy()))
    return figures.chart(
        lines,
        "bits a dimension that have been told",
        "error of the expected image (root mean square; black is -1, white 1)",
    )


def by_log_snr(
    run: Run, data: Data, n: int | None, seed: int, x: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """log SNR from noise to image, the mean squared error there, and the nats a dimension that a unit of log
    SNR tells."""
    model, batch = _model(run), engine.put(_images(run, data, n or 64, seed, x))
    y = batch.y.only(model.takes) if batch.y is not None else None
    log_snr, error = bounds.per_level(
        lambda x_t, t: model.predict(x_t, t, y), model.schedule, batch.x, batch.noise, LEVELS
    )
    return log_snr, error, error * log_snr.exp() / 2


PICTURES = {
    "forward": forward,
    "reverse": reverse,
    "schedule": schedule,
    "rate": rate,
    "distortion": distortion,
}


def _model(run: Run) -> Denoiser:
    return cast(Denoiser, run.model)


def _images(run: Run, data: Data, n: int | None, seed: int, x: Tensor | None) -> Batch:
    """Your own, or held-out ones."""
    if x is not None:
        return inputs.own(x, None, None, run.config.spec, seed).batch
    result = inputs.held_out(data, POINTS if run.config.spec.points else n or 6, seed).batch
    return engine.put(result)


def _times(at: Level, x: Tensor) -> Tensor:
    return torch.full((len(x),), at.t, dtype=torch.float64, device=x.device)


def _unit(x_t: Tensor, at: Level) -> Tensor:
    return x_t / float(np.hypot(at.alpha, at.sigma))


def _name(at: Level) -> str:
    return f"t {figures.compact(at.t)}"


def _alternate(a: Tensor, b: Tensor) -> Tensor:
    """a_0, b_0, a_1, b_1 ... of images; of points first all of one and then all of the other."""
    return torch.stack([a, b], 0 if a.shape[1:] == (2, 1, 1) else 1).flatten(0, 1)


def _sheet(columns: list[Tensor], titles: list[str], notes: list[str]) -> np.ndarray:
    """A column a time; points are shown in the plane, noisy ones above expected ones."""
    if columns[0].shape[1:] != (2, 1, 1):
        return figures.sheet([figures.pixels(column.cpu()) for column in columns], titles, notes)
    rows = max(1, len(set(notes)))
    panels = [
        np.stack([figures.scatter(part.flatten(1).cpu()) for part in column.chunk(rows)])
        for column in columns
    ]
    return figures.sheet(panels, titles, sorted(set(notes), reverse=True))
