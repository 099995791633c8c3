"""The training loop, for every model that learns weights from examples.

It calls nobody back.  It yields after each step, and whoever walks through it is in charge: to
watch, look at the step; to pause, do not ask for the next; to stop, stop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import engine
from ..core import Batch, Diverged, Model, Player, Refusal, Training
from ..data import Data
from ..runs.run import Run

LOG_EVERY = 50
"""steps a line of the log, after a first few that come sooner"""
THIN = 8
"""steps between two that the EMA takes in, once it is slow"""


class Step(NamedTuple):
    seen: int
    terms: dict[str, Tensor]
    """on the device; reading one waits for the step to be computed"""
    line: dict[str, Any] | None = None
    """of the log, if one was due: the mean of each loss since the line before"""

    @property
    def losses(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.terms.items()}


class Stop:
    """Whoever walks through the steps may set `signal`: the loop then saves and ends after the
    step it is in."""

    signal: int = 0


def fit(
    run: Run,
    data: Data,
    *,
    images: int | None = None,
    minutes: float = math.inf,
    save_every: float = 120.0,
    stop: Stop | None = None,
) -> Generator[Step]:
    """Train until `images` have been seen (the config's number, unless `minutes` are given and the rate stays
    constant to whatever end), or for `minutes` of training in all, or until `stop`.  Saves every `save_every`
    seconds and at the end; resumes where the run is.

    Raises Diverged when a loss or a gradient is no longer a number: the last saved state is then still good.
    """
    training, stop = run.config.training, stop or Stop()
    refuse(run.config.model, training, run.student, minutes)
    images = last_image(training, images, minutes)
    run.student.train()
    saved, due = time.monotonic(), True
    while run.seen < images and not _called_off(run, minutes, stop, due):
        began, before = time.monotonic(), run.seen
        terms = step(run, data)
        due = _due(before // training.batch, run.seen // training.batch)
        if due or (not engine.cuda() and not all(math.isfinite(value.item()) for value in terms.values())):
            check(run)
        run.seconds += time.monotonic() - began
        line = write_line(run) if due else None
        if time.monotonic() - saved > save_every:
            keep(run)
            saved = time.monotonic()
        yield Step(run.seen, terms, line)
    keep(run)


def last_image(training: Training, images: int | None = None, minutes: float = math.inf) -> int:
    """At which image a training is over, whatever time is left: a rate that falls has come to its end
    there."""
    if images is not None:
        return images
    return 10**15 if training.schedule == "constant" and not math.isinf(minutes) else training.images


def refuse(name: str, training: Training, model: Model, minutes: float = math.inf) -> None:
    """What cannot be trained as asked, before anything is made or moved."""
    unsuited(name, training, model, minutes)
    model.prepare()


def unsuited(name: str, training: Training, model: Model, minutes: float = math.inf) -> None:
    """As refuse(), of a model that has not got the state of its run, and cannot tell by it whether files are
    what they were."""
    processes = engine.world()
    if model.whole_batch and training.batch < 2:
        raise Refusal(
            f"{name} compares the images of a batch, and a batch of one has nothing to compare; use a "
            "larger --batch."
        )
    if model.whole_batch and training.micro:
        raise Refusal(
            f"{name} compares the images of a batch, which --micro {training.micro} would split; use a "
            "smaller --batch instead."
        )
    if model.whole_batch and processes > 1:
        raise Refusal(
            f"{name} compares the images of a batch, which {processes} processes would split; train it with "
            "one."
        )
    if training.mirror and (model.spec.size == 1 or model.spec.symbols or not model.spec.levels):
        raise Refusal(
            f"--mirror is for images, and what {name} is to learn are points or codes; leave it out."
        )
    if training.batch < processes:
        raise Refusal(
            f"a batch of {training.batch} cannot be shared among {processes} processes; use --batch "
            f"{processes} or more."
        )
    if not minutes > 0:
        raise Refusal(f"{minutes} minutes are no time to train for; give a number above 0.")


def _called_off(run: Run, minutes: float, stop: Stop, due: bool) -> bool:
    """Whether time is up or somebody has asked to stop, in any process: all must end at the same step, and
    know why."""
    if not (due or engine.may_ask()):
        return False
    late, stop.signal = engine.largest(int(run.seconds >= 60 * minutes), stop.signal)
    return bool(late or stop.signal)


def _due(before: int, now: int) -> bool:
    """Whether a line of the log is due after the steps before+1 ... now: at 1, 2, 4 ... 32, and at every
    fiftieth."""
    return now // LOG_EVERY > before // LOG_EVERY or (
        before < LOG_EVERY and now.bit_length() > before.bit_length()
    )


def step(run: Run, data: Data, who: Collection[str] = ()) -> dict[str, Tensor]:
    """One move of each player, or of those named in `who` alone, then what moves by itself, then the EMA."""
    training, terms, seen = run.config.training, dict[str, Tensor](), run.seen
    for number, player in enumerate(run.players):
        if who and player.name not in who:
            continue
        for again in range(player.steps):
            at = run.seen + again * training.batch
            engine.seed("train", training.seed, at, number)
            key = engine.derive("train", training.seed, number, again)
            batch = replace(
                data.batch(training.seed, at, training.batch, engine.share(), key),
                step=at // training.batch,
                seen=at,
            )
            batch = mirrored(engine.put(batch)) if training.mirror else engine.put(batch)
            terms |= move(run, player, batch)
        seen = max(seen, run.seen + player.steps * training.batch)
    for tally in run.student.tallies():
        engine.sum_over_processes(tally)
    run.student.after_step()
    fade(run, seen)
    if run.seen < training.images / 2 <= seen:
        run.keep_early()
    run.seen = seen
    for name, value in terms.items():
        run.window.setdefault(name, []).append(value)
    return terms


def mirrored(batch: Batch) -> Batch:
    """Each image (C, H, W) flipped from left to right or not, as its own noise has it, and what it is told
    with it."""
    flipped = batch.noise.uniform() < 0.5
    x = torch.where(flipped.view(-1, *[1] * (batch.x.ndim - 1)), batch.x.flip(-1), batch.x)
    return replace(batch, x=x, y=None if batch.y is None else batch.y.mirrored(flipped))


def move(run: Run, player: Player, batch: Batch) -> dict[str, Tensor]:
    """Minimise the player's loss by one step of its optimiser."""
    training, optimizer, terms = run.config.training, run.optimizers[player.name], dict[str, Tensor]()
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for p in params:  # as zero_grad() does, which takes a tiny network a tenth of its step
        p.grad = None
    with only(player.module, run.student):
        whole = len(batch) and not training.micro
        for piece in [batch] if whole else batch.split(training.micro or 1):
            share = len(piece) / training.batch
            with engine.autocast(training):
                loss = player.loss(piece)
            total = loss.total.float()
            (total if share == 1 else total * share).backward()
            for name, value in {player.name: loss.total, **loss.terms}.items():
                part = value.detach().float()
                terms[name] = terms.get(name, 0.0) + (part if share == 1 else part * share)
    engine.sum_gradients(params)
    norm = nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])
    if training.clip and engine.may_exceed(norm, training.clip):
        nn.utils.clip_grads_with_norm_(params, training.clip, norm)
    for group in optimizer.param_groups:
        group["lr"] = training.rate * player.rate * pace(training, run.seen)
    optimizer.step()
    if player.after:
        player.after()
    if engine.world() > 1:
        terms = dict(zip(terms, engine.sum_over_processes(torch.stack(list(terms.values())))))
    return {**terms, f"{player.name} gradient": norm}


