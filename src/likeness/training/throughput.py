"""What training costs on this machine: measured for a few seconds, not guessed."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import engine
from ..core import Model
from ..data import Data
from ..runs.run import Config, Run
from .loop import fit

SECONDS = 2.0
"""of steps that are counted, after a first few that are not"""


def measure(name: str, kind: type[Model], data: Data) -> list[dict[str, Any]]:
    """Throughput and memory of a throw-away run, in each precision that makes sense here; the faster first."""
    precisions = ("fp32", "bf16") if engine.native_bf16() else ("fp32",)
    costs = [_one(name, kind, data, precision) for precision in precisions]
    return sorted(costs, key=lambda cost: -cost["images_per_second"])


def _one(name: str, kind: type[Model], data: Data, precision: str) -> dict[str, Any]:
    training = replace(kind.defaults, precision=precision)
    config = Config(name, data.spec, training, facts=engine.facts())
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "probe", config)
        steps = fit(run, data, minutes=math.inf, images=10**12, save_every=math.inf)
        for _, _ in zip(range(3), steps):
            pass
        seen, seconds = run.seen, run.seconds
        while run.seconds - seconds < SECONDS:
            next(steps)
        steps.close()
        rate = (run.seen - seen) / (run.seconds - seconds)
        run.close()
    minutes = training.images / rate / 60
    says = f"its default of {training.images:,} images takes {_time(minutes)}, an epoch of {len(data.train):,} {_time(len(data.train) / rate / 60)}"
    return dict(model=name, precision=precision, images_per_second=rate, memory_mb=engine.memory_mb(), minutes=minutes, says=says)


def _time(minutes: float) -> str:
    return f"{minutes * 60:.0f} s" if minutes < 1.5 else f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
