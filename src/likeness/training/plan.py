"""How a training is laid out that must fit into minutes, or into few images.

A schedule must know at which image it ends, a warm-up how long it may last, and in a hundred steps little is
learnt whatever they are of.  So the time of a step is measured on a run that is thrown away, and what follows
from it is written into config.json before the first step: images, batch, warmup.  From then on no clock
decides anything but when to stop, and a resume is exact.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import engine
from ..core import Model, Training
from ..data import Data
from ..runs.run import Config, Run, Stage
from . import loop
from .throughput import FEWEST, speed

Clock = Callable[[], float]
"""seconds since some time"""

LEAST, LEAST_COMPARED = 8, 64
"""images of such a batch; and where the loss compares the images of a batch, which in 75 steps of 64 learn as
much as in 200 of 32 (simclr, docs/results/2026-11-30-minutes.md)"""
GAIN = 1.4
"""times as many steps must come of half a batch: where a step costs the same whatever it is of, fewer images
buy nothing"""
WARMUP = 0.05
"""share of the images over which the rate rises, at most: what it is in the longest default"""
SPARE = 0.9
"""of the minutes is planned with, so that a schedule has ended before the time is up on a machine that others
use as well"""
TRIED = 0.02
"""of the minutes goes into measuring, for each of two batches"""
LONGEST = 1.0
"""seconds of measuring, for each of two batches"""
FIRST = 2
"""steps that are not counted: memory is claimed, kernels are chosen"""
FASTER = 1.1
"""times as fast a step must be with half of the threads for these to be taken"""
NEARLY = 0.95
"""of a schedule is as good as all of it: a cosine is then below a hundredth"""
KNOWN = 5.0
"""seconds of training after which a run's own speed is believed"""


class Cost(NamedTuple):
    """Seconds of a step: some whatever it is of, and some for each image."""

    fixed: float
    each: float

    @classmethod
    def of(cls, batch: int, seconds: float, fewer: int, less: float) -> Cost:
        """The line through two steps; a smaller batch never costs more than a larger one."""
        each = max(0.0, min((seconds - less) / (batch - fewer), seconds / batch))
        return cls(seconds - each * batch, each)

    def of_step(self, batch: int) -> float:
        return self.fixed + self.each * batch


def least(model: Model) -> int:
    """Images of a batch below which a plan does not go.  A game keeps its own: r3gan made worse pictures with
    half of it, in half as many steps again (docs/results/2026-11-30-minutes.md)."""
    if len(model.players()) > 1:
        return type(model).defaults.batch
    return LEAST_COMPARED if model.whole_batch else LEAST


def planned(
    config: Config,
    least: int,
    typed: Collection[str],
    budget: dict[str, Any],
    measure: Callable[[Config, float], tuple[float, int]],
) -> Config:
    """The config of a new run, with what follows from its budget.  Options that were typed stay; a batch that
    was not has `least` images or more.

    measure(config, seconds): seconds of a step, and batches that it takes in, measured for about so many
    seconds.
    """
    training, minutes = config.training, budget.get("minutes", math.inf)
    if math.isinf(minutes) or "images" in budget:
        return replace(config, training=_risen(training, typed))
    tried = min(LONGEST, TRIED * 60 * minutes)
    seconds, moves = measure(config, tried)
    least = max(least, engine.world())
    batch, free = training.batch, not {"batch", "micro"} & set(typed) and not training.compile
    if free and batch > least and SPARE * 60 * minutes / seconds < FEWEST:
        few = replace(config, training=replace(training, batch=least))
        cost = Cost.of(batch, seconds, least, measure(few, tried)[0])
        batch = _batch(cost, batch, least, SPARE * 60 * minutes)
        seconds = cost.of_step(batch)
    steps = max(1, int(SPARE * 60 * minutes / seconds))
    training = replace(training, batch=batch, images=steps * batch * moves)
    plan = dict(minutes=minutes, images=training.images, images_per_second=round(batch * moves / seconds, 1))
    return replace(config, training=_risen(training, typed), plan=plan)


