"""What a few minutes come to, by the plan that --minutes makes of them and by the usual batch and warm-up.

    OMP_NUM_THREADS=1 python benchmarks/minutes.py FOLDER --size 32 --minutes 0.5 --models vae ddpm

Minutes are of processor time of one thread, so that both sides get as many on a machine that others use as
well: each measures its own speed by that clock and trains for the images that fit into nine tenths of them.
The usual side ends its schedule there, too, which before plans one had to work out and type as --images.

KID: kernel distance of 128 samples to all images, in the features of a vicreg trained on them; SW: sliced
Wasserstein distance of as many, in grey levels; bits/dim and accuracies are of held-out images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likeness import data as datasets
from likeness import engine, figures, models
from likeness.core import Model
from likeness.data import Data
from likeness.evaluation import distribution, exam
from likeness.features import networks
from likeness.inference import sampling
from likeness.metrics import kernels, neighbours, twosample
from likeness.runs.run import Config, Run
from likeness.training import loop, plan

DRAWN = 128
SHOWN = ("bits/dim", "kNN accuracy", "linear accuracy")


def settings(name: str, data: Data, seed: int) -> tuple[Config, Model]:
    """The usual ones, and the model at its first weights."""
    built = models.load(name)(spec=data.spec)
    training = engine.settle(replace(built.defaults, seed=seed), data.spec)
    about = (data.identity, engine.facts(), {}, list(data.classes))
    return Config(name, data.spec, training, built.options(), *about), built


def laid_out(name: str, data: Data, minutes: float, seed: int, planned: bool) -> Config:
    config, built = settings(name, data, seed)
    measure = partial(plan.measured, data=data, clock=time.process_time)
    if planned:
        return plan.planned(config, plan.least(built), (), dict(minutes=minutes), measure)
    seconds, moves = measure(config, plan.LONGEST)
    steps = int(plan.SPARE * 60 * minutes / seconds)
    return replace(config, training=replace(config.training, images=steps * config.training.batch * moves))


def scores(run: Run, data: Data, picture: Path) -> Iterator[tuple[str, float]]:
    """Of held-out images first, then of samples; the likelihood of a diffusion would take longer than all."""
    parts = {"vae": "bits/dim", "simclr": "kNN accuracy"}
    asked = exam.prepare(run, data, 1000, 0, "none")
    for part in (part for part in exam.PARTS if part.name == parts.get(run.config.model)):
        cards = (card for card in part.cards(asked) if card.of == "model" and card.name in SHOWN)
        yield from ((card.name, round(card.value, 4)) for card in cards)
    if not hasattr(run.model, "sample"):
        return
    x = sampling.samples(run.model, DRAWN, 0, data)
    figures.write_png(picture, figures.shown(x[:36], None), dict(run=run.folder.name, seed=0))
    rows = np.random.default_rng(0).permutation(np.concatenate([data.train, data.held_out]))
    network = networks.own(data, "vicreg")
    real = distribution.look(network, data.x[rows])
    drawn = distribution.look(network, neighbours.grid(x.numpy(), data.levels))
    yield "KID", round(kernels.kid(real.features, drawn.features).value, 4)
    yield "SW", round(float(twosample.sliced_wasserstein(real.x[:DRAWN], drawn.x, 128, 0).mean() ** 0.5), 2)


def row(name: str, data: Data, asked: Any, seed: int, planned: bool, out: Path) -> dict[str, Any]:
    config = laid_out(name, data, asked.minutes, seed, planned)
    side = "planned" if planned else "usual"
    with tempfile.TemporaryDirectory() as folder:
        run, began, steps = Run.create(Path(folder) / "run", config), time.process_time(), 0
        while run.seen < config.training.images:
            loop.step(run, data)
            run.window, steps = {}, steps + 1
        spent = time.process_time() - began
        result = dict(scores(run, data, out / f"{name}-{side}-{seed}.png"))
        run.close()
    about = dict(batch=config.training.batch, warmup=config.training.warmup, images=run.seen, steps=steps)
    return dict(model=name, side=side, seed=seed, seconds=round(spent, 1)) | about | result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("data")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--models", nargs="+", default=["vae", "ddpm", "r3gan", "simclr"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("-o", type=Path, default=Path("minutes"), help="folder of pictures [minutes]")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.o.mkdir(parents=True, exist_ok=True)
    data = datasets.load(asked.data, size=asked.size)
    for name in asked.models:
        for seed in range(asked.seeds):
            for planned in (False, True):
                print(json.dumps(row(name, data, asked, seed, planned, asked.o)), flush=True)


if __name__ == "__main__":
    main()
