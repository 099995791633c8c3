"""The training loop, for every model that learns weights from examples.

It calls nobody back.  It yields after each step, and whoever walks through it is in charge: to
watch, look at the step; to pause, do not ask for the next; to stop, stop.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import engine, pictures
from .core import Batch, Decodes, Diverged, Encodes, Noise, Player, Refusal, Samples, Training
from .data import Data
from .run import Run

LOG_EVERY = 50
"""steps a line of the log, after a first few that come sooner"""


class Step(NamedTuple):
    seen: int
    terms: dict[str, Tensor]
    """on the device; reading one waits for the step to be computed"""

    @property
    def losses(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.terms.items()}


def fit(
    run: Run,
    data: Data,
    *,
    images: int | None = None,
    minutes: float = math.inf,
    save_every: float = 120.0,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Step]:
    """Train until `images` have been seen (the config's number, unless `minutes` are given), or for `minutes` of
    training in all, or until `stop()`.  Saves every `save_every` seconds and at the end; resumes where the run is.

    Raises Diverged when a loss is no longer a number: the last saved state is then still good.
    """
    training, student = run.config.training, run.student
    if training.micro and student.whole_batch:
        raise Refusal(f"{run.config.model} compares the images of a batch, which --micro {training.micro} would split; use a smaller --batch instead.")
    if images is None:
        images = training.images if math.isinf(minutes) else 10**15
    if student.whole_batch and engine.world() > 1:
        raise Refusal(f"{run.config.model} compares the images of a batch, which {engine.world()} processes would split; train it with one.")
    if training.batch < engine.world():
        raise Refusal(f"a batch of {training.batch} cannot be shared among {engine.world()} processes; use --batch {engine.world()} or more.")
    student.train()
    saved = time.monotonic()
    while run.seen < images and not _called_off(run, minutes, stop):
        began = time.monotonic()
        terms = step(run, data)
        due = _due(run.seen // training.batch)
        if due or (not engine.cuda() and not all(math.isfinite(value.item()) for value in terms.values())):
            check(run)
        run.seconds += time.monotonic() - began
        if due:
            write_line(run)
        if time.monotonic() - saved > save_every:
            keep(run)
            saved = time.monotonic()
        yield Step(run.seen, terms)
    check(run)
    keep(run)


def _called_off(run: Run, minutes: float, stop: Callable[[], bool]) -> bool:
    """Whether time is up or somebody has asked to stop, in any process: all must end at the same step."""
    if not (engine.may_ask() or _due(run.seen // run.config.training.batch)):
        return False
    return engine.any_process(run.seconds >= 60 * minutes or stop())


def _due(number: int) -> bool:
    return number % LOG_EVERY == 0 or (number < LOG_EVERY and number.bit_count() == 1)


def step(run: Run, data: Data) -> dict[str, Tensor]:
    """One move of each player, then what moves by itself, then the running average."""
    training, terms, seen = run.config.training, dict[str, Tensor](), run.seen
    for number, player in enumerate(run.players):
        for again in range(player.steps):
            at = run.seen + again * training.batch
            engine.seed("train", training.seed, at, number)
            key = engine.derive("train", training.seed, number, again)
            batch = engine.put(data.batch(training.seed, at, training.batch, engine.share(), key))
            terms |= move(run, player, batch)
        seen = max(seen, run.seen + player.steps * training.batch)
    run.student.after_step()
    run.average.fade(0.5 ** ((seen - run.seen) / halflife(training, run.seen)))
    run.seen = seen
    for name, value in terms.items():
        run.window.setdefault(name, []).append(value)
    return terms


def move(run: Run, player: Player, batch: Batch) -> dict[str, Tensor]:
    """Minimise the player's loss by one step of its optimiser."""
    training, optimizer, terms = run.config.training, run.optimizers[player.name], dict[str, Tensor]()
    optimizer.zero_grad()
    with only(player.module, run.student):
        for piece in batch.split(training.micro or len(batch) or 1):
            share = len(piece) / training.batch
            with engine.autocast(training):
                loss = player.loss(piece)
            (loss.total.float() * share).backward()
            for name, value in {player.name: loss.total, **loss.terms}.items():
                terms[name] = terms.get(name, 0.0) + value.detach().float() * share
    params = [p for group in optimizer.param_groups for p in group["params"]]
    engine.sum_gradients(params)
    if training.clip:
        nn.utils.clip_grad_norm_(params, training.clip)
    for group in optimizer.param_groups:
        group["lr"] = training.rate * player.rate * pace(training, run.seen)
    optimizer.step()
    return dict(zip(terms, engine.sum_over_processes(torch.stack(list(terms.values())))))


def pace(training: Training, seen: int) -> float:
    """What the rate is multiplied with: a function of images seen alone."""
    rise = min(1.0, (seen + training.batch) / training.warmup) if training.warmup else 1.0
    if training.schedule == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, seen / max(1, training.images))))
    return rise


