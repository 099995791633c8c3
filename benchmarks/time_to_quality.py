"""How good the samples of denoising models are after some minutes of one thread, as they were drawn and
trained before and as they are now.

    LIKENESS_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/time_to_quality.py fashion-mnist \\
        --models flowmatching ddpm --minutes 5 --seeds 0 1 2

Minutes are of processor time, so that a machine that does other work as well counts the same: each side
measures its own speed by that clock, plans a cosine for nine tenths of the minutes, and is stopped when they
are over.  Before: Adam, and dpm2m in 20 steps down to the least noise that the model knows.  Fréchet distance
of as many samples as real images, in the features of the data's own classifier, with that of real images.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measure import heading, machine, table

from likeness import data as datasets
from likeness import engine, figures, models
from likeness.data import Data
from likeness.evaluation import distribution
from likeness.features import networks
from likeness.inference import sampling
from likeness.metrics import neighbours
from likeness.runs.run import Config, Run
from likeness.training import loop, plan

BEFORE: dict[str, Any] = dict(sampler="dpm2m", spacing="karras", steps=20, autoguidance=1.0)
ALONE: dict[str, Any] = dict(autoguidance=1.0)
WAYS: list[dict[str, Any]] = [BEFORE, ALONE, {}, dict(steps=100)]
"""of drawing samples: as before, without autoguidance, as now, and the full walk"""
SIDES = ("adam", "muon")
"""what moves the weights"""


class Result(NamedTuple):
    images: int
    seconds: float
    distance: float
    sampling: float
    """milliseconds of the processor for a sample"""


def settings(name: str, optimizer: str, data: Data, args: argparse.Namespace, seed: int) -> Config:
    kind = models.load(name)
    model = kind(spec=data.spec, optimizer=optimizer)
    training = replace(kind.defaults, seed=seed, schedule="cosine", precision=args.precision)
    about = (data.identity, engine.facts(), {}, list(data.classes))
    config = Config(name, data.spec, engine.settle(training, data.spec), model.options(), *about)
    measure = partial(plan.measured, data=data, clock=time.process_time)
    return plan.planned(config, plan.least(model), ("batch",), dict(minutes=args.minutes), measure)


def trained(config: Config, data: Data, folder: Path, minutes: float) -> tuple[Run, float]:
    run, began, seconds = Run.create(folder, config), time.process_time(), 0.0
    while run.seen < config.training.images and seconds < 60 * minutes:
        loop.step(run, data)
        run.window, seconds = {}, time.process_time() - began
    run.model.eval()
    return run, seconds


def judged(run: Run, how: dict[str, Any], reference: distribution.Reference, n: int) -> tuple[float, float]:
    """Distance, and milliseconds of a sample."""
    began = time.process_time()
    x = sampling.samples(sampling.tuned(run.model, **how), n, 1)
    seconds = time.process_time() - began
    name = "-".join([run.folder.name, *map(str, how.values())])
    figures.write_png(run.folder.parent / f"{name}.png", figures.shown(x[:96], None), dict(run=name, seed=1))
    seen = distribution.look(reference.network, neighbours.grid(x.numpy()))
    return reference.frechet(seen).value, 1000 * seconds / n


def row(name: str, side: str, way: str, results: list[Result]) -> tuple[str, ...]:
    distances = [r.distance for r in results]
    apart = f" ± {statistics.stdev(distances):.1f}" if len(results) > 1 else ""
    return (
        name,
        side,
        way,
        ", ".join(f"{r.images:,}" for r in results),
        f"{max(r.seconds for r in results):.0f}",
        f"{statistics.mean(distances):.1f}{apart}",
        f"{statistics.mean(r.sampling for r in results):.1f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--models", nargs="+", default=["flowmatching", "ddpm"])
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", default="auto")
    parser.add_argument(
        "--ways",
        type=int,
        default=3,
        help="of drawing: as before, in ten steps, with autoguidance, and that in 100 steps",
    )
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument(
        "--folder", type=Path, help="where runs and pictures stay; a temporary one if not named"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = datasets.load(args.data)
    reference = distribution.prepare(data, networks.load("classifier", data), args.n)
    floor = next(m for m in distribution.MEASURES if m.take is distribution.Reference.frechet)
    print(heading(machine()), f"real images: {reference.floor(floor).value:.1f}", "", sep="\n", flush=True)
    root = args.folder or Path(tempfile.mkdtemp())
    rows: list[tuple[str, ...]] = []
    for name in args.models:
        for side in args.sides:
            found: dict[str, list[Result]] = {}
            for seed in args.seeds:
                folder = root / f"{name}-{side}-{args.minutes:g}-{seed}"
                run, seconds = trained(settings(name, side, data, args, seed), data, folder, args.minutes)
                for how in WAYS[: args.ways]:
                    one = Result(run.seen, seconds, *judged(run, how, reference, args.n))
                    found.setdefault(" ".join(f"{k} {v}" for k, v in how.items()) or "as it is", []).append(
                        one
                    )
                    print(f"{name} {side} {seed} {how}: {one}", flush=True)
                run.close()
            rows += [row(name, side, way, results) for way, results in found.items()]
    head = (
        "model",
        "weights by",
        "drawn by",
        "images",
        "seconds, at most",
        "Fréchet distance",
        "ms a sample",
    )
    print("\n" + table(head, rows))


if __name__ == "__main__":
    main()
