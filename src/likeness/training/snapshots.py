"""Walking through a training: pictures on the way, signals that ask to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from .. import data as datasets
from .. import engine, figures, storage
from ..core import Decodes, DiskTrouble, Encodes, NotAllowed, Samples, Stylises, Translates
from ..data import Data
from ..inference import sampling
from ..runs.run import Run
from .loop import Step

POINTS = 2000
"""shown in one picture; of images far fewer"""
FEWEST = 4
"""images of the last picture, and of a try of what it takes"""
CLIPS = 6
"""shown in one picture, the frames of each in a row"""


SHARE, FREE = 0.25, 5.0
"""of the time of training that pictures on the way may take, beside so many seconds that they always may: a
model that draws for minutes would otherwise do little else in the minutes that it is given"""


def record(
    run: Run, data: Data, steps: Iterator[Step], n: int = 36, clock: Callable[[], float] = time.monotonic
) -> Iterator[Step]:
    """Pass the steps on, and put a picture of the same noise, or of the same images, into samples/ at ever
    longer intervals; the last one of fewer images where so many would take longer than pictures may."""
    last, began, spent, cost = run.seen, clock(), 0.0, 0.0
    for at in steps:
        room = max(FREE, SHARE * (clock() - began - spent))
        if engine.rank() == 0 and _crossed(last, at.seen) and spent + cost <= room:
            before = clock()
            snapshot(run, data, n)
            cost = clock() - before
            spent += cost
        last = at.seen
        yield at
    if engine.rank() == 0:
        room = max(FREE, SHARE * (clock() - began - spent))
        _last(run, data, n, room, cost, clock)


def _last(run: Run, data: Data, n: int, room: float, cost: float, clock: Callable[[], float]) -> None:
    """The picture at the end, in about `room` seconds.  cost: of an earlier one, since when a model that
    keeps what it sees may have become far slower; so a few are drawn first, unless that was nearly nothing.
    """
    if cost > room / 20:
        before = clock()
        snapshot(run, data, few := min(FEWEST, n))
        took = clock() - before
        as_before = took <= cost <= room - took  # many together may cost no more than few
        n = n if as_before else min(n, int(few * (room - took) / max(took, 1e-9)))
        if n <= few:
            return
    snapshot(run, data, n)


def _crossed(before: int, now: int) -> bool:
    """Two pictures in every doubling of the images seen."""
    return math.floor(2 * math.log2(max(before, 1))) < math.floor(2 * math.log2(now)) and now >= 128


def snapshot(run: Run, data: Data, n: int) -> None:
    """A picture of what the model can show now.  One that cannot be written is no reason to lose the
    training."""
    if (page := picture(run, data, n)) is not None:
        path = run.folder / "samples" / f"{run.seen:012d}.png"
        try:
            storage.make(path.parent)
            figures.write_png(
                path,
                page,
                dict(run=run.folder.name, seen=run.seen, seed=0, model=run.config.model),
            )
        except (DiskTrouble, NotAllowed) as trouble:
            run.notes.append(str(trouble))


def picture(run: Run, data: Data, n: int) -> np.ndarray | None:
    """Of about n tiles, uint8 (height, width, 3).  What is made of another image stands beside it, and before
    what should have been made, where that is known."""
    if not isinstance(run.model, Samples) and isinstance(run.model, Stylises | Translates):
        return figures.beside(*translated(run, data, n))
    if "image" not in run.model.spec.parts(run.model.takes) or not isinstance(run.model, Samples):
        return None if (x := view(run, data, n)) is None else figures.shown(x, real(data))
    few = np.arange(max(1, n // 3))
    y = sampling.conditions(run.model, few, data)
    assert y is not None and y.image is not None
    x = sampling.samples(run.model, len(few), 0, data)
    right = truth(data, few)
    return figures.beside(y.image, x, *([] if right is None else [right]))


@torch.no_grad()
def translated(run: Run, data: Data, n: int) -> list[Tensor]:
    """Of a model that makes an image of another and draws none of its own: held-out images, the styles that
    they are to have where it asks for some, and what it makes of them."""
    batch = engine.put(data.take((data.held_out if len(data.held_out) else data.train)[: max(1, n // 3)]))
    image = None if batch.y is None else batch.y.image
    if not isinstance(run.model, Stylises):
        assert isinstance(run.model, Translates)
        x = batch.x if image is None or "image" not in run.model.takes else image
        return [x, run.model.translate(x)]
    x, style = (batch.x, batch.x.roll(1, 0)) if image is None else (image, batch.x)
    return [x, style, run.model.stylise(x, [style])]


def truth(data: Data, numbers: np.ndarray) -> Tensor | None:
    """What samples number `numbers` would best be, (n, C, H, W): the other side of their pairs, or what is
    known of domains for scoring only."""
    if data.pairs is not None:
        rows = data.held_out if len(data.held_out) else data.train
        return data.take(rows[numbers % len(rows)]).x
    known: np.ndarray | None = getattr(data, "truth", None)
    return None if known is None else datasets.picture(known[numbers % len(known)])


@torch.no_grad()
def view(run: Run, data: Data, n: int) -> Tensor | None:
    """What the model can show: samples, else reconstructions of held-out images."""
    n = POINTS if run.config.spec.points else min(n, CLIPS) if run.config.spec.frames else n
    if isinstance(run.model, Samples):
        return sampling.samples(run.model, n, 0, data)
    if isinstance(run.model, Encodes) and isinstance(run.model, Decodes):
        return run.model.decode(run.model.encode(engine.put(data.take(data.held_out[:n])).x))
    return None


def real(data: Data) -> Tensor | None:
    """Training examples to be shown beneath what a model draws, if these are points."""
    return data.take(data.train[:POINTS]).x if data.spec.points else None
