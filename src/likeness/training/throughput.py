"""What training costs on this machine: measured for a few seconds, not guessed."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from .. import engine
from ..core import Model, duration
from ..data import Data
from ..runs.run import Config, Run
from .loop import fit

SECONDS = 2.0
"""of steps that are counted, after a first few that are not"""
FEWEST = 1_000
"""steps in which a small network learns something: nothing in docs/ was learnt in fewer"""
SMALLER = ("width", "hidden", "scale", "depth")
"""options of which less makes a smaller network, and a faster one"""


def measure(
    name: str, kind: type[Model], data: Data, progress: Callable[[float], None] = lambda share: None
) -> list[dict[str, Any]]:
    """Throughput and memory of a throw-away run, in each precision that makes sense here; the
    faster first.  progress(share) is called after each step, 0 to 1."""
    precisions = ("fp32", "bf16") if engine.native_bf16() else ("fp32",)

    def within(i: int) -> Callable[[float], None]:
        return lambda share: progress((i + share) / len(precisions))

    costs = [_one(name, kind, data, precision, within(i)) for i, precision in enumerate(precisions)]
    return sorted(costs, key=lambda cost: -cost["images_per_second"])


def _one(
    name: str, kind: type[Model], data: Data, precision: str, progress: Callable[[float], None]
) -> dict[str, Any]:
    training = replace(kind.defaults, precision=precision)
    config = Config(name, data.spec, training, facts=engine.facts())
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "probe", config)
        steps = fit(run, data, minutes=math.inf, images=10**12, save_every=math.inf)
        for _, _ in zip(range(3), steps):
            pass
        seen, seconds = run.seen, run.seconds
        while (spent := run.seconds - seconds) < SECONDS:
            progress(spent / SECONDS)
            next(steps)
        steps.close()
        rate = (run.seen - seen) / (run.seconds - seconds)
        run.close()
    minutes = training.images / rate / 60
    says = (
        f"its default of {training.images:,} images takes {duration(60 * minutes)}, an epoch of "
        f"{len(data.train):,} {duration(len(data.train) / rate)}"
    )
    return dict(
        model=name,
        precision=precision,
        images_per_second=rate,
        memory_mb=engine.memory_mb(),
        minutes=minutes,
        says=says,
    )


def speed(rate: float) -> str:
    """Images a second, to three figures or to one image."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


class Mark(NamedTuple):
    """How far a training was at some time: images seen, and seconds of training."""

    seen: int
    seconds: float


def too_brief(run: Run, minutes: float, since: Mark) -> str:
    """What to say of a budget in which a run makes too few steps, by its speed since a mark; nothing if they
    are enough."""
    stride = run.config.training.batch * max(player.steps for player in run.model.players())
    rate = (run.seen - since.seen) / max(run.seconds - since.seconds, 1e-9)
    steps = (run.seen + rate * max(0.0, 60 * minutes - run.seconds)) / stride
    if steps >= FEWEST:
        return ""
    longer = f"--minutes {math.ceil(minutes * FEWEST / max(steps, 1)):,}"
    budget = (
        f"at {speed(rate)} images a second, --minutes {minutes:g} are about {steps:,.0f} steps of {stride:,} "
        "images"
    )
    little = f"and little is learnt in fewer than {FEWEST:,}"
    return f"{budget}, {little}; {', or '.join([*_faster(run), longer])} would give it more"


def _faster(run: Run) -> list[str]:
    """Options with which a step takes less time, those that this run has and that can still be less."""
    batch, size = run.config.training.batch, run.config.spec.size
    least = 32 if run.model.whole_batch else 8
    # a plan has weighed batches already
    result = [f"--batch {max(least, batch // 4)}"] if batch > least and not run.config.plan else []
    if run.config.spec.levels and size > 16 and not run.config.inside:
        result.append(f"--size {size // 2}")
    low = {f.name: f.metadata.get("low") or 1 for f in fields(run.model)}
    for name in SMALLER:
        now = run.model.options().get(name)
        if isinstance(now, int | float) and now / 2 >= low[name]:
            return [*result, f"--{name} {type(now)(now / 2):g}"]
    return result