def threads(
    config: Config, budget: dict[str, Any], measure: Callable[[Config, float], tuple[float, int]]
) -> int:
    """With how many threads a run in minutes is trained: all, or half of them, a quarter ... while that is
    faster, since those of a small network wait for each other more than they work (on two cores r3gan at 24
    pixels made 700 images a second with one, and 500 with two).  Those that were chosen by hand stay, and so
    do those of a GPU and of several processes."""
    most = torch.get_num_threads()
    minutes = budget.get("minutes", math.inf)
    chosen_by_hand = "OMP_NUM_THREADS" in os.environ or engine.world() > 1 or engine.device().type != "cpu"
    if math.isinf(minutes) or "images" in budget or chosen_by_hand:
        return most
    seconds, result = min(LONGEST, TRIED * 60 * minutes), most
    best = measure(config, seconds)[0]
    while result > 1:
        torch.set_num_threads(result // 2)
        if (step := measure(config, seconds)[0]) * FASTER > best:
            break
        result, best = result // 2, step
    torch.set_num_threads(most)
    return result


def _batch(cost: Cost, usual: int, least: int, seconds: float) -> int:
    """The largest of the usual batch, its half, its quarter ... with which FEWEST steps fit into so many
    seconds; or the least that is worth it."""
    batch = usual
    while batch > least and seconds / cost.of_step(batch) < FEWEST:
        half = max(least, batch // 2)
        if cost.of_step(batch) < GAIN ** math.log2(batch / half) * cost.of_step(half):
            break
        batch = half
    return batch


def _risen(training: Training, typed: Collection[str]) -> Training:
    """With a warm-up that leaves most of the images to the full rate."""
    if "warmup" in typed:
        return training
    return replace(training, warmup=min(training.warmup, int(WARMUP * training.images)))


def measured(
    config: Config, seconds: float, data: Data, first: Stage | None = None, clock: Clock = time.monotonic
) -> tuple[float, int]:
    """Seconds of a step of a run that is thrown away, and batches that it takes in (several, where a player
    moves more than once); two steps at least are timed.

    Of several processes one asks, and takes its share of a batch alone.
    """
    share = max(1, config.training.batch // engine.world())
    config = replace(config, training=replace(config.training, batch=share))
    with tempfile.TemporaryDirectory() as folder, engine.alone():
        run = Run.create(Path(folder) / "tried", config, first)
        try:
            run.student.train().prepare()
            for _ in range(FIRST):
                loop.step(run, data)
            engine.synchronise()
            began, steps, spent, seen = clock(), 0, 0.0, run.seen
            while steps < 2 or spent < seconds:
                loop.step(run, data)
                engine.synchronise()
                steps, spent = steps + 1, clock() - began
            return max(spent, 1e-9) / steps, (run.seen - seen) // (steps * share)
        finally:
            run.close()


def text(config: Config) -> str:
    """What was laid out, for who starts it."""
    training = config.training
    rate = [f"rises over the first {training.warmup:,}"] if training.warmup else []
    rate += ["falls to the end"] if training.schedule != "constant" else []
    return (
        f"planned by the speed measured here, {speed(config.plan['images_per_second'])} images a second: "
        f"{training.images:,} images in steps of {training.batch:,}"
        + (f"; the rate {' and '.join(rate)}" if rate else "")
    )


# Later


def extended(run: Run, budget: dict[str, Any]) -> Config:
    """The config of a run that is asked for more than was planned: its schedule ends later, and its rate
    rises to what it would be there.

    More images are more than config.json says; more minutes are more than were planned with, and are worth
    what the run itself has made in its time.
    """
    config, training = run.config, run.config.training
    if training.schedule == "constant":  # its end decides no bits
        return config
    images = budget.get("images", 0)
    if not images and budget.get("minutes", 0.0) > config.plan.get("minutes", math.inf):
        own = run.seen / run.seconds if run.seconds > KNOWN else config.plan["images_per_second"]
        left = SPARE * (60 * budget["minutes"] - run.seconds)
        images = run.seen + int(max(0.0, left) * own) // training.batch * training.batch
    if images <= training.images:
        return config
    plan = config.plan | {k: v for k, v in budget.items() if k == "minutes"} if config.plan else {}
    plan |= dict(images=images) if plan else {}
    return replace(config, training=replace(training, images=images), plan=plan)


def cut_short(run: Run) -> str:
    """What to say of a run whose minutes were over before its schedule; nothing, where they were not."""
    training = run.config.training
    if training.schedule == "constant" or not 0 < run.seen < NEARLY * training.images:
        return ""
    left = (training.images - run.seen) * run.seconds / run.seen
    enough = math.ceil((run.seconds + left / SPARE) / 6) / 10
    return (
        f"the minutes were over at {run.seen / training.images:.0%} of the schedule, at image {run.seen:,} "
        f"of {training.images:,}: the rate was still {loop.pace(training, run.seen):.0%} of its value; about "
        f"--minutes {enough:g} in all would bring it to its end"
    )