def halflife(training: Training, seen: int) -> float:
    """Of the running average, in images: short at first, so that it does not drag the untrained weights along (Karras 2022, app. F.2)."""
    return max(1e-9, min(training.ema, 0.05 * seen))


@contextmanager
def only(module: nn.Module, whole: nn.Module) -> Iterator[None]:
    """Within, gradients flow into the weights of `module` alone."""
    if module is whole:
        yield
        return
    mine = {id(p) for p in module.parameters()}
    held = [p for p in whole.parameters() if p.requires_grad and id(p) not in mine]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(True)


def check(run: Run) -> None:
    """Refuse to go on, or to save, when a loss is no longer a number."""
    for name, values in run.window.items():
        line = torch.stack(values)
        if not bool(line.isfinite().all()):
            first = int((~line.isfinite()).nonzero()[0])
            seen = run.seen - (len(values) - 1 - first) * run.config.training.batch
            raise Diverged(
                f"{name} became {float(line[first])} at image {seen:,}.  The state saved before is intact.  "
                f"Train into a new folder with a lower rate (--rate {run.config.training.rate / 3:.1g}), a lower --clip, or --precision fp32."
            )


def write_line(run: Run) -> None:
    """A line of the log: the mean of each loss since the line before."""
    losses = {name: float(torch.stack(values).mean()) for name, values in run.window.items()}
    run.window = {}
    engine.synchronise()
    if engine.rank() == 0:
        clock = dict(seconds=round(run.seconds, 3), images_per_second=round(run.seen / max(run.seconds, 1e-9), 1), memory_mb=round(engine.memory_mb()))
        run.note(dict(seen=run.seen, losses=losses, time=clock))


def keep(run: Run) -> None:
    if engine.rank() == 0:
        run.save()


# Walking through it


def record(run: Run, data: Data, steps: Iterator[Step], n: int = 36) -> Iterator[Step]:
    """Pass the steps on, and put a picture of the same noise, or of the same images, into samples/ at ever longer intervals."""
    last = run.seen
    for at in steps:
        if engine.rank() == 0 and _crossed(last, at.seen):
            snapshot(run, data, n)
        last = at.seen
        yield at
    if engine.rank() == 0:
        snapshot(run, data, n)


def _crossed(before: int, now: int) -> bool:
    """Two pictures in every doubling of the images seen."""
    return math.floor(2 * math.log2(max(before, 1))) < math.floor(2 * math.log2(now)) and now >= 128


def snapshot(run: Run, data: Data, n: int) -> None:
    if (x := view(run, data, n)) is not None:
        path = run.folder / "samples" / f"{run.seen:012d}.png"
        path.parent.mkdir(exist_ok=True)
        pictures.write_png(path, pictures.grid(x), dict(run=run.folder.name, seen=run.seen, seed=0, model=run.config.model))


@torch.no_grad()
def view(run: Run, data: Data, n: int) -> Tensor | None:
    """What the model can show: samples, else reconstructions of held-out images."""
    if isinstance(run.model, Samples):
        noise = engine.sampling_noise(0, 0, n)
        y = torch.arange(n, device=engine.device()) % run.config.spec.labels if run.config.spec.labels else None
        *_, x = run.model.sample(noise, y)
        return x
    if isinstance(run.model, Encodes) and isinstance(run.model, Decodes):
        batch = engine.put(data.take(data.held_out[:n], Noise(range(min(n, len(data.held_out))))))
        return run.model.decode(run.model.encode(batch.x))
    return None


class Stop:
    """Ask the loop to end after the step it is in: `stop()` is the question, a signal the answer."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        return self.signal != 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            raise KeyboardInterrupt  # the second one does not wait for a save
        self.signal = number


@contextmanager
def stopping() -> Iterator[Stop]:
    """Within, SIGINT and SIGTERM only ask to stop."""
    stop, before = Stop(), dict[int, Any]()
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[int(number)] = signal.signal(number, stop.handle)
    except ValueError:
        pass  # not the main thread: signals go elsewhere
    try:
        yield stop
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