def pace(training: Training, seen: int) -> float:
    """What the rate is multiplied with: a function of images seen alone."""
    rise = min(1.0, (seen + training.batch) / training.warmup) if training.warmup else 1.0
    if training.schedule == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, seen / max(1, training.images))))
    return rise


def fade(run: Run, seen: int) -> None:
    """Move the EMA on from image run.seen to `seen`: at every step, or at every eighth once its memory is
    long.

    A pass through all weights costs a small step a tenth of its time, and an average over thousands of steps
    does not see the difference.
    """
    half, stride = halflife(run.config.training, run.seen), seen - run.seen
    every = THIN if half > 4 * THIN * stride else 1
    if seen // stride % every == 0:
        run.average.fade(0.5 ** (every * stride / half))


def halflife(training: Training, seen: int) -> float:
    """Of the EMA, in images: short at first, so that it does not drag the untrained weights along (Karras
    2022, app. F.2)."""
    return max(1e-9, min(training.ema, 0.05 * seen))


@contextmanager
def only(module: nn.Module, whole: nn.Module) -> Iterator[None]:
    """Within, gradients flow into the weights of `module` alone."""
    if module is whole:
        yield
        return
    own = {id(p) for p in weights(module)}
    held = [p for p in weights(whole) if p.requires_grad and id(p) not in own]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(True)


def weights(module: nn.Module) -> Iterator[nn.Parameter]:
    """As module.parameters(), without the names that it builds, which a tiny network notices; what is shared
    comes as often as it is."""
    yield from (p for p in module._parameters.values() if p is not None)
    for child in module._modules.values():
        if child is not None:
            yield from weights(child)


def check(run: Run) -> None:
    """Refuse to go on, or to save, when a loss or a gradient is no longer a number: the weights are then
    spoilt."""
    for name, values in run.window.items():
        line = torch.stack(values)
        if not bool(line.isfinite().all()):
            first = int((~line.isfinite()).nonzero()[0])
            training = run.config.training
            stride = training.batch * max(p.steps for p in run.players)
            rate = min(training.rate / 3, type(run.student).defaults.rate)
            clip = f"--clip {training.clip / 3:.1g}" if training.clip else "--clip 1"
            raise Diverged(
                f"{name} became {float(line[first])} at image "
                f"{run.seen - (len(values) - 1 - first) * stride:,}.  The state saved before is intact.  "
                f"Train into a new folder with a lower rate (--rate {rate:.1g}), {clip}, or --precision fp32."
            )


def write_line(run: Run) -> dict[str, Any]:
    """A line of the log: the mean of each loss since the line before."""
    losses = {name: float(torch.stack(run.window[name]).mean()) for name in sorted(run.window)}
    run.window = {}
    engine.synchronise()
    clock = dict(
        seconds=round(run.seconds, 3),
        images_per_second=round(run.seen / max(run.seconds, 1e-9), 1),
        memory_mb=round(engine.memory_mb()),
    )
    line = dict(seen=run.seen, losses=losses, time=clock)
    if engine.rank() == 0:
        run.note(line)
    return line


def keep(run: Run) -> None:
    """Save what is worth saving; one process does it for all."""
    check(run)
    if engine.rank() == 0:
        run.save()


Tick = Callable[[Step], None]
