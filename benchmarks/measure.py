"""What the benchmarks share: the machine, medians, markdown."""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
from collections.abc import Generator, Iterable, Sequence
from datetime import UTC, datetime

import torch

from likeness.data import Data
from likeness.runs.run import Run
from likeness.training.loop import fit


def machine() -> str:
    """CPU, cores that this process may use, and the versions that decide speed."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            name = next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    cores = (
        f"{len(os.sched_getaffinity(0))} cores ({torch.backends.cpu.get_cpu_capability()}), load "
        f"{os.getloadavg()[0]:.1f} at the start"
    )
    return f"{name}, {cores}, torch {torch.__version__}, Python {platform.python_version()}"


def heading(load: str) -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}; {load}; `python {' '.join(sys.argv)}`"


def spread(values: Sequence[float], digits: int = 0) -> str:
    """median (min-max)"""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ours(run: Run, data: Data) -> Generator[int]:
    """Our own training, without saving; yields images seen."""
    for step in fit(run, data, save_every=math.inf):
        yield step.seen
